//! What the program in the container cannot do against its shield.

use crate::lab::{Container, IMAGE};
use crate::probe::web;
use crate::reach::{CLOSED, ONE_OF_EACH};
use crate::user::User;

tests![
    the_program_has_neither_net_admin_nor_net_raw,
    the_program_can_neither_read_nor_change_the_table,
    a_user_namespace_made_inside_is_no_way_out,
    a_socket_bound_to_the_interface_does_not_carry_loopback_out,
    a_routing_header_does_not_hide_the_destination,
];

/// Bits of `capabilities(7)`.
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;

fn capabilities(container: &Container, process: &str) -> Vec<(String, u64)> {
    let status = container.exec(&["cat", &format!("/proc/{process}/status")]).ok();
    status
        .out
        .lines()
        .filter(|line| line.starts_with("Cap"))
        .map(|line| {
            let (set, bits) = line.split_once(':').unwrap();
            (set.to_owned(), u64::from_str_radix(bits.trim(), 16).unwrap())
        })
        .collect()
}

fn the_program_has_neither_net_admin_nor_net_raw() {
    let user = User::shared();
    let container = Container::start(&user, "caps", "", &[]);
    // Podman's own default has NET_RAW before version 4.4 or so; `--cap-add` in front shows that the bits are the right ones.
    let open = Container::unshielded(&user, "caps-proof", &["--cap-add", "NET_ADMIN,NET_RAW,SYS_ADMIN"]);
    for (container, expected) in [(&container, 0), (&open, NET_ADMIN | NET_RAW | SYS_ADMIN)] {
        // Of the first process, and of one that came later.
        for process in ["1", "self"] {
            let found = capabilities(container, process);
            assert_eq!(found.len(), 5, "{found:?}");
            for set in ["CapBnd", "CapEff", "CapPrm"] {
                let bits = found.iter().find(|(name, _)| name == set).unwrap().1;
                assert_eq!(bits & (NET_ADMIN | NET_RAW | SYS_ADMIN), expected, "{set} of {process}");
                assert_ne!(bits, 0, "{set} of {process} in {}", container.name);
            }
        }
    }
}

fn the_program_can_neither_read_nor_change_the_table() {
    let user = User::shared();
    let container = Container::start(&user, "table", ONE_OF_EACH, &[]);
    let before = container.rules_and_sets();
    for attack in [
        "nft flush ruleset",
        "nft delete table inet terok_shield",
        "nft list ruleset",
        "nft add element inet terok_shield allow_addr_v4 '{ 203.0.113.11 }'",
        "nft add table inet mine",
        "ip route add 203.0.113.0/24 dev lo",
        "ip link set $(ls /sys/class/net | grep -vx lo) down",
    ] {
        let output = container.sh(attack);
        assert_ne!(output.code, 0, "{output:#?}");
        assert!(output.err.contains("not permitted"), "{output:#?}");
    }
    assert_eq!(container.rules_and_sets(), before);
    container.is("up");
    container.is_refused(&web(&CLOSED));

    let open = Container::unshielded(&user, "table-proof", &["--cap-add", "NET_ADMIN"]);
    open.in_its_network(&["nft", "add", "table", "inet", "terok_shield"])
        .ok();
    open.sh("nft flush ruleset").ok();
    assert_eq!(open.in_its_network(&["nft", "list", "ruleset"]).ok().text(), "");
}

fn a_user_namespace_made_inside_is_no_way_out() {
    let user = User::shared();
    let container = Container::start(&user, "userns", ONE_OF_EACH, &[]);
    let before = container.rules_and_sets();
    for namespaces in ["-Ur", "-Urn", "-Urnm", "-UrnpfC"] {
        let inside = container.exec(&[
            "unshare",
            namespaces,
            "sh",
            "-c",
            "nft flush ruleset; nft add table inet mine",
        ]);
        // With -n it is root of another network namespace, one without a way out.
        assert_eq!(container.rules_and_sets(), before, "{inside:#?}");
        assert_eq!(
            container.in_its_network(&["nft", "list", "table", "inet", "mine"]).code,
            1,
            "a table of its own beside ours after {namespaces}"
        );
        let found = container.probe_by(
            &["unshare", namespaces],
            &web(&["203.0.113.11", "2001:db8::11", "10.9.8.7"]),
        );
        for (probe, found) in found {
            let closed = ["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL"];
            assert!(
                closed.contains(&found.as_str()),
                "{probe} after unshare {namespaces}: {found}"
            );
        }
    }
    container.is("up");
    container.is_refused(&web(&CLOSED));
    // That `unshare` is not forbidden here, or the attack would prove nothing.
    container
        .exec(&["unshare", "-Urn", "nft", "add", "table", "inet", "mine"])
        .ok();
}

/// Counts packets that leave the container, behind everything of ours.
struct Watch<'a>(&'a Container);

impl<'a> Watch<'a> {
    fn of(container: &'a Container, what: &str) -> Self {
        let table = format!(
            "table inet watch {{\n chain leaving {{\n type filter hook postrouting priority 1000\n policy accept\n oifname != \"lo\" {what} counter\n }}\n }}\n"
        );
        container.in_its_network(&["nft", &table]).ok();
        Self(container)
    }

    #[track_caller]
    fn packets(&self) -> u64 {
        let listing = self
            .0
            .in_its_network(&["nft", "-j", "list", "table", "inet", "watch"])
            .ok()
            .json();
        let rule = listing["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .find(|object| object["rule"].is_object());
        let expressions = rule.unwrap()["rule"]["expr"].as_array().unwrap().clone();
        expressions
            .iter()
            .find_map(|expression| expression["counter"]["packets"].as_u64())
            .unwrap()
    }
}

/// Binds to the interface that is not loopback, and sends to loopback addresses.
const BOUND: &str = "
import socket, os
name = [n for n in os.listdir('/sys/class/net') if n != 'lo'][0]
for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET, '127.1.2.3'), (socket.AF_INET6, '::1')):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as s:
            s.setsockopt(socket.SOL_SOCKET, 25, name.encode() + b'\\0')  # SO_BINDTODEVICE
            s.settimeout(0.2)
            try:
                s.connect((address, 7777))
                s.send(b'word')
            except OSError:
                pass
print('done')
";

fn a_socket_bound_to_the_interface_does_not_carry_loopback_out() {
    let user = User::shared();
    let packets = |container: &Container, what: &str| {
        let watch = Watch::of(container, what);
        container.exec(&["python3", "-I", "-c", BOUND]).ok();
        let packets = watch.packets();
        container
            .in_its_network(&["nft", "delete", "table", "inet", "watch"])
            .ok();
        packets
    };
    let open = Container::unshielded(&user, "bound-proof", &[]);
    let container = Container::start(&user, "bound", ONE_OF_EACH, &[]);
    for loopback in ["ip daddr 127.0.0.0/8", "ip6 daddr ::1"] {
        assert_ne!(packets(&open, loopback), 0, "unshielded: {loopback}");
        assert_eq!(packets(&container, loopback), 0, "{loopback}");
    }
}

/// A segment routing header (type 4, RFC 8754) by way of the first address to the second.
const ROUTED: &str = "
import socket, sys
via, last = (socket.inet_pton(socket.AF_INET6, a) for a in sys.argv[1:])
header = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + last + via
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET6, kind) as s:
        s.setsockopt(socket.IPPROTO_IPV6, 57, header)  # IPV6_RTHDR
        s.settimeout(0.2)
        try:
            s.connect((sys.argv[2], 7777))
            s.send(b'word')
        except OSError:
            pass
print('done')
";

fn a_routing_header_does_not_hide_the_destination() {
    let user = User::shared();
    let packets = |container: &Container| {
        let watch = Watch::of(container, "exthdr rt exists");
        container
            .exec(&["python3", "-I", "-c", ROUTED, "2001:db8::20", "2001:db8::11"])
            .ok();
        watch.packets()
    };
    let open = Container::unshielded(&user, "routed-proof", &[]);
    assert_ne!(packets(&open), 0, "unshielded");
    let container = Container::start(&user, "routed", ONE_OF_EACH, &[]);
    assert_eq!(packets(&container), 0);
    container.is("up");
    // The image, so that nobody mistakes a missing program for a refusal.
    assert!(user.podman(&["image", "exists", IMAGE]).code == 0);
}
