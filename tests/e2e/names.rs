//! Names that are looked up ahead of time: what does not resolve stays closed, is said once, and holds nobody up.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{Output, Running, wait_until};
use crate::lab::{Container, IMAGE, Scratch};
use crate::probe::{at, everything, web};
use crate::user::{FreshUser, User};

tests![
    a_name_whose_server_never_answers_does_not_hold_the_start_up,
    a_resolver_that_cannot_be_reached_is_said_once,
    a_name_that_does_not_resolve_is_a_warning_and_neither_opens_nor_closes_anything,
    a_name_with_private_addresses_opens_none_of_them_and_leaves_a_note,
    standard_output_is_the_programs_and_nothing_else_is_written_to_a_pipe,
    resolve_opens_what_resolves_by_now_and_force_follows_a_change,
    a_name_that_leads_to_another_and_one_with_many_addresses_open_all_of_them,
    a_name_below_a_listed_one_is_not_looked_up,
];

fn log(container: &Container) -> Vec<Value> {
    let output = container
        .user
        .shield(&["logs", "--container", &container.name, "-n", "1000"])
        .ok();
    output
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Notes in the log about this name.
fn notes(container: &Container, name: &str) -> usize {
    log(container)
        .iter()
        .filter(|entry| entry["action"] == "note" && entry.to_string().contains(name))
        .count()
}

fn a_name_that_does_not_resolve_is_a_warning_and_neither_opens_nor_closes_anything() {
    let user = User::shared();
    let profile = "missing.test\n203.0.113.10\n2001:db8::10\n=www.example.com:443\nsecond.test\n";
    let (container, output) = Container::try_start(&user, "name-missing", profile, &[]);
    let output = output.ok();
    let warnings: Vec<&str> = output.err.lines().collect();
    assert_eq!(warnings.len(), 2, "{output:#?}");
    for name in ["missing.test", "www.example.com"] {
        let of: Vec<_> = warnings.iter().filter(|line| line.contains(name)).collect();
        assert_eq!(of.len(), 1, "{output:#?}");
        assert!(of[0].contains("does not resolve"), "{output:#?}");
        assert!(notes(&container, name) >= 1);
    }
    container.is("up");
    container.reaches(&everything(&[
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.11",
        "2001:db8::11",
    ]));
    container.is_refused(&everything(&["203.0.113.12", "2001:db8::12"]));
    user.podman(&["restart", "name-missing"]).ok();
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10", "203.0.113.11", "2001:db8::11"]));
}

fn a_name_with_private_addresses_opens_none_of_them_and_leaves_a_note() {
    let user = User::shared();
    let (container, output) = Container::try_start(&user, "name-rebind", "rebind.test\nsecond.test\n", &[]);
    output.ok();
    container.is("up");
    container.is_refused(&everything(&["10.9.8.7", "169.254.169.254", "fd00:9::7"]));
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    let notes = log(&container);
    for address in ["10.9.8.7", "169.254.169.254", "fd00:9::7"] {
        let of = |entry: &&Value| entry["action"] == "note" && entry.to_string().contains(address);
        assert!(
            notes.iter().filter(of).count() >= 1,
            "a note about {address}: {notes:#?}"
        );
    }
    // Listed as an address it is open, whoever points to it.
    let container = Container::start(&user, "name-rebind-listed", "rebind.test\n10.9.8.7\nfd00:9::7\n", &[]);
    container.reaches(&web(&["10.9.8.7", "fd00:9::7"]));
    container.is_refused(&web(&["169.254.169.254"]));
}

fn a_name_whose_server_never_answers_does_not_hold_the_start_up() {
    let user = User::shared();
    let profile = "slow.test\na.slow.test\nb.slow.test\nsecond.test\n203.0.113.10\n2001:db8::10\n";
    let before = Instant::now();
    let (container, output) = Container::try_start(&user, "name-slow", profile, &[]);
    let output = output.ok();
    // Five seconds are given to all names together, and again in the hook.
    assert!(before.elapsed() < Duration::from_secs(60), "{:?}", before.elapsed());
    for name in [" slow.test", "a.slow.test", "b.slow.test"] {
        assert_eq!(
            output.err.lines().filter(|line| line.contains(name)).count(),
            1,
            "{name} in {output:#?}"
        );
    }
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10", "203.0.113.11", "2001:db8::11"]));
    let before = Instant::now();
    container.verb("allow", &["c.slow.test"]).code(1).one_line();
    container.verb("resolve", &["--force"]);
    assert!(before.elapsed() < Duration::from_secs(60), "{:?}", before.elapsed());
    container.is("up");
}

/// Runs a command as the user where `/etc/resolv.conf` is another file.
fn with_resolvers(user: &User, resolv_conf: &str, words: &[&str]) -> Output {
    // Podman wants mounts that are shared; these are, among its own processes.
    let line = "mount --make-rshared / && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let front = [
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-c",
        line,
        resolv_conf,
    ];
    let user = ["as-user", "--user", &user.name];
    Running::start(&[&front, &user[..], words].concat(), b"").end()
}

fn a_resolver_that_cannot_be_reached_is_said_once() {
    let user = FreshUser::with_hooks();
    // The hook lives in the mounts of podman's own process: it has to be a new one, which sees that file too.
    user.podman(&["system", "migrate"]).ok();
    let scratch = Scratch::new(&user, "resolvers");
    let profile = "allowed.test\nsecond.test\nexample.com\n203.0.113.20\n2001:db8::20\n";
    user.profile("unreachable", profile);
    // What swallows every packet, what has nobody on port 53, and no resolver at all.
    for (name, text) in [
        ("swallowed", "nameserver 203.0.113.99\nnameserver 2001:db8::99\n"),
        ("refused", "nameserver 192.0.2.1\nnameserver 2001:db8:ffff::1\n"),
        ("none", "search example.com\n"),
    ] {
        let file = scratch.at(name);
        user.write(&PathBuf::from(&file), text);
        let container = Container::named(&user, name);
        let before = Instant::now();
        let line = [
            "terok-shield",
            "run",
            name,
            "--profiles",
            "unreachable",
            "--",
            "-d",
            IMAGE,
            "sleep",
            "100000",
        ];
        let output = with_resolvers(&user, &file, &line).ok();
        assert!(
            before.elapsed() < Duration::from_secs(60),
            "{name}: {:?}",
            before.elapsed()
        );
        assert!(output.one_line().contains("cannot be resolved"), "{name}: {output:#?}");
        container.is("up");
        container.reaches(&web(&["203.0.113.20", "2001:db8::20"]));
        container.is_refused(&web(&["203.0.113.10", "2001:db8::10", "203.0.113.11", "203.0.113.12"]));
        let events = log(&container);
        assert!(
            events
                .iter()
                .any(|event| event.to_string().contains("cannot be resolved")),
            "{name}: {events:#?}"
        );

        let resolve = with_resolvers(&user, &file, &["terok-shield", "resolve", name]).code(1);
        assert!(
            resolve.one_line().contains("cannot be resolved"),
            "{name}: {resolve:#?}"
        );
        let allow = with_resolvers(&user, &file, &["terok-shield", "allow", name, "github.com"]).code(1);
        allow.one_line();
        container.is("up");
        // As soon as one answers, it mends.
        container.verb("resolve", &[]).ok();
        container.reaches(&web(&[
            "203.0.113.10",
            "2001:db8::10",
            "203.0.113.11",
            "203.0.113.12",
            "203.0.113.20",
        ]));
        container.remove();
    }
}

fn standard_output_is_the_programs_and_nothing_else_is_written_to_a_pipe() {
    let user = User::shared();
    user.profile("noisy", "missing.test\nslow.test\nallowed.test\n203.0.113.10\n");
    let _guard = Container::named(&user, "noisy");
    let run = user
        .shield(&[
            "run",
            "noisy",
            "--profiles",
            "noisy",
            "--",
            "--rm",
            IMAGE,
            "echo",
            "out",
        ])
        .ok();
    assert_eq!(run.out, "out\n");
    let line = user.shield(&["prepare", "noisy", "--profiles", "noisy"]).ok();
    assert_eq!(line.out.lines().count(), 1);
    assert!(line.out.starts_with("--name noisy --annotation "), "{line:#?}");
    let json = user.shield(&["prepare", "noisy", "--profiles", "noisy", "--json"]).ok();
    assert!(json.json().is_array());
    for output in [run, line, json] {
        // What shows progress on a terminal moves its cursor.
        assert!(!output.err.contains(['\r', '\u{1b}', '\u{8}']), "{output:#?}");
        for line in output.err.lines() {
            assert!(
                line.starts_with("terok-shield: ") && line.contains("does not resolve"),
                "{output:#?}"
            );
        }
        assert_eq!(output.err.lines().count(), 2, "{output:#?}");
    }
}

/// A name of the laboratory's, removed when this is dropped.
struct Name {
    file: PathBuf,
    name: &'static str,
}

impl Name {
    fn new(name: &'static str) -> Self {
        let directory = std::env::var("LAB_DNS_HOSTS").unwrap();
        Self {
            file: PathBuf::from(directory).join(name),
            name,
        }
    }

    /// From now on it has these addresses, and no others.
    fn points_to(&self, v4: &str, v6: &str) {
        // A file that is written in place is read half: rename it there.
        let new = self.file.with_file_name(format!("../{}.new", self.name));
        fs::write(&new, format!("{v4} {name}\n{v6} {name}\n", name = self.name)).unwrap();
        let _ = fs::remove_file(&self.file);
        fs::rename(&new, &self.file).unwrap();
        for (kind, address) in [("A", v4), ("AAAA", v6)] {
            wait_until("the name server has read it", || {
                let answer = Running::start(&["dig", "+short", "+tries=1", self.name, kind], b"").end();
                (answer.text() == address).then_some(())
            });
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

fn resolve_opens_what_resolves_by_now_and_force_follows_a_change() {
    let name = Name::new("later.test");
    let profile = "later.test\n203.0.113.10\n2001:db8::10\n";
    let container = Container::try_start(&User::shared(), "name-later", profile, &[]).0;
    let (first, second) = (["203.0.113.60", "2001:db8::60"], ["203.0.113.61", "2001:db8::61"]);
    container.is_refused(&everything(&first));
    let nothing = container.verb("resolve", &[]).ok();
    assert!(nothing.one_line().contains("later.test"), "{nothing:#?}");
    name.points_to(first[0], first[1]);
    container.verb("resolve", &[]).ok();
    container.reaches(&everything(&first));
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&everything(&second));
    let resolved = container.user.bundle_json("name-later", "resolved.json");
    assert_eq!(
        resolved["names"]["later.test"]["addresses"].as_array().unwrap().len(),
        2
    );

    drop(name);
    let name = Name::new("later.test");
    name.points_to(second[0], second[1]);
    // What is fresh is not asked for again, unless it is forced.
    container.verb("resolve", &[]).ok();
    container.reaches(&web(&first));
    container.verb("resolve", &["--force"]).ok();
    container.reaches(&everything(&second));
    container.is_refused(&everything(&first));
    container.is("up");
    // A name that is gone keeps what it had: a resolver that fails closes nothing.
    drop(name);
    wait_until("the name server has forgotten it", || {
        let answer = Running::start(&["dig", "+short", "+tries=1", "later.test", "A"], b"").end();
        (answer.text() != second[0]).then_some(())
    });
    let warned = container.verb("resolve", &["--force"]).ok();
    assert!(
        warned.err.contains("later.test") || warned.err.is_empty(),
        "{warned:#?}"
    );
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
}

fn a_name_that_leads_to_another_and_one_with_many_addresses_open_all_of_them() {
    let user = User::shared();
    let container = Container::start(&user, "name-many", "alias.test\nmulti.test:80\nbig.test:8000\n", &[]);
    container.reaches(&everything(&["203.0.113.41", "2001:db8::41"]));
    container.reaches(&web(&[
        "203.0.113.20",
        "203.0.113.21",
        "203.0.113.22",
        "2001:db8::20",
        "2001:db8::22",
    ]));
    // A hundred of each family, which does not fit into a datagram.
    let big: Vec<String> = (100..200)
        .flat_map(|n| [format!("198.51.100.{n}"), format!("2001:db8:1::{n}")])
        .collect();
    let big: Vec<&str> = big.iter().map(String::as_str).collect();
    container.reaches(&at(&big, &[("http", 8000)]));
    container.is_refused(&web(&["198.51.100.127", "198.51.100.10", "2001:db8:1::10"]));
}

fn a_name_below_a_listed_one_is_not_looked_up() {
    let user = User::shared();
    // sub.allowed.test has addresses of its own, which only its own name opens ahead of time.
    let container = Container::start(&user, "name-below", "allowed.test\n*.second.test\n", &[]);
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&web(&["203.0.113.12", "2001:db8::12", "203.0.113.11", "2001:db8::11"]));
    container.is("up");
}
