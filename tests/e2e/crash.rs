//! Commands that are killed in the middle: what they leave is told by `status`, and put right by the next one.

use std::collections::BTreeMap;

use crate::lab::Container;
use crate::probe::web;
use crate::user::User;

tests![
    a_grant_killed_at_any_call_is_told_and_put_right,
    a_denial_killed_at_any_call_is_told_and_put_right,
    a_mode_killed_at_any_call_is_told_and_put_right,
];

/// Calls by which anything outside of the process changes, or is about to. (Killed at any other, a command leaves what it
/// leaves at the next of these.)
const CALLS: &str = "write,rename,renameat,renameat2,unlink,unlinkat,fsync,flock,clone,clone3,fork,vfork,setns,socket,bind,\
                     sendto,sendmsg,recvmsg,wait4,exit_group";

/// How often a verb makes each call, in the process that makes it most often.
fn calls(container: &Container, words: &[&str]) -> BTreeMap<String, usize> {
    let trace = format!("/tmp/trace-{}", container.name);
    let mut strace = vec!["strace", "-f", "-o", &trace, "-e"];
    let filter = format!("trace={CALLS}");
    strace.extend([filter.as_str(), &container.user.program]);
    strace.extend(words);
    container.user.run(&strace).ok();
    let text = std::fs::read_to_string(&trace).unwrap();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((name, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        *counts.entry((pid.to_owned(), name.to_owned())).or_default() += 1;
    }
    std::fs::remove_file(&trace).unwrap();
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts {
        let known = most.entry(name).or_insert(0);
        *known = count.max(*known);
    }
    most
}

/// Runs verbs in turn, each killed at one call; `verbs` undo each other. Between, what is denied for good stays denied.
fn killed_everywhere(name: &'static str, verbs: [&[&'static str]; 2]) {
    let profile = "203.0.113.10\n2001:db8::10\n";
    let container = Container::start(&User::shared(), name, profile, &[]);
    for target in ["203.0.113.20", "2001:db8::20"] {
        container.verb("deny", &[target]).ok();
    }
    let words = |verb: &[&'static str]| [&[verb[0], name], &verb[1..]].concat();
    let (mut killed, mut told) = (0, 0);
    for turn in 0..2 {
        let (own, undo) = (words(verbs[turn]), words(verbs[1 - turn]));
        for (call, count) in calls(&container, &own) {
            container.user.shield(&undo).ok();
            for nth in 1..=count {
                let inject = format!("inject={call}:signal=KILL:when={nth}");
                let trace = format!("trace={call}");
                let mut strace = vec!["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
                strace.push(&container.user.program);
                strace.extend(&own);
                let output = container.user.run(&strace);
                killed += usize::from(output.code != 0);
                let status = container.verb("status", &[]);
                let mode = container.policy()["mode"].as_str().unwrap().to_owned();
                if status.code == 0 {
                    assert_eq!(status.text(), mode, "{call} {nth}: {status:#?}");
                } else {
                    assert!(
                        status.text() == "error" && !status.err.is_empty(),
                        "{call} {nth}: {status:#?}"
                    );
                    told += 1;
                }
                // Any other verb leads the kernel to what is desired by then.
                container.user.shield(&undo).ok();
                let mode = container.policy()["mode"].as_str().unwrap().to_owned();
                let status = container.verb("status", &[]).ok();
                assert_eq!(status.text(), mode, "{call} {nth}");
            }
        }
    }
    assert!(killed > 50, "{killed} commands were killed");
    println!("{name}: {killed} killed, {told} of them left something that status named");
    container.verb("up", &[]).ok();
    container.is_refused(&web(&["203.0.113.20", "2001:db8::20"]));
    container.reaches(&web(&["2001:db8::10"]));
}

fn a_grant_killed_at_any_call_is_told_and_put_right() {
    killed_everywhere(
        "crash-grant",
        [&["allow", "198.51.100.0/24"], &["allow", "203.0.113.11", "--for", "1h"]],
    );
}

fn a_denial_killed_at_any_call_is_told_and_put_right() {
    killed_everywhere("crash-deny", [&["deny", "203.0.113.10"], &["allow", "203.0.113.10"]]);
}

fn a_mode_killed_at_any_call_is_told_and_put_right() {
    killed_everywhere("crash-mode", [&["down", "--for", "1h"], &["up"]]);
}
