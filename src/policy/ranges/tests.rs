use proptest::prelude::*;

use super::*;
use crate::policy::special;

fn v4(nets: &[&str]) -> Ranges<u32> {
    Ranges::from_nets(nets.iter().map(|net| net.parse().unwrap()))
}

fn v6(nets: &[&str]) -> Ranges<u128> {
    Ranges::from_nets(nets.iter().map(|net| net.parse().unwrap()))
}

#[test]
fn overlapping_and_adjacent_networks_become_one() {
    let set = v4(&["203.0.113.128/25", "203.0.113.0/25", "203.0.113.7/32"]);
    assert_eq!(set.items(), [Item::Prefix("203.0.113.0/24".parse().unwrap())]);
    let set = v6(&["2001:db8:1::/48", "2001:db8::/48", "2001:db8::1/128"]);
    assert_eq!(set.items(), [Item::Prefix("2001:db8::/47".parse().unwrap())]);
}

#[test]
fn what_is_no_prefix_is_a_range_and_a_single_address_is_an_address() {
    let set = v4(&["203.0.113.1/32", "203.0.113.2/32", "198.51.100.9/32"]);
    assert_eq!(
        set.items(),
        [
            Item::Address("198.51.100.9".parse().unwrap()),
            Item::Range("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()),
        ]
    );
}

#[test]
fn the_whole_space_is_a_prefix_and_its_ends_do_not_overflow() {
    assert_eq!(v4(&["0.0.0.0/0"]).items(), [Item::Prefix("0.0.0.0/0".parse().unwrap())]);
    assert_eq!(v6(&["::/0"]).items(), [Item::Prefix("::/0".parse().unwrap())]);
    let ends = v4(&["0.0.0.0/32", "255.255.255.255/32"]);
    assert_eq!(ends.union(&v4(&["255.255.255.255/32"])), ends);
    let inner = v4(&["0.0.0.0/0"]).subtract(&ends);
    assert!(!inner.contains(Ipv4Addr::UNSPECIFIED) && !inner.contains(Ipv4Addr::BROADCAST));
    assert!(v6(&["::/0"]).subtract(&v6(&["::/1", "8000::/1"])).is_empty());
}

#[test]
fn a_wide_network_without_the_special_ranges_holds_only_public_addresses() {
    let floor = Ranges::from_nets(special::floor_v4()).union(&Ranges::from_nets(special::private_v4()));
    let public = v4(&["0.0.0.0/0"]).subtract(&floor);
    for (first, last) in public.pairs() {
        assert_eq!(special::classify(first.into()), special::Class::Public);
        assert_eq!(special::classify(last.into()), special::Class::Public);
    }
    let floor = Ranges::from_nets(special::floor_v6()).union(&Ranges::from_nets(special::private_v6()));
    let public = v6(&["::/0"]).subtract(&floor);
    for (first, last) in public.pairs() {
        assert_eq!(special::classify(first.into()), special::Class::Public);
        assert_eq!(special::classify(last.into()), special::Class::Public);
    }
}

#[test]
fn a_hundred_thousand_networks_are_quickly_subtracted() {
    let nets = (0..100_000_u32).map(|i| Ipv4Net::new(Ipv4Addr::from_bits(i << 12), 24).unwrap());
    let set = Ranges::<u32>::from_nets(nets.clone());
    assert_eq!(set.items().len(), 100_000);
    assert_eq!(v4(&["0.0.0.0/0"]).subtract(&set).items().len(), 100_000);
    assert!(set.subtract(&v4(&["0.0.0.0/0"])).is_empty());
}

/// Pairs within sixteen addresses at both ends of the space, so that they meet.
fn small<B: Bits>(address: fn(u8) -> B::Address) -> impl Strategy<Value = Vec<(B::Address, B::Address)>>
where
    B::Address: 'static,
{
    prop::collection::vec((0..32u8, 0..6u8), 0..8).prop_map(move |pairs| {
        pairs
            .into_iter()
            .map(|(first, more)| (address(first), address((first + more).min(31))))
            .collect()
    })
}

fn near_v4(i: u8) -> Ipv4Addr {
    let i = u32::from(i);
    Ipv4Addr::from_bits(if i < 16 { i } else { u32::MAX - 31 + i })
}

fn near_v6(i: u8) -> Ipv6Addr {
    let i = u128::from(i);
    Ipv6Addr::from_bits(if i < 16 { i } else { u128::MAX - 31 + i })
}

fn check<B: Bits>(
    address: fn(u8) -> B::Address,
    one: Vec<(B::Address, B::Address)>,
    two: Vec<(B::Address, B::Address)>,
) {
    let within = |pairs: &[(B::Address, B::Address)], at| pairs.iter().any(|(first, last)| *first <= at && at <= *last);
    let a = Ranges::<B>::from_pairs(one.iter().copied());
    let b = Ranges::<B>::from_pairs(two.iter().copied());
    let (union, rest) = (a.union(&b), a.subtract(&b));
    for at in (0..32).map(address) {
        assert_eq!(a.contains(at), within(&one, at));
        assert_eq!(union.contains(at), within(&one, at) || within(&two, at));
        assert_eq!(rest.contains(at), within(&one, at) && !within(&two, at));
    }
    for set in [a, b, union, rest] {
        assert!(set.0.iter().all(|(first, last)| first <= last));
        assert!(
            set.0
                .windows(2)
                .all(|w| w[0].1.next().is_some_and(|next| next < w[1].0))
        );
        let again = set.items().into_iter().map(|item| match item {
            Item::Address(address) => (address, address),
            Item::Prefix(net) => {
                let (first, last) = B::bounds(net);
                (first.address(), last.address())
            }
            Item::Range(first, last) => {
                assert!(B::exact(B::of(first), B::of(last)).is_none());
                (first, last)
            }
        });
        assert_eq!(Ranges::from_pairs(again), set);
    }
}

proptest! {
    #[test]
    fn ipv4_sets_agree_with_membership(one in small::<u32>(near_v4), two in small::<u32>(near_v4)) {
        check::<u32>(near_v4, one, two);
    }

    #[test]
    fn ipv6_sets_agree_with_membership(one in small::<u128>(near_v6), two in small::<u128>(near_v6)) {
        check::<u128>(near_v6, one, two);
    }
}
