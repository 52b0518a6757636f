//! `--publish`: which ports of the container are meant. The host's side is checked for its form and forgotten, since the firewall
//! stands in the container's namespace.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::policy::{self, PortRange, Protocol};

/// Transport of a published port. Podman knows sctp too; the firewall does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortProtocol {
    /// TCP, podman's default.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the container, or a run of them: `8080/tcp`, `8000-8010/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPort {
    first: u16,
    last: u16,
    protocol: PortProtocol,
}

/// What is wrong with a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPort {
    /// Not a list as Go's CSV reader takes it.
    #[error("quotes do not match; write [[ip:][hostPort]:]containerPort[/tcp|/udp]")]
    Quotes,
    /// Too many or too few parts.
    #[error("not of the form [[ip:][hostPort]:]containerPort[/tcp|/udp], an IPv6 address in brackets")]
    Form,
    /// The address part.
    #[error("not an IP address before the host's port; an IPv6 address stands in brackets")]
    Address,
    /// Not 1 to 65535, or a range that runs backwards.
    #[error("ports are numbers from 1 to 65535, a range is first-last")]
    Port,
    /// Host and container ranges differ in length.
    #[error("the host's range and the container's range differ in length")]
    Lengths,
    /// Not tcp or udp.
    #[error("protocols are tcp and udp")]
    Protocol,
}

impl PublishedPort {
    /// A run of ports, both ends included.
    ///
    /// # Errors
    /// Port 0, or `last` below `first`.
    pub fn new(first: u16, last: u16, protocol: PortProtocol) -> Result<Self, BadPort> {
        if first == 0 || last < first {
            return Err(BadPort::Port);
        }
        Ok(Self { first, last, protocol })
    }

    /// First port, 1 to 65535.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    /// Last port, not below [`Self::first`].
    #[must_use]
    pub fn last(&self) -> u16 {
        self.last
    }

    /// Transport.
    #[must_use]
    pub fn protocol(&self) -> PortProtocol {
        self.protocol
    }

    /// One item of podman's `--publish`: one port or range for each protocol named (`53/tcp,udp` is podman's way for both).
    ///
    /// # Errors
    /// Whatever podman would refuse too, and sctp.
    pub fn parse_flag(item: &str) -> Result<Vec<Self>, BadPort> {
        let (ports, protocols) = match item.split_once('/') {
            Some((ports, protocols)) => (ports, protocols),
            None => (item, "tcp"),
        };
        let (host, container) = match ports.strip_prefix('[') {
            Some(bracketed) => {
                let (address, rest) = bracketed.split_once("]:").ok_or(BadPort::Form)?;
                address.parse::<Ipv6Addr>().map_err(|_| BadPort::Address)?;
                rest.split_once(':')
                    .map(|(host, container)| (Some(host), container))
                    .ok_or(BadPort::Form)?
            }
            None => match ports.split(':').collect::<Vec<_>>()[..] {
                [container] => (None, container),
                [host, container] => (Some(host), container),
                [address, host, container] => {
                    address.parse::<Ipv4Addr>().map_err(|_| BadPort::Address)?;
                    (Some(host), container)
                }
                _ => return Err(BadPort::Form),
            },
        };
        let (first, last) = range(container)?;
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            let (host_first, host_last) = range(host)?;
            // one container port with a range of the host's means "any of these"
            if first != last && host_last - host_first != last - first {
                return Err(BadPort::Lengths);
            }
        }
        protocols
            .split(',')
            .map(|name| Self::new(first, last, name.parse()?))
            .collect()
    }

    /// The value of `terok.shield.publish`: [`fmt::Display`] forms, separated by colons.
    ///
    /// # Errors
    /// The first item that is not `port[-port][/protocol]`.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, BadPort> {
        list.split(':')
            .filter(|item| !item.is_empty())
            .map(str::parse)
            .collect()
    }
}

impl From<PublishedPort> for policy::PublishedPort {
    fn from(port: PublishedPort) -> Self {
        Self {
            ports: PortRange {
                first: port.first,
                last: port.last,
            },
            protocol: match port.protocol {
                PortProtocol::Tcp => Protocol::Tcp,
                PortProtocol::Udp => Protocol::Udp,
            },
        }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}/{}", self.first, self.protocol)
        } else {
            write!(f, "{}-{}/{}", self.first, self.last, self.protocol)
        }
    }
}

impl FromStr for PublishedPort {
    type Err = BadPort;

    fn from_str(text: &str) -> Result<Self, BadPort> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range(ports)?;
        Self::new(first, last, protocol.parse()?)
    }
}

impl FromStr for PortProtocol {
    type Err = BadPort;

    fn from_str(text: &str) -> Result<Self, BadPort> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(BadPort::Protocol),
        }
    }
}

fn range(text: &str) -> Result<(u16, u16), BadPort> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        Err(BadPort::Port)
    } else {
        Ok((first, last))
    }
}

fn port(text: &str) -> Result<u16, BadPort> {
    // u16's own parser takes a leading plus sign
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadPort::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(BadPort::Port)
}
