//! `rules`, `status`, `logs`, `profiles`, `preview`: what is said is what is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::command::{Output, Running, wait_until};
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
    the_log_tells_what_was_done_to_one_container_and_to_all,
    profiles_are_listed_and_shown,
    a_users_profile_takes_the_place_of_a_bundled_one,
    a_real_nft_accepts_every_preview,
    a_closed_pipe_is_no_failure,
];

/// Everything of a policy that has elements or rules of its own.
const RICH: &str = "
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
        container.user.podman(&["restart", "drift"]).ok();
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

fn the_log_tells_what_was_done_to_one_container_and_to_all() {
    let user = FreshUser::with_hooks();
    let first = Container::start(&user, "first", "203.0.113.10\n10.9.8.7\n=missing.test\n", &[]);
    let second = Container::start(&user, "second", "2001:db8::10\n", &[]);
    first.verb("allow", &["203.0.113.11"]).ok();
    second.verb("deny", &["2001:db8::10"]).ok();
    first.verb("deny", &["example.com"]).ok();
    let entries = |words: &[&str]| -> Vec<Value> {
        let output = user.shield(&[&["logs"], words].concat()).ok();
        output
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let of = |entry: &Value| entry["container"].as_str().unwrap().to_owned();
    let actions = |entries: &[Value]| -> Vec<String> {
        entries
            .iter()
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect()
    };
    let own = entries(&["--container", "first", "-n", "1000"]);
    assert!(own.iter().all(|entry| of(entry) == "first"), "{own:#?}");
    let done: Vec<String> = actions(&own).into_iter().filter(|action| action != "note").collect();
    assert_eq!(done, ["setup", "allowed", "denied"]);
    for entry in &own {
        let ts = entry["ts"].as_str().unwrap();
        assert!(
            ts.ends_with('Z') && ts.len() == "2026-01-01T00:00:00.000Z".len(),
            "{ts}"
        );
    }
    let denied = own.last().unwrap();
    assert_eq!(denied["dest"], "example.com");
    assert!(denied["detail"].as_str().unwrap().contains("203.0.113.12"), "{denied}");
    // The private address is worth a note, and so is the name that does not resolve.
    let notes: Vec<&Value> = own.iter().filter(|entry| entry["action"] == "note").collect();
    assert!(
        notes.iter().any(|note| note.to_string().contains("10.9.8.7")),
        "{notes:#?}"
    );
    assert!(notes.iter().any(|note| note["domain"] == "missing.test"), "{notes:#?}");

    let all = entries(&["-n", "1000"]);
    assert_eq!(
        all.len(),
        own.len() + entries(&["--container", "second", "-n", "1000"]).len()
    );
    let times: Vec<&str> = all.iter().map(|entry| entry["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let last = entries(&["-n", "2"]);
    assert_eq!(last, all[all.len() - 2..]);
    assert_eq!(last.iter().map(of).collect::<Vec<_>>(), ["second", "first"]);
    assert_eq!(entries(&["--container", "first", "-n", "1"]), own[own.len() - 1..]);
    assert_eq!(entries(&["-n", "0"]).len(), 0);
    // It stays when the container goes.
    first.remove();
    let after = entries(&["--container", "first", "-n", "1000"]);
    assert_eq!(after[..own.len()], own[..]);
}

fn profiles_are_listed_and_shown() {
    let user = FreshUser::new();
    user.profile("work", "# What work needs\n203.0.113.10\n@base\n");
    let list = user.shield(&["profiles"]).ok();
    for name in ["base", "dev-node", "dev-python", "dev-standard", "nvidia-hpc", "work"] {
        assert!(
            list.out.lines().any(|line| line.starts_with(name)),
            "{name} in {list:#?}"
        );
    }
    assert!(list.out.contains("What work needs"), "{list:#?}");
    let shown = user.shield(&["profiles", "work"]).ok();
    assert_eq!(shown.out, "# What work needs\n203.0.113.10\n@base\n");
    let bundled = user.shield(&["profiles", "dev-python"]).ok();
    assert!(bundled.out.starts_with('#'), "{bundled:#?}");
    let unknown = user.shield(&["profiles", "wrok"]).code(2);
    assert!(unknown.one_line().contains("work"), "{unknown:#?}");
}

fn a_users_profile_takes_the_place_of_a_bundled_one() {
    let user = FreshUser::with_hooks();
    user.profile("base", "# Mine\n203.0.113.10\n2001:db8::10\n");
    let container = Container::named(&user, "override");
    let words = [
        "run",
        "override",
        "--profiles",
        "base",
        "--",
        "-d",
        crate::lab::IMAGE,
        "sleep",
        "100000",
    ];
    assert_eq!(user.shield(&words).ok().err, "");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
    let targets = container.policy()["targets"].as_array().unwrap().len();
    assert_eq!(targets, 2);
    let list = user.shield(&["profiles"]).ok();
    assert!(list.out.contains("in place of the bundled one"), "{list:#?}");
    assert_eq!(
        user.shield(&["profiles", "base"]).ok().out,
        "# Mine\n203.0.113.10\n2001:db8::10\n"
    );
}

/// Has a real `nft` check a document, without root. (It opens `/dev/stdin`, which has to be a pipe of the user's own.)
fn nft_check(user: &User, document: &[u8]) -> Output {
    user.run_with(document, &["unshare", "-rn", "sh", "-c", "cat | nft -j -c -f -"])
}

fn a_real_nft_accepts_every_preview() {
    let user = User::shared();
    user.profile("preview-rich", RICH);
    user.profile("preview-empty", "");
    user.profile("preview-wide", "0.0.0.0/0\n::/0\n");
    let all = ["base", "dev-standard", "dev-python", "dev-node", "nvidia-hpc"];
    for profiles in [
        &["preview-rich"][..],
        &["preview-empty"],
        &["preview-wide"],
        &all,
        &["preview-rich,preview-wide"],
    ] {
        for mode in [&[][..], &["--down"], &["--down", "--all"]] {
            let document = user
                .shield(&[&["preview", "--json", "--profiles"], profiles, mode].concat())
                .ok();
            assert_eq!(document.err, "");
            assert!(document.json()["nftables"].is_array());
            let checked = nft_check(&user, document.out.as_bytes()).ok();
            assert_eq!(checked.err, "", "{profiles:?} {mode:?}");
            let text = user.shield(&[&["preview", "--profiles"], profiles, mode].concat()).ok();
            assert!(text.out.contains("output"), "{text:#?}");
        }
    }
    // That the check is one: nft says no to what is none.
    let nonsense = br#"{"nftables":[{"add":{"rule":{"family":"inet","table":"x","chain":"y","expr":[]}}}]}"#;
    assert_ne!(nft_check(&user, nonsense).code, 0);
}

fn a_closed_pipe_is_no_failure() {
    let user = User::shared();
    for verb in [
        "preview --json --profiles dev-standard",
        "profiles",
        "rules bystander",
        "logs",
        "status",
    ] {
        let line = format!("{{ terok-shield {verb}; echo $? >&2; }} | true");
        let output = user.run(&["bash", "-c", &line]);
        assert_eq!(output.one_line(), "0", "{verb}");
    }
}
