//! `terok-shield run` is `podman run` with a shield: exit status, streams, signals and terminal are podman's own.

use crate::command::{Output, Running, root, wait_until};
use crate::lab::{Container, IMAGE, wait_for_state};
use crate::user::User;

tests![
    the_exit_status_is_podmans,
    standard_streams_reach_the_program_and_come_back,
    it_returns_when_podman_does,
    signals_reach_the_container_and_end_it_as_in_podman,
    a_killed_run_leaves_no_more_than_a_killed_podman,
    on_a_terminal_it_is_an_interactive_shell,
    the_terminal_sends_signals_and_its_size,
    flags_of_podman_do_what_they_do,
    variables_that_hand_on_sockets_or_another_podman_do_not_reach_it,
];

/// A profile without anything, and the words in front of podman's flags.
fn words(name: &str) -> Vec<String> {
    User::shared().profile("plain", "");
    ["terok-shield", "run", name, "--profiles", "plain", "--"]
        .map(str::to_owned)
        .to_vec()
}

/// The same command behind the shield and without it.
fn both(name: &str, flags: &[&str], input: &[u8]) -> (Output, Output) {
    let user = User::shared();
    let guard = Container::named(&user, name);
    let shield = words(name);
    let line: Vec<&str> = shield.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    let shielded = user.run_with(input, &line);
    guard.remove();
    let plain = user.run_with(input, &[&["podman", "run", "--name", name], flags].concat());
    (shielded, plain)
}

fn the_exit_status_is_podmans() {
    for (code, flags) in [
        (0, &["--rm", IMAGE, "true"][..]),
        (1, &["--rm", IMAGE, "false"]),
        (7, &["--rm", IMAGE, "sh", "-c", "exit 7"]),
        (7, &[IMAGE, "sh", "-c", "exit 7"]),
        (255, &["--rm", IMAGE, "sh", "-c", "exit 255"]),
        (137, &["--rm", "--init", IMAGE, "sh", "-c", "kill -KILL $$"]),
        (127, &["--rm", IMAGE, "no-such-program"]),
        (126, &["--rm", IMAGE, "/etc/passwd"]),
        (125, &["--rm", "--pull", "never", "localhost/no-such-image", "true"]),
        (125, &["--rm", "-v", "/no/such/directory:/x", IMAGE, "true"]),
        (125, &["--rm", "--memory", "nonsense", IMAGE, "true"]),
    ] {
        let (shielded, plain) = both("status", flags, b"");
        assert_eq!(plain.code, code, "{plain:#?}");
        assert_eq!(shielded.code, code, "{shielded:#?}");
        assert_eq!(shielded.out, plain.out, "{flags:?}");
    }
    // A container that podman could not make is no refusal of ours.
    let (shielded, _) = both("status", &["--pull", "never", "localhost/no-such-image", "true"], b"");
    assert!(!shielded.err.contains("was not started"), "{shielded:#?}");
}

fn standard_streams_reach_the_program_and_come_back() {
    for flags in [
        &["--rm", "-i"][..],
        &["--rm", "--interactive"],
        &["--rm"],
        &["--rm", "-a", "stdin", "-a", "stdout"],
    ] {
        let line = [flags, &[IMAGE, "sh", "-c", "cat; echo out; echo err >&2"]].concat();
        let (shielded, plain) = both("streams", &line, b"in\n\0more");
        assert_eq!((&shielded.out, &shielded.err), (&plain.out, &plain.err), "{flags:?}");
        assert_eq!(shielded.code, 0);
    }
    let (shielded, _) = both(
        "streams",
        &["--rm", "-i", IMAGE, "sh", "-c", "cat; echo err >&2"],
        b"in\n",
    );
    assert_eq!((shielded.out.as_str(), shielded.err.as_str()), ("in\n", "err\n"));
    // More than a pipe holds.
    let large = vec![b'x'; 1 << 20];
    let (shielded, _) = both("streams", &["--rm", "-i", IMAGE, "cat"], &large);
    assert_eq!(shielded.out.len(), large.len());
}

fn it_returns_when_podman_does() {
    // Nothing that the hook left behind may hold podman up, or keep a stream of the caller open: `end` waits for both.
    for _ in 0..5 {
        let (shielded, _) = both("returns", &["--rm", IMAGE, "true"], b"");
        shielded.ok();
        let (detached, _) = both(
            "returns",
            &["-d", "--stop-signal", "KILL", IMAGE, "sleep", "100000"],
            b"",
        );
        assert_eq!(detached.clone().ok().text().len(), 64, "{detached:#?}");
        Container::named(&User::shared(), "returns").remove();
    }
}

/// Starts it either way, sends a signal to the process that was started, and returns what came of it.
fn signalled(shielded: bool, signal: &str, flags: &[&str], program: &str) -> Output {
    let user = User::shared();
    let name = "signalled";
    let guard = Container::named(&user, name);
    let shield = words(name);
    let mut line: Vec<&str> = if shielded {
        shield.iter().map(String::as_str).collect()
    } else {
        vec!["podman", "run", "--name", name]
    };
    line.extend(flags);
    line.extend([IMAGE, "sh", "-c", program]);
    let mut running = user.start(&line);
    running.wait_for_line("ready");
    // The program can be faster than podman, which passes nothing on before it has noted that the container runs.
    wait_for_state(&guard, "running");
    root(&["kill", signal, &running.pid().to_string()]).ok();
    let output = running.end();
    wait_for_state_or_gone(&guard);
    output
}

fn wait_for_state_or_gone(container: &Container) {
    wait_until("the container has ended", || {
        let state = container
            .user
            .podman(&["inspect", "--format", "{{.State.Status}}", &container.name]);
        (state.code != 0 || state.text() == "exited").then_some(())
    });
}

fn signals_reach_the_container_and_end_it_as_in_podman() {
    let trap = |signal: &str, code: i32| {
        format!("trap 'echo got {signal}; exit {code}' {signal}; echo ready; while :; do sleep 0.05; done")
    };
    for (signal, flags, program, code) in [
        ("-TERM", &[][..], trap("TERM", 9), 9),
        ("-INT", &[], trap("INT", 8), 8),
        ("-HUP", &[], trap("HUP", 6), 6),
        ("-USR1", &[], trap("USR1", 5), 5),
        ("-USR2", &["--rm"], trap("USR2", 4), 4),
        ("-TERM", &["--rm"], trap("TERM", 0), 0),
        ("-TERM", &["--init"], "echo ready; exec sleep 100000".to_owned(), 143),
        ("-INT", &["--init"], "echo ready; exec sleep 100000".to_owned(), 130),
    ] {
        let plain = signalled(false, signal, flags, &program);
        let shielded = signalled(true, signal, flags, &program);
        assert_eq!(plain.code, code, "{plain:#?}");
        assert_eq!(shielded.code, plain.code, "{shielded:#?}");
        assert_eq!(shielded.out, plain.out, "{signal} {flags:?}");
    }
}

fn a_killed_run_leaves_no_more_than_a_killed_podman() {
    let user = User::shared();
    let container = Container::named(&user, "killed");
    let shield = words("killed");
    let mut line: Vec<&str> = shield.iter().map(String::as_str).collect();
    line.extend([IMAGE, "sh", "-c", "echo ready; exec sleep 100000"]);
    let mut running = user.start(&line);
    running.wait_for_line("ready");
    let podman = "podman run --name killed ";
    let alive = || crate::lab::processes().any(|pid| crate::lab::command_line(&pid).starts_with(podman));
    assert!(alive(), "podman runs below it");
    root(&["kill", "-KILL", &running.pid().to_string()]).ok();
    drop(running);
    wait_until("podman ends with it", || (!alive()).then_some(()));
    // As with podman itself, the container goes on under conmon, and its shield with it.
    wait_for_state(&container, "running");
    container.is("up");
}

/// Runs a command as the user on a terminal of its own.
fn on_a_terminal(line: &str) -> Running {
    Running::start_open(&["script", "-qec", &format!("as-user {line}"), "/dev/null"])
}

fn on_a_terminal_it_is_an_interactive_shell() {
    User::shared().profile("plain", "");
    let _guard = Container::named(&User::shared(), "terminal");
    for flags in ["--rm", "--rm -it", "--rm -ti", "--rm --tty --interactive"] {
        let line = format!("terok-shield run terminal --profiles plain -- {flags} {IMAGE} sh");
        let mut shell = on_a_terminal(&line);
        // What is typed comes back as echo, so the answers must differ from the questions.
        shell.send(b"tty; echo $((6 * 7))\n");
        shell.wait_for_line("/dev/pts/0");
        shell.wait_for_line("42");
        shell.send(b"exit 3\n");
        shell.end().code(3);
    }
    // With -d or -i alone there is no terminal inside.
    let line = format!("terok-shield run terminal --profiles plain -- --rm -i {IMAGE} sh -c \"tty; exit 4\"");
    let mut shell = on_a_terminal(&line);
    shell.wait_for_line("not a tty");
    shell.end().code(4);
}

fn the_terminal_sends_signals_and_its_size() {
    User::shared().profile("plain", "");
    let _guard = Container::named(&User::shared(), "terminal-signal");
    // Podman sets the size a moment after the start.
    let program =
        "trap \"echo int; exit 5\" INT; until stty size; do sleep 0.05; done; echo ready; while :; do sleep 0.05; done";
    let run = format!("terok-shield run terminal-signal --profiles plain -- --rm {IMAGE} sh -c '{program}'");
    let line = format!("stty rows 33 cols 77; exec as-user {run}");
    let mut shell = Running::start_open(&["script", "-qec", &line, "/dev/null"]);
    shell.wait_for_line("ready");
    shell.send(b"\x03");
    let output = shell.end().code(5);
    assert!(
        output.out.contains("33 77") && output.out.contains("int"),
        "{output:#?}"
    );
}

fn flags_of_podman_do_what_they_do() {
    let user = User::shared();
    user.profile("plain", "");
    let program = "echo $A $B; hostname; pwd; id -u; cat /proc/1/cgroup >/dev/null";
    let flags = [
        "--rm",
        "-e",
        "A=1",
        "--env=B=--privileged",
        "-h",
        "somewhere",
        "-w/tmp",
        "-u",
        "1000",
        "--read-only",
        "--tmpfs",
        "/x",
        "--label",
        "a=--network=host",
        "--security-opt",
        "no-new-privileges",
        "--entrypoint",
        "sh",
        IMAGE,
        "-c",
        program,
    ];
    let (shielded, plain) = both("flags", &flags, b"");
    assert_eq!(shielded.out, "1 --privileged\nsomewhere\n/tmp\n1000\n");
    assert_eq!(shielded.out, plain.out);
    // Where `run` cannot know whether a flag has a value, it does not guess.
    let unknown = user.shield(&[
        "run",
        "flags",
        "--profiles",
        "plain",
        "--",
        "--no-such-flag",
        IMAGE,
        "true",
    ]);
    assert!(unknown.code(2).one_line().contains("--no-such-flag"));
    let missing = user.shield(&["run", "flags", "--profiles", "plain", "--"]);
    assert_eq!(missing.code, 2);
    let image = user.shield(&["run", "flags", "--profiles", "plain", "--", "--rm"]);
    assert_ne!(image.code, 0, "{image:#?}");
}

fn variables_that_hand_on_sockets_or_another_podman_do_not_reach_it() {
    let user = User::shared();
    user.profile("plain", "");
    let _guard = Container::named(&user, "variables");
    for variable in [
        "LISTEN_FDS=1",
        "CONTAINER_HOST=unix:///nonexistent",
        "CONTAINER_CONNECTION=elsewhere",
    ] {
        let line = [
            "env",
            variable,
            "terok-shield",
            "run",
            "variables",
            "--profiles",
            "plain",
            "--",
            "--rm",
            IMAGE,
            "env",
        ];
        let output = user.run(&line).ok();
        let (name, _) = variable.split_once('=').unwrap();
        assert!(!output.out.contains(name), "{output:#?}");
    }
}
