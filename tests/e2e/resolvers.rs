//! The resolvers that podman chose are open when the program begins, and no others, whatever the program writes into its
//! `resolv.conf`. Podman 5 names them after the hook; then a process that the hook leaves behind holds the program back.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::command::{root, wait_until};
use crate::lab::{Container, IMAGE, by_pasta, command_line, processes, program_of};
use crate::user::{FreshUser, User};

tests![
    a_programs_first_question_is_answered,
    a_resolver_that_the_program_writes_down_at_once_is_never_opened,
    a_container_that_waits_for_its_start_gets_its_resolvers,
    where_nobody_could_read_the_resolvers_in_time_dns_stays_closed_and_that_is_said,
    where_nobody_could_look_at_a_network_that_comes_late_the_program_never_runs,
];

const PROFILE: &str = "allowed.test\n203.0.113.10\n2001:db8::10\n";
/// A resolver of the laboratory's that podman does not choose.
const OTHER: [&str; 2] = ["198.51.100.53", "2001:db8:1::53"];

/// Addresses in the table's sets of resolvers.
fn opened(container: &Container) -> BTreeSet<String> {
    container.table()["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|object| object.get("set"))
        .filter(|set| set["name"].as_str().unwrap().starts_with("upstream_"))
        .flat_map(|set| set["elem"].as_array().cloned().unwrap_or_default())
        .map(|element| element.as_str().unwrap().to_owned())
        .collect()
}

fn noted(container: &Container) -> BTreeSet<String> {
    let running = container.user.bundle_json(&container.name, "running.json");
    assert_eq!(running["dns_closed"], Value::Null);
    let list = running["upstreams"].as_array().unwrap();
    list.iter()
        .map(|address| address.as_str().unwrap().to_owned())
        .collect()
}

/// Ways to start a container in which the network or the runtime differs.
const WAYS: [(&str, &[&str]); 3] = [
    ("default", &[]),
    ("slirp", &["--network", "slirp4netns"]),
    ("keep-id", &["--userns", "keep-id", "--user", "0"]),
];

fn a_programs_first_question_is_answered() {
    let shared = User::shared();
    let runc = FreshUser::with_hooks();
    let conf = std::fs::read_to_string(runc.containers_conf()).unwrap();
    let conf = conf.replace("[engine]\n", "[engine]\nruntime = \"runc\"\n");
    runc.write(&runc.containers_conf(), conf);
    for user in [&shared, &*runc] {
        user.profile("first", PROFILE);
        for (way, flags) in WAYS {
            for round in 0..4 {
                let words = [
                    &["run", "first", "--profiles", "first", "--", "--rm"],
                    flags,
                    &[IMAGE, "dig", "+short", "+tries=1", "+timeout=5", "allowed.test", "AAAA"],
                ];
                let output = user.shield(&words.concat()).ok();
                assert_eq!(output.text(), "2001:db8::10", "{way}, {round}: {output:#?}");
            }
        }
    }
}

fn a_resolver_that_the_program_writes_down_at_once_is_never_opened() {
    let user = User::shared();
    user.profile("written", PROFILE);
    let open = Container::unshielded(&user, "written-proof", &[]);
    for address in OTHER {
        let question = format!("dig +short +tries=1 +timeout=5 @{address} allowed.test A");
        assert_eq!(open.sh(&question).ok().text(), "203.0.113.10");
    }
    let write = format!(
        "printf 'nameserver {}\\nnameserver {}\\n' >/etc/resolv.conf; exec sleep 100000",
        OTHER[0], OTHER[1]
    );
    for (way, flags) in WAYS {
        let container = Container::named(&user, "written");
        let words = [
            &[
                "run",
                "written",
                "--profiles",
                "written",
                "--",
                "-d",
                "--stop-signal",
                "KILL",
            ],
            flags,
            &[IMAGE, "sh", "-c", &write],
        ];
        user.shield(&words.concat()).ok();
        for round in 0..4 {
            wait_until("the program has written", || {
                let written = container.sh("cat /etc/resolv.conf").out;
                written.contains(OTHER[1]).then_some(())
            });
            let found = opened(&container);
            assert!(!found.is_empty(), "{way}, {round}");
            assert_eq!(found, noted(&container), "{way}, {round}");
            for address in OTHER {
                assert!(!found.contains(address), "{way}, {round}: {found:?}");
                let question = format!("dig +short +tries=1 +timeout=1 @{address} allowed.test A");
                assert_ne!(container.sh(&question).code, 0, "{way}, {round}");
            }
            container.is("up");
            container.restart();
        }
    }
}

/// Processes of the program under test that a hook left behind.
fn left_behind(user: &User) -> Vec<String> {
    processes()
        .filter(|pid| program_of(pid) == "terok-shield" && command_line(pid).contains(" hook createRuntime"))
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/uid_map"))
                .is_ok_and(|map| map.split_whitespace().nth(1) == Some(&user.uid.to_string()))
        })
        .collect()
}

/// A container that the runtime has made and not started.
fn waiting(user: &User, name: &str, more: &[&str]) -> Container {
    let container = Container::named(user, name);
    let flags = user.prepare(name, PROFILE);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let words = [
        &["create", "--stop-signal", "KILL"],
        &flags[..],
        more,
        &[IMAGE, "sh", "-c", "echo ran; exec sleep 100000"],
    ];
    user.podman(&words.concat()).ok();
    user.podman(&["init", name]).ok();
    container
}

fn a_container_that_waits_for_its_start_gets_its_resolvers() {
    let user = FreshUser::with_hooks();
    let container = waiting(&user, "waiting", &[]);
    // A verb in between takes part in what is to come.
    container.verb("allow", &["203.0.113.11"]).ok();
    container.is("up");
    user.podman(&["start", "waiting"]).ok();
    assert_eq!(container.sh("dig +short allowed.test A").ok().text(), "203.0.113.10");
    assert_eq!(container.sh("curl -s http://203.0.113.11").ok().text(), "203.0.113.11");
    assert_eq!(opened(&container), noted(&container));
    container.is("up");
    let tracer = container.sh("grep TracerPid /proc/1/status").ok();
    assert_eq!(tracer.text().split_whitespace().last(), Some("0"));
    wait_until("the end of what the hook left behind", || {
        left_behind(&user).is_empty().then_some(())
    });
}

fn where_nobody_could_read_the_resolvers_in_time_dns_stays_closed_and_that_is_said() {
    let user = FreshUser::with_hooks();
    let container = waiting(&user, "late", &[]);
    let left = left_behind(&user);
    if !by_pasta() {
        // Podman 4 has named them by then.
        assert_eq!(left, Vec::<String>::new());
        user.podman(&["start", "late"]).ok();
        assert_eq!(container.sh("dig +short allowed.test A").ok().text(), "203.0.113.10");
        return;
    }
    assert_eq!(left.len(), 1, "{left:?}");
    root(&["kill", "-KILL", &left[0]]).ok();
    wait_until("its end", || left_behind(&user).is_empty().then_some(()));
    user.podman(&["start", "late"]).ok();
    // It runs, shielded, and has no resolver: neither podman's nor one that it names itself.
    let status = container.verb("status", &[]).ok();
    assert_eq!(status.text(), "up");
    assert!(status.one_line().contains("DNS is closed"), "{status:#?}");
    assert!(container.verb("status", &["--json"]).ok().json()["dns_closed"].is_string());
    assert_eq!(container.sh("curl -s http://203.0.113.10").ok().text(), "203.0.113.10");
    for question in [
        "dig +tries=1 +timeout=2 allowed.test",
        "dig +tries=1 +timeout=2 @203.0.113.53 allowed.test",
    ] {
        assert_ne!(container.sh(question).code, 0, "{question}");
    }
    assert_eq!(opened(&container), BTreeSet::new());
    // The next start is as good as any.
    container.restart();
    assert_eq!(container.sh("dig +short allowed.test A").ok().text(), "203.0.113.10");
    assert_eq!(container.verb("status", &[]).ok().err, "");
}

fn where_nobody_could_look_at_a_network_that_comes_late_the_program_never_runs() {
    let user = FreshUser::with_hooks();
    let container = waiting(&user, "unseen", &["--userns", "keep-id"]);
    let left = left_behind(&user);
    assert_eq!(left.len(), 1, "{left:?}");
    let first = container.pid();
    assert_ne!(first, "0");
    root(&["kill", "-KILL", &left[0]]).ok();
    let process = std::path::PathBuf::from(format!("/proc/{first}"));
    wait_until("the end of the first process", || (!process.exists()).then_some(()));
    assert_eq!(user.podman(&["logs", "unseen"]).out, "");
    container.is("inactive");
    // The next start is as good as any; podman has to hear of the end first.
    user.podman(&["stop", "--time", "0", "unseen"]);
    user.podman(&["start", "unseen"]).ok();
    wait_until("the program", || {
        (user.podman(&["logs", "unseen"]).out == "ran\n").then_some(())
    });
    container.is("up");
    assert_eq!(container.sh("dig +short allowed.test A").ok().text(), "203.0.113.10");
    wait_until("the end of what the hook left behind", || {
        left_behind(&user).is_empty().then_some(())
    });
}
