//! `rules` and `status`: what is said is what is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::command::{Running, wait_until};
use crate::lab::Container;
use crate::probe::web;
use crate::reach::ONE_OF_EACH;
use crate::user::{FreshUser, User};

tests![
    rules_as_json_are_the_table_as_nft_has_it_element_for_element,
    jq_finds_the_addresses_in_the_rules,
    rules_for_people_name_the_state_and_the_addresses,
    whatever_is_changed_in_the_table_by_hand_is_named_and_an_error,
    a_table_of_somebody_else_beside_ours_is_no_error,
    status_of_all_containers_is_a_line_each_under_a_summary,
    status_as_json_says_the_same,
    a_running_container_that_was_never_shielded_is_an_error,
];

/// Everything of a policy that has elements or rules of its own.
pub const RICH: &str = "
    allowed.test
    203.0.113.20
    2001:db8::20
    198.51.100.64/26
    2001:db8:1::/64
    203.0.113.21:80,8000-8100
    [2001:db8::21]:80,8000-8100
    198.51.100.128/25:443/tcp
    [2001:db8:2::/48]:443/tcp
    10.9.8.7
    fd00:9::7
";

fn rich(name: &str) -> Container {
    let container = Container::start(&User::shared(), name, RICH, &["-p", "127.0.0.1::80"]);
    container.verb("allow", &["203.0.113.40:443"]).ok();
    container.verb("allow", &["2001:db8::40"]).ok();
    container.verb("deny", &["198.51.100.77"]).ok();
    container.verb("deny", &["2001:db8:1::77"]).ok();
    container.verb("deny", &["198.51.100.80/28:80"]).ok();
    container
}

fn rules_as_json_are_the_table_as_nft_has_it_element_for_element() {
    let container = rich("rules-json");
    let same = |container: &Container| {
        let before = container.table();
        let output = container.verb("rules", &["--json"]).ok();
        assert_eq!(output.err, "");
        let rules = output.json();
        // Counters go on counting: only two equal tables around it say what it should have been.
        (before == container.table()).then(|| assert_eq!(rules, before))
    };
    wait_until("nothing counts meanwhile", || same(&container));
    let kinds: BTreeSet<String> = container.table()["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|object| object.as_object().unwrap().keys().cloned())
        .collect();
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["chain", "counter", "metainfo", "rule", "set", "table"]
    );
    container.is("up");
}

fn jq_finds_the_addresses_in_the_rules() {
    let container = rich("rules-jq");
    let rules = container.verb("rules", &["--json"]).ok();
    let filter = ".nftables[] | select(.set) | .set.elem[]? | .. | strings";
    let found = Running::start(&["jq", "-r", filter], rules.out.as_bytes()).end().ok();
    let found: BTreeSet<&str> = found.out.lines().collect();
    for address in [
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.20",
        "2001:db8::20",
        "203.0.113.21",
        "2001:db8::21",
        "10.9.8.7",
        "fd00:9::7",
        "198.51.100.64",
        "2001:db8:1::",
        "198.51.100.77",
        "2001:db8:1::77",
        "203.0.113.40",
        "2001:db8::40",
    ] {
        assert!(found.contains(address), "{address} in {found:?}");
    }
    assert!(!found.contains("203.0.113.11"));
}

fn rules_for_people_name_the_state_and_the_addresses() {
    let container = rich("rules-text");
    let text = container.verb("rules", &[]).ok().out;
    assert_eq!(text.lines().next(), Some("state: up"));
    for words in [
        "203.0.113.20",
        "2001:db8::20",
        "198.51.100.64/26",
        "203.0.113.10",
        "output",
        "terok_shield",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    container.user.podman(&["stop", "rules-text"]).ok();
    let stopped = container.verb("rules", &[]).code(1);
    assert!(stopped.one_line().contains("not running"), "{stopped:#?}");
}

/// The handle of the last rule of a chain.
fn last_rule(container: &Container, chain: &str) -> String {
    let table = container.table();
    let rules = table["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|object| object.get("rule"));
    let mut handles = rules
        .filter(|rule| rule["chain"] == chain)
        .map(|rule| rule["handle"].to_string());
    handles.next_back().unwrap_or_else(|| panic!("a rule in {chain}"))
}

/// A set that has this element.
fn set_with(container: &Container, element: &str) -> String {
    let table = container.table();
    let mut sets = table["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|object| object.get("set"));
    let found = sets.find(|set| {
        let elements: &[Value] = set["elem"].as_array().map_or(&[], Vec::as_slice);
        elements.iter().any(|value| value == element)
    });
    found.unwrap_or_else(|| panic!("{element} in {table}"))["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn whatever_is_changed_in_the_table_by_hand_is_named_and_an_error() {
    let container = rich("drift");
    let without_last = |chain: &str| {
        (
            chain.to_owned(),
            format!("delete rule inet terok_shield {chain} handle LAST"),
        )
    };
    let (v4, v6) = (
        set_with(&container, "203.0.113.20"),
        set_with(&container, "2001:db8::20"),
    );
    let other = |what: &str, change: &str| (what.to_owned(), change.to_owned());
    for (what, change) in [
        without_last("output"),
        without_last("postrouting"),
        without_last("refuse_blocked"),
        other("first rule", "insert rule inet terok_shield output accept"),
        other("input", "add rule inet terok_shield input accept"),
        other("out_v6", "flush chain inet terok_shield out_v6"),
        other("output", "chain inet terok_shield output { policy accept; }"),
        other("extra", "add chain inet terok_shield extra"),
        other(
            "early",
            "add chain inet terok_shield early { type filter hook output priority -10; }",
        ),
        other(&v4, &format!("add element inet terok_shield {v4} {{ 203.0.113.99 }}")),
        other(
            &v6,
            &format!("delete element inet terok_shield {v6} {{ 2001:db8::20 }}"),
        ),
        other(&v4, &format!("flush set inet terok_shield {v4}")),
        other("table", "delete table inet terok_shield"),
        other("table", "flush ruleset"),
    ] {
        container.is("up");
        // Every table has handles of its own.
        let change = if change.ends_with("LAST") {
            change.replace("LAST", &last_rule(&container, &what))
        } else {
            change
        };
        container.in_its_network(&["nft", &change]).ok();
        let status = container.verb("status", &[]).code(1);
        assert_eq!(status.out, "error\n", "{change}");
        assert!(status.err.contains(&what), "{what} after {change}: {status:#?}");
        for line in status.err.lines() {
            assert!(line.starts_with("terok-shield: drift: "), "{line}");
        }
        container.restart();
    }
    container.is("up");
}

fn a_table_of_somebody_else_beside_ours_is_no_error() {
    let container = Container::start(&User::shared(), "foreign", ONE_OF_EACH, &[]);
    container
        .in_its_network(&[
            "nft",
            "add table inet foreign; add set inet foreign s { type ipv4_addr; flags interval; }",
        ])
        .ok();
    container.is("up");
    container.verb("allow", &["203.0.113.11"]).ok();
    container.verb("deny", &["203.0.113.20"]).ok();
    container.reaches(&web(&["203.0.113.11", "2001:db8::10"]));
    container.is_refused(&web(&["203.0.113.20"]));
    container.is("up");
}

fn status_of_all_containers_is_a_line_each_under_a_summary() {
    let user = FreshUser::new();
    // Before there is anything.
    let empty = user.shield(&["status"]).ok();
    assert!(!empty.out.contains('\t'), "{empty:#?}");
    let _first = Container::start(&user, "first", ONE_OF_EACH, &[]);
    let second = Container::start(&user, "second", ONE_OF_EACH, &[]);
    let third = Container::start(&user, "third", "", &[]);
    user.podman(&["stop", "second"]).ok();
    let all = user.shield(&["status"]).ok();
    let lines: Vec<&str> = all.out.lines().filter(|line| line.contains('\t')).collect();
    assert_eq!(lines, ["first\tup", "second\tinactive", "third\tup"], "{all:#?}");
    assert!(all.out.starts_with("terok-shield "), "{all:#?}");
    assert!(all.out.contains("hooks: installed in "), "{all:#?}");
    second.is("inactive");
    third.in_its_network(&["nft", "flush", "ruleset"]).ok();
    let all = user.shield(&["status"]).code(1);
    assert!(
        all.out.contains("first\tup\n") && all.out.contains("third\terror\n"),
        "{all:#?}"
    );
    assert!(
        all.err.lines().all(|line| line.starts_with("terok-shield: third: ")),
        "{all:#?}"
    );
    assert_ne!(all.err, "");
    // A container that was removed leaves its log, and is not there.
    third.remove();
    second.remove();
    let all = user.shield(&["status"]).ok();
    assert!(
        all.out.contains("first\tup\n") && !all.out.contains("third\terror"),
        "{all:#?}"
    );
}

fn status_as_json_says_the_same() {
    let container = Container::start(&User::shared(), "status-json", ONE_OF_EACH, &[]);
    let status = container.verb("status", &["--json"]).ok().json();
    assert_eq!(
        (&status["container"], &status["state"]),
        (&"status-json".into(), &"up".into())
    );
    assert_eq!(status["reasons"], Value::Array(Vec::new()));
    container.in_its_network(&["nft", "flush", "ruleset"]).ok();
    let status = container.verb("status", &["--json"]).code(1).json();
    assert_eq!(status["state"], "error");
    assert_ne!(status["reasons"], Value::Array(Vec::new()));
    container.user.podman(&["stop", "status-json"]).ok();
    let status = container.verb("status", &["--json"]).ok().json();
    assert_eq!(status["state"], "inactive");
    let all = container.user.shield(&["status", "--json"]).json();
    let listed = all["containers"].as_array().unwrap().iter();
    assert_eq!(listed.filter(|one| one["container"] == "status-json").count(), 1);
}

fn a_running_container_that_was_never_shielded_is_an_error() {
    let user = User::shared();
    user.prepare("never", "");
    let container = Container::unshielded(&user, "never", &[]);
    let status = container.verb("status", &[]).code(1);
    assert_eq!(status.out, "error\n");
    assert!(status.one_line().contains("not shielded"), "{status:#?}");
}
