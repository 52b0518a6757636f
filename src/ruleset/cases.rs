//! A destination taken apart: which of its addresses and ports the table treats alike.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::contents::{Contents, span_of, special};
use super::element::Span;
use super::sets::{Family, SetId};
use super::verdict::{Decision, Verdict, decide};
use crate::policy::{Mode, PortRange, Ports, Protocol};

/// Addresses and ports that are treated alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    family: Family,
    span: Span,
    /// Protocol and ports; nothing for what has none, and for everything at once.
    pub service: Option<(Protocol, PortRange)>,
    /// Whether it is about every port and protocol.
    whole: bool,
    /// What happens.
    pub decision: Decision,
}

impl Case {
    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        address(self.family, self.span.first)
    }

    /// Its addresses in words.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.span.text(self.family)
    }

    /// Its ports in words.
    #[must_use]
    pub fn ports(&self) -> String {
        match self.service {
            Some((protocol, range)) => format!("{range}/{protocol}"),
            None if self.whole => "all".to_owned(),
            None => "without ports".to_owned(),
        }
    }

    /// The rule that decides, in words.
    #[must_use]
    pub fn rule(&self) -> String {
        let chain = format!("out_{}", self.family.word());
        if let Some((set, element)) = &self.decision.by {
            return format!("{chain}: {} in set {set}", element.text(self.family));
        }
        match self.decision.verdict {
            Verdict::Local => "output: an own address".to_owned(),
            Verdict::Private => format!("{chain}: floor and private ranges"),
            _ => format!("{chain}: the end of the list"),
        }
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

/// What happens to each part of a network, on some ports, sorted by address.
#[must_use]
pub fn cases(mode: Mode, contents: &Contents, net: IpNet, ports: &Ports) -> Vec<Case> {
    let (family, span) = span_of(net);
    let mut merged: Vec<(Span, Vec<Case>)> = Vec::new();
    for piece in pieces(contents, family, span) {
        let own = services(mode, contents, family, piece, ports);
        let alike = |one: &[Case], other: &[Case]| {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    (one.service, one.decision.verdict, one.decision.by)
                        == (other.service, other.decision.verdict, other.decision.by)
                })
        };
        match merged.last_mut() {
            Some((before, same)) if alike(same, &own) => before.last = piece.last,
            _ => merged.push((piece, own)),
        }
    }
    merged
        .into_iter()
        .flat_map(|(span, cases)| cases.into_iter().map(move |case| Case { span, ..case }))
        .collect()
}

/// The network, cut wherever something begins or ends that the table knows.
fn pieces(contents: &Contents, family: Family, span: Span) -> Vec<Span> {
    let known = contents
        .sets
        .iter()
        .filter(|(set, _)| set.family() == Some(family))
        .flat_map(|(_, elements)| elements.iter().filter_map(|element| element.addresses));
    let special = [special(family, false), special(family, true)].concat();
    let mut cuts = BTreeSet::from([span.first]);
    for other in known.chain(special) {
        for cut in [Some(other.first), other.last.checked_add(1)].into_iter().flatten() {
            if cut > span.first && cut <= span.last {
                cuts.insert(cut);
            }
        }
    }
    let starts: Vec<u128> = cuts.into_iter().collect();
    starts
        .iter()
        .enumerate()
        .map(|(index, first)| Span {
            first: *first,
            last: starts.get(index + 1).map_or(span.last, |next| next - 1),
        })
        .collect()
}

fn services(mode: Mode, contents: &Contents, family: Family, piece: Span, ports: &Ports) -> Vec<Case> {
    let to = address(family, piece.first);
    let case = |service: Option<(Protocol, PortRange)>| Case {
        family,
        span: piece,
        service,
        whole: false,
        decision: decide(
            mode,
            contents,
            to,
            service.map(|(protocol, range)| (protocol, range.first)),
        ),
    };
    let everything = [PortRange { first: 1, last: 65535 }];
    let mut cases = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let ranges: &[PortRange] = match ports {
            Ports::All => &everything,
            Ports::Only { ranges, protocol: only } if only.is_none_or(|only| only == protocol) => ranges,
            Ports::Only { .. } => &[],
        };
        let cuts = port_cuts(contents, family, piece, protocol);
        for range in ranges {
            let mut own: Vec<Case> = Vec::new();
            for part in cut_ports(*range, &cuts) {
                let next = case(Some((protocol, part)));
                match own.last_mut() {
                    Some(Case {
                        service: Some((_, before)),
                        decision,
                        ..
                    }) if *decision == next.decision => before.last = part.last,
                    _ => own.push(next),
                }
            }
            cases.extend(own);
        }
    }
    if *ports == Ports::All {
        let rest = case(None);
        if cases.len() == 2 && cases.iter().all(|other| other.decision == rest.decision) {
            return vec![Case { whole: true, ..rest }];
        }
        cases.push(rest);
    }
    cases
}

fn port_cuts(contents: &Contents, family: Family, piece: Span, protocol: Protocol) -> BTreeSet<u16> {
    let mut cuts = BTreeSet::new();
    let mut add = |range: PortRange| {
        cuts.insert(range.first);
        cuts.extend(range.last.checked_add(1));
    };
    for (set, elements) in contents.sets.iter().filter(|(set, _)| set.family() == Some(family)) {
        for element in elements {
            let here = element
                .addresses
                .is_some_and(|span| span.first <= piece.first && piece.first <= span.last);
            match element.service {
                Some((own, range)) if here && own == protocol => add(range),
                None if here && matches!(set, SetId::Upstream(_)) => add(PortRange { first: 53, last: 53 }),
                _ => {}
            }
        }
    }
    cuts
}

fn cut_ports(range: PortRange, cuts: &BTreeSet<u16>) -> Vec<PortRange> {
    let mut starts = vec![range.first];
    starts.extend(
        cuts.iter()
            .copied()
            .filter(|cut| *cut > range.first && *cut <= range.last),
    );
    starts
        .iter()
        .enumerate()
        .map(|(index, first)| PortRange {
            first: *first,
            last: starts.get(index + 1).map_or(range.last, |next| next - 1),
        })
        .collect()
}
