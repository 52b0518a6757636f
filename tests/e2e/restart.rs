//! A container that is stopped and started again is shielded again, with what the operator changed meanwhile.

use crate::lab::{Container, IMAGE};
use crate::probe::{at, everything, web};
use crate::reach::{CLOSED, ONE_OF_EACH, OPEN};
use crate::user::User;

tests![
    stop_and_start_keep_the_shield_and_what_was_allowed_and_denied,
    restart_keeps_the_shield_and_what_was_allowed_and_denied,
    a_program_that_ends_and_is_started_again_is_shielded_from_its_first_moment,
    a_container_made_anew_under_the_same_name_starts_without_the_old_grants,
    a_container_that_is_created_first_and_started_later_is_shielded,
    a_container_that_podman_restarts_by_itself_is_shielded_again,
];

fn changed(name: &str) -> Container {
    let container = Container::start(&User::shared(), name, ONE_OF_EACH, &[]);
    for target in ["203.0.113.11", "2001:db8::11", "example.com:80"] {
        container.verb("allow", &[target]).ok();
    }
    for target in [
        "203.0.113.20",
        "2001:db8::20",
        "198.51.100.64/27",
        "[2001:db8:1::10]:80",
    ] {
        container.verb("deny", &[target]).ok();
    }
    is_as_changed(&container);
    container
}

#[track_caller]
fn is_as_changed(container: &Container) {
    container.is("up");
    container.reaches(&everything(&[
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.11",
        "2001:db8::11",
    ]));
    container.reaches(&web(&[
        "203.0.113.12",
        "2001:db8::12",
        "198.51.100.127",
        "2001:db8:1::77",
    ]));
    container.is_refused(&everything(&[
        "203.0.113.20",
        "2001:db8::20",
        "198.51.100.64",
        "198.51.100.77",
    ]));
    container.is_refused(&web(&["2001:db8:1::10", "203.0.113.21", "2001:db8::21"]));
    container.is_refused(&at(&["203.0.113.12", "2001:db8::12"], &[("http", 8000), ("udp", 7777)]));
}

fn stop_and_start_keep_the_shield_and_what_was_allowed_and_denied() {
    let container = changed("again-stop");
    for _ in 0..2 {
        let before = container.pid();
        container.user.podman(&["stop", &container.name]).ok();
        container.is("inactive");
        container.user.podman(&["start", &container.name]).ok();
        assert_ne!(container.pid(), before);
        is_as_changed(&container);
    }
}

fn restart_keeps_the_shield_and_what_was_allowed_and_denied() {
    let container = changed("again-restart");
    for _ in 0..2 {
        let before = container.pid();
        container.user.podman(&["restart", &container.name]).ok();
        assert_ne!(container.pid(), before);
        is_as_changed(&container);
    }
}

fn a_program_that_ends_and_is_started_again_is_shielded_from_its_first_moment() {
    let user = User::shared();
    let container = Container::named(&user, "again-first");
    user.profile("again-first", ONE_OF_EACH);
    // Its very first action is to connect, to a listed address and to one that is not.
    let program = "curl -s --max-time 30 http://203.0.113.10; curl -s --max-time 30 http://203.0.113.11; echo $?";
    let words = [
        "run",
        "again-first",
        "--profiles",
        "again-first",
        "--",
        IMAGE,
        "sh",
        "-c",
        program,
    ];
    assert_eq!(user.shield(&words).ok().text(), "203.0.113.10\n7");
    for _ in 0..3 {
        let again = user.podman(&["start", "--attach", "again-first"]).ok();
        assert_eq!(again.text(), "203.0.113.10\n7");
    }
    container.is("inactive");
}

fn a_container_made_anew_under_the_same_name_starts_without_the_old_grants() {
    let user = User::shared();
    let container = changed("again-anew");
    container.remove();
    let container = Container::start(&user, "again-anew", ONE_OF_EACH, &[]);
    container.reaches(&everything(&OPEN));
    container.is_refused(&everything(&CLOSED));
    assert_eq!(container.policy()["grants"].as_array().unwrap().len(), 0);
    // The log goes on.
    let log = user.shield(&["logs", "--container", "again-anew", "-n", "1000"]).ok();
    assert_eq!(log.out.matches(r#""action":"setup""#).count(), 2, "{log:#?}");
    assert_eq!(log.out.matches(r#""action":"denied""#).count(), 4, "{log:#?}");
    // While it is there, its name is taken.
    let words = [
        "run",
        "again-anew",
        "--profiles",
        "again-anew",
        "--",
        "-d",
        IMAGE,
        "sleep",
        "1",
    ];
    let taken = user.shield(&words);
    assert_ne!(taken.code, 0);
    assert!(taken.one_line().contains("exists already"), "{taken:#?}");
    container.is("up");
    // Podman's own way to replace it.
    let words = [
        "run",
        "again-anew",
        "--profiles",
        "again-anew",
        "--",
        "-d",
        "--replace",
        IMAGE,
        "sleep",
        "100000",
    ];
    container.verb("allow", &["203.0.113.11"]).ok();
    user.shield(&words).ok();
    container.is("up");
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
}

fn a_container_that_is_created_first_and_started_later_is_shielded() {
    let user = User::shared();
    let container = Container::named(&user, "again-created");
    let flags = user.prepare("again-created", ONE_OF_EACH);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    user.podman(
        &[
            &["create", "--stop-signal", "KILL"],
            &flags[..],
            &[IMAGE, "sleep", "100000"],
        ]
        .concat(),
    )
    .ok();
    container.is("inactive");
    user.podman(&["start", "again-created"]).ok();
    container.is("up");
    container.reaches(&web(&OPEN));
    container.is_refused(&web(&CLOSED));
}

fn a_container_that_podman_restarts_by_itself_is_shielded_again() {
    let user = User::shared();
    let container = Container::start(&user, "again-policy", ONE_OF_EACH, &["--restart", "always"]);
    let before = container.pid();
    crate::command::root(&["kill", "-KILL", &before]).ok();
    crate::command::wait_until("podman has restarted the container", || {
        let pid = container.inspect("{{.State.Running}} {{.State.Pid}}");
        (pid.starts_with("true") && pid != format!("true {before}")).then_some(())
    });
    container.is("up");
    container.reaches(&web(&OPEN));
    container.is_refused(&web(&CLOSED));
}
