//! The protection, proved with packets: in namespaces that are made for it and thrown away, a policy becomes a table on the
//! way on which the hook makes it one, and what programs send is read where it would leave.
//!
//! Before there is a table every packet must arrive there, or that none arrives later would prove nothing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::{self, KernelError, Nft, Tun, in_new_namespaces};
use crate::policy::{Action, Addresses, Entry, Grant, Origin, Policy, Protocol};
use crate::ruleset::create;
use crate::shield::live::{Meant, verify};

/// What the policy of the proof says about a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Listed: it must be reached.
    Listed,
    /// Denied by the operator, inside of a network that is listed.
    Denied,
    /// Link-local and metadata addresses.
    Floor,
    /// A private address.
    Private,
    /// Nothing lists it.
    Unlisted,
}

/// One packet and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// Where to.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What the policy says.
    pub standing: Standing,
    /// Whether it left the namespace.
    pub passed: bool,
}

impl Packet {
    /// Whether that is what the policy says.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.passed == (self.standing == Standing::Listed)
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.passed { "passed" } else { "did not pass" };
        let standing = match self.standing {
            Standing::Listed => "listed",
            Standing::Denied => "denied",
            Standing::Floor => "link-local or a metadata address",
            Standing::Private => "private",
            Standing::Unlisted => "not listed",
        };
        write!(f, "{} to {}, which is {standing}, {verb}", self.protocol, self.to)
    }
}

/// Why nothing is proved.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Unproved {
    /// No namespaces, no child.
    #[error("no namespaces to prove the protection in: {0}")]
    Namespaces(String),
    /// No device that packets could be read from.
    #[error("no device to read packets from: {0}")]
    Device(String),
    /// A packet does not arrive although nothing stands in its way.
    #[error("without a table {0}: nothing can be told from packets")]
    Silent(String),
    /// A packet could not be sent, and not because it was refused.
    #[error("{to}: cannot send: {why}")]
    Unsent {
        /// Where to.
        to: SocketAddr,
        /// The system's words.
        why: String,
    },
    /// The kernel or libnftables does not take the table.
    #[error("the table cannot be made: {0}")]
    Table(String),
    /// The table is not there, or not as it was written.
    #[error("the table is not as it was written: {0}")]
    Drifted(String),
    /// libnftables ended the process.
    #[error("{0}")]
    Crashed(String),
}

/// Destinations by what the policy says about them, one of each family.
const DESTINATIONS: [(Standing, &str, &str); 5] = [
    (Standing::Listed, "203.0.113.10", "2001:db8::10"),
    (Standing::Denied, "198.51.100.7", "2001:db8:1::7"),
    (Standing::Floor, "169.254.169.254", "fd00:ec2::254"),
    (Standing::Private, "10.9.8.7", "fd00:9::7"),
    (Standing::Unlisted, "203.0.113.11", "2001:db8::11"),
];
/// What the profile of the proof lists: the listed ones, and networks around the denied ones.
const LISTED: [&str; 4] = ["203.0.113.10", "2001:db8::10", "198.51.100.0/24", "2001:db8:1::/64"];
const DENIED: [&str; 2] = ["198.51.100.7", "2001:db8:1::7"];
/// The namespace's own.
const OWN: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1),
);
const PORT: u16 = 443;
/// How long a new address may take until it can be sent from.
const SETTLING: Duration = Duration::from_secs(3);
/// How long a `connect` is waited for that nobody answers: its packet leaves before it begins to wait.
const UNANSWERED: Duration = Duration::from_millis(1);

/// Sends to what is listed, denied, reserved, private and unlisted, and reports what passed. Leaves nothing behind.
pub fn prove() -> Result<Vec<Packet>, Unproved> {
    in_new_namespaces(|nft| Ok(inside(nft))).unwrap_or_else(|error| {
        Err(match error {
            KernelError::Crashed { .. } | KernelError::Refused { .. } => Unproved::Crashed(error.to_string()),
            other => Unproved::Namespaces(other.to_string()),
        })
    })
}

fn inside(nft: &mut Nft) -> Result<Vec<Packet>, Unproved> {
    let mut tun = Tun::new(OWN.0, OWN.1).map_err(|error| Unproved::Device(error.to_string()))?;
    let packets = questions(tun.has_v6());
    unhindered(&mut tun, &packets)?;
    enforce(nft)?;
    send(&mut tun, packets)
}

/// The packets, none of which has passed.
fn questions(has_v6: bool) -> Vec<Packet> {
    let mut packets = Vec::new();
    for (standing, v4, v6) in DESTINATIONS {
        let addresses = [v4, v6].into_iter().filter_map(|text| text.parse::<IpAddr>().ok());
        for address in addresses.filter(|address| has_v6 || address.is_ipv4()) {
            packets.extend([Protocol::Tcp, Protocol::Udp].map(|protocol| Packet {
                to: SocketAddr::new(address, PORT),
                protocol,
                standing,
                passed: false,
            }));
        }
    }
    packets
}

/// Waits until each packet passes while there is no table.
fn unhindered(tun: &mut Tun, packets: &[Packet]) -> Result<(), Unproved> {
    let until = Instant::now() + SETTLING;
    loop {
        let stuck = match send(tun, packets.to_vec()) {
            Ok(sent) => sent
                .into_iter()
                .find(|packet| !packet.passed)
                .map(|packet| Unproved::Silent(packet.to_string())),
            Err(error) => Some(error),
        };
        match stuck {
            None => return Ok(()),
            Some(error) if Instant::now() >= until => return Err(error),
            Some(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// As the hook does it: compile, create, apply, read back.
fn enforce(nft: &mut Nft) -> Result<(), Unproved> {
    let policy = policy()?;
    let now = kernel::now().map_err(|error| Unproved::Table(error.to_string()))?;
    let meant = Meant::new(&policy, &Addresses::new(), &now);
    for document in create(&meant.layout, &meant.contents) {
        nft.apply(&document)
            .map_err(|error| Unproved::Table(error.to_string()))?;
    }
    let drift = verify(nft, &meant).map_err(|error| Unproved::Drifted(error.to_string()))?;
    match drift.first() {
        None => Ok(()),
        Some(drift) => Err(Unproved::Drifted(drift.to_string())),
    }
}

fn policy() -> Result<Policy, Unproved> {
    fn parsed<T>(text: &str) -> Result<T, Unproved>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        text.parse().map_err(|error: T::Err| Unproved::Table(error.to_string()))
    }
    let mut policy = Policy::default();
    for (line, target) in (1..).zip(LISTED) {
        let origin = Origin {
            profile: parsed("proof")?,
            line,
        };
        policy.entries.push(Entry {
            target: parsed(target)?,
            origin,
        });
    }
    for target in DENIED {
        policy.grants.push(Grant {
            action: Action::Deny,
            target: parsed(target)?,
            life: None,
        });
    }
    Ok(policy)
}

/// Sends each packet once, and notes which of them came to the other end.
fn send(tun: &mut Tun, mut packets: Vec<Packet>) -> Result<Vec<Packet>, Unproved> {
    let failed = |error: KernelError| Unproved::Device(error.to_string());
    // What was sent before does not count.
    tun.packets().map_err(failed)?;
    for packet in &packets {
        let sent = match packet.protocol {
            Protocol::Tcp => TcpStream::connect_timeout(&packet.to, UNANSWERED).map(|_| ()),
            Protocol::Udp => datagram(packet.to),
        };
        let expected = [
            // Nobody answered, and nobody will.
            ErrorKind::TimedOut,
            ErrorKind::WouldBlock,
            // Refused.
            ErrorKind::ConnectionRefused,
            ErrorKind::PermissionDenied,
            ErrorKind::HostUnreachable,
        ];
        match sent {
            Err(error) if !expected.contains(&error.kind()) => {
                return Err(Unproved::Unsent {
                    to: packet.to,
                    why: error.to_string(),
                });
            }
            _ => {}
        }
    }
    let arrived: BTreeSet<(SocketAddr, Protocol)> = tun
        .packets()
        .map_err(failed)?
        .iter()
        .filter_map(|packet| destination(packet))
        .collect();
    for packet in &mut packets {
        packet.passed = arrived.contains(&(packet.to, packet.protocol));
    }
    Ok(packets)
}

fn datagram(to: SocketAddr) -> std::io::Result<()> {
    let from: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((from, 0))?.send_to(b"proof", to).map(|_| ())
}

/// Where an IP packet goes to, if it is TCP or UDP. Extension headers are none of ours.
fn destination(packet: &[u8]) -> Option<(SocketAddr, Protocol)> {
    let (protocol, address, header): (u8, IpAddr, usize) = match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (*packet.get(9)?, address.into(), usize::from(packet.first()? & 0xf) * 4)
        }
        6 => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (*packet.get(6)?, address.into(), 40)
        }
        _ => return None,
    };
    let protocol = match protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let port: [u8; 2] = packet.get(header + 2..header + 4)?.try_into().ok()?;
    Some((SocketAddr::new(address, u16::from_be_bytes(port)), protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_of_a_packet_is_read_from_its_headers() {
        let mut v4 = vec![0; 28];
        v4[0] = 0x46;
        v4[9] = 17;
        v4[16..20].copy_from_slice(&[203, 0, 113, 10]);
        v4[26..28].copy_from_slice(&443_u16.to_be_bytes());
        assert_eq!(
            destination(&v4),
            Some(("203.0.113.10:443".parse().unwrap(), Protocol::Udp))
        );
        let mut v6 = vec![0; 44];
        v6[0] = 0x60;
        v6[6] = 6;
        v6[24..40].copy_from_slice(&"2001:db8::10".parse::<Ipv6Addr>().unwrap().octets());
        v6[42..44].copy_from_slice(&80_u16.to_be_bytes());
        assert_eq!(
            destination(&v6),
            Some(("[2001:db8::10]:80".parse().unwrap(), Protocol::Tcp))
        );
        for short in [&[][..], &[0x46], &v4[..27], &v6[..43], &[0x20; 60]] {
            assert_eq!(destination(short), None);
        }
    }

    #[test]
    fn the_policy_says_of_each_destination_what_the_proof_expects() {
        let policy = policy().unwrap();
        assert_eq!(
            (policy.entries.len(), policy.grants.len()),
            (LISTED.len(), DENIED.len())
        );
        assert_eq!(questions(true).len(), 20);
        assert_eq!(questions(false).len(), 10);
    }
}
