use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::policy::{Entry, Grant, Origin};

fn entry(target: &str) -> Entry {
    Entry {
        target: target.parse().unwrap(),
        origin: Origin {
            profile: "test".parse().unwrap(),
            line: 1,
        },
    }
}

fn policy(targets: &[String], denied: &[String]) -> Policy {
    Policy {
        entries: targets.iter().map(|target| entry(target)).collect(),
        grants: denied
            .iter()
            .map(|target| Grant {
                action: Action::Deny,
                target: target.parse().unwrap(),
                life: None,
            })
            .collect(),
        ..Policy::default()
    }
}

/// Whether some set of a class holds the address and port, as the rules would ask.
fn holds(contents: &Contents, classes: &[Class], address: IpAddr, protocol: Protocol, port: u16) -> bool {
    let (family, number) = family_of(address);
    contents.sets.iter().any(|(set, elements)| match set {
        SetId::Destinations(class, _, of) if classes.contains(class) && *of == family => {
            elements.iter().any(|element| {
                element
                    .addresses
                    .is_some_and(|span| span.first <= number && number <= span.last)
                    && element
                        .service
                        .is_none_or(|(p, ports)| p == protocol && ports.first <= port && port <= ports.last)
            })
        }
        _ => false,
    })
}

/// The decision list of the design, in its own words.
fn decides(policy: &Policy, address: IpAddr, protocol: Protocol, port: u16) -> bool {
    let covers = |target: &Target| match target.destination {
        Destination::Network(net) => net.contains(&address) && target.ports.contains(protocol, port),
        Destination::Name(_) => false,
    };
    if policy.denied().any(covers) {
        return false;
    }
    let reach = classify(address);
    policy.allowed().filter(|target| covers(target)).any(|target| {
        let Destination::Network(net) = target.destination else {
            return false;
        };
        reach == Reach::Public
            || net == IpNet::from(address)
            || explicit_class(net).is_some_and(|explicit| explicit <= reach)
    })
}

/// Addresses from a few small blocks, special ones among them, so that targets overlap.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    (
        prop::sample::select(vec![[203, 0, 113], [10, 9, 8], [169, 254, 169], [100, 100, 100]]),
        any::<u8>(),
    )
        .prop_map(|([a, b, c], d)| Ipv4Addr::new(a, b, c, d))
}

fn ports() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        1 => (1u16..30).prop_map(|port| format!(":{port}")),
        1 => (1u16..15, 0u16..15).prop_map(|(first, more)| format!(":{first}-{}/tcp", first + more)),
        1 => (1u16..15, 16u16..20).prop_map(|(one, other)| format!(":{one},{other}/udp")),
    ]
}

fn target() -> impl Strategy<Value = String> {
    (
        address(),
        prop::sample::select(vec![32u8, 31, 28, 25, 24, 12, 0]),
        ports(),
    )
        .prop_map(|(address, len, ports)| {
            let net = ipnet::Ipv4Net::new(address, len).unwrap().trunc();
            format!("{net}{ports}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_sets_decide_as_the_decision_list_does(
        allowed in prop::collection::vec(target(), 0..8),
        denied in prop::collection::vec(target(), 0..3),
        asked in prop::collection::vec((address(), 1u16..32), 20),
    ) {
        let policy = policy(&allowed, &denied);
        let contents = compile(&policy, &Addresses::new());
        for (address, port) in asked {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let address = IpAddr::V4(address);
                let denied = holds(&contents, &[Class::Deny], address, protocol, port);
                let allowed = holds(&contents, &Class::ALLOWING, address, protocol, port);
                prop_assert_eq!(
                    allowed && !denied,
                    decides(&policy, address, protocol, port),
                    "{} {:?} {}", address, protocol, port
                );
            }
        }
    }

    #[test]
    fn elements_of_an_interval_set_are_sorted_and_disjoint(allowed in prop::collection::vec(target(), 0..12)) {
        let contents = compile(&policy(&allowed, &[]), &Addresses::new());
        for (set, elements) in &contents.sets {
            for (index, one) in elements.iter().enumerate() {
                for other in &elements[index + 1..] {
                    let (a, b) = (one.addresses.unwrap(), other.addresses.unwrap());
                    let apart = a.last < b.first || b.last < a.first;
                    let ports_apart = match (one.service, other.service) {
                        (Some((p, x)), Some((q, y))) => p != q || x.last < y.first || y.last < x.first,
                        _ => false,
                    };
                    prop_assert!(apart || ports_apart, "{}: {} and {}", set, one, other);
                }
            }
        }
    }
}

#[test]
fn explicit_and_wide_entries_leave_a_note() {
    let targets = [
        "10.9.8.7",
        "8.0.0.0/8",
        "203.0.113.10",
        "*.example.com",
        "2001:d00::/24",
    ]
    .map(str::to_owned);
    let notes: Vec<String> = compile(&policy(&targets, &[]), &Addresses::new())
        .notes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn a_private_address_of_a_name_is_opened_by_an_explicit_entry_alone_and_on_its_ports() {
    let names = Addresses::from([("db.example".to_owned(), vec!["10.9.8.7".parse().unwrap()])]);
    let alone = compile(&policy(&["db.example".to_owned()], &[]), &names);
    assert!(alone.sets.keys().all(|set| matches!(set, SetId::Reserved(..))));
    assert_eq!(alone.notes.len(), 1);
    let targets = ["db.example".to_owned(), "10.9.8.0/24:5432/tcp".to_owned()];
    let beside = compile(&policy(&targets, &[]), &names);
    let address = "10.9.8.7".parse().unwrap();
    assert!(holds(&beside, &Class::ALLOWING, address, Protocol::Tcp, 5432));
    assert!(!holds(&beside, &Class::ALLOWING, address, Protocol::Tcp, 8443));
    assert!(!beside.notes.iter().any(|note| matches!(note, Note::Rebinding(..))));
}

#[test]
fn a_denied_name_opens_nothing_and_its_own_addresses_are_denied() {
    let names = Addresses::from([
        ("sub.example.com".to_owned(), vec!["203.0.113.10".parse().unwrap()]),
        ("example.com".to_owned(), vec!["203.0.113.11".parse().unwrap()]),
    ]);
    let policy = policy(
        &["sub.example.com".to_owned(), "203.0.113.0/24".to_owned()],
        &["example.com".to_owned()],
    );
    let contents = compile(&policy, &names);
    for address in ["203.0.113.10", "203.0.113.11"] {
        let address = address.parse().unwrap();
        assert!(
            holds(&contents, &[Class::Deny], address, Protocol::Tcp, 80),
            "{address}"
        );
    }
}
