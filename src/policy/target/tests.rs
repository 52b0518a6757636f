use proptest::prelude::*;

use super::*;
use crate::policy::Scope;

fn target(text: &str) -> Target {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> TargetError {
    match text.parse::<Target>() {
        Err(error) => error,
        Ok(target) => panic!("{text} was read as {target:?}"),
    }
}

#[test]
fn every_form_of_the_grammar_is_read_and_printed_canonically() {
    for (text, canonical) in [
        ("example.com", "example.com"),
        ("=Example.COM.", "=example.com"),
        ("*.example.com", "*.example.com"),
        ("203.0.113.10", "203.0.113.10"),
        ("203.0.113.10/32", "203.0.113.10"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0::1/128", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("::1", "::1"),
        ("example.com:443", "example.com:443"),
        ("example.com:443,80", "example.com:80,443"),
        ("example.com:8000-8100", "example.com:8000-8100"),
        ("example.com:80,81,82-90,85", "example.com:80-90"),
        ("example.com:443/tcp", "example.com:443/tcp"),
        ("=example.com:53/udp", "=example.com:53/udp"),
        ("*.example.com:1-65535", "*.example.com:1-65535"),
        ("203.0.113.10:443/tcp", "203.0.113.10:443/tcp"),
        ("203.0.113.0/24:443", "203.0.113.0/24:443"),
        ("203.0.113.0/24:443/udp", "203.0.113.0/24:443/udp"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("[2001:db8::1]:443/tcp", "[2001:db8::1]:443/tcp"),
        ("[2001:db8::/64]:443", "[2001:db8::/64]:443"),
        ("face:80", "face:80"),
        ("localhost:8080", "localhost:8080"),
    ] {
        assert_eq!(target(text).to_string(), canonical);
        assert_eq!(target(canonical), target(text));
    }
}

#[test]
fn the_parts_are_what_they_say() {
    let Destination::Name(pattern) = target("*.example.com:80,443/tcp").destination else {
        panic!("a name was expected");
    };
    assert_eq!((pattern.scope, pattern.name.as_str()), (Scope::Below, "example.com"));
    let ports = target("*.example.com:80,443/tcp").ports;
    assert!(ports.contains(Protocol::Tcp, 443));
    assert!(!ports.contains(Protocol::Udp, 443));
    assert!(!ports.contains(Protocol::Tcp, 81));
    assert!(Ports::All.contains(Protocol::Udp, 1));
    assert!(target("example.com:443").ports.contains(Protocol::Udp, 443));
}

#[test]
fn a_network_with_host_bits_names_the_network_that_was_meant() {
    for (text, meant) in [
        ("203.0.113.10/24", "203.0.113.0/24"),
        ("203.0.113.10/24:443", "203.0.113.0/24"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("[2001:db8::1/64]:443", "2001:db8::/64"),
    ] {
        let error = refused(text);
        assert!(error.expected.contains(meant), "{text}: {error}");
    }
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_names_its_ipv4_form() {
    for (text, meant) in [
        ("::ffff:203.0.113.10", "203.0.113.10"),
        ("::ffff:cb00:710a", "203.0.113.10"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("[::ffff:203.0.113.10]:443", "203.0.113.10"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        let error = refused(text);
        assert!(
            error.expected.ends_with(&format!("IPv4 form {meant}")),
            "{text}: {error}"
        );
    }
}

#[test]
fn an_error_points_at_the_column_and_says_what_was_expected() {
    for (text, column, expected) in [
        ("", 1, "a name, an address or a network"),
        ("@base", 1, "only in profiles"),
        ("example.com:", 13, "a port from 1 to 65535"),
        ("example.com:0", 13, "a port"),
        ("example.com:65536", 13, "a port"),
        ("example.com:+80", 13, "a port"),
        ("example.com:080", 13, "a port"),
        ("example.com:80,", 16, "a port"),
        ("example.com:80,x", 16, "a port"),
        ("example.com:90-80", 16, "not below 90"),
        ("example.com:80-", 16, "a port"),
        ("example.com:443/sctp", 17, "`tcp` or `udp`"),
        ("example.com:443/TCP", 17, "`tcp` or `udp`"),
        ("example.com:443/", 17, "`tcp` or `udp`"),
        ("example.com/tcp", 12, "before the protocol"),
        ("example.com/24:443", 12, "before the ports"),
        ("example.com:443:80", 13, "a port"),
        ("203.0.113.1/tcp", 13, "a protocol stands after ports"),
        ("203.0.113.0/33", 13, "0 to 32"),
        ("203.0.113.0/+8", 13, "0 to 32"),
        ("203.0.113.0/08", 13, "0 to 32"),
        ("203.0.113.0/", 13, "0 to 32"),
        ("203.0.113.010", 1, "without leading zeros"),
        ("1.2.3", 1, "broken address"),
        ("1.2.3:80", 1, "broken address"),
        ("256.1.1.1", 1, "broken address"),
        ("2001:db8::/129", 12, "0 to 128"),
        ("2001:db8::1:443/tcp", 17, "a protocol stands after ports"),
        ("2001:db8:::1", 1, "in brackets"),
        ("fe80::1%eth0", 1, "without a zone"),
        ("[2001:db8::1", 13, "`]`"),
        ("[2001:db8::1]", 14, "`:` and ports"),
        ("[2001:db8::]/64", 13, "inside the brackets"),
        ("[2001:db8::1]x", 14, "`:` and ports"),
        ("[2001:db8::1]:x", 15, "a port"),
        ("[203.0.113.1]:80", 2, "an IPv6 address"),
        ("exa mple.com", 4, "letters, digits"),
        ("ex\u{e4}m\u{1}ple.com", 5, "letters, digits"),
        ("*", 1, "letters, digits"),
    ] {
        let error = refused(text);
        assert_eq!(error.column, column, "{text:?}: {error}");
        assert!(error.expected.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn targets_are_strings_in_json() {
    let json = serde_json::to_string(&target("[2001:db8::1]:443/tcp")).unwrap();
    assert_eq!(json, "\"[2001:db8::1]:443/tcp\"");
    assert_eq!(
        serde_json::from_str::<Target>(&json).unwrap(),
        target("[2001:db8::1]:443/tcp")
    );
    assert!(serde_json::from_str::<Target>("\"203.0.113.1/24\"").is_err());
}

#[test]
fn port_ranges_and_protocols_are_words_in_json() {
    let range = PortRange {
        first: 8000,
        last: 8100,
    };
    assert_eq!(serde_json::to_string(&range).unwrap(), "\"8000-8100\"");
    assert_eq!(serde_json::from_str::<PortRange>("\"8000-8100\"").unwrap(), range);
    for bad in ["\"0\"", "\"2-1\"", "\"1-\"", "\"\"", "\"1,2\""] {
        assert!(serde_json::from_str::<PortRange>(bad).is_err(), "{bad}");
    }
    assert_eq!(serde_json::to_string(&Protocol::Tcp).unwrap(), "\"tcp\"");
}

fn destinations() -> impl Strategy<Value = String> {
    prop_oneof![
        (
            "(=|\\*\\.)?",
            "[a-z][a-z0-9]{0,8}(\\.[a-z_][a-z0-9-]{0,8}[a-z0-9]){0,3}"
        )
            .prop_map(|(mark, name)| format!("{mark}{name}")),
        (any::<u32>(), 0..=32u8).prop_map(|(bits, length)| {
            let net = Ipv4Net::new(Ipv4Addr::from(bits), length).unwrap();
            net.trunc().to_string()
        }),
    ]
}

fn port_lists() -> impl Strategy<Value = String> {
    let ranges = prop::collection::vec((1..=u16::MAX, 0..=300u16), 1..6);
    (ranges, prop::sample::select(vec!["", "/tcp", "/udp"])).prop_map(|(ranges, protocol)| {
        let items: Vec<String> = ranges
            .into_iter()
            .map(|(first, more)| format!("{first}-{}", first.saturating_add(more)))
            .collect();
        format!("{}{protocol}", items.join(","))
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(
        destination in destinations(),
        ports in prop::option::of(port_lists()),
    ) {
        let text = match ports {
            Some(ports) => format!("{destination}:{ports}"),
            None => destination,
        };
        let read: Target = text.parse().unwrap();
        prop_assert_eq!(read.to_string().parse::<Target>().unwrap(), read);
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_with_ipv6(
        bits in any::<u128>(),
        length in 0..=128u8,
        ports in prop::option::of(port_lists()),
    ) {
        // Bit 127 set keeps clear of the IPv4-mapped range.
        let net = Ipv6Net::new(Ipv6Addr::from(bits | 1 << 127), length.max(1)).unwrap().trunc();
        let text = match ports {
            Some(ports) => format!("[{net}]:{ports}"),
            None => net.to_string(),
        };
        let read: Target = text.parse().unwrap();
        prop_assert_eq!(read.to_string().parse::<Target>().unwrap(), read);
    }

    #[test]
    fn port_ranges_come_out_sorted_and_apart(list in port_lists()) {
        let read = target(&format!("example.com:{list}"));
        let Ports::Only { ranges, .. } = read.ports else { panic!("ports were given") };
        prop_assert!(ranges.iter().all(|r| r.first >= 1 && r.first <= r.last));
        prop_assert!(ranges.windows(2).all(|w| u32::from(w[0].last) + 1 < u32::from(w[1].first)));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[0-9a-f:./\\[\\]=*,-]{0,40}") {
        if let Err(error) = text.parse::<Target>() {
            prop_assert!(error.column <= text.chars().count() + 1, "{}", error);
        }
    }
}
