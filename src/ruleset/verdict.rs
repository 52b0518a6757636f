//! What the table does with a packet, told from the contents of its sets: the decision list of `layout`, without a kernel.
//! Tests in `tests/kernel` hold it to what the kernel does.

use std::fmt;
use std::net::IpAddr;

use super::contents::{Contents, family_of};
use super::element::Element;
use super::sets::{Class, Family, Kind, SetId};
use crate::policy::{Class as Reach, Mode, Protocol, classify};

/// What happens to a packet from the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It stays in the container.
    Local,
    /// It is for a recorded resolver.
    Resolver,
    /// It is for a listed destination.
    Allowed,
    /// It passes because the shield is down.
    Bypassed,
    /// The operator denied its destination.
    Denied,
    /// Its destination is private or reserved.
    Private,
    /// Nothing lists its destination.
    Blocked,
}

impl Verdict {
    /// Whether the packet passes.
    #[must_use]
    pub const fn passes(self) -> bool {
        match self {
            Self::Local | Self::Resolver | Self::Allowed | Self::Bypassed => true,
            Self::Denied | Self::Private | Self::Blocked => false,
        }
    }

    /// The word that stands for it in output; that of the packet log where it has one.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Resolver => "resolver",
            Self::Allowed => "allowed",
            Self::Bypassed => "bypassed",
            Self::Denied => "denied",
            Self::Private => "private",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A verdict and the element that it comes from, if it comes from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Where the destination stands.
    pub by: Option<(SetId, Element)>,
}

impl Decision {
    const fn of(verdict: Verdict) -> Self {
        Self { verdict, by: None }
    }
}

/// Decides about a packet to `destination`; `service` is its protocol and port, nothing for a protocol without ports.
/// `mode` is the one in force.
#[must_use]
pub fn decide(mode: Mode, contents: &Contents, destination: IpAddr, service: Option<(Protocol, u16)>) -> Decision {
    // Packets to a v4-mapped address leave as IPv4.
    let destination = destination.to_canonical();
    if destination.is_loopback() {
        return Decision::of(Verdict::Local);
    }
    if mode == Mode::Block {
        return Decision::of(Verdict::Blocked);
    }
    let (family, number) = family_of(destination);
    let found = |verdict, (set, element)| Decision {
        verdict,
        by: Some((set, element)),
    };
    if service.is_some_and(|(_, port)| port == 53)
        && let Some(by) = lookup(contents, SetId::Upstream(family), number, None)
    {
        return found(Verdict::Resolver, by);
    }
    if let Some(by) = listed(contents, Class::Deny, family, number, service) {
        return found(Verdict::Denied, by);
    }
    for class in Class::ALLOWING {
        if let Some(by) = listed(contents, class, family, number, service) {
            return found(Verdict::Allowed, by);
        }
    }
    Decision::of(match (classify(destination), mode) {
        (Reach::Floor, _) => Verdict::Private,
        (Reach::Private, Mode::DownAll) | (Reach::Public, Mode::Down | Mode::DownAll) => Verdict::Bypassed,
        (Reach::Private, _) => Verdict::Private,
        (Reach::Public, _) => Verdict::Blocked,
    })
}

fn listed(
    contents: &Contents,
    class: Class,
    family: Family,
    number: u128,
    service: Option<(Protocol, u16)>,
) -> Option<(SetId, Element)> {
    Kind::ALL
        .into_iter()
        .filter(|kind| service.is_some() || !kind.has_ports())
        .find_map(|kind| lookup(contents, SetId::Destinations(class, kind, family), number, service))
}

fn lookup(contents: &Contents, set: SetId, number: u128, service: Option<(Protocol, u16)>) -> Option<(SetId, Element)> {
    let elements = contents.sets.get(&set)?;
    let holds = |element: &&Element| {
        element
            .addresses
            .is_some_and(|span| (span.first..=span.last).contains(&number))
            && element.service.is_none_or(|(protocol, range)| {
                service.is_some_and(|(own, port)| own == protocol && (range.first..=range.last).contains(&port))
            })
    };
    let found = match set {
        // Spans that overlap stand here side by side.
        SetId::Destinations(_, Kind::Ranges, _) => elements.iter().find(holds),
        _ => {
            let after = elements.partition_point(|element| element.addresses.is_some_and(|span| span.first <= number));
            elements[..after]
                .iter()
                .rev()
                .take_while(|element| element.addresses.is_some_and(|span| span.last >= number))
                .find(holds)
        }
    };
    found.map(|element| (set, *element))
}
