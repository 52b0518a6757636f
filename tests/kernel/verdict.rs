//! What `explain` says, held to what the kernel does.

use std::net::SocketAddr;

use terok_shield::policy::{Addresses, Mode, Policy, Protocol};
use terok_shield::ruleset::{compile, decide};

use super::table::{allow, apply, deny, rich};
use super::traffic::{FLOOR, PRIVATE, PUBLIC, network, tcp, udp};

pub const TESTS: &[super::Test] = &[("what_is_told_of_a_packet_is_what_becomes_of_it", agrees)];

const MORE: &[&str] = &[
    "203.0.113.11:443",
    "203.0.113.11:8000",
    "203.0.113.11:8063",
    "203.0.113.11:8064",
    "198.51.100.1:80",
    "198.51.100.200:53",
    "203.0.113.20:80",
    "203.0.113.21:443",
    "203.0.113.21:444",
    "203.0.113.22:9050",
    "192.0.2.130:80",
    "192.0.2.70:80",
    "192.0.2.70:81",
    "203.0.113.77:53",
    "203.0.113.99:53",
    "[2001:db8::11]:443",
    "[2001:db8::11]:8030",
    "[2001:db8::11]:8064",
    "[2001:db8:1::1]:80",
    "[2001:db8::20]:80",
    "[2001:db8::21]:443",
    "[2001:db8::21]:444",
    "[2001:db8:2::1]:53",
    "[2001:db8:2::1]:80",
    "[2001:db8:2::9]:53",
    "[2001:db8:3::9]:80",
    "10.9.8.7:80",
    "[fd00:9::7]:80",
    "127.0.0.1:9",
    "[::1]:9",
];

fn agrees() {
    let mut nft = network();
    let (mut policy, addresses) = rich();
    allow(&mut policy, "10.0.0.0/8:443");
    deny(&mut policy, "10.9.8.8");
    deny(&mut policy, "203.0.113.0/28:8000-8100/udp");
    policy.upstreams = vec!["203.0.113.99".parse().unwrap(), "2001:db8::53".parse().unwrap()];
    for mode in Mode::ALL {
        policy.mode = mode;
        check(&mut nft, &policy, &addresses);
    }
}

fn check(nft: &mut terok_shield::kernel::Nft, policy: &Policy, addresses: &Addresses) {
    apply(nft, policy, addresses);
    let contents = compile(policy, addresses);
    let mut passed = 0;
    for to in [PUBLIC, PRIVATE, FLOOR, MORE].concat() {
        let at: SocketAddr = to.parse().unwrap();
        let told = |protocol| decide(policy.mode, &contents, at.ip(), Some((protocol, at.port()))).verdict;
        assert_eq!(
            told(Protocol::Udp).passes(),
            udp(to),
            "{} udp {to}: {}",
            policy.mode,
            told(Protocol::Udp)
        );
        if !at.ip().is_loopback() {
            assert_eq!(
                told(Protocol::Tcp).passes(),
                tcp(to),
                "{} tcp {to}: {}",
                policy.mode,
                told(Protocol::Tcp)
            );
        }
        passed += usize::from(told(Protocol::Udp).passes());
    }
    assert!(passed > 1);
    nft.apply(r#"{"nftables":[{"delete":{"table":{"family":"inet","name":"terok_shield"}}}]}"#)
        .unwrap();
}
