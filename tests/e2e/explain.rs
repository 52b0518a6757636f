//! `explain`: what happens to a destination, because of which line, and what would change that.

use serde_json::Value;

use crate::lab::Container;
use crate::probe::{at, web};
use crate::user::User;

tests![
    each_verdict_is_told_with_its_line_and_what_would_change_it,
    a_part_of_a_network_that_is_denied_is_a_part_of_the_answer,
    what_is_told_is_what_happens,
    a_name_is_told_with_its_line_and_its_addresses,
    a_table_that_decides_otherwise_is_named_and_an_error,
];

const PROFILE: &str =
    "203.0.113.10\n2001:db8::10\n198.51.100.0/24:80,8000-8100/tcp\n2001:db8:1::/64\nallowed.test\n203.0.113.30\n";

fn parts(container: &Container, target: &str) -> Vec<Value> {
    let output = container.verb("explain", &[target, "--json"]).ok();
    output.json()["parts"].as_array().unwrap().clone()
}

#[track_caller]
fn told(container: &Container, target: &str, verdict: &str, because: &str, change: &str) {
    let parts = parts(container, target);
    assert_eq!(parts.len(), 1, "{target}: {parts:#?}");
    let part = &parts[0];
    assert_eq!(part["verdict"], verdict, "{target}: {part:#}");
    assert!(part["because"].to_string().contains(because), "{target}: {part:#}");
    assert!(part["change"].as_str().unwrap().contains(change), "{target}: {part:#}");
}

fn each_verdict_is_told_with_its_line_and_what_would_change_it() {
    let container = Container::start(&User::shared(), "explain", PROFILE, &[]);
    container.verb("allow", &["203.0.113.11", "--for", "1h"]).ok();
    container.verb("deny", &["203.0.113.12"]).ok();
    for (target, verdict, because, change) in [
        ("203.0.113.10", "allowed", "explain:1", "deny explain 203.0.113.10"),
        (
            "[2001:db8::10]:443/tcp",
            "allowed",
            "explain:2",
            "deny explain [2001:db8::10]:443/tcp",
        ),
        ("198.51.100.7:8050/tcp", "allowed", "explain:3", "deny explain"),
        (
            "198.51.100.7:8050/udp",
            "blocked",
            "no profile",
            "allow explain 198.51.100.7:8050/udp",
        ),
        ("203.0.113.11", "allowed", "by the operator for", "deny explain"),
        (
            "203.0.113.12",
            "denied",
            "203.0.113.12 is denied",
            "allow explain 203.0.113.12",
        ),
        (
            "64:ff9b::cb00:710c",
            "denied",
            "203.0.113.12 is denied",
            "allow explain 203.0.113.12",
        ),
        ("203.0.113.99", "blocked", "no profile", "allow explain 203.0.113.99"),
        ("2001:db8:9::1", "blocked", "no profile", "allow explain 2001:db8:9::1"),
        ("10.9.8.7", "private", "RFC 1918", "allow explain 10.9.8.7"),
        ("169.254.169.254", "private", "RFC 3927", "allow explain"),
        ("fd00:ec2::254", "private", "metadata", "allow explain"),
        ("127.0.0.1", "local", "does not leave", "nothing"),
    ] {
        told(&container, target, verdict, because, change);
    }
    container.verb("down", &[]).ok();
    told(
        &container,
        "203.0.113.99",
        "bypassed",
        "the shield is down",
        "up explain",
    );
    told(&container, "203.0.113.12", "denied", "203.0.113.12", "allow explain");
    container.verb("block", &[]).ok();
    told(
        &container,
        "203.0.113.10",
        "blocked",
        "everything is blocked",
        "up explain",
    );
    container.verb("up", &[]).ok();
    let words = container.verb("explain", &["203.0.113.12:443"]).ok().out;
    assert!(
        words.starts_with("203.0.113.12 (443/tcp): denied\n  rule     out_v4: 203.0.113.12 in set deny_hosts_v4\n"),
        "{words}"
    );
    // Of a container that is not running the policy is told, and that this is all.
    container.user.podman(&["stop", "explain"]).ok();
    let words = container.verb("explain", &["203.0.113.12"]).ok().out;
    assert!(words.contains("denied") && words.contains("not running"), "{words}");
}

fn a_part_of_a_network_that_is_denied_is_a_part_of_the_answer() {
    let container = Container::start(&User::shared(), "explain-part", PROFILE, &[]);
    container.verb("allow", &["203.0.113.0/24"]).ok();
    container.verb("deny", &["203.0.113.64/26"]).ok();
    container.verb("deny", &["203.0.113.20:7777"]).ok();
    let found: Vec<(String, String, String)> = parts(&container, "203.0.113.0/24")
        .iter()
        .map(|part| {
            ["addresses", "ports", "verdict"]
                .map(|key| part[key].as_str().unwrap().to_owned())
                .into()
        })
        .collect();
    let has = |addresses: &str, ports: &str, verdict: &str| {
        assert!(
            found.contains(&(addresses.into(), ports.into(), verdict.into())),
            "{found:#?}"
        );
    };
    has("203.0.113.64/26", "all", "denied");
    has("203.0.113.20", "7777/tcp", "denied");
    has("203.0.113.20", "7777/udp", "denied");
    has("203.0.113.20", "7778-65535/tcp", "allowed");
    has("203.0.113.20", "without ports", "allowed");
    has("203.0.113.128/25", "all", "allowed");
    // What would change it is a command that can be given, and it does what it says.
    let parts = parts(&container, "203.0.113.0/24");
    let denied = parts.iter().find(|part| part["ports"] == "7777/tcp").unwrap();
    assert_eq!(
        denied["change"],
        "`terok-shield allow explain-part 203.0.113.20:7777` lifts the denial"
    );
    let mut ranges = 0;
    // (Nothing is to be changed about the resolver, which is in that network too.)
    for part in parts.iter().filter(|part| part["verdict"] != "resolver") {
        let change = part["change"].as_str().unwrap();
        ranges += usize::from(part["addresses"].as_str().unwrap().contains('-'));
        let command = change.split('`').nth(1).unwrap_or_else(|| panic!("{part:#}"));
        let target = command.split(' ').next_back().unwrap();
        container.verb("explain", &[target]).ok();
    }
    assert!(ranges > 0, "{parts:#?}");
    container.reaches(&web(&["203.0.113.20", "203.0.113.60"]));
    container.is_refused(&at(&["203.0.113.20"], &[("tcp", 7777), ("udp", 7777)]));
}

fn what_is_told_is_what_happens() {
    let container = Container::start(&User::shared(), "explain-true", PROFILE, &[]);
    container.verb("deny", &["2001:db8:1::20"]).ok();
    container.verb("allow", &["10.9.8.7:80"]).ok();
    let addresses = [
        "203.0.113.10",
        "203.0.113.11",
        "198.51.100.77",
        "10.9.8.7",
        "169.254.169.254",
        "2001:db8::10",
        "2001:db8::11",
        "2001:db8:1::10",
        "2001:db8:1::20",
        "fd00:9::7",
    ];
    for verb in ["up", "down"] {
        container.verb(verb, &[]).ok();
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for address in addresses {
            for (kind, port, protocol) in [("http", 80, "tcp"), ("http", 8443, "tcp"), ("udp", 7777, "udp")] {
                let target = if address.contains(':') {
                    format!("[{address}]:{port}/{protocol}")
                } else {
                    format!("{address}:{port}/{protocol}")
                };
                let parts = parts(&container, &target);
                let passes = ["allowed", "bypassed"].contains(&parts[0]["verdict"].as_str().unwrap());
                let probe = crate::probe::Probe::new(kind, address, port);
                if passes { &mut open } else { &mut closed }.push(probe);
            }
        }
        assert!(open.len() > 3 && closed.len() > 3);
        container.reaches(&open);
        container.is_refused(&closed);
    }
}

fn a_name_is_told_with_its_line_and_its_addresses() {
    let container = Container::start(&User::shared(), "explain-name", PROFILE, &[]);
    let answer = container.verb("explain", &["allowed.test", "--json"]).ok().json();
    assert_eq!(answer["name"]["verdict"], "listed");
    assert!(
        answer["name"]["because"].to_string().contains("explain-name:5"),
        "{answer:#}"
    );
    assert_eq!(answer["parts"].as_array().unwrap().len(), 2, "{answer:#}");
    assert!(
        answer["parts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|part| part["verdict"] == "allowed")
    );
    let unlisted = container.verb("explain", &["second.test", "--json"]).ok().json();
    assert_eq!(unlisted["name"]["verdict"], "not listed");
    container.verb("deny", &["allowed.test"]).ok();
    let denied = container.verb("explain", &["allowed.test", "--json"]).ok().json();
    assert_eq!(denied["name"]["verdict"], "denied");
    // One of its addresses is the profile's own as well, and closed all the same: no other name holds it.
    for part in denied["parts"].as_array().unwrap() {
        assert_eq!(part["verdict"], "denied", "{denied:#}");
        assert!(
            part["because"].to_string().contains("allowed.test is denied"),
            "{part:#}"
        );
    }
}

fn a_table_that_decides_otherwise_is_named_and_an_error() {
    let container = Container::start(&User::shared(), "explain-drift", PROFILE, &[]);
    container
        .in_its_network(&[
            "nft",
            "delete",
            "element",
            "inet",
            "terok_shield",
            "static_hosts_v4",
            "{ 203.0.113.30 }",
        ])
        .ok();
    let output = container.verb("explain", &["203.0.113.30"]).code(1);
    assert!(
        output
            .one_line()
            .contains("in the live table 203.0.113.30 (all) is blocked"),
        "{output:#?}"
    );
    container.verb("explain", &["2001:db8::10"]).ok();
}
