//! `up`, `down`, `block`, and what ends by itself.

use std::time::Duration;

use serde_json::Value;

use crate::command::wait_until;
use crate::lab::Container;
use crate::probe::{Probe, everything, web};
use crate::user::User;

tests![
    each_mode_opens_what_it_should_and_nothing_else,
    a_mode_stays_over_stop_and_start,
    down_for_a_time_is_up_again_with_nobody_there_to_do_it,
    a_time_that_is_over_while_the_container_is_stopped_is_over,
    a_grant_for_a_time_ends_by_itself,
    what_lasts_already_is_not_shortened_and_a_denial_is_not_lifted_for_a_time_only,
    block_closes_published_ports_and_up_opens_them_again,
    every_change_is_in_the_log_and_the_table_is_as_it_should_be,
    what_cannot_be_done_is_one_line_and_changes_nothing,
];

const LISTED: &str = "203.0.113.10\n2001:db8::10\n10.9.8.7\nfd00:9::7\n";
const OPEN: [&str; 4] = ["203.0.113.10", "2001:db8::10", "10.9.8.7", "fd00:9::7"];
const DENIED: [&str; 2] = ["203.0.113.20", "2001:db8::20"];
const PUBLIC: [&str; 2] = ["203.0.113.11", "2001:db8::11"];
const PRIVATE: [&str; 4] = ["10.9.8.8", "192.168.77.7", "100.64.1.1", "fd00:9::8"];
const FLOOR: [&str; 5] = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "fec0::7",
];

fn start(name: &str) -> Container {
    let container = Container::start(&User::shared(), name, LISTED, &[]);
    for target in DENIED {
        container.verb("deny", &[target]).ok();
    }
    container
}

#[track_caller]
fn is_as_in(container: &Container, mode: &str) {
    container.is(mode);
    if mode == "block" {
        for address in OPEN {
            let found = container.probe(&web(&[address]));
            assert!(found.iter().all(|(_, found)| found == "ECONNREFUSED"), "{found:?}");
        }
    } else {
        container.reaches(&everything(&OPEN));
    }
    container.is_refused(&everything(&DENIED));
    container.is_refused(&everything(&FLOOR));
    let closed_or_open = |open: bool, probes: &[Probe]| {
        if open {
            container.reaches(probes);
        } else {
            container.is_refused(probes);
        }
    };
    closed_or_open(mode == "down" || mode == "down_all", &everything(&PUBLIC));
    closed_or_open(mode == "down_all", &everything(&PRIVATE));
}

fn each_mode_opens_what_it_should_and_nothing_else() {
    let container = start("modes");
    is_as_in(&container, "up");
    for (verb, flags, line, mode) in [
        ("down", &[][..], "Shield down for modes\n", "down"),
        ("down", &["--all"], "Shield down for modes (all traffic)\n", "down_all"),
        ("block", &[], "All traffic blocked for modes\n", "block"),
        ("down", &["--all"], "Shield down for modes (all traffic)\n", "down_all"),
        ("up", &[], "Shield up for modes\n", "up"),
        ("quarantine", &[], "All traffic blocked for modes\n", "block"),
        ("down", &[], "Shield down for modes\n", "down"),
        ("up", &[], "Shield up for modes\n", "up"),
    ] {
        let output = container.verb(verb, flags).ok();
        assert_eq!((output.out.as_str(), output.err.as_str()), (line, ""));
        is_as_in(&container, mode);
        assert_eq!(container.policy()["mode"], mode);
    }
    // Inside of the container everything works in every mode.
    container.verb("block", &[]).ok();
    container.sh("ping -c 1 127.0.0.1 && ping -c 1 ::1").ok();
}

fn a_mode_stays_over_stop_and_start() {
    let container = start("modes-stay");
    for (verb, flags, mode) in [
        ("down", &[][..], "down"),
        ("down", &["--all"], "down_all"),
        ("block", &[], "block"),
        ("down", &["--for", "1h"], "down"),
        ("up", &[], "up"),
    ] {
        container.verb(verb, flags).ok();
        container.user.podman(&["stop", &container.name]).ok();
        container.is("inactive");
        container.user.podman(&["start", &container.name]).ok();
        is_as_in(&container, mode);
        let status = container.verb("status", &["--json"]).ok().json();
        assert_eq!(status["state"], mode);
        if flags.contains(&"--for") {
            let left = status["left"].as_u64().unwrap();
            assert!((1..=3600).contains(&left), "{status}");
        } else {
            assert_eq!(status["left"], Value::Null);
        }
        let log = container
            .user
            .shield(&["logs", "--container", &container.name])
            .ok()
            .out;
        let setup = log.lines().rfind(|line| line.contains("\"setup\"")).unwrap();
        assert!(setup.contains(&format!("\"{mode} ")), "{setup}");
    }
}

fn down_for_a_time_is_up_again_with_nobody_there_to_do_it() {
    let container = start("modes-time");
    for (flags, mode) in [
        (&["--for", "15s"][..], "down"),
        (&["--all", "--for", "15s"], "down_all"),
    ] {
        let output = container.verb("down", flags).ok();
        assert!(output.out.ends_with(", up again in 15s\n"), "{output:?}");
        let status = container.verb("status", &[]).ok();
        assert_eq!(status.text(), mode);
        assert!(status.one_line().contains("up again in "), "{status:?}");
        container.reaches(&web(&PUBLIC));
        wait_until("the end of its time", || {
            let output = container.verb("status", &[]).ok();
            (output.text() == "up").then_some(())
        });
        is_as_in(&container, "up");
        // No command has touched it; the next one writes down what has happened.
        assert_eq!(container.policy()["mode"], mode);
    }
    container.verb("allow", &["203.0.113.12"]).ok();
    assert_eq!(container.policy()["mode"], "up");
    let log = container
        .user
        .shield(&["logs", "--container", &container.name])
        .ok()
        .out;
    assert!(
        log.lines()
            .any(|line| line.contains("shield_up") && line.contains("the time of down_all is over")),
        "{log}"
    );
    // A mode of no end takes the place of one that would end, and the other way round.
    container.verb("down", &["--for", "1h"]).ok();
    container.verb("down", &[]).ok();
    let status = container.verb("status", &["--json"]).ok().json();
    assert_eq!((&status["state"], &status["left"]), (&"down".into(), &Value::Null));
    container.verb("down", &["--for", "1h"]).ok();
    assert!(container.verb("status", &["--json"]).ok().json()["left"].is_u64());
    container.verb("up", &[]).ok();
    is_as_in(&container, "up");
}

fn a_time_that_is_over_while_the_container_is_stopped_is_over() {
    let container = start("modes-over");
    container.verb("down", &["--for", "2s"]).ok();
    container.verb("allow", &["203.0.113.12", "--for", "2s"]).ok();
    container.user.podman(&["stop", &container.name]).ok();
    // Until the end of its time, and a little of a start besides.
    std::thread::sleep(Duration::from_secs(3));
    container.user.podman(&["start", &container.name]).ok();
    is_as_in(&container, "up");
    container.is_refused(&web(&["203.0.113.12"]));
    let log = container
        .user
        .shield(&["logs", "--container", &container.name])
        .ok()
        .out;
    assert!(log.contains("the time of down is over"), "{log}");
    assert!(log.contains("the time of the grant for 203.0.113.12 is over"), "{log}");
}

fn a_grant_for_a_time_ends_by_itself() {
    let container = start("grant-time");
    let targets = ["203.0.113.11", "2001:db8::11", "198.51.100.64/26", "example.com"];
    for target in targets {
        let output = container.verb("allow", &[target, "--for", "20s"]).ok();
        assert!(output.out.ends_with(" for grant-time for 20s\n"), "{output:?}");
    }
    let open = web(&[
        "203.0.113.11",
        "2001:db8::11",
        "198.51.100.77",
        "203.0.113.12",
        "2001:db8::12",
    ]);
    container.reaches(&open);
    let status = container.verb("status", &["--json"]).ok().json();
    let timed: Vec<&Value> = status["grants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|grant| grant["left"].is_u64())
        .collect();
    assert_eq!(timed.len(), targets.len(), "{status:#}");
    wait_until("the end of their time", || {
        let found = container.probe(&open);
        found.iter().all(|(_, found)| found == "ECONNREFUSED").then_some(())
    });
    container.is("up");
    container.is_refused(&open);
    container.reaches(&web(&OPEN));
    // Given again, and prolonged before it ends, and made lasting.
    container.verb("allow", &["203.0.113.11", "--for", "1h"]).ok();
    container.verb("allow", &["203.0.113.11", "--for", "2h"]).ok();
    let left = |container: &Container| container.verb("status", &["--json"]).ok().json()["grants"][2]["left"].as_u64();
    assert!(left(&container).unwrap() > 3600);
    container.verb("allow", &["203.0.113.11"]).ok();
    assert_eq!(left(&container), None);
    container.reaches(&web(&["203.0.113.11"]));
    container.is("up");
}

fn what_lasts_already_is_not_shortened_and_a_denial_is_not_lifted_for_a_time_only() {
    let container = start("grant-kept");
    container.verb("allow", &["203.0.113.11"]).ok();
    let before = container.policy();
    let output = container.verb("allow", &["203.0.113.11", "--for", "5s"]).ok();
    assert_eq!(output.out, "Allowed 203.0.113.11 for grant-kept\n");
    assert!(output.one_line().contains("for good already"), "{output:?}");
    assert_eq!(container.policy(), before);
    // The kernel cannot bring a denial back, so it is not lifted for a time.
    container.verb("deny", &["203.0.113.10"]).ok();
    let before = container.policy();
    let output = container.verb("allow", &["203.0.113.10", "--for", "1h"]).code(1);
    assert!(output.one_line().contains("cannot be lifted for a time"), "{output:?}");
    assert_eq!(container.policy(), before);
    container.is_refused(&web(&["203.0.113.10"]));
    container.is("up");
}

fn block_closes_published_ports_and_up_opens_them_again() {
    let user = User::shared();
    user.profile("modes-port", LISTED);
    for (index, network) in ["slirp4netns", "slirp4netns:port_handler=slirp4netns"]
        .iter()
        .enumerate()
    {
        let name = format!("modes-port-{index}");
        let container = Container::named(&user, &name);
        let port = (18100 + index).to_string();
        let publish = format!("127.0.0.1:{port}:80");
        let server = "echo page >/tmp/index.html; exec busybox httpd -f -p 80 -h /tmp";
        let flags = ["-d", "--stop-signal", "KILL", "--network", network, "-p", &publish];
        let run = ["run", &name, "--profiles", "modes-port", "--"];
        user.shield(&[&run[..], &flags, &[crate::lab::IMAGE, "sh", "-c", server]].concat())
            .ok();
        let url = format!("http://127.0.0.1:{port}/index.html");
        let page = |time: &str| crate::command::root(&["curl", "-s", "--max-time", time, &url]);
        let answers = || {
            wait_until("the published port answers", || {
                (page("10").text() == "page").then_some(())
            });
        };
        answers();
        container.verb("down", &[]).ok();
        answers();
        container.verb("block", &[]).ok();
        container.is("block");
        assert_ne!(page("2").code, 0, "{network}");
        container.sh("curl -s http://127.0.0.1:80/index.html").ok();
        container.verb("up", &[]).ok();
        answers();
    }
}

fn every_change_is_in_the_log_and_the_table_is_as_it_should_be() {
    let container = start("modes-log");
    for (verb, flags) in [
        ("down", &[][..]),
        ("down", &["--all", "--for", "90m"]),
        ("block", &[]),
        ("up", &[]),
        ("up", &[]),
    ] {
        container.verb(verb, flags).ok();
    }
    let log = container
        .user
        .shield(&["logs", "--container", "modes-log", "-n", "1000"])
        .ok()
        .out;
    let lines: Vec<(String, String)> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entry| entry["action"].as_str().unwrap().starts_with("shield_"))
        .map(|entry| {
            (
                entry["action"].as_str().unwrap().into(),
                entry["detail"].as_str().unwrap().into(),
            )
        })
        .collect();
    let expected = [
        ("shield_down", "down"),
        ("shield_down", "down_all for 1h 30m"),
        ("shield_block", "block"),
        ("shield_up", "up"),
    ];
    assert_eq!(lines, expected.map(|(action, detail)| (action.into(), detail.into())));
    // A table that somebody changed is put right by the next verb, whatever that is.
    container
        .in_its_network(&["nft", "insert", "rule", "inet", "terok_shield", "out_v4", "accept"])
        .ok();
    container.verb("status", &[]).code(1);
    container.verb("up", &[]).ok();
    is_as_in(&container, "up");
}

fn what_cannot_be_done_is_one_line_and_changes_nothing() {
    let user = User::shared();
    let container = start("modes-bad");
    let stopped = start("modes-stopped");
    user.podman(&["stop", "modes-stopped"]).ok();
    let _open = Container::unshielded(&user, "modes-open", &[]);
    let before = [container.policy(), stopped.policy(), container.rules_and_sets()];
    let cases: &[(&[&str], i32, &str)] = &[
        (&["down", "nobody"], 3, "nobody"),
        (&["block", "modes-open"], 3, "modes-open"),
        (&["up", "modes-stopped"], 1, "not running"),
        (&["down", "modes-stopped", "--for", "5m"], 1, "not running"),
        (
            &["allow", "modes-stopped", "203.0.113.11", "--for", "5m"],
            1,
            "not running",
        ),
        (&["down", "modes-bad", "--for", "0"], 2, "--for \"0\""),
        (&["down", "modes-bad", "--for", "0s"], 2, "at least 1s"),
        (&["down", "modes-bad", "--for", "1500ms"], 2, "whole seconds"),
        (&["down", "modes-bad", "--for", "10d 12h"], 2, "at most 7d"),
        (&["down", "modes-bad", "--for", "-5m"], 2, "--for"),
        (&["down", "modes-bad", "--for", "soon"], 2, "10m"),
        (&["down", "modes-bad", "--for", ""], 2, "--for"),
        (&["allow", "modes-bad", "203.0.113.11", "--for", "0s"], 2, "at least 1s"),
        (&["allow", "modes-bad", "203.0.113.11", "--for", "week"], 2, "10m"),
        (&["allow", "modes-bad", "203.0.113.0/8", "--for", "5m"], 2, "host bits"),
        (
            &["allow", "modes-bad", "missing.test", "--for", "5m"],
            1,
            "does not resolve",
        ),
        (&["explain", "modes-bad", "203.0.113.0/8"], 2, "host bits"),
        (&["explain", "nobody", "203.0.113.1"], 3, "nobody"),
        (&["up", "modes-bad", "--for", "5m"], 2, "--for"),
        (&["block", "modes-bad", "--all"], 2, "--all"),
    ];
    for (words, code, part) in cases {
        let output = user.shield(words).code(*code);
        assert!(output.one_line().contains(part), "{output:#?}");
        assert_eq!(output.out, "");
    }
    assert_eq!(
        before,
        [container.policy(), stopped.policy(), container.rules_and_sets()]
    );
}
