//! One element of a set, as numbers: comparable whatever way libnftables spells it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use nftables::expr::{Elem, Expression, NamedExpression, Range};
use serde_json::Value;

use super::sets::Family;
use super::words::{Expr, concat, prefix, text};
use crate::policy::{PortRange, Protocol};

/// Addresses `first` to `last`, as numbers; an IPv4 address is its 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The lowest.
    pub first: u128,
    /// The highest, not below `first`.
    pub last: u128,
}

impl Span {
    /// A single address.
    #[must_use]
    pub const fn one(address: u128) -> Self {
        Self {
            first: address,
            last: address,
        }
    }

    /// Whether it is a single address.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Bits of the host part if it is exactly a network.
    fn host_bits(self) -> Option<u32> {
        let size = self.last - self.first;
        (size & size.wrapping_add(1) == 0 && self.first & size == 0).then(|| 128 - size.leading_zeros())
    }
}

/// One element.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The address family, in the set that holds families.
    pub family: Option<Family>,
    /// The addresses, in a set that holds any.
    pub addresses: Option<Span>,
    /// Protocol and ports, in a set that holds any.
    pub service: Option<(Protocol, PortRange)>,
    /// Seconds after which the kernel takes it out; it stays without.
    pub life: Option<u32>,
}

fn address_text(family: Family, address: u128) -> String {
    match family {
        // A number above 32 bits would be a mistake in this room; the cut keeps the type total.
        Family::V4 => Ipv4Addr::from_bits(address as u32).to_string(),
        Family::V6 => Ipv6Addr::from_bits(address).to_string(),
    }
}

/// Bits of an address.
const fn width(family: Family) -> u32 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn range(first: Expr, last: Expr) -> Expr {
    Expression::Range(Box::new(Range { range: [first, last] }))
}

pub(super) fn span_expr(family: Family, span: Span) -> Expr {
    if span.is_one() {
        return text(address_text(family, span.first));
    }
    match span.host_bits() {
        Some(bits) => prefix(address_text(family, span.first), width(family) - bits),
        None => range(
            text(address_text(family, span.first)),
            text(address_text(family, span.last)),
        ),
    }
}

impl Element {
    /// The same for good.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { life: None, ..self }
    }

    /// As libnftables takes it.
    pub(super) fn expr(&self, family: Option<Family>) -> Expr {
        let key = self.key(family);
        match self.life {
            None => key,
            Some(seconds) => Expression::Named(NamedExpression::Elem(Elem {
                val: Box::new(key),
                timeout: Some(seconds),
                ..Elem::default()
            })),
        }
    }

    fn key(&self, family: Option<Family>) -> Expr {
        if let Some(family) = self.family {
            return text(family.protocol());
        }
        let mut parts = Vec::with_capacity(3);
        if let Some(span) = self.addresses {
            parts.push(span_expr(family.unwrap_or(Family::V4), span));
        }
        if let Some((protocol, ports)) = self.service {
            parts.push(text(match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            }));
            parts.push(if ports.first == ports.last {
                Expression::Number(u32::from(ports.first))
            } else {
                range(
                    Expression::Number(u32::from(ports.first)),
                    Expression::Number(u32::from(ports.last)),
                )
            });
        }
        if parts.len() == 1 {
            parts.remove(0)
        } else {
            concat(parts)
        }
    }

    /// Reads an element of a listing, whatever form libnftables chose.
    pub(super) fn read(value: &Value) -> Option<Self> {
        // With a timeout, counter or comment the key is wrapped.
        if let Some(inner) = value.get("elem") {
            let life = match (inner.get("expires"), inner.get("timeout")) {
                (None, None) => None,
                (Some(left), _) | (None, Some(left)) => Some(u32::try_from(left.as_u64()?).ok()?),
            };
            return Some(Self {
                life,
                ..Self::read(inner.get("val")?)?
            });
        }
        let Some(parts) = value.get("concat").and_then(Value::as_array) else {
            let family = Family::ALL
                .into_iter()
                .find(|family| value.as_str() == Some(family.protocol()));
            return Some(Self {
                family,
                addresses: match family {
                    Some(_) => None,
                    None => Some(read_span(value)?),
                },
                ..Self::default()
            });
        };
        let (address, protocol, port) = match parts.as_slice() {
            [address, protocol, port] => (Some(read_span(address)?), protocol, port),
            [protocol, port] => (None, protocol, port),
            _ => return None,
        };
        Some(Self {
            addresses: address,
            service: Some((read_protocol(protocol)?, read_ports(port)?)),
            ..Self::default()
        })
    }
}

fn read_address(value: &Value) -> Option<(u128, u32)> {
    let address: std::net::IpAddr = value.as_str()?.parse().ok()?;
    Some(match address {
        std::net::IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        std::net::IpAddr::V6(v6) => (v6.to_bits(), 128),
    })
}

fn read_span(value: &Value) -> Option<Span> {
    if let Some(prefix) = value.get("prefix") {
        let (first, width) = read_address(prefix.get("addr")?)?;
        let len = u32::try_from(prefix.get("len")?.as_u64()?).ok()?;
        let host = width.checked_sub(len)?;
        let mask = 1u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1);
        return Some(Span {
            first,
            last: first | mask,
        });
    }
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        let [first, last] = ends.as_slice() else { return None };
        return Some(Span {
            first: read_address(first)?.0,
            last: read_address(last)?.0,
        });
    }
    Some(Span::one(read_address(value)?.0))
}

fn read_protocol(value: &Value) -> Option<Protocol> {
    match (value.as_str(), value.as_u64()) {
        (Some("tcp"), _) | (_, Some(6)) => Some(Protocol::Tcp),
        (Some("udp"), _) | (_, Some(17)) => Some(Protocol::Udp),
        _ => None,
    }
}

fn read_ports(value: &Value) -> Option<PortRange> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    // A range of ports that is a power of two comes back as a prefix of a number in some versions.
    if let Some(prefix) = value.get("prefix") {
        let first = port(prefix.get("addr")?)?;
        let host = 16u32.checked_sub(u32::try_from(prefix.get("len")?.as_u64()?).ok()?)?;
        let mask = u16::try_from((1u32 << host) - 1).ok()?;
        return Some(PortRange {
            first,
            last: first | mask,
        });
    }
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        let [first, last] = ends.as_slice() else { return None };
        return Some(PortRange {
            first: port(first)?,
            last: port(last)?,
        });
    }
    let port = port(value)?;
    Some(PortRange {
        first: port,
        last: port,
    })
}

impl Span {
    /// An address, a network, or `first-last`.
    pub(super) fn text(self, family: Family) -> String {
        let first = address_text(family, self.first);
        match self.host_bits() {
            Some(0) => first,
            Some(bits) => format!("{first}/{}", width(family) - bits),
            None => format!("{first}-{}", address_text(family, self.last)),
        }
    }
}

impl Element {
    /// In words, where the family of its addresses is known.
    pub(super) fn text(&self, family: Family) -> String {
        let mut text = self
            .family
            .map_or_else(String::new, |family| family.protocol().to_owned());
        if let Some(span) = self.addresses {
            text.push_str(&span.text(family));
        }
        if let Some((protocol, ports)) = self.service {
            text.push_str(&format!(":{ports}/{protocol}"));
        }
        text
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only for messages: the family of a low number is a guess, as nobody lists ::/96.
        let low = self.addresses.is_some_and(|span| span.last <= Family::V4.last());
        f.write_str(&self.text(if low { Family::V4 } else { Family::V6 }))
    }
}
