//! Packets against a real table. A namespace with a gateway that swallows everything is enough: what the table
//! refuses, the sender learns at once from the system call (EPERM for UDP, ECONNREFUSED for TCP); what it lets pass
//! goes nowhere, and no error comes.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use terok_shield::kernel::Nft;
use terok_shield::policy::{Addresses, Mode, Policy, Refuse};

use super::table::{addresses, allow, apply, deny, policy};

pub const TESTS: &[super::Test] = &[
    ("without_a_table_everything_is_sent", unshielded),
    ("an_empty_policy_sends_nothing", empty_policy),
    ("listed_addresses_and_networks_pass_and_their_neighbours_do_not", listed),
    ("a_port_scoped_target_opens_its_ports_and_no_other", ports),
    ("a_denial_beats_what_lists_the_address", denial),
    ("a_denied_v4_address_is_denied_inside_v6", embedded_denial),
    ("a_denied_name_keeps_addresses_that_another_name_holds", shared_address),
    ("private_and_reserved_addresses_need_an_explicit_entry", special),
    ("a_wide_network_opens_neither_floor_nor_private", wide),
    ("a_name_opens_no_private_address", rebinding),
    ("down_opens_public_destinations_alone", down),
    ("down_all_opens_private_ones_but_not_the_floor", down_all),
    ("block_stops_everything_but_loopback", block),
    ("resolvers_are_reachable_on_port_53_alone", resolvers),
    ("loopback_works_in_every_mode", loopback),
    ("ip_options_are_dropped", ip_options),
    ("tcp_is_refused_by_reset_or_by_icmp_as_configured", refusal),
];

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

pub fn network() -> Nft {
    ip("link set lo up");
    ip("link add v0 type veth peer name v1");
    ip("link set v0 up");
    ip("link set v1 up");
    ip("address add 192.0.2.200/32 dev v0");
    ip("-6 address add 2001:db8:ffff::1/128 dev v0 nodad");
    // A gateway that is known and not there: nothing waits for neighbour discovery, and nothing answers.
    ip("neighbour add 192.0.2.1 lladdr 02:00:00:00:00:77 dev v0 nud permanent");
    ip("-6 neighbour add fe80::77 lladdr 02:00:00:00:00:77 dev v0 nud permanent");
    ip("route add default via 192.0.2.1 dev v0 onlink");
    ip("-6 route add default via fe80::77 dev v0 onlink");
    Nft::new().unwrap()
}

/// Whether a datagram to `to` is sent.
pub fn udp(to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    let from: IpAddr = if to.is_ipv4() {
        "0.0.0.0".parse().unwrap()
    } else {
        "::".parse().unwrap()
    };
    let socket = UdpSocket::bind((from, 0)).unwrap();
    match socket.send_to(b"x", to) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
        Err(error) => panic!("{to}: {error}"),
    }
}

/// Whether a connection to `to` is attempted; `None` if it waits for an answer that nobody gives.
pub fn tcp(to: &str) -> bool {
    match TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(50)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => false,
        // No route back is as good as no answer: the packet left.
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => true,
        other => panic!("{to}: {other:?}"),
    }
}

pub fn passes(list: &[&str]) {
    for to in list {
        assert!(udp(to), "UDP to {to} should pass");
        assert!(tcp(to), "TCP to {to} should pass");
    }
}

pub fn refused(list: &[&str]) {
    for to in list {
        assert!(!udp(to), "UDP to {to} should be refused");
        assert!(!tcp(to), "TCP to {to} should be refused");
    }
}

pub const PUBLIC: &[&str] = &[
    "203.0.113.10:80",
    "198.51.100.7:443",
    "[2001:db8::10]:80",
    "[2001:db8:1::7]:443",
];
pub const PRIVATE: &[&str] = &[
    "10.9.8.7:80",
    "172.16.5.5:80",
    "192.168.77.7:80",
    "100.64.1.1:80",
    "[fd00:9::7]:80",
    "[64:ff9b::a09:807]:80",
    "[2002:a09:807::1]:80",
];
pub const FLOOR: &[&str] = &[
    "169.254.169.254:80",
    "168.63.129.16:80",
    "100.100.100.200:80",
    "240.0.0.1:80",
    "[fec0::1]:80",
    "[fd00:ec2::254]:80",
    "[64:ff9b::a9fe:a9fe]:80",
    "[2002:a9fe:a9fe::1]:80",
];

fn unshielded() {
    network();
    for to in [PUBLIC, PRIVATE].concat() {
        assert!(udp(to), "{to}");
    }
    assert!(udp("169.254.169.254:80"));
}

fn empty_policy() {
    let mut nft = network();
    apply(&mut nft, &Policy::default(), &Addresses::new());
    refused(PUBLIC);
    refused(PRIVATE);
    refused(FLOOR);
}

fn listed() {
    let mut nft = network();
    let targets = ["203.0.113.10", "2001:db8::10", "198.51.100.0/25", "2001:db8:1::/64"];
    apply(&mut nft, &policy(&targets), &Addresses::new());
    passes(&[
        "203.0.113.10:80",
        "203.0.113.10:65535",
        "[2001:db8::10]:1",
        "198.51.100.0:80",
        "198.51.100.127:80",
        "[2001:db8:1::]:80",
        "[2001:db8:1:0:ffff:ffff:ffff:ffff]:80",
    ]);
    refused(&[
        "203.0.113.9:80",
        "203.0.113.11:80",
        "198.51.100.128:80",
        "198.51.99.255:80",
        "[2001:db8::11]:80",
        "[2001:db8:1:1::]:80",
    ]);
}

fn ports() {
    let mut nft = network();
    let targets = [
        "203.0.113.10:443/tcp",
        "[2001:db8::10]:443/tcp",
        "203.0.113.11:53,8000-8100",
        "[2001:db8::11]:53,8000-8100",
        "198.51.100.0/24:22/tcp",
        "[2001:db8:1::/48]:123/udp",
        "example.com:443",
    ];
    let names = addresses(&[("example.com", &["203.0.113.20", "2001:db8::20"])]);
    apply(&mut nft, &policy(&targets), &names);
    for to in ["203.0.113.10:443", "[2001:db8::10]:443", "198.51.100.77:22"] {
        assert!(tcp(to) && !udp(to), "{to}");
    }
    assert!(udp("[2001:db8:1::5]:123") && !tcp("[2001:db8:1::5]:123"));
    passes(&[
        "203.0.113.11:53",
        "203.0.113.11:8000",
        "203.0.113.11:8100",
        "[2001:db8::11]:8050",
        "203.0.113.20:443",
        "[2001:db8::20]:443",
    ]);
    refused(&[
        "203.0.113.10:80",
        "203.0.113.10:444",
        "203.0.113.11:7999",
        "203.0.113.11:8101",
        "[2001:db8::11]:54",
        "198.51.100.77:23",
        "[2001:db8:1::5]:124",
        "203.0.113.20:80",
        "[2001:db8::20]:442",
    ]);
}

fn denial() {
    let mut nft = network();
    let mut policy = policy(&["203.0.113.0/24", "2001:db8::/64", "198.51.100.7"]);
    for target in [
        "203.0.113.10",
        "2001:db8::10",
        "198.51.100.0/24:443",
        "203.0.113.128/25",
    ] {
        deny(&mut policy, target);
    }
    apply(&mut nft, &policy, &Addresses::new());
    passes(&["203.0.113.11:80", "[2001:db8::11]:80", "198.51.100.7:80"]);
    refused(&[
        "203.0.113.10:80",
        "[2001:db8::10]:80",
        "198.51.100.7:443",
        "203.0.113.200:80",
    ]);
}

fn embedded_denial() {
    let mut nft = network();
    let mut policy = policy(&["64:ff9b::/96", "2002::/16", "::/0"]);
    deny(&mut policy, "198.51.100.7");
    deny(&mut policy, "203.0.113.0/24");
    apply(&mut nft, &policy, &Addresses::new());
    passes(&["[64:ff9b::c633:6408]:80", "[2002:c633:6408::1]:80"]);
    refused(&[
        "[64:ff9b::c633:6407]:80",
        "[2002:c633:6407::1]:80",
        "[64:ff9b::cb00:7105]:80",
        "[2002:cb00:7105::1]:80",
    ]);
}

fn shared_address() {
    let mut nft = network();
    let mut policy = policy(&["one.example", "two.example"]);
    deny(&mut policy, "one.example");
    let names = addresses(&[
        (
            "one.example",
            &["203.0.113.10", "203.0.113.11", "2001:db8::10", "2001:db8::11"],
        ),
        ("two.example", &["203.0.113.11", "2001:db8::11"]),
    ]);
    apply(&mut nft, &policy, &names);
    passes(&["203.0.113.11:80", "[2001:db8::11]:80"]);
    refused(&["203.0.113.10:80", "[2001:db8::10]:80"]);
}

fn special() {
    let mut nft = network();
    let targets = [
        "10.9.8.7",
        "192.168.77.0/24:80",
        "fd00:9::/48",
        "169.254.169.254:80/tcp",
        "fd00:ec2::254",
    ];
    apply(&mut nft, &policy(&targets), &Addresses::new());
    passes(&["10.9.8.7:80", "192.168.77.7:80", "[fd00:9::7]:80", "[fd00:ec2::254]:80"]);
    assert!(tcp("169.254.169.254:80") && !udp("169.254.169.254:80"));
    refused(&[
        "10.9.8.6:80",
        "192.168.77.7:81",
        "172.16.5.5:80",
        "[fd00:8::1]:80",
        "169.254.169.253:80",
    ]);
}

fn wide() {
    let mut nft = network();
    apply(&mut nft, &policy(&["0.0.0.0/0", "::/0"]), &Addresses::new());
    passes(PUBLIC);
    refused(PRIVATE);
    refused(FLOOR);
}

fn rebinding() {
    let mut nft = network();
    let names = addresses(&[(
        "rebind.example",
        &[
            "10.9.8.7",
            "169.254.169.254",
            "203.0.113.10",
            "fd00:9::7",
            "64:ff9b::a09:807",
            "2001:db8::10",
        ],
    )]);
    apply(&mut nft, &policy(&["rebind.example"]), &names);
    passes(&["203.0.113.10:80", "[2001:db8::10]:80"]);
    refused(PRIVATE);
    refused(FLOOR);
}

fn down() {
    let mut nft = network();
    let mut policy = policy(&["10.9.8.7"]);
    policy.mode = Mode::Down;
    deny(&mut policy, "203.0.113.66");
    deny(&mut policy, "2001:db8::66");
    apply(&mut nft, &policy, &Addresses::new());
    passes(PUBLIC);
    passes(&["10.9.8.7:80"]);
    refused(&PRIVATE[1..]);
    refused(FLOOR);
    refused(&["203.0.113.66:80", "[2001:db8::66]:80"]);
}

fn down_all() {
    let mut nft = network();
    let mut policy = Policy {
        mode: Mode::DownAll,
        ..Policy::default()
    };
    deny(&mut policy, "10.9.8.66");
    apply(&mut nft, &policy, &Addresses::new());
    passes(PUBLIC);
    passes(PRIVATE);
    refused(FLOOR);
    refused(&["10.9.8.66:80", "[64:ff9b::a09:842]:80"]);
}

fn block() {
    let mut nft = network();
    let mut policy = policy(&["203.0.113.10", "2001:db8::10", "0.0.0.0/0"]);
    policy.mode = Mode::Block;
    allow(&mut policy, "10.9.8.7");
    apply(&mut nft, &policy, &Addresses::new());
    refused(PUBLIC);
    refused(PRIVATE);
    refused(FLOOR);
}

fn resolvers() {
    let mut nft = network();
    let policy = Policy {
        upstreams: ["10.0.2.3", "fd00::3"].map(|address| address.parse().unwrap()).to_vec(),
        ..Policy::default()
    };
    apply(&mut nft, &policy, &Addresses::new());
    passes(&["10.0.2.3:53", "[fd00::3]:53"]);
    refused(&[
        "10.0.2.3:54",
        "10.0.2.4:53",
        "[fd00::3]:5353",
        "203.0.113.53:53",
        "[2001:db8::53]:53",
    ]);
}

fn loopback() {
    for mode in Mode::ALL {
        let mut nft = if mode == Mode::Up {
            network()
        } else {
            Nft::new().unwrap()
        };
        let policy = Policy {
            mode,
            ..Policy::default()
        };
        apply(&mut nft, &policy, &Addresses::new());
        for address in ["127.0.0.1:0", "[::1]:0", "192.0.2.200:0", "[2001:db8:ffff::1]:0"] {
            let receiver = UdpSocket::bind(address).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let to = receiver.local_addr().unwrap();
            assert!(udp(&to.to_string()), "{mode}: {to}");
            let mut buffer = [0; 8];
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 1, "{mode}: {to}");
        }
        nft.apply(r#"{"nftables":[{"delete":{"table":{"family":"inet","name":"terok_shield"}}}]}"#)
            .unwrap();
    }
}

fn ip_options() {
    let mut nft = network();
    apply(&mut nft, &policy(&["203.0.113.10"]), &Addresses::new());
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Loose source route through 203.0.113.10 to 198.51.100.7 (RFC 791): any program may set it.
    let route: [u8; 8] = [131, 7, 4, 198, 51, 100, 7, 0];
    nix::sys::socket::setsockopt(&socket, IpOptions, &route).unwrap();
    let result = socket.send_to(b"x", "203.0.113.10:80");
    assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

/// `IP_OPTIONS` of ip(7).
#[derive(Clone, Copy)]
struct IpOptions;

impl nix::sys::socket::SetSockOpt for IpOptions {
    type Val = [u8; 8];

    fn set<F: std::os::fd::AsFd>(&self, fd: &F, value: &Self::Val) -> nix::Result<()> {
        use std::os::fd::AsRawFd;
        // SAFETY: the buffer is alive for the call and its length is given.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::setsockopt(
                fd.as_fd().as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_OPTIONS,
                value.as_ptr().cast(),
                8,
            )
        };
        nix::errno::Errno::result(result).map(drop)
    }
}

fn refusal() {
    let mut nft = network();
    let policy = Policy {
        refuse: Refuse::Icmp,
        ..Policy::default()
    };
    apply(&mut nft, &policy, &Addresses::new());
    // The kernel hands an ICMP error for a locked socket on only after a retransmission, or as unreachable.
    let error = TcpStream::connect_timeout(&"203.0.113.10:80".parse().unwrap(), Duration::from_secs(30)).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert_ne!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(!udp("203.0.113.10:80") && !udp("[2001:db8::10]:80"));
}
