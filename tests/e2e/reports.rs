//! `logs`, `profiles`, `preview`: what happened, what there is, and what would be.

use serde_json::Value;

use crate::command::Output;
use crate::inspect::RICH;
use crate::lab::Container;
use crate::probe::web;
use crate::user::{FreshUser, User};

tests![
    the_log_tells_what_was_done_to_one_container_and_to_all,
    profiles_are_listed_and_shown,
    a_users_profile_takes_the_place_of_a_bundled_one,
    a_real_nft_accepts_every_preview,
    a_closed_pipe_is_no_failure,
];

/// Has a real `nft` check a document, without root. (It opens `/dev/stdin`, which has to be a pipe of the user's own.)
fn nft_check(user: &User, document: &[u8]) -> Output {
    user.run_with(document, &["unshare", "-rn", "sh", "-c", "cat | nft -j -c -f -"])
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
