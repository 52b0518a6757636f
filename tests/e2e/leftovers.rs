//! After all tests: nothing of what they started is alive.

use std::fs;
use std::time::{Duration, Instant};

use crate::command::DEADLINE;
use crate::lab::{WITH_A_CONTAINER, command_line, host_ruleset, processes, program_of};
use crate::user::User;

/// Processes that belong to a container, or to the program under test.
fn alive() -> Vec<String> {
    let pids = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = pids("self");
    processes()
        .filter(|pid| {
            let foreign = pids(pid).is_some_and(|namespace| Some(namespace) != own);
            foreign || WITH_A_CONTAINER.contains(&program_of(pid).as_str())
        })
        .map(|pid| format!("{pid} {}", command_line(&pid)))
        .collect()
}

/// Fails unless everything is gone.
pub fn check() {
    let user = User::shared();
    let containers = user.podman(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]).ok();
    assert_eq!(containers.text(), "", "containers");
    let volumes = user.podman(&["volume", "ls", "--quiet"]).ok();
    assert_eq!(volumes.text(), "", "volumes");
    let until = Instant::now() + DEADLINE;
    while !alive().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(alive(), Vec::<String>::new(), "processes of a container");
    let halves = user
        .sh("find ~/.local ~/.config -name '.new-*' -o -name '.tmp*' | grep terok")
        .out;
    assert_eq!(halves, "", "files that were to replace others");
    assert_eq!(host_ruleset(), "", "the ruleset of the host");
}
