//! One destination as an operator writes it: a name pattern, an address or a
//! network, with optional ports and protocol.
//!
//! The grammar is strict and has one meaning for each text; what is doubtful is
//! an error that says what was probably meant.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::{NameError, NamePattern};

/// The longest target, in bytes.
const MAX_TARGET: usize = 1024;

/// A destination with the ports it is meant for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Who is reached.
    pub destination: Destination,
    /// On which ports.
    pub ports: Ports,
}

/// Who is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The addresses that the names under this pattern turn out to have.
    Name(NamePattern),
    /// A network; a single address is a /32 or /128. Never with host bits set,
    /// never inside `::ffff:0:0/96`.
    Network(IpNet),
}

/// The ports of a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// Every port, and every protocol that has none.
    All,
    /// Only these.
    Only {
        /// Sorted, neither overlapping nor adjacent, at least one.
        ranges: Vec<PortRange>,
        /// One protocol, or both TCP and UDP.
        protocol: Option<Protocol>,
    },
}

/// Ports `first` to `last` inclusive, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, not below `first`.
    pub last: u16,
}

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct TargetError {
    /// Where it goes wrong, counted in characters from 1.
    pub column: usize,
    /// What should have stood there.
    pub expected: String,
}

impl TargetError {
    fn new(column: usize, expected: impl Into<String>) -> Self {
        Self {
            column,
            expected: expected.into(),
        }
    }
}

impl From<NameError> for TargetError {
    fn from(error: NameError) -> Self {
        Self::new(error.column, error.expected)
    }
}

impl Ports {
    /// Whether a packet of this protocol to this port is meant.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only { ranges, protocol: only } => {
                only.is_none_or(|only| only == protocol) && ranges.iter().any(|r| r.first <= port && port <= r.last)
            }
        }
    }

    /// Sorts and merges ranges into [`Ports::Only`]; nothing for an empty list
    /// or one that holds port 0 or a reversed range.
    #[must_use]
    pub fn only(mut ranges: Vec<PortRange>, protocol: Option<Protocol>) -> Option<Self> {
        if ranges.is_empty() || ranges.iter().any(|r| r.first == 0 || r.last < r.first) {
            return None;
        }
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Some(Self::Only {
            ranges: merged,
            protocol,
        })
    }
}

impl Destination {
    /// One address as a destination.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Network(IpNet::from(address))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(TargetError::new(1, "a name, an address or a network"));
        }
        if text.len() > MAX_TARGET {
            let expected = format!("a target of at most {MAX_TARGET} bytes");
            return Err(TargetError::new(1, expected));
        }
        if text.starts_with('@') {
            let expected = "a name, an address or a network: `@` stands only in profiles";
            return Err(TargetError::new(1, expected));
        }
        if let Some(rest) = text.strip_prefix('[') {
            return bracketed(rest);
        }
        if is_v6_like(text) {
            return Ok(Self {
                destination: Destination::Network(v6(text, 1)?),
                ports: Ports::All,
            });
        }
        let (host, ports) = match text.split_once(':') {
            Some((host, rest)) => (host, parse_ports(rest, host.chars().count() + 2)?),
            None => (text, Ports::All),
        };
        let destination = match host.split_once('/') {
            _ if is_v4_like(host) => Destination::Network(v4(host, 1)?),
            Some((name, _)) => {
                let expected = if matches!(ports, Ports::All) {
                    "`:` and a port before the protocol, as in example.com:443/tcp"
                } else {
                    "a name or a network before the ports"
                };
                return Err(TargetError::new(name.chars().count() + 1, expected));
            }
            None => Destination::Name(host.parse()?),
        };
        Ok(Self { destination, ports })
    }
}

/// Two colons, and hexadecimal digits at most before the first one.
fn is_v6_like(text: &str) -> bool {
    let Some((first, rest)) = text.split_once(':') else {
        return false;
    };
    rest.contains(':') && first.len() <= 4 && first.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Digits and dots, with whatever follows a slash. `203.0.113.1/tcp` belongs
/// here too: the prefix length is what is wrong with it.
fn is_v4_like(host: &str) -> bool {
    let address = host.split_once('/').map_or(host, |(address, _)| address);
    !address.is_empty() && address.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// What follows `[`.
fn bracketed(rest: &str) -> Result<Target, TargetError> {
    let Some((inside, after)) = rest.split_once(']') else {
        let column = rest.chars().count() + 2;
        return Err(TargetError::new(column, "`]` after the IPv6 address"));
    };
    let network = v6(inside, 2)?;
    let column = inside.chars().count() + 3;
    let Some(ports) = after.strip_prefix(':') else {
        let expected = if after.starts_with('/') {
            "`:` and ports after `]`; a prefix length stands inside the brackets, as in [2001:db8::/64]:443"
        } else {
            "`:` and ports after `]`"
        };
        return Err(TargetError::new(column, expected));
    };
    Ok(Target {
        destination: Destination::Network(network),
        ports: parse_ports(ports, column + 1)?,
    })
}

fn v4(text: &str, column: usize) -> Result<IpNet, TargetError> {
    let (address, length) = split_prefix(text, column, 32)?;
    let Ok(address) = address.parse::<Ipv4Addr>() else {
        let expected = "an IPv4 address of four numbers from 0 to 255 without leading zeros; \
                        this looks like a broken address";
        return Err(TargetError::new(column, expected));
    };
    let net = Ipv4Net::new(address, length).map_err(|_| TargetError::new(column, "a prefix length from 0 to 32"))?;
    no_host_bits(IpNet::V4(net), column)
}

fn v6(text: &str, column: usize) -> Result<IpNet, TargetError> {
    let (address, length) = split_prefix(text, column, 128)?;
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        let expected = if address.contains('%') {
            "an IPv6 address without a zone (`%`)"
        } else {
            "an IPv6 address; with ports it stands in brackets, as in [2001:db8::1]:443"
        };
        return Err(TargetError::new(column, expected));
    };
    let net = Ipv6Net::new(address, length).map_err(|_| TargetError::new(column, "a prefix length from 0 to 128"))?;
    let net = no_host_bits(IpNet::V6(net), column)?;
    if let (Some(v4), 96..) = (address.to_ipv4_mapped(), length) {
        // Packets to such an address leave as IPv4, so only that form means anything.
        let meant = Ipv4Net::new(v4, length - 96).map_err(|_| TargetError::new(column, "an IPv6 address"))?;
        let expected = format!("the IPv4 form {}", Host(IpNet::V4(meant)));
        return Err(TargetError::new(column, expected));
    }
    Ok(net)
}

/// Splits `address/length`; without a slash the length is that of one address.
fn split_prefix(text: &str, column: usize, width: u8) -> Result<(&str, u8), TargetError> {
    let Some((address, digits)) = text.split_once('/') else {
        return Ok((text, width));
    };
    // u8::from_str would take `+8` and `008` as well.
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    match digits.parse::<u8>() {
        Ok(length) if plain && length <= width => Ok((address, length)),
        _ => {
            let hint = if digits.starts_with("tcp") || digits.starts_with("udp") {
                "; a protocol stands after ports, as in :443/tcp"
            } else {
                ""
            };
            let expected = format!("a prefix length from 0 to {width}{hint}");
            Err(TargetError::new(column + address.chars().count() + 1, expected))
        }
    }
}

fn no_host_bits(net: IpNet, column: usize) -> Result<IpNet, TargetError> {
    if net.addr() == net.network() {
        return Ok(net);
    }
    let expected = format!(
        "a network without host bits: {} was probably meant, or the address {} alone",
        net.trunc(),
        net.addr()
    );
    Err(TargetError::new(column, expected))
}

/// `80,443`, `8000-8100`, then perhaps `/tcp` or `/udp`.
fn parse_ports(text: &str, column: usize) -> Result<Ports, TargetError> {
    let (list, protocol) = match text.split_once('/') {
        None => (text, None),
        Some((list, "tcp")) => (list, Some(Protocol::Tcp)),
        Some((list, "udp")) => (list, Some(Protocol::Udp)),
        Some((list, _)) => {
            let column = column + list.chars().count() + 1;
            return Err(TargetError::new(column, "`tcp` or `udp`"));
        }
    };
    let mut ranges = Vec::new();
    let mut at = column;
    for item in list.split(',') {
        ranges.push(port_range(item, at)?);
        at += item.chars().count() + 1;
    }
    Ports::only(ranges, protocol).ok_or_else(|| TargetError::new(column, "a port from 1 to 65535"))
}

/// `443` or `8000-8100`.
fn port_range(text: &str, column: usize) -> Result<PortRange, TargetError> {
    let Some((low, high)) = text.split_once('-') else {
        let only = port(text, column)?;
        return Ok(PortRange {
            first: only,
            last: only,
        });
    };
    let first = port(low, column)?;
    let column = column + low.chars().count() + 1;
    let last = port(high, column)?;
    if last < first {
        let expected = format!("a port not below {first} at the end of the range");
        return Err(TargetError::new(column, expected));
    }
    Ok(PortRange { first, last })
}

impl FromStr for PortRange {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        port_range(text, 1)
    }
}

text_value!(
    PortRange,
    "PortRange",
    "A port, or an inclusive range of ports, 1 to 65535.",
    ["443", "8000-8100"]
);

fn port(text: &str, column: usize) -> Result<u16, TargetError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    match text.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(TargetError::new(column, "a port from 1 to 65535")),
    }
}

/// Prints a network, and a single address without its prefix length.
struct Host(IpNet);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => write!(f, "{pattern}"),
            Self::Network(net) => write!(f, "{}", Host(*net)),
        }
    }
}

/// The list alone, without a leading colon; nothing for [`Ports::All`].
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Only { ranges, protocol } = self else {
            return Ok(());
        };
        for (index, range) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.destination, &self.ports) {
            (destination, Ports::All) => write!(f, "{destination}"),
            (Destination::Network(IpNet::V6(_)), ports) => {
                write!(f, "[{}]:{ports}", self.destination)
            }
            (destination, ports) => write!(f, "{destination}:{ports}"),
        }
    }
}

text_value!(
    Target,
    "Target",
    "A name pattern, address or network with optional ports and protocol.",
    [
        "example.com",
        "=example.com:443/tcp",
        "203.0.113.0/24:80,443",
        "[2001:db8::1]:8000-8100"
    ]
);

#[cfg(test)]
mod tests;
