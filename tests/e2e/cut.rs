//! Connections in progress: what is closed ends at once, what is open loses nothing.

use crate::command::Running;
use crate::lab::Container;
use crate::user::User;

tests![
    a_denial_ends_connections_in_progress_at_once,
    block_ends_everything_but_loopback,
    up_ends_what_was_opened_under_down,
    the_end_of_a_grant_or_a_mode_stops_the_bytes,
    an_allowed_connection_loses_nothing_in_200_changes,
];

const TALK: &str = include_str!("talk.py");
const CAPTURE: &str = include_str!("capture.py");
/// Every way to hold a connection.
const KINDS: [(&str, &str); 4] = [("tcp", "7777"), ("udp", "7777"), ("read", "7778"), ("idle", "7777")];

/// A connection from inside, once it is open.
fn talk(container: &Container, kind: &str, address: &str, port: &str) -> Running {
    let words = [
        "podman",
        "exec",
        &container.name,
        "python3",
        "-I",
        "-c",
        TALK,
        kind,
        address,
        port,
    ];
    let mut running = container.user.start(&words);
    running.wait_for_line("open");
    running
}

fn all(container: &Container, addresses: &[&str]) -> Vec<Running> {
    let each = |address: &&str| KINDS.map(|(kind, port)| talk(container, kind, address, port));
    addresses.iter().flat_map(each).collect()
}

/// A capture at the container's interface that has begun.
fn capture(container: &Container, addresses: &[&str]) -> Running {
    let pid = container.pid();
    let words = ["nsenter", "--net", "--target", &pid, "python3", "-I", "-c", CAPTURE];
    let mut running = Running::start(&[&words[..], addresses].concat(), b"");
    running.wait_for_line("ready");
    running
}

/// What a capture saw while connections to an allowed destination did this much more.
fn seen_meanwhile(container: &Container, closed: &[&str]) -> Vec<String> {
    let capture = capture(container, closed);
    for address in ["203.0.113.10", "2001:db8::10"] {
        talk(container, "tcp", address, "7777").wait_for_line("at 100");
    }
    let seen = capture.so_far();
    seen.lines()
        .filter(|line| *line != "ready")
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn all_ended(connections: Vec<Running>) {
    for connection in connections {
        let output = connection.end();
        // A word of the operator's own end: the other side has closed nothing. A datagram's sender may see the refusal first.
        let last = output.out.lines().last().unwrap_or_default();
        assert!(
            [
                "ended ECONNABORTED",
                "ended EPERM",
                "ended ECONNRESET",
                "ended EPIPE",
                "ended ECONNREFUSED",
                "ended EDESTADDRREQ"
            ]
            .contains(&last),
            "{output:#?}"
        );
    }
}

const LISTED: &str = "203.0.113.0/25\n2001:db8::/64\n";
const CUT: [&str; 2] = ["203.0.113.20", "2001:db8::20"];

fn a_denial_ends_connections_in_progress_at_once() {
    let container = Container::start(&User::shared(), "cut-deny", LISTED, &[]);
    for denials in [&CUT[..], &["203.0.113.16/28", "2001:db8::20/123"]] {
        // A capture sees them, or its silence would prove nothing.
        let connections = all(&container, &CUT);
        assert!(!seen_meanwhile(&container, &CUT).is_empty());
        for denial in denials {
            container.verb("deny", &[denial]).ok();
        }
        let seen = seen_meanwhile(&container, &CUT);
        assert!(seen.is_empty(), "{seen:#?}");
        all_ended(connections);
        for denial in denials {
            container.verb("allow", &[denial]).ok();
        }
    }
    // One port of it: connections to the others go on.
    let mut other = talk(&container, "read", CUT[0], "7778");
    let own = talk(&container, "tcp", CUT[0], "7777");
    container.verb("deny", &["203.0.113.20:7777/tcp"]).ok();
    all_ended(vec![own]);
    assert!(other.is_running());
    container.is("up");
}

fn block_ends_everything_but_loopback() {
    let container = Container::start(&User::shared(), "cut-block", LISTED, &[]);
    let connections = all(&container, &["203.0.113.10", "2001:db8::10"]);
    let script = "import os,socket,sys,time\n\
        v6 = ':' in sys.argv[1]\n\
        server = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)\n\
        server.bind((sys.argv[1], 9999)); server.listen()\n\
        if os.fork() == 0:\n\
        \x20 peer, _ = server.accept()\n\
        \x20 while data := peer.recv(99): peer.sendall(data)\n\
        \x20 sys.exit()\n\
        client = socket.create_connection((sys.argv[1], 9999))\n\
        for n in range(1, 401):\n\
        \x20 client.sendall(b'x'); assert client.recv(1) == b'x'\n\
        \x20 print('at', n, flush=True); time.sleep(0.02)\n";
    let inside = ["127.0.0.1", "::1"].map(|address| {
        let words = [
            "podman",
            "exec",
            &container.name,
            "python3",
            "-I",
            "-c",
            script,
            address,
        ];
        let mut running = container.user.start(&words);
        running.wait_for_line("at 10");
        running
    });
    container.verb("block", &[]).ok();
    let capture = capture(&container, &["203.0.113.10", "2001:db8::10"]);
    for mut connection in inside {
        connection.wait_for_line("at 400");
    }
    assert_eq!(capture.so_far(), "ready\n");
    all_ended(connections);
}

fn up_ends_what_was_opened_under_down() {
    let container = Container::start(&User::shared(), "cut-up", "203.0.113.10\n2001:db8::10\n", &[]);
    for (flags, closed) in [
        (&[][..], ["203.0.113.20", "2001:db8::20"]),
        (&["--all"], ["10.9.8.7", "fd00:9::7"]),
    ] {
        container.verb("down", flags).ok();
        let connections = all(&container, &closed);
        let mut kept = talk(&container, "tcp", "203.0.113.10", "7777");
        container.verb("up", &[]).ok();
        let seen = seen_meanwhile(&container, &closed);
        assert!(seen.is_empty(), "{seen:#?}");
        all_ended(connections);
        kept.wait_for_line("at 40");
        assert!(kept.is_running());
    }
}

/// Nobody of ours is there to end the sockets: what is sent is refused, and what comes in is not taken.
fn the_end_of_a_grant_or_a_mode_stops_the_bytes() {
    let container = Container::start(&User::shared(), "cut-time", "203.0.113.10\n2001:db8::10\n", &[]);
    for address in CUT {
        container.verb("allow", &[address, "--for", "20s"]).ok();
    }
    container.verb("down", &["--for", "25s"]).ok();
    let by_mode = ["203.0.113.21", "2001:db8::21"];
    let talkers: Vec<Running> = [CUT, by_mode]
        .concat()
        .iter()
        .flat_map(|address| {
            [("tcp", "7777"), ("udp", "7777")].map(|(kind, port)| talk(&container, kind, address, port))
        })
        .collect();
    let readers: Vec<Running> = [CUT, by_mode]
        .concat()
        .iter()
        .map(|address| talk(&container, "read", address, "7778"))
        .collect();
    crate::command::wait_until("the mode's end", || {
        (container.verb("status", &[]).ok().text() == "up").then_some(())
    });
    let everything = [CUT, by_mode].concat();
    // What leaves has passed the rules; of what arrives, the program gets nothing.
    let left: Vec<String> = seen_meanwhile(&container, &everything)
        .into_iter()
        .filter(|line| line.starts_with("out"))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    // One that waits, as nobody has told it yet, is told by the next verb.
    container.verb("up", &[]).ok();
    all_ended(talkers);
    all_ended(readers);
}

fn an_allowed_connection_loses_nothing_in_200_changes() {
    let container = Container::start(&User::shared(), "cut-kept", "203.0.113.10\n2001:db8::10\n", &[]);
    container.verb("allow", &["203.0.113.11"]).ok();
    let mut kept = all(&container, &["203.0.113.10", "2001:db8::10"]);
    kept.push(talk(&container, "tcp", "203.0.113.11", "7777"));
    let changes: [(&str, &[&str]); 8] = [
        ("down", &[]),
        ("deny", &["203.0.113.20"]),
        ("up", &[]),
        ("allow", &["203.0.113.20"]),
        ("down", &["--all", "--for", "1h"]),
        ("deny", &["2001:db8::20/124"]),
        ("allow", &["203.0.113.0/28", "--for", "1h"]),
        ("up", &[]),
    ];
    for (verb, more) in changes.iter().cycle().take(200) {
        container.verb(verb, more).ok();
    }
    container.is("up");
    for connection in &mut kept {
        assert!(connection.is_running());
    }
    // They go on after the last.
    for address in ["203.0.113.10", "2001:db8::10"] {
        talk(&container, "tcp", address, "7777").wait_for_line("at 20");
    }
    for connection in kept {
        let said = connection.so_far();
        assert!(!said.contains("lost") && !said.contains("ended"), "{said}");
    }
}
