//! `allow`, and what holds for `deny` as well: what a running container may reach, changed at once and for good.

use serde_json::Value;

use crate::command::Running;
use crate::lab::Container;
use crate::probe::{at, everything, web};
use crate::reach::{ONE_OF_EACH, OPEN};
use crate::user::User;

tests![
    a_name_that_is_allowed_answers_and_the_line_says_what_it_stands_for,
    an_address_that_is_allowed_answers_on_every_port,
    a_network_that_is_allowed_answers_and_ends_where_it_ends,
    ports_of_an_allowed_target_open_and_no_other_port_does,
    the_12_digit_and_the_full_id_serve_like_the_name,
    the_same_change_twice_is_one_change,
    eight_changes_at_once_are_all_made,
    a_name_that_does_not_resolve_cannot_be_allowed_and_changes_nothing,
    a_name_with_private_addresses_alone_opens_none_of_them_and_leaves_a_note,
    private_addresses_open_only_where_they_are_allowed_themselves,
    a_container_that_is_not_running_or_not_ours_is_told_apart,
];

pub const NOTHING: &str = "# nothing\n";

fn a_name_that_is_allowed_answers_and_the_line_says_what_it_stands_for() {
    let container = Container::start(&User::shared(), "allow-name", NOTHING, &[]);
    container.is_refused(&everything(&["203.0.113.12", "2001:db8::12"]));
    let output = container.verb("allow", &["example.com"]).ok();
    assert_eq!(
        output.out,
        "Allowed example.com -> 203.0.113.12, 2001:db8::12 for allow-name\n"
    );
    assert_eq!(output.err, "");
    container.reaches(&everything(&["203.0.113.12", "2001:db8::12"]));
    container.is_refused(&everything(&["203.0.113.11", "2001:db8::11"]));
    let several = container.verb("allow", &["multi.test"]).ok();
    assert_eq!(
        several.out,
        "Allowed multi.test -> 203.0.113.20, 203.0.113.21, 203.0.113.22, \
         2001:db8::20, 2001:db8::21, 2001:db8::22 for allow-name\n"
    );
    for (name, line) in [
        ("v4only.test", "Allowed v4only.test -> 203.0.113.30 for allow-name\n"),
        ("v6only.test", "Allowed v6only.test -> 2001:db8::30 for allow-name\n"),
        (
            "alias.test",
            "Allowed alias.test -> 203.0.113.41, 2001:db8::41 for allow-name\n",
        ),
        (
            "EXAMPLE.com.",
            "Allowed example.com -> 203.0.113.12, 2001:db8::12 for allow-name\n",
        ),
    ] {
        assert_eq!(container.verb("allow", &[name]).ok().out, line);
    }
    container.reaches(&web(&["203.0.113.30", "2001:db8::30", "203.0.113.41", "2001:db8::41"]));
    container.is("up");
}

fn an_address_that_is_allowed_answers_on_every_port() {
    let container = Container::start(&User::shared(), "allow-address", NOTHING, &[]);
    for address in ["203.0.113.11", "2001:db8::11"] {
        container.is_refused(&everything(&[address]));
        let output = container.verb("allow", &[address]).ok();
        assert_eq!(output.out, format!("Allowed {address} for allow-address\n"));
        container.reaches(&everything(&[address]));
    }
    container.is_refused(&everything(&[
        "203.0.113.10",
        "203.0.113.12",
        "2001:db8::10",
        "2001:db8::12",
    ]));
    container.is("up");
}

fn a_network_that_is_allowed_answers_and_ends_where_it_ends() {
    let container = Container::start(&User::shared(), "allow-network", ONE_OF_EACH, &[]);
    for network in ["203.0.113.40/31", "2001:db8::40/127"] {
        let output = container.verb("allow", &[network]).ok();
        assert_eq!(output.out, format!("Allowed {network} for allow-network\n"));
    }
    container.reaches(&web(&["203.0.113.40", "203.0.113.41", "2001:db8::40", "2001:db8::41"]));
    // A wider one, which takes in the smaller and one of the profile's addresses.
    for network in ["203.0.113.0/26", "2001:db8::/122"] {
        container.verb("allow", &[network]).ok();
    }
    container.reaches(&web(&[
        "203.0.113.11",
        "203.0.113.53",
        "2001:db8::11",
        "203.0.113.40",
        "2001:db8::40",
    ]));
    container.is_refused(&web(&[
        "198.51.100.63",
        "2001:db8:2::1",
        "2001:db8::53",
        "2001:db8::60",
    ]));
    container.reaches(&web(&OPEN));
    container.is("up");
}

fn ports_of_an_allowed_target_open_and_no_other_port_does() {
    let container = Container::start(&User::shared(), "allow-port", NOTHING, &[]);
    for target in [
        "203.0.113.11:8000",
        "[2001:db8::11]:8000",
        "198.51.100.64/26:7777/udp",
        "[2001:db8:1::/64]:7777/udp",
        "second.test:8080-8443/tcp",
    ] {
        container.verb("allow", &[target]).ok();
    }
    let addresses = ["203.0.113.11", "2001:db8::11"];
    container.reaches(&at(&addresses, &[("http", 8000), ("http", 8080), ("http", 8443)]));
    container.is_refused(&at(
        &addresses,
        &[("http", 80), ("tcp", 7777), ("udp", 7777), ("ping", 0)],
    ));
    let network = ["198.51.100.77", "2001:db8:1::77"];
    container.reaches(&at(&network, &[("udp", 7777)]));
    container.is_refused(&at(&network, &[("tcp", 7777), ("http", 80)]));
    container.is("up");
}

fn the_12_digit_and_the_full_id_serve_like_the_name() {
    let user = User::shared();
    let container = Container::start(&user, "by-id", NOTHING, &[]);
    let id = container.id();
    assert_eq!(
        user.shield(&["allow", &id[..12], "203.0.113.11"]).ok().out,
        "Allowed 203.0.113.11 for by-id\n"
    );
    assert_eq!(
        user.shield(&["allow", &id, "2001:db8::11"]).ok().out,
        "Allowed 2001:db8::11 for by-id\n"
    );
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    assert_eq!(
        user.shield(&["deny", &id[..12], "203.0.113.11"]).ok().out,
        "Denied 203.0.113.11 for by-id\n"
    );
    assert_eq!(user.shield(&["status", &id[..12]]).ok().out, "up\n");
    assert_eq!(user.shield(&["status", &id]).ok().out, "up\n");
    assert_eq!(
        user.shield(&["rules", &id[..12], "--json"]).ok().json(),
        container.table()
    );
    user.shield(&["resolve", &id[..12]]).ok();
    let log = user.shield(&["logs", "--container", &id[..12]]).ok();
    assert!(log.out.contains("by-id"), "{log:#?}");
    // Eleven digits are a name like any other, and there is none.
    user.shield(&["status", &id[..11]]).code(3);
    user.shield(&["allow", "0123456789ab", "203.0.113.11"]).code(3);
}

fn the_same_change_twice_is_one_change() {
    let container = Container::start(&User::shared(), "twice", NOTHING, &[]);
    let entries = |container: &Container| container.policy()["grants"].as_array().unwrap().len();
    for verb in ["allow", "deny", "allow"] {
        for target in ["203.0.113.11", "2001:db8::11", "example.com:80", "198.51.100.64/26"] {
            let first = container.verb(verb, &[target]).ok();
            let table = container.rules_and_sets();
            let again = container.verb(verb, &[target]).ok();
            assert_eq!((first.out, first.err), (again.out, again.err));
            assert_eq!(container.rules_and_sets(), table);
        }
        assert_eq!(entries(&container), 4);
    }
    container.is("up");
}

/// All element values of the table's sets, as text.
fn elements(container: &Container) -> String {
    let table = container.table();
    let objects = table["nftables"].as_array().unwrap().iter();
    objects
        .filter_map(|object| object["set"].get("elem"))
        .map(Value::to_string)
        .collect()
}

fn eight_changes_at_once_are_all_made() {
    let user = User::shared();
    let container = Container::start(&user, "at-once", NOTHING, &[]);
    let targets: Vec<String> = (0..8)
        .map(|n| {
            if n % 2 == 0 {
                format!("198.51.100.{}", 200 + n)
            } else {
                format!("2001:db8:1::{}", 200 + n)
            }
        })
        .collect();
    let all = |verb: &str| {
        let started: Vec<Running> = targets
            .iter()
            .map(|target| user.start(&[&user.program, verb, "at-once", target]))
            .collect();
        for running in started {
            running.end().ok();
        }
    };
    for (verb, action) in [("allow", "allow"), ("deny", "deny"), ("allow", "allow")] {
        all(verb);
        let policy = container.policy();
        let grants = policy["grants"].as_array().unwrap();
        let found = elements(&container);
        assert_eq!(grants.len(), targets.len(), "{grants:#?}");
        for target in &targets {
            let grant = grants.iter().find(|grant| grant["target"] == target.as_str());
            assert_eq!(grant.unwrap()["action"], action, "{target}");
            assert!(found.contains(&format!("\"{target}\"")), "{target} in {found}");
        }
        container.is("up");
    }
}

fn a_name_that_does_not_resolve_cannot_be_allowed_and_changes_nothing() {
    let container = Container::start(&User::shared(), "allow-missing", ONE_OF_EACH, &[]);
    let before = (container.policy(), container.rules_and_sets());
    let output = container.verb("allow", &["missing.test"]).code(1);
    assert!(
        output.one_line().contains("missing.test does not resolve"),
        "{output:#?}"
    );
    assert_eq!(output.out, "");
    assert_eq!((container.policy(), container.rules_and_sets()), before);
    container.is("up");
}

fn a_name_with_private_addresses_alone_opens_none_of_them_and_leaves_a_note() {
    let container = Container::start(&User::shared(), "allow-rebind", ONE_OF_EACH, &[]);
    let output = container.verb("allow", &["rebind.test"]);
    let private = ["10.9.8.7", "169.254.169.254", "fd00:9::7"];
    container.is_refused(&everything(&private));
    container.is("up");
    for address in private {
        assert!(
            !output.out.contains(address),
            "what is not open is not called allowed: {output:#?}"
        );
    }
    let log = container.user.shield(&["logs", "--container", "allow-rebind"]).ok();
    let note = |line: &&str| line.contains(r#""action":"note""#) && line.contains("rebind.test");
    assert_eq!(log.out.lines().filter(note).count(), 1, "{log:#?}");
}

fn private_addresses_open_only_where_they_are_allowed_themselves() {
    let container = Container::start(&User::shared(), "allow-private", NOTHING, &[]);
    for wide in ["0.0.0.0/0", "::/0"] {
        container.verb("allow", &[wide]).ok();
    }
    let private = ["10.9.8.7", "169.254.169.254", "fd00:9::7", "fd00:ec2::254"];
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    container.is_refused(&everything(&private));
    for address in private {
        container.verb("allow", &[address]).ok();
    }
    container.reaches(&web(&private));
    container.is_refused(&web(&["10.9.8.8", "fd00:9::8", "192.168.77.7", "fec0::7"]));
    let log = container.user.shield(&["logs", "--container", "allow-private"]).ok();
    container.is("up");
    let notes = log
        .out
        .lines()
        .filter(|line| line.contains(r#""action":"note""#))
        .count();
    assert!(notes >= 1, "wide networks and private addresses leave a note: {log:#?}");
}

fn a_container_that_is_not_running_or_not_ours_is_told_apart() {
    let user = User::shared();
    let container = Container::start(&user, "allow-stopped", NOTHING, &[]);
    user.podman(&["stop", "allow-stopped"]).ok();
    for verb in ["allow", "deny"] {
        let output = container.verb(verb, &["203.0.113.11"]).code(1);
        assert!(output.one_line().contains("not running"), "{output:#?}");
    }
    assert_eq!(container.policy()["grants"].as_array().unwrap().len(), 0);
    let other = Container::unshielded(&user, "allow-unshielded", &[]);
    for words in [
        &["allow", "nobody", "203.0.113.11"][..],
        &["deny", "nobody", "203.0.113.11"],
        &["allow", &other.name, "203.0.113.11"],
        &["status", "nobody"],
        &["rules", "nobody"],
        &["resolve", "nobody"],
        &["logs", "--container", "nobody"],
    ] {
        let output = user.shield(words).code(3);
        output.one_line();
        assert_eq!(output.out, "", "{output:#?}");
    }
}
