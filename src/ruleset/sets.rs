//! The sets of the table: what each is called, what it holds, how it is declared.

use std::fmt;
use std::str::FromStr;

use nftables::schema::{Set, SetFlag, SetType, SetTypeValue};
use nftables::types::NfFamily;
use serde_json::Value;

use super::TABLE;

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they stand in the table.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `v4` or `v6`, as in the names of chains and sets.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// Its name in nftables' own words.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The highest address as a number: every address of the family fits.
    #[must_use]
    pub const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }
}

/// Why an address is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The operator denied it. Judged before everything else.
    Deny,
    /// An address or network of a profile.
    Static,
    /// The operator allowed it at run time. Apart from `Static`, so that one grant costs the same beside a large list.
    Grant,
    /// A listed name resolved to it.
    Learned,
}

impl Class {
    const ALL: [Self; 4] = [Self::Deny, Self::Static, Self::Grant, Self::Learned];
    /// The classes that let a packet pass, in the order in which they are asked.
    pub const ALLOWING: [Self; 3] = [Self::Static, Self::Grant, Self::Learned];

    const fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Static => "static",
            Self::Grant => "grant",
            Self::Learned => "learned",
        }
    }
}

/// What an element looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Single addresses, every port. A hash.
    Hosts,
    /// Networks and ranges, every port. Intervals.
    Nets,
    /// `address . protocol . port`. A hash.
    Ports,
    /// The same with a network, range of addresses or range of ports in it. Intervals of a concatenation.
    Ranges,
}

impl Kind {
    /// All of them, in the order in which they are asked: the cheap ones first.
    pub const ALL: [Self; 4] = [Self::Hosts, Self::Ports, Self::Nets, Self::Ranges];

    const fn word(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Nets => "nets",
            Self::Ports => "ports",
            Self::Ranges => "ranges",
        }
    }

    /// Whether elements are `address . protocol . port`.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Ports | Self::Ranges)
    }

    const fn has_intervals(self) -> bool {
        matches!(self, Self::Nets | Self::Ranges)
    }
}

/// Why an address needs an entry of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reserved {
    /// The floor.
    Floor,
    /// Private ranges.
    Private,
}

impl Reserved {
    /// Both, in the order in which they are asked.
    pub const ALL: [Self; 2] = [Self::Floor, Self::Private];

    const fn word(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Private => "private",
        }
    }
}

/// A set of the table. The order is the order of loading: what closes comes before what opens, so that a list that is
/// loaded in pieces is closed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetId {
    /// What no name and no wide network opens. These sets are in every table and never change: a rule may not bring such a
    /// list along as a set of its own, since for a moment of its replacement that would hold nothing.
    Reserved(Reserved, Family),
    /// Destinations of one class, kind and family.
    Destinations(Class, Kind, Family),
    /// Resolvers that the container may ask, port 53.
    Upstream(Family),
    /// `protocol . port` of the container that the operator published.
    Published,
    /// The families for which a mode that ends by itself has not ended yet.
    Window,
}

impl SetId {
    /// The family of its addresses; `None` where it holds none.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self {
            Self::Reserved(_, family) | Self::Destinations(_, _, family) | Self::Upstream(family) => Some(family),
            Self::Published | Self::Window => None,
        }
    }

    /// Its declaration as JSON, without elements: for the one set whose type the crate `nftables` does not know, and to
    /// compare with what is listed.
    #[must_use]
    pub fn declared(self) -> Value {
        let mut value = serde_json::to_value(self.declaration()).unwrap_or_default();
        if self == Self::Window {
            value["type"] = Value::from("nf_proto");
        }
        value
    }

    /// Its declaration, without elements. Declaring it a second time must give the same words: a different
    /// declaration of a set that exists is an error.
    pub(super) fn declaration(self) -> Set<'static> {
        let address = match self.family() {
            Some(Family::V6) => SetType::Ipv6Addr,
            _ => SetType::Ipv4Addr,
        };
        let (set_type, interval, timeout) = match self {
            Self::Destinations(class, kind, _) => (
                if kind.has_ports() {
                    SetTypeValue::Concatenated(vec![address, SetType::InetProto, SetType::InetService].into())
                } else {
                    SetTypeValue::Single(address)
                },
                kind.has_intervals(),
                // A set-wide default would end static elements too: the flag alone, and no default.
                matches!(class, Class::Grant | Class::Learned),
            ),
            Self::Reserved(..) => (SetTypeValue::Single(address), true, false),
            Self::Upstream(_) => (SetTypeValue::Single(address), false, false),
            Self::Published => (
                SetTypeValue::Concatenated(vec![SetType::InetProto, SetType::InetService].into()),
                true,
                false,
            ),
            // `declared` puts the type in its place.
            Self::Window => (SetTypeValue::Single(SetType::InetProto), false, true),
        };
        let flags = [(interval, SetFlag::Interval), (timeout, SetFlag::Timeout)]
            .into_iter()
            .filter_map(|(wanted, flag)| wanted.then_some(flag))
            .collect::<std::collections::HashSet<_>>();
        Set {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: self.to_string().into(),
            set_type,
            flags: (!flags.is_empty()).then_some(flags),
            ..Set::default()
        }
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destinations(class, kind, family) => {
                write!(f, "{}_{}_{}", class.word(), kind.word(), family.word())
            }
            Self::Reserved(kind, family) => write!(f, "{}_{}", kind.word(), family.word()),
            Self::Upstream(family) => write!(f, "upstream_{}", family.word()),
            Self::Published => f.write_str("published"),
            Self::Window => f.write_str("window"),
        }
    }
}

impl FromStr for SetId {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let family = |word| Family::ALL.into_iter().find(|family| family.word() == word).ok_or(());
        let mut words = name.split('_');
        let parsed = match (words.next(), words.next(), words.next()) {
            (Some("published"), None, None) => Self::Published,
            (Some("window"), None, None) => Self::Window,
            (Some("upstream"), Some(word), None) => Self::Upstream(family(word)?),
            (Some(kind), Some(word), None) => Self::Reserved(
                Reserved::ALL.into_iter().find(|r| r.word() == kind).ok_or(())?,
                family(word)?,
            ),
            (Some(class), Some(kind), Some(word)) => Self::Destinations(
                Class::ALL.into_iter().find(|c| c.word() == class).ok_or(())?,
                Kind::ALL.into_iter().find(|k| k.word() == kind).ok_or(())?,
                family(word)?,
            ),
            _ => return Err(()),
        };
        if words.next().is_some() { Err(()) } else { Ok(parsed) }
    }
}
