//! What was found by attacking the product, and stays closed.

use std::fs;

use crate::command::wait_until;
use crate::lab::{Container, IMAGE, Scratch};
use crate::probe::web;
use crate::user::User;

tests![
    a_first_process_that_moves_to_another_network_does_not_escape_a_denial,
    a_change_that_was_interrupted_is_made_by_the_next_one,
    a_replacement_that_podman_refuses_leaves_the_old_container_its_policy,
    a_resolv_conf_that_the_container_can_write_names_no_resolver,
    a_denied_name_stays_denied_when_it_no_longer_resolves,
    a_name_alone_takes_no_prepared_policy,
    the_hosts_processes_cannot_be_mounted,
    the_standard_streams_of_another_network_are_not_handed_on,
    reasons_cannot_forge_a_terminal,
];

/// The first process needs no capability to leave for a network of its own, and its children stay online.
fn a_first_process_that_moves_to_another_network_does_not_escape_a_denial() {
    let user = User::shared();
    let container = Container::named(&user, "mover");
    user.profile("mover", "203.0.113.10\n2001:db8::10\n");
    let fetch = |address: &str, mark: &str| {
        format!(
            "if curl -gsS -m 20 http://{address}/ >/dev/null 2>&1; then echo {mark} open; else echo {mark} closed; fi"
        )
    };
    let program = format!(
        "(while :; do {}; {}; sleep 0.2; done) & exec unshare -Urn sleep 100000",
        fetch("203.0.113.10", "v4"),
        fetch("[2001:db8::10]", "v6")
    );
    user.shield(&[
        "run",
        "mover",
        "--profiles",
        "mover",
        "--",
        "-d",
        "--stop-signal",
        "KILL",
        IMAGE,
        "sh",
        "-c",
        &program,
    ])
    .ok();
    let log = || user.podman(&["logs", "mover"]).ok().out;
    wait_until("its child is online", || {
        let log = log();
        (log.contains("v4 open") && log.contains("v6 open")).then_some(())
    });
    wait_until("the first process has moved", || {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let first = container.pid();
        let child =
            crate::lab::processes().find(|pid| crate::lab::command_line(pid).contains("while :; do if curl"))?;
        (of(&first)? != of(&child)?).then_some(())
    });
    container.is("up");
    for address in ["203.0.113.10", "2001:db8::10"] {
        container.verb("deny", &[address]).ok();
    }
    let before = log().lines().count();
    wait_until("both families are closed to the child", || {
        let log = log();
        let later: Vec<&str> = log.lines().skip(before).collect();
        (later.contains(&"v4 closed") && later.contains(&"v6 closed")).then_some(())
    });
    container.is("up");
}

/// A kill between desired state and kernel leaves them apart; saying it again brings them together.
fn a_change_that_was_interrupted_is_made_by_the_next_one() {
    let user = User::shared();
    let container = Container::start(&user, "interrupted", "203.0.113.10\n2001:db8::10\n", &[]);
    let kill = "-e inject=clone,fork,vfork,clone3:signal=KILL:when=1";
    let output = user.sh(&format!(
        "strace -f -o /dev/null {kill} terok-shield deny interrupted 203.0.113.10"
    ));
    assert_ne!(output.code, 0, "{output:#?}");
    let desired = container.policy().to_string();
    assert!(
        desired.contains("deny"),
        "the desired state was written first: {desired}"
    );
    container.reaches(&web(&["203.0.113.10"]));
    container.verb("status", &[]).code(1);
    container.verb("deny", &["203.0.113.10"]).ok();
    container.is("up");
    container.is_refused(&web(&["203.0.113.10"]));
    container.reaches(&web(&["2001:db8::10"]));
}

fn a_replacement_that_podman_refuses_leaves_the_old_container_its_policy() {
    let user = User::shared();
    let container = Container::start(&user, "replaced", "203.0.113.10\n2001:db8::10\n", &[]);
    container.verb("deny", &["203.0.113.10"]).ok();
    let words = [
        "run",
        "replaced",
        "--profiles",
        "replaced",
        "--",
        "--replace",
        "--pull=never",
        "nosuch",
    ];
    user.shield(&words).code(125);
    container.is("up");
    container.is_refused(&web(&["203.0.113.10"]));
    user.podman(&["restart", "--time", "0", "replaced"]).ok();
    container.is("up");
    container.is_refused(&web(&["203.0.113.10"]));
    container.reaches(&web(&["2001:db8::10"]));
    // One that Podman does replace starts anew.
    let words = [
        "run",
        "replaced",
        "--profiles",
        "replaced",
        "--",
        "-d",
        "--replace",
        IMAGE,
        "sleep",
        "100000",
    ];
    user.shield(&words).ok();
    container.reaches(&web(&["203.0.113.10"]));
}

fn a_resolv_conf_that_the_container_can_write_names_no_resolver() {
    let user = User::shared();
    let scratch = Scratch::new(&user, "resolv");
    fs::write(scratch.at("resolv.conf"), "nameserver 203.0.113.53\n").unwrap();
    let mount = format!("{}:/etc/resolv.conf", scratch.at("resolv.conf"));
    let container = Container::start(&user, "resolv", "203.0.113.10\n", &["-v", &mount]);
    assert_eq!(
        user.bundle_json("resolv", "running.json")["upstreams"],
        serde_json::json!([])
    );
    container.is("up");
    container.reaches(&web(&["203.0.113.10"]));
}

fn a_denied_name_stays_denied_when_it_no_longer_resolves() {
    let user = User::shared();
    let container = Container::start(&user, "forgotten", "203.0.113.0/24\n2001:db8::/64\n", &[]);
    container.verb("deny", &["second.test"]).ok();
    let output = container.verb("deny", &["missing.test"]);
    assert_ne!(
        output.code, 0,
        "a name that never resolved closes nothing, and says so: {output:#?}"
    );
    // The same, as if its zone had lost the name since and its addresses were long out of date.
    for file in ["policy.json", "resolved.json"] {
        let path = user.bundle("forgotten").join(file);
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("second.test", "missing.test");
        let mut content: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Some(name) = content.pointer_mut("/names/missing.test") {
            name["expires"] = 1.into();
        }
        user.write(&path, content.to_string());
    }
    user.podman(&["restart", "--time", "0", "forgotten"]).ok();
    container.is("up");
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
}

/// An image can bring annotations, and so anybody's name. What it cannot bring is the proof that `prepare` printed.
fn a_name_alone_takes_no_prepared_policy() {
    let user = User::shared();
    let flags = user.prepare("heir", "203.0.113.10\n2001:db8::10\n");
    let before = fs::read(user.bundle("heir").join("policy.json")).unwrap();
    let proof = flags
        .iter()
        .position(|flag| flag.starts_with("terok.shield.launch="))
        .unwrap();
    let start = |flags: &[String]| {
        let words: Vec<&str> = flags.iter().map(String::as_str).collect();
        let program = ["-d", "--stop-signal", "KILL", IMAGE, "sleep", "100000"];
        user.podman(&[&["run"], &words[..], &program].concat())
    };
    let container = Container::named(&user, "heir");
    let mut without = flags.clone();
    without.drain(proof - 1..=proof);
    let mut forged = flags.clone();
    forged[proof] = "terok.shield.launch=00000000-0000-4000-8000-000000000000".to_owned();
    for thief in [without, forged] {
        start(&thief).code(126);
        let log = fs::read_to_string(user.bundle("heir").join("hook-error.log")).unwrap();
        assert!(log.contains("made for another launch"), "{log:?}");
        assert_eq!(fs::read(user.bundle("heir").join("policy.json")).unwrap(), before);
        container.remove();
    }
    // Whom it was made for gets it, at every start, and so does a successor by the same flags.
    start(&flags).ok();
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    user.podman(&["restart", "--time", "0", "heir"]).ok();
    container.is("up");
    container.remove();
    start(&flags).ok();
    container.is("up");
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
    container.remove();
    // Flags of an earlier `prepare` are worth nothing after the next.
    user.prepare("heir", "203.0.113.11\n");
    start(&flags).code(126);
}

fn the_hosts_processes_cannot_be_mounted() {
    let user = User::shared();
    for (name, mount) in [("proc-all", "/proc:/host:ro"), ("proc-one", "/proc/1:/host")] {
        let (_container, output) = Container::try_start(&user, name, "", &["-v", mount]);
        assert_eq!(output.code, 126, "{output:#?}");
        assert!(output.err.contains("the host's processes"), "{output:#?}");
    }
}

fn the_standard_streams_of_another_network_are_not_handed_on() {
    let user = User::shared();
    user.profile("streams", "");
    let words = [
        "run",
        "streams",
        "--profiles",
        "streams",
        "--",
        "--log-driver",
        "passthrough",
        IMAGE,
        "true",
    ];
    user.shield(&words).code(2);
}

fn reasons_cannot_forge_a_terminal() {
    let user = User::shared();
    let mount = format!("{}:/x\u{1b}[31mRED", user.state().display());
    let (_container, output) = Container::try_start(&user, "forge", "", &["-v", &mount]);
    assert_ne!(output.code, 0);
    let ours = output
        .err
        .lines()
        .find(|line| line.starts_with("terok-shield:"))
        .unwrap();
    assert!(ours.contains("?[31mRED"), "{output:#?}");
    assert!(!ours.contains('\u{1b}'), "{output:#?}");
}
