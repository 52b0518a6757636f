//! Lists as long as people have them.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::lab::Container;
use crate::probe::{everything, web};
use crate::user::User;

tests![
    a_profile_of_100_000_addresses_loads_without_root,
    a_profile_of_10_000_networks_and_ports_loads_without_root,
];

/// Elements in the sets of a table.
fn elements(container: &Container) -> usize {
    let table = container.table();
    let sets = table["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|object| object.get("set"));
    sets.filter_map(|set| set["elem"].as_array()).map(Vec::len).sum()
}

/// Addresses that nobody here has, spread so that no two are neighbours.
fn address4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x1700_0000 + 3 * n)
}

fn address6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2a00_0000_0000_0000_0000_0000_0000_0001 + (u128::from(n) << 66))
}

fn a_profile_of_100_000_addresses_loads_without_root() {
    let user = User::shared();
    let mut profile = String::from("203.0.113.10\n2001:db8::10\n");
    for n in 1..50_000 {
        writeln!(profile, "{}\n{}", address4(n), address6(n)).unwrap();
    }
    assert_eq!(profile.lines().count(), 100_000);
    let container = Container::start(&user, "scale-addresses", &profile, &[]);
    container.is("up");
    container.reaches(&everything(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&everything(&["203.0.113.11", "2001:db8::11"]));
    // With the resolvers that podman chose.
    assert!(elements(&container) >= 100_000, "{}", elements(&container));
    for (verb, check) in [
        ("allow", Container::reaches as fn(&Container, &_)),
        ("deny", Container::is_refused),
    ] {
        for address in ["203.0.113.11", "2001:db8::11"] {
            container.verb(verb, &[address]).ok();
        }
        check(&container, &web(&["203.0.113.11", "2001:db8::11"]));
    }
    container.is("up");
    user.podman(&["restart", "scale-addresses"]).ok();
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11", "203.0.113.12", "2001:db8::12"]));
    // The policy is the size of the list: it goes with the container.
    container.remove();
    std::fs::remove_dir_all(user.bundle("scale-addresses")).unwrap();
}

fn a_profile_of_10_000_networks_and_ports_loads_without_root() {
    let user = User::shared();
    let mut profile = String::from("203.0.113.10/31\n2001:db8::10/127\n");
    for n in 1..2_500 {
        let (v4, v6) = (Ipv4Addr::from_bits(0x1700_0000 + 1024 * n), address6(n));
        let network = Ipv6Addr::from_bits(v6.to_bits() & !0xff);
        writeln!(
            profile,
            "{v4}/24\n{network}/120\n{}:443/tcp\n[{v6}]:8000-8100",
            address4(n * 4 + 1)
        )
        .unwrap();
    }
    assert!(profile.lines().count() >= 9_998);
    let container = Container::start(&user, "scale-networks", &profile, &[]);
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "203.0.113.11", "2001:db8::10", "2001:db8::11"]));
    container.is_refused(&web(&["203.0.113.12", "2001:db8::12"]));
    container.verb("deny", &["203.0.113.11"]).ok();
    container.verb("allow", &["2001:db8::12/127"]).ok();
    container.is_refused(&web(&["203.0.113.11"]));
    container.reaches(&web(&["2001:db8::12"]));
    container.is("up");
    container.remove();
    std::fs::remove_dir_all(user.bundle("scale-networks")).unwrap();
}
