//! No change of mode and no grant has an instant in which more is open than before and after it.

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;

use crate::command::{Running, root, wait_until};
use crate::lab::Container;
use crate::user::User;

tests![
    a_flood_leaks_nothing_in_2000_random_changes,
    a_flood_leaks_nothing_while_eight_change_at_once_and_no_grant_is_lost,
];

const FLOOD: &str = include_str!("flood.py");
/// Denied addresses, the floor, private ones: what no mode opens as long as `--all` isn't drawn. Nobody else sends to these,
/// and each test has its own.
struct Closed {
    denied: [&'static str; 4],
    others: [&'static str; 8],
}

const FIRST: Closed = Closed {
    denied: ["203.0.113.241", "2001:db8::f241", "198.51.100.241", "2001:db8:1::f241"],
    others: [
        "169.254.77.7",
        "168.63.129.16",
        "fec0::77",
        "64:ff9b::a9fe:4d07",
        "10.9.77.7",
        "192.168.77.77",
        "fd00:9::7777",
        "64:ff9b::a09:4d07",
    ],
};
const SECOND: Closed = Closed {
    denied: ["203.0.113.242", "2001:db8::f242", "198.51.100.242", "2001:db8:1::f242"],
    others: [
        "169.254.77.8",
        "192.0.0.192",
        "fec0::78",
        "64:ff9b::a9fe:4d08",
        "10.9.77.8",
        "100.64.77.8",
        "fd00:9::7778",
        "64:ff9b::a09:4d08",
    ],
};

impl Closed {
    fn all(&self) -> Vec<&'static str> {
        [&self.denied[..], &self.others].concat()
    }
}

/// Counts what arrives at some addresses, in a table of its own in the internet.
struct Receiver {
    table: String,
}

impl Receiver {
    fn new(name: &str, addresses: &[&str]) -> Self {
        let table = format!("leak_{name}");
        let counters: String = (0..addresses.len()).map(|n| format!("counter at{n} {{}}\n")).collect();
        let rules: String = addresses
            .iter()
            .enumerate()
            .map(|(n, address)| {
                let family = if address.contains(':') { "ip6" } else { "ip" };
                format!("{family} daddr {address} counter name at{n}\n")
            })
            .collect();
        let table_text = format!(
            "table inet {table} {{\n{counters}chain arriving {{\n\
             type filter hook prerouting priority -300; policy accept;\n{rules}}}\n}}\n"
        );
        Running::start(
            &["ip", "netns", "exec", "internet", "nft", "-f", "-"],
            table_text.as_bytes(),
        )
        .end()
        .ok();
        Self { table }
    }

    /// Packets by address, in the order in which those were given.
    fn arrived(&self) -> Vec<u64> {
        let words = [
            "ip",
            "netns",
            "exec",
            "internet",
            "nft",
            "-j",
            "list",
            "counters",
            "table",
            "inet",
            &self.table,
        ];
        let listing = root(&words).ok().json();
        let mut found: Vec<(String, u64)> = listing["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|object| {
                let counter = &object["counter"];
                Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
            })
            .collect();
        found.sort_by_key(|(name, _)| name["at".len()..].parse::<usize>().unwrap());
        found.into_iter().map(|(_, packets)| packets).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        root(&[
            "ip",
            "netns",
            "exec",
            "internet",
            "nft",
            "delete",
            "table",
            "inet",
            &self.table,
        ]);
    }
}

fn flood(container: &Container, addresses: &[&str]) -> Running {
    let words = ["podman", "exec", &container.name, "python3", "-I", "-c", FLOOD];
    let mut flood = container.user.start(&[&words[..], addresses].concat());
    flood.wait_for_line("flooding");
    flood
}

/// Numbers that look random and are the same in each run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// Targets that take in or lie beside what must stay closed.
const TARGETS: [&str; 12] = [
    "203.0.113.0/24",
    "203.0.113.240/29",
    "203.0.113.240",
    "198.51.100.0/24:443",
    "2001:db8::/64",
    "2001:db8::f240/124",
    "2001:db8:1::f243",
    "[2001:db8:1::/64]:443/tcp",
    "0.0.0.0/1",
    "8000::/1",
    "example.com",
    "multi.test:80,443",
];

/// One random change that opens none of what must stay closed.
fn change(random: &mut Random) -> Vec<&'static str> {
    match random.below(8) {
        0 => vec!["up"],
        1 => vec!["down"],
        2 => vec!["down", "--for", "1h"],
        3 => vec!["block"],
        4 | 5 => vec!["allow", random.pick(&TARGETS)],
        6 => vec!["allow", random.pick(&TARGETS), "--for", "1h"],
        _ => vec!["deny", random.pick(&TARGETS)],
    }
}

/// A grant for a time is refused where it would lift a denial.
#[track_caller]
fn make(container: &Container, words: &[&str]) {
    let output = container.verb(words[0], &words[1..]);
    let lifted = output.code == 1 && output.err.contains("cannot be lifted for a time");
    if !lifted {
        output.ok();
    }
}

fn prepared(name: &str, closed: &Closed) -> Container {
    let container = Container::start(&User::shared(), name, "203.0.113.0/24\n2001:db8::/64\n", &[]);
    for target in closed.denied {
        container.verb("deny", &[target]).ok();
    }
    container
}

/// Whether nothing arrived; and the same flood from a container without a shield arrives at each of the addresses. That
/// comes last, since what it leaves on its way arrives for a while.
fn nothing_arrived(receiver: &Receiver, name: &str, closed: &[&str], about: &str) {
    let arrived = receiver.arrived();
    assert!(
        arrived.iter().all(|packets| *packets == 0),
        "packets got out: {:#?} {about}",
        closed.iter().zip(arrived).collect::<Vec<_>>()
    );
    let open = Container::unshielded(&User::shared(), name, &[]);
    let running = flood(&open, closed);
    wait_until("the flood arrives", || {
        receiver.arrived().iter().all(|packets| *packets > 0).then_some(())
    });
    drop(running);
}

fn a_flood_leaks_nothing_in_2000_random_changes() {
    let (container, closed) = (prepared("leak", &FIRST), FIRST.all());
    let receiver = Receiver::new("random", &closed);
    let running = flood(&container, &closed);
    let mut random = Random(20);
    for _ in 0..2000 {
        make(&container, &change(&mut random));
    }
    let policy = container.policy();
    drop(running);
    nothing_arrived(&receiver, "leak-open", &closed, &policy.to_string());
    let mode = policy["mode"].as_str().unwrap().to_owned();
    container.is(&mode);
    // It was a flood, and it was the shield that stopped it.
    let counters = container.verb("status", &["--json"]).ok().json()["counters"].clone();
    for verdict in ["denied", "private"] {
        assert!(counters[verdict]["packets"].as_u64().unwrap() > 1000, "{counters:#}");
    }
}

fn a_flood_leaks_nothing_while_eight_change_at_once_and_no_grant_is_lost() {
    let (container, closed) = (prepared("leak-many", &SECOND), SECOND.all());
    let receiver = Receiver::new("many", &closed);
    let running = flood(&container, &closed);
    let given: BTreeSet<(String, String)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..8usize)
            .map(|worker| {
                let container = &container;
                scope.spawn(move || {
                    let mut random = Random(worker as u64 + 1);
                    let mut given = BTreeSet::new();
                    for n in 0..40 {
                        if random.below(3) == 0 {
                            let mode = random.pick(&["up", "down"]);
                            container.verb(mode, &[]).ok();
                            continue;
                        }
                        let verb = random.pick(&["allow", "deny"]);
                        // Each worker has targets of its own, so the last word on each is known.
                        let target = match n % 2 {
                            0 => format!("198.51.100.{}", worker * 20 + n / 2),
                            _ => format!("2001:db8:1:{:x}::{:x}", worker + 1, n),
                        };
                        container.verb(verb, &[&target]).ok();
                        given.insert((verb.to_owned(), target));
                    }
                    given
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    drop(running);
    let policy = container.policy();
    nothing_arrived(&receiver, "leak-many-open", &closed, &policy.to_string());
    let kept: BTreeSet<(String, String)> = policy["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|grant: &Value| {
            (
                grant["action"].as_str().unwrap().into(),
                grant["target"].as_str().unwrap().into(),
            )
        })
        .collect();
    let lost: Vec<_> = given.difference(&kept).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    // `status` compares the kernel with it, element by element.
    container.is(policy["mode"].as_str().unwrap());
}
