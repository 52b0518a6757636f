//! From a policy and the addresses of its names to what stands in which set.
//!
//! The order of decisions (denied, floor, listed, private, the rest) is kept by taking the floor and private ranges *out
//! of* wide entries here: what remains in the allowing sets may pass wherever it stands, so the kernel asks them once.
//! Only an explicit entry, one that lies wholly inside such a range, keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::element::{Element, Span};
use super::sets::{Class, Family, Kind, Reserved, SetId};
use crate::policy::{
    Action, Addresses, Class as Reach, Destination, NamePattern, Policy, PortRange, Ports, Protocol, Ranges, Target,
    classify, embedded_v6_forms, explicit_class, floor_v4, floor_v6, private_v4, private_v6, resolvable,
};

/// What stands in every set that is needed. Elements are sorted; those of interval sets neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// By set. A set without elements is not needed.
    pub sets: BTreeMap<SetId, Vec<Element>>,
    /// What the operator should know about it.
    pub notes: BTreeSet<Note>,
}

impl Contents {
    /// The resolvers among them.
    #[must_use]
    pub fn upstreams(&self) -> Vec<IpAddr> {
        let of = |family| self.sets.get(&SetId::Upstream(family)).into_iter().flatten();
        let number = |element: &Element| element.addresses.map(|span| span.first);
        let v4 = of(Family::V4)
            .filter_map(number)
            .filter_map(|number| Some(IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).ok()?))));
        let v6 = of(Family::V6)
            .filter_map(number)
            .map(|number| IpAddr::V6(Ipv6Addr::from_bits(number)));
        v4.chain(v6).collect()
    }
}

/// Something about a policy that is allowed and worth a line in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// An explicit entry opens part of the floor or a private range.
    OpensSpecial(Target),
    /// A public network shorter than /16 (IPv4) or /32 (IPv6).
    Wide(Target),
    /// A pattern that has no address of its own and so opens nothing ahead of time.
    OnlyBelow(Target),
    /// Addresses that a name resolved to and that no name may open.
    Rebinding(String, Vec<IpAddr>),
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OpensSpecial(target) => write!(f, "{target} opens a private or reserved destination"),
            Self::Wide(target) => write!(f, "{target} opens a wide public network"),
            Self::OnlyBelow(target) => write!(
                f,
                "{target} covers only names below it, which cannot be looked up ahead of time: it opens nothing"
            ),
            Self::Rebinding(name, addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{name} resolves to private or reserved addresses, which stay closed: {}",
                    list.join(" ")
                )
            }
        }
    }
}

pub(super) fn family_of(address: IpAddr) -> (Family, u128) {
    match address {
        IpAddr::V4(v4) => (Family::V4, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (Family::V6, v6.to_bits()),
    }
}

pub(super) fn span_of(net: IpNet) -> (Family, Span) {
    let (family, first) = family_of(net.network());
    let (_, last) = family_of(net.broadcast());
    (family, Span { first, last })
}

/// Spans as a set, and back. Both families as 128-bit numbers.
fn ranges(spans: impl IntoIterator<Item = Span>) -> Ranges<u128> {
    Ranges::from_pairs(
        spans
            .into_iter()
            .map(|span| (Ipv6Addr::from_bits(span.first), Ipv6Addr::from_bits(span.last))),
    )
}

fn spans(ranges: &Ranges<u128>) -> impl Iterator<Item = Span> + '_ {
    ranges.pairs().map(|(first, last)| Span {
        first: first.to_bits(),
        last: last.to_bits(),
    })
}

/// The floor, with or without the private ranges, as disjoint spans.
pub(super) fn special(family: Family, private_too: bool) -> Vec<Span> {
    let mut all = reserved(Reserved::Floor, family);
    if private_too {
        all.extend(reserved(Reserved::Private, family));
    }
    spans(&ranges(all)).collect()
}

fn reserved(kind: Reserved, family: Family) -> Vec<Span> {
    let v4 = |nets: Vec<Ipv4Net>| nets.into_iter().map(IpNet::V4).collect::<Vec<_>>();
    let v6 = |nets: Vec<Ipv6Net>| nets.into_iter().map(IpNet::V6).collect::<Vec<_>>();
    let nets = match (kind, family) {
        (Reserved::Floor, Family::V4) => v4(floor_v4()),
        (Reserved::Floor, Family::V6) => v6(floor_v6()),
        (Reserved::Private, Family::V4) => v4(private_v4()),
        (Reserved::Private, Family::V6) => v6(private_v6()),
    };
    spans(&ranges(nets.into_iter().map(|net| span_of(net).1))).collect()
}

/// What of a listed network may pass: all of it if it is explicit, else without floor and private ranges. A private
/// network does not open the floor's addresses inside it.
fn reachable(net: IpNet) -> (Family, Vec<Span>) {
    let (family, span) = span_of(net);
    if span.is_one() {
        return (family, vec![span]);
    }
    let taken = match explicit_class(net) {
        Some(Reach::Floor) => return (family, vec![span]),
        Some(_) => special(family, false),
        None => special(family, true),
    };
    (family, spans(&ranges([span]).subtract(&ranges(taken))).collect())
}

fn protocols(only: Option<Protocol>) -> impl Iterator<Item = Protocol> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .filter(move |protocol| only.is_none_or(|only| only == *protocol))
}

/// Seconds that an entry has left, ordered so that the longest is the greatest.
type Life = u32;

/// Addresses with ports.
type Rectangle = (Span, PortRange, Life);

/// Of an entry that does not end.
const FOR_GOOD: Life = u32::MAX;

fn left(life: Life) -> Option<u32> {
    (life != FOR_GOOD).then_some(life)
}

/// Collects what each set should hold, before it is put into normal form. Where entries meet, the one that lasts longest counts.
#[derive(Default)]
struct Collector {
    whole: BTreeMap<(Class, Family), Vec<(Span, Life)>>,
    scoped: BTreeMap<(Class, Family, Protocol), Vec<Rectangle>>,
}

impl Collector {
    fn add(&mut self, class: Class, family: Family, span: Span, ports: &Ports, life: Option<u32>) {
        let life = life.unwrap_or(FOR_GOOD);
        match ports {
            Ports::All => self.whole.entry((class, family)).or_default().push((span, life)),
            Ports::Only { ranges, protocol: only } => {
                for protocol in protocols(*only) {
                    let list = self.scoped.entry((class, family, protocol)).or_default();
                    list.extend(ranges.iter().map(|range| (span, *range, life)));
                }
            }
        }
    }

    fn finish(self) -> BTreeMap<SetId, Vec<Element>> {
        let mut sets: BTreeMap<SetId, Vec<Element>> = BTreeMap::new();
        let mut put = |set, element| sets.entry(set).or_default().push(element);
        for ((class, family), list) in self.whole {
            let (hosts, nets): (Vec<_>, Vec<_>) = list.into_iter().partition(|(span, _)| span.is_one());
            let mut longest: BTreeMap<Span, Life> = BTreeMap::new();
            for (span, life) in hosts {
                let known = longest.entry(span).or_insert(life);
                *known = life.max(*known);
            }
            for (kind, (span, life)) in longest
                .into_iter()
                .map(|item| (Kind::Hosts, item))
                .chain(layers(nets).into_iter().map(|item| (Kind::Nets, item)))
            {
                put(
                    SetId::Destinations(class, kind, family),
                    Element {
                        addresses: Some(span),
                        life: left(life),
                        ..Element::default()
                    },
                );
            }
        }
        for ((class, family, protocol), list) in self.scoped {
            let simple = |item: &Rectangle| item.0.is_one() && item.1.first == item.1.last;
            let (ports, rest): (Vec<_>, Vec<_>) = list.into_iter().partition(simple);
            let mut longest: BTreeMap<(Span, PortRange), Life> = BTreeMap::new();
            for (span, range, life) in ports {
                let known = longest.entry((span, range)).or_insert(life);
                *known = life.max(*known);
            }
            for (kind, (span, range, life)) in longest
                .into_iter()
                .map(|((span, range), life)| (Kind::Ports, (span, range, life)))
                .chain(disjoint(rest).into_iter().map(|item| (Kind::Ranges, item)))
            {
                put(
                    SetId::Destinations(class, kind, family),
                    Element {
                        addresses: Some(span),
                        service: Some((protocol, range)),
                        life: left(life),
                        ..Element::default()
                    },
                );
            }
        }
        sets
    }
}

/// The same numbers as spans that do not overlap: what lasts longer is whole, what ends sooner is what is left of it.
fn layers(list: Vec<(Span, Life)>) -> Vec<(Span, Life)> {
    let mut by_life: BTreeMap<Life, Vec<Span>> = BTreeMap::new();
    for (span, life) in list {
        by_life.entry(life).or_default().push(span);
    }
    let mut covered = Ranges::default();
    let mut result = Vec::new();
    for (life, list) in by_life.into_iter().rev() {
        let own = ranges(list);
        result.extend(spans(&own.subtract(&covered)).map(|span| (span, life)));
        covered = covered.union(&own);
    }
    result
}

fn port_layers(list: Vec<(PortRange, Life)>) -> Vec<(PortRange, Life)> {
    let span = |range: PortRange| Span {
        first: u128::from(range.first),
        last: u128::from(range.last),
    };
    let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
    let list = list.into_iter().map(|(range, life)| (span(range), life)).collect();
    let mut layers: Vec<_> = layers(list)
        .into_iter()
        .map(|(span, life)| {
            let range = PortRange {
                first: port(span.first),
                last: port(span.last),
            };
            (range, life)
        })
        .collect();
    layers.sort_unstable();
    layers
}

/// The same addresses and ports as rectangles that do not overlap, which interval sets refuse: the address axis is cut
/// wherever a rectangle begins or ends.
fn disjoint(mut list: Vec<Rectangle>) -> Vec<Rectangle> {
    list.sort_unstable();
    list.dedup();
    let mut cuts: BTreeSet<u128> = BTreeSet::new();
    for (span, ..) in &list {
        cuts.insert(span.first);
        if let Some(after) = span.last.checked_add(1) {
            cuts.insert(after);
        }
    }
    let cuts: Vec<u128> = cuts.into_iter().collect();
    let mut result: Vec<(Span, Vec<(PortRange, Life)>)> = Vec::new();
    let mut active: Vec<Rectangle> = Vec::new();
    let mut next = 0;
    for (index, &first) in cuts.iter().enumerate() {
        active.retain(|(span, ..)| span.last >= first);
        while let Some(item) = list.get(next).filter(|item| item.0.first <= first) {
            active.push(*item);
            next += 1;
        }
        if active.is_empty() {
            continue;
        }
        let last = cuts.get(index + 1).map_or(u128::MAX, |cut| cut - 1);
        let ports = port_layers(active.iter().map(|(_, range, life)| (*range, *life)).collect());
        match result.last_mut() {
            // Neighbours with the same ports are one rectangle.
            Some((span, same)) if span.last.checked_add(1) == Some(first) && *same == ports => span.last = last,
            _ => result.push((Span { first, last }, ports)),
        }
    }
    result
        .into_iter()
        .flat_map(|(span, ports)| ports.into_iter().map(move |(range, life)| (span, range, life)))
        .collect()
}

/// Whether an explicit entry of the policy covers an address that no name may open by itself.
#[must_use]
pub fn covered_explicitly(policy: &Policy, address: IpAddr) -> bool {
    policy.allowed().any(|target| match target.destination {
        Destination::Network(net) => {
            net.contains(&address)
                && (IpNet::from(address) == net || explicit_class(net).is_some_and(|class| class <= classify(address)))
        }
        Destination::Name(_) => false,
    })
}

/// Whether the operator denied `name`, on every port.
fn denies(pattern: &NamePattern, ports: &Ports, name: &str) -> bool {
    *ports == Ports::All && pattern.matches(name)
}

/// Compiles a policy. `addresses` holds what its names resolve to; a name that is missing there opens nothing.
#[must_use]
pub fn compile(policy: &Policy, addresses: &Addresses) -> Contents {
    let mut collector = Collector::default();
    let mut notes = BTreeSet::new();
    let mut rebinding: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let denied_names: Vec<(&NamePattern, &Ports)> = policy
        .denied()
        .filter_map(|target| match &target.destination {
            Destination::Name(pattern) => Some((pattern, &target.ports)),
            Destination::Network(_) => None,
        })
        .collect();
    let granted = policy.grants.iter().filter(|grant| grant.action == Action::Allow);
    let listed = policy
        .entries
        .iter()
        .map(|entry| (Class::Static, &entry.target, None))
        .chain(granted.map(|grant| (Class::Grant, &grant.target, grant.life)));
    // Addresses that some listed name holds which nobody denied.
    let mut held: BTreeSet<IpAddr> = BTreeSet::new();

    for (class, target, life) in listed {
        match &target.destination {
            Destination::Network(net) => {
                if explicit_class(*net).is_some() {
                    notes.insert(Note::OpensSpecial(target.clone()));
                } else if net.prefix_len() < if net.addr().is_ipv4() { 16 } else { 32 } {
                    notes.insert(Note::Wide(target.clone()));
                }
                let (family, pieces) = reachable(*net);
                for span in pieces {
                    collector.add(class, family, span, &target.ports, life);
                }
            }
            Destination::Name(pattern) => {
                let Some(name) = resolvable(pattern) else {
                    notes.insert(Note::OnlyBelow(target.clone()));
                    continue;
                };
                if denied_names.iter().any(|(denied, ports)| denies(denied, ports, &name)) {
                    continue;
                }
                for &address in addresses.get(&name).into_iter().flatten() {
                    // A name never opens what is not public. Where an explicit entry covers the address, that entry opens
                    // it, on its own ports.
                    if classify(address) != Reach::Public {
                        if !covered_explicitly(policy, address) {
                            rebinding.entry(name.clone()).or_default().insert(address);
                        }
                        continue;
                    }
                    let (family, number) = family_of(address);
                    collector.add(Class::Learned, family, Span::one(number), &target.ports, life);
                    // A grant that ends does not outweigh a denial: nothing would bring that back.
                    if life.is_none() {
                        held.insert(address);
                    }
                }
            }
        }
    }

    notes.extend(
        rebinding
            .into_iter()
            .map(|(name, addresses)| Note::Rebinding(name, addresses.into_iter().collect())),
    );

    for target in policy.denied() {
        match &target.destination {
            Destination::Network(net) => deny(&mut collector, *net, &target.ports),
            Destination::Name(pattern) => {
                let matching = addresses.iter().filter(|(name, _)| pattern.matches(name));
                for &address in matching.flat_map(|(_, list)| list) {
                    // A denial of some ports leaves the name listed for the others: it closes those ports.
                    if target.ports != Ports::All || !held.contains(&address) {
                        deny(&mut collector, IpNet::from(address), &target.ports);
                    }
                }
            }
        }
    }

    let mut sets = collector.finish();
    for kind in Reserved::ALL {
        for family in Family::ALL {
            let elements = reserved(kind, family).into_iter().map(|span| Element {
                addresses: Some(span),
                ..Element::default()
            });
            sets.insert(SetId::Reserved(kind, family), elements.collect());
        }
    }
    for &address in &policy.upstreams {
        let (family, number) = family_of(address);
        sets.entry(SetId::Upstream(family)).or_default().push(Element {
            addresses: Some(Span::one(number)),
            ..Element::default()
        });
    }
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let ports = policy
            .published
            .iter()
            .filter(|port| port.protocol == protocol)
            .map(|port| port.ports)
            .collect();
        if let Some(Ports::Only { ranges, .. }) = Ports::only(ports, None) {
            sets.entry(SetId::Published)
                .or_default()
                .extend(ranges.into_iter().map(|range| Element {
                    service: Some((protocol, range)),
                    ..Element::default()
                }));
        }
    }
    if let Some(life) = policy.mode_life {
        let families = Family::ALL.map(|family| Element {
            family: Some(family),
            life: Some(life),
            ..Element::default()
        });
        sets.insert(SetId::Window, families.to_vec());
    }
    for elements in sets.values_mut() {
        elements.sort_unstable();
        elements.dedup();
    }
    Contents { sets, notes }
}

/// Denies a network, and what reaches it embedded in IPv6.
fn deny(collector: &mut Collector, net: IpNet, ports: &Ports) {
    let (family, span) = span_of(net);
    collector.add(Class::Deny, family, span, ports, None);
    if let IpNet::V4(v4) = net {
        for form in embedded_v6_forms(v4) {
            let (family, span) = span_of(IpNet::V6(form));
            collector.add(Class::Deny, family, span, ports, None);
        }
    }
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
