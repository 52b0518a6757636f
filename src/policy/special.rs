//! The address ranges that a wide entry or a name never opens: the floor and
//! the private ranges of the decision list, as data with their sources.
//!
//! An IPv4 address also travels inside IPv6 addresses. Everything here looks
//! through the three forms that a kernel or a gateway unpacks: `::ffff:0:0/96`
//! (RFC 4291, 2.5.5.2), `64:ff9b::/96` (RFC 6052) and `2002::/16` (RFC 3056).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// How much it takes to reach an address, from the most to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Opened by no name, no wide network and no mode.
    Floor,
    /// Opened by an explicit entry, or with `down --all`.
    Private,
    /// Everything else.
    Public,
}

/// One special range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// The range itself, never an embedded form.
    pub net: IpNet,
    /// [`Class::Floor`] or [`Class::Private`].
    pub class: Class,
    /// What it is and who says so.
    pub source: &'static str,
}

const fn v4(class: Class, address: [u8; 4], length: u8, source: &'static str) -> Special {
    let [a, b, c, d] = address;
    let net = Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length);
    Special {
        net: IpNet::V4(net),
        class,
        source,
    }
}

const fn v6(class: Class, address: Ipv6Addr, length: u8, source: &'static str) -> Special {
    let net = Ipv6Net::new_assert(address, length);
    Special {
        net: IpNet::V6(net),
        class,
        source,
    }
}

const fn high(first: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)
}

use Class::{Floor, Private};

/// Floor first: where an address lies in several ranges, the first one counts.
const RANGES: &[Special] = &[
    v4(Floor, [0, 0, 0, 0], 8, "this network, RFC 791, 3.2"),
    v4(Floor, [127, 0, 0, 0], 8, "loopback, RFC 1122, 3.2.1.3"),
    v4(Floor, [169, 254, 0, 0], 16, "link-local, RFC 3927"),
    v4(Floor, [224, 0, 0, 0], 4, "multicast, RFC 5771"),
    v4(
        Floor,
        [240, 0, 0, 0],
        4,
        "reserved and broadcast, RFC 1112, 4 and RFC 919, 7",
    ),
    v4(Floor, [168, 63, 129, 16], 32, "metadata and wire server of Azure"),
    v4(Floor, [100, 100, 100, 200], 32, "metadata of Alibaba Cloud"),
    v4(Floor, [192, 0, 0, 192], 32, "metadata of Oracle Cloud"),
    v6(Floor, Ipv6Addr::UNSPECIFIED, 128, "unspecified, RFC 4291, 2.5.2"),
    v6(Floor, Ipv6Addr::LOCALHOST, 128, "loopback, RFC 4291, 2.5.3"),
    v6(Floor, high(0xfe80), 10, "link-local, RFC 4291, 2.5.6"),
    v6(Floor, high(0xfec0), 10, "site-local, RFC 3879"),
    v6(Floor, high(0xff00), 8, "multicast, RFC 4291, 2.7"),
    v6(
        Floor,
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        128,
        "metadata of AWS",
    ),
    v6(
        Floor,
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
        128,
        "metadata of Google Cloud",
    ),
    v4(Private, [10, 0, 0, 0], 8, "private, RFC 1918"),
    v4(Private, [172, 16, 0, 0], 12, "private, RFC 1918"),
    v4(Private, [192, 168, 0, 0], 16, "private, RFC 1918"),
    v4(
        Private,
        [100, 64, 0, 0],
        10,
        "shared by a carrier's customers, RFC 6598",
    ),
    v6(Private, high(0xfc00), 7, "unique local, RFC 4193"),
];

/// The prefixes under which an IPv4 address begins at the given bit.
const EMBEDDINGS: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// Every special range with its source, without the embedded forms.
#[must_use]
pub fn special_ranges() -> &'static [Special] {
    RANGES
}

/// The class of an address, looking through the embedded forms.
#[must_use]
pub fn classify(address: IpAddr) -> Class {
    let address = match address {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    RANGES
        .iter()
        .find(|special| special.net.contains(&address))
        .map_or(Class::Public, |special| special.class)
}

/// What the special range of an address is and who says so, looking through the embedded forms.
#[must_use]
pub fn special_source(address: IpAddr) -> Option<&'static str> {
    let address = match address {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    RANGES
        .iter()
        .find(|special| special.net.contains(&address))
        .map(|special| special.source)
}

/// Whether an entry for a network is meant for an address, the embedded forms of an IPv4 network included.
#[must_use]
pub fn covers_address(net: IpNet, address: IpAddr) -> bool {
    net.contains(&address)
        || match (net, address) {
            (IpNet::V4(net), IpAddr::V6(v6)) => embedded_v4(v6).is_some_and(|v4| net.contains(&v4)),
            _ => false,
        }
}

/// The IPv4 address inside an IPv6 address of one of the three embedded forms.
#[must_use]
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    EMBEDDINGS.iter().find_map(|(prefix, length)| {
        let (prefix, length) = (prefix.to_bits(), u32::from(*length));
        let same = (bits ^ prefix) >> (128 - length) == 0;
        // Truncation is the point: the address is the 32 bits after the prefix.
        #[allow(clippy::cast_possible_truncation)]
        same.then(|| Ipv4Addr::from_bits((bits >> (96 - length)) as u32))
    })
}

/// A network's IPv4-mapped, NAT64 and 6to4 forms, sorted.
#[must_use]
pub fn embedded_v6_forms(net: Ipv4Net) -> Vec<Ipv6Net> {
    let bits = u128::from(net.network().to_bits());
    let mut forms: Vec<Ipv6Net> = EMBEDDINGS
        .iter()
        .filter_map(|(prefix, length)| {
            let address = prefix.to_bits() | bits << (96 - u32::from(*length));
            // 96 + 32 is the longest, so this is always some.
            Ipv6Net::new(Ipv6Addr::from_bits(address), length + net.prefix_len()).ok()
        })
        .collect();
    forms.sort();
    forms
}

/// The IPv4 floor, aggregated and sorted.
#[must_use]
pub fn floor_v4() -> Vec<Ipv4Net> {
    v4_of(Floor)
}

/// The IPv6 floor with the embedded forms of the IPv4 floor, aggregated and sorted.
#[must_use]
pub fn floor_v6() -> Vec<Ipv6Net> {
    v6_of(Floor)
}

/// The private IPv4 ranges, aggregated and sorted. They hold addresses that
/// belong to the floor, which is judged first.
#[must_use]
pub fn private_v4() -> Vec<Ipv4Net> {
    v4_of(Private)
}

/// The private IPv6 ranges with the embedded forms of the IPv4 ones,
/// aggregated and sorted. The floor within them is judged first.
#[must_use]
pub fn private_v6() -> Vec<Ipv6Net> {
    v6_of(Private)
}

fn v4_of(class: Class) -> Vec<Ipv4Net> {
    let mut nets = Ipv4Net::aggregate(&own(class).filter_map(as_v4).collect());
    nets.sort();
    nets
}

fn v6_of(class: Class) -> Vec<Ipv6Net> {
    let mut nets = Ipv6Net::aggregate(&every_v6(class).collect());
    nets.sort();
    nets
}

fn own(class: Class) -> impl Iterator<Item = IpNet> {
    RANGES
        .iter()
        .filter(move |special| special.class == class)
        .map(|special| special.net)
}

fn every_v6(class: Class) -> impl Iterator<Item = Ipv6Net> {
    own(class).flat_map(|net| match net {
        IpNet::V4(net) => embedded_v6_forms(net),
        IpNet::V6(net) => vec![net],
    })
}

fn as_v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

/// Whether an entry for this network is explicit: it lies wholly inside one of
/// the floor or private ranges, an embedded form included.
#[must_use]
pub fn explicit(net: IpNet) -> bool {
    explicit_class(net).is_some()
}

/// What an entry for this network opens explicitly: the floor only where it
/// lies wholly inside one range of the floor. A private network that happens
/// to hold a metadata address (`100.64.0.0/10`) does not open that address.
#[must_use]
pub fn explicit_class(net: IpNet) -> Option<Class> {
    [Floor, Private].into_iter().find(|class| match net {
        IpNet::V4(_) => own(*class).any(|range| range.contains(&net)),
        IpNet::V6(net) => every_v6(*class).any(|range| range.contains(&net)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Class {
        classify(address.parse().unwrap())
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_floor_is_the_floor_in_every_form() {
        for address in [
            "169.254.169.254",
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
        ] {
            assert_eq!(class(address), Floor, "{address}");
            let v4: Ipv4Addr = address.parse().unwrap();
            for form in embedded_v6_forms(Ipv4Net::from(v4)) {
                assert_eq!(classify(form.addr().into()), Floor, "{form}");
            }
        }
        for address in [
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert_eq!(class(address), Floor, "{address}");
        }
    }

    #[test]
    fn private_ranges_are_private_in_every_form() {
        for address in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fc00::1",
            "fdff::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
        ] {
            assert_eq!(class(address), Private, "{address}");
        }
    }

    #[test]
    fn everything_else_is_public() {
        for address in [
            "203.0.113.1",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "168.63.129.17",
            "2001:db8::1",
            "::ffff:203.0.113.1",
            "64:ff9b::cb00:7101",
            "2002:cb00:7101::1",
            "64:ff9b:1::a00:1",
            "::2",
        ] {
            assert_eq!(class(address), Class::Public, "{address}");
        }
    }

    #[test]
    fn embedded_forms_hold_the_network_where_the_standards_put_it() {
        let forms = embedded_v6_forms("192.0.2.0/24".parse().unwrap());
        let shown: Vec<String> = forms.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["::ffff:192.0.2.0/120", "64:ff9b::c000:200/120", "2002:c000:200::/40"]
        );
        assert_eq!(
            embedded_v4("2002:c000:201:1::9".parse().unwrap()),
            Some(Ipv4Addr::new(192, 0, 2, 1))
        );
        assert_eq!(embedded_v4("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn the_lists_agree_with_the_classification_and_are_sorted_and_apart() {
        for (nets, class) in [(floor_v4(), Floor), (private_v4(), Private)] {
            assert!(nets.windows(2).all(|w| w[0].broadcast() < w[1].network()));
            for net in nets {
                // The first address of no private range belongs to the floor.
                assert_eq!(classify(net.network().into()), class, "{net}");
                assert_eq!(classify(net.broadcast().into()), class, "{net}");
            }
        }
        for (nets, class) in [(floor_v6(), Floor), (private_v6(), Private)] {
            assert!(nets.windows(2).all(|w| w[0].broadcast() < w[1].network()));
            for net in nets {
                assert_eq!(classify(net.network().into()), class, "{net}");
                assert_eq!(classify(net.broadcast().into()), class, "{net}");
            }
        }
    }

    #[test]
    fn only_what_lies_wholly_inside_a_range_is_explicit() {
        for text in [
            "10.0.0.0/8",
            "10.1.2.3/32",
            "169.254.169.254/32",
            "fd00::/8",
            "fe80::1/128",
            "100.64.0.0/10",
            "::ffff:10.0.0.0/104",
            "2002:a00::/24",
        ] {
            assert!(explicit(net(text)), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/7",
            "203.0.113.0/24",
            "224.0.0.0/3",
            "2002::/16",
            "2001:db8::/32",
            "f000::/4",
            "64:ff9b::/96",
        ] {
            assert!(!explicit(net(text)), "{text}");
        }
    }

    #[test]
    fn a_private_network_does_not_open_the_metadata_address_inside_it() {
        assert_eq!(explicit_class(net("100.64.0.0/10")), Some(Private));
        assert_eq!(explicit_class(net("100.100.100.200/32")), Some(Floor));
        assert_eq!(explicit_class(net("fc00::/7")), Some(Private));
        assert_eq!(explicit_class(net("fd00:ec2::254/128")), Some(Floor));
        assert_eq!(explicit_class(net("203.0.113.1/32")), None);
    }
}
