//! A program that tries to get out, and a receiver on the other side: what arrives there is counted where nobody else
//! sends to, so the program's own word is not all that there is.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::{Running, root};
use crate::lab::{IMAGE, Scratch};
use crate::probe::{Probe, SCRIPT, at};
use crate::user::User;

/// Everybody's profile: what the program may reach.
pub const PROFILE: &str = "203.0.113.10\n2001:db8::10\n";
const SERVICES: [(&str, u16); 2] = [("tcp", 7777), ("udp", 7777)];

static MADE: AtomicU32 = AtomicU32::new(0);

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The program has not run.
    NotRun,
    /// It ran, reached what is listed, and nothing else.
    Shielded,
}

/// The program, where it says what it saw, and the receiver.
pub struct Bait {
    scratch: Scratch,
    open: Vec<Probe>,
    closed: Vec<Probe>,
    receiver: String,
}

impl Bait {
    /// One with closed addresses of its own, which no profile lists and nobody else uses.
    pub fn new(user: &User, name: &str) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let (v4, v6) = (
            format!("198.51.100.{}", 200 + number),
            format!("2001:db8:2:bad::{:x}", number + 1),
        );
        let receiver = format!("receiver_{number}");
        let rules = format!(
            "table inet {receiver} {{
                counter tcp4 {{}}\n counter udp4 {{}}\n counter tcp6 {{}}\n counter udp6 {{}}
                chain arriving {{
                    type filter hook prerouting priority -300; policy accept;
                    ip daddr {v4} ip protocol tcp counter name tcp4
                    ip daddr {v4} ip protocol udp counter name udp4
                    ip6 daddr {v6} ip6 nexthdr tcp counter name tcp6
                    ip6 daddr {v6} ip6 nexthdr udp counter name udp6
                }}
            }}"
        );
        let load = ["ip", "netns", "exec", "internet", "nft", "-f", "-"];
        Running::start(&load, rules.as_bytes()).end().ok();
        Self {
            scratch: Scratch::new(user, name),
            open: at(&["203.0.113.10", "2001:db8::10"], &SERVICES),
            closed: at(&[&v4, &v6], &SERVICES),
            receiver,
        }
    }

    /// Podman's arguments from the mount to the end of the program.
    pub fn words(&self) -> Vec<String> {
        let line = "python3 -I -c \"$0\" \"$@\" >>/scratch/said";
        let mount = format!("{}:/scratch", self.scratch.path());
        let mut words = ["-v", &mount, IMAGE, "sh", "-c", line, SCRIPT]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.open.iter().chain(&self.closed).map(ToString::to_string));
        words
    }

    /// Packets that arrived at the closed addresses since the last time: TCP and UDP over v4, then over v6.
    #[track_caller]
    fn arrived(&self) -> [u64; 4] {
        let words = ["reset", "counters", "table", "inet", &self.receiver];
        let listing = root(&[&["ip", "netns", "exec", "internet", "nft", "-j"], &words[..]].concat())
            .ok()
            .json();
        ["tcp4", "udp4", "tcp6", "udp6"].map(|name| {
            let counters = listing["nftables"].as_array().unwrap().iter();
            let mut found = counters.filter(|object| object["counter"]["name"] == name);
            found.next().unwrap()["counter"]["packets"].as_u64().unwrap()
        })
    }

    /// What the program has said, which is forgotten then.
    #[track_caller]
    fn said(&self) -> Vec<(Probe, String)> {
        let path = self.scratch.at("said");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            text => text.unwrap(),
        };
        fs::remove_file(path).unwrap();
        let probes = self.open.iter().chain(&self.closed);
        text.lines()
            .zip(probes)
            .map(|(line, probe)| {
                let found = line.strip_prefix(&format!("{probe} "));
                (probe.clone(), found.unwrap_or_else(|| panic!("{line:?}")).to_owned())
            })
            .collect()
    }

    /// That it ran without a shield: each address answered, and the receiver saw each kind of packet.
    #[track_caller]
    pub fn got_out(&self) {
        let said = self.said();
        assert_eq!(said.len(), self.open.len() + self.closed.len(), "{said:#?}");
        for (probe, found) in said {
            assert_eq!(found, probe.answer(), "{probe}");
        }
        let arrived = self.arrived();
        assert!(arrived.iter().all(|packets| *packets > 0), "{arrived:?}");
    }

    /// What became of the start after `what`. That anything got out fails the test.
    #[track_caller]
    pub fn fate(&self, what: &str) -> Fate {
        let said = self.said();
        assert_eq!(self.arrived(), [0; 4], "{what}: packets got out of {said:#?}");
        if said.is_empty() {
            return Fate::NotRun;
        }
        for (probe, found) in &said {
            if self.open.contains(probe) {
                assert_eq!(*found, probe.answer(), "{what}: {probe}");
            } else {
                assert!(probe.is_refusal(found), "{what}: {probe} {found}");
            }
        }
        assert_eq!(said.len(), self.open.len() + self.closed.len(), "{what}: {said:#?}");
        Fate::Shielded
    }

    /// Whether the program has run at all; cheaper than [`Bait::fate`].
    pub fn has_run(&self) -> bool {
        self.scratch.has("said")
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let delete = ["delete", "table", "inet", &self.receiver];
        root(&[&["ip", "netns", "exec", "internet", "nft"], &delete[..]].concat());
    }
}
