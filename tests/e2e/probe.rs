//! What a program inside of a container reaches, and how it is refused.

use std::net::IpAddr;

use crate::lab::{Container, by_pasta};

/// The program.
pub const SCRIPT: &str = include_str!("probe.py");

/// Refusals by ICMP and ICMPv6 (admin-prohibited) as a datagram socket reports them: of the packet itself, or of the error
/// that it met.
const PROHIBITED: [&str; 3] = ["EPERM", "EACCES", "EHOSTUNREACH"];

/// Closed addresses that tests use. That a program without a shield reaches each of them is a test, too.
pub const PROVED: [&str; 52] = [
    "203.0.113.10",
    "203.0.113.11",
    "203.0.113.12",
    "203.0.113.20",
    "203.0.113.21",
    "203.0.113.30",
    "203.0.113.40",
    "203.0.113.41",
    "203.0.113.53",
    "203.0.113.60",
    "203.0.113.61",
    "198.51.100.10",
    "198.51.100.20",
    "198.51.100.63",
    "198.51.100.64",
    "198.51.100.77",
    "198.51.100.127",
    "198.51.100.128",
    "10.9.8.7",
    "10.9.8.8",
    "172.16.5.5",
    "192.168.77.7",
    "100.64.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "2001:db8::10",
    "2001:db8::11",
    "2001:db8::12",
    "2001:db8::20",
    "2001:db8::21",
    "2001:db8::30",
    "2001:db8::40",
    "2001:db8::41",
    "2001:db8::53",
    "2001:db8::60",
    "2001:db8::61",
    "2001:db8:1::10",
    "2001:db8:1::20",
    "2001:db8:1::77",
    "2001:db8:2::1",
    "2001:db8:2:ffff::1",
    "fd00:9::7",
    "fd00:9::8",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fec0::7",
    "64:ff9b::a9fe:a9fe",
    "2002:a09:807::1",
    "64:ff9b::cb00:710b",
    "2002:cb00:710b::1",
];

/// Where a server answers: kind of question, port.
pub const SERVICES: [(&str, u16); 7] = [
    ("http", 80),
    ("http", 8000),
    ("http", 8080),
    ("http", 8443),
    ("tcp", 7777),
    ("udp", 7777),
    ("ping", 0),
];

/// One question to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    kind: String,
    address: IpAddr,
    port: u16,
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.address, self.port)
    }
}

impl Probe {
    /// A question of this kind (`http`, `tcp`, `udp`, `ping`).
    pub fn new(kind: &str, address: &str, port: u16) -> Self {
        Self {
            kind: kind.to_owned(),
            address: address.parse().unwrap(),
            port,
        }
    }

    /// What the servers of the laboratory answer.
    pub fn answer(&self) -> String {
        match self.kind.as_str() {
            "http" => self.address.to_string(),
            "ping" => "pong".to_owned(),
            _ => "word".to_owned(),
        }
    }

    /// slirp4netns does not carry echo requests of ICMPv6, whatever stands in front of it. Refused they are all the same.
    fn can_answer(&self) -> bool {
        self.kind != "ping" || self.address.is_ipv4() || by_pasta()
    }

    /// Whether this is how a shield refuses, at once and without a doubt.
    pub fn is_refusal(&self, found: &str) -> bool {
        match self.kind.as_str() {
            "http" | "tcp" => found == "ECONNREFUSED",
            _ => PROHIBITED.contains(&found),
        }
    }
}

/// Every service of every address.
pub fn everything(addresses: &[&str]) -> Vec<Probe> {
    at(addresses, &SERVICES)
}

/// Some services of every address.
pub fn at(addresses: &[&str], services: &[(&str, u16)]) -> Vec<Probe> {
    addresses
        .iter()
        .flat_map(|address| services.iter().map(|(kind, port)| Probe::new(kind, address, *port)))
        .collect()
}

/// The web page on port 80 of every address.
pub fn web(addresses: &[&str]) -> Vec<Probe> {
    at(addresses, &SERVICES[..1])
}

impl Container {
    /// Asks from inside, and returns what came of each question.
    #[track_caller]
    pub fn probe(&self, probes: &[Probe]) -> Vec<(Probe, String)> {
        self.probe_by(&[], probes)
    }

    /// The same by a program that starts the asking one.
    #[track_caller]
    pub fn probe_by(&self, starter: &[&str], probes: &[Probe]) -> Vec<(Probe, String)> {
        let arguments: Vec<String> = probes.iter().map(ToString::to_string).collect();
        let mut words = starter.to_vec();
        words.extend(["python3", "-I", "-c", SCRIPT]);
        words.extend(arguments.iter().map(String::as_str));
        let output = self.exec(&words).ok();
        let found: Vec<&str> = output.out.lines().collect();
        assert_eq!(found.len(), probes.len(), "one answer a question: {output:#?}");
        probes
            .iter()
            .zip(found)
            .map(|(probe, line)| {
                let found = line.strip_prefix(&format!("{probe} ")).unwrap();
                (probe.clone(), found.to_owned())
            })
            .collect()
    }

    /// Fails the test unless each of these answers.
    #[track_caller]
    pub fn reaches(&self, probes: &[Probe]) {
        let probes: Vec<Probe> = probes.iter().filter(|probe| probe.can_answer()).cloned().collect();
        let wrong: Vec<String> = self
            .probe(&probes)
            .into_iter()
            .filter(|(probe, found)| *found != probe.answer())
            .map(|(probe, found)| format!("{probe} {found}"))
            .collect();
        assert!(wrong.is_empty(), "{} should reach: {wrong:#?}", self.name);
    }

    /// Fails the test unless each of these is refused at once, which is known by the error and not by a clock.
    #[track_caller]
    pub fn is_refused(&self, probes: &[Probe]) {
        for probe in probes {
            let address = probe.address.to_string();
            assert!(PROVED.contains(&address.as_str()), "{address} belongs into PROVED");
        }
        let wrong: Vec<String> = self
            .probe(probes)
            .into_iter()
            .filter(|(probe, found)| !probe.is_refusal(found))
            .map(|(probe, found)| format!("{probe} {found}"))
            .collect();
        assert!(wrong.is_empty(), "{} should be refused: {wrong:#?}", self.name);
    }
}
