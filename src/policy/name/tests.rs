use super::*;

fn pattern(text: &str) -> NamePattern {
    text.parse().unwrap()
}

#[test]
fn container_names_follow_podmans_rule() {
    for good in ["a", "my-container", "A.b_c-9", "0123456789ab"] {
        assert_eq!(good.parse::<ContainerName>().unwrap().as_str(), good);
    }
    for bad in ["", "-a", ".a", "_a", "a/b", "a..b", "a b", "ä", "a\n"] {
        assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
    }
    assert!("a".repeat(128).parse::<ContainerName>().is_ok());
    assert!("a".repeat(129).parse::<ContainerName>().is_err());
}

#[test]
fn a_bad_container_name_is_reported_on_one_line_with_its_column() {
    let error = "ab\nc".parse::<ContainerName>().unwrap_err().to_string();
    assert!(error.contains("column 3: '\\n'"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn names_are_kept_in_a_label_form_without_trailing_dot() {
    for (text, canonical) in [
        ("EXAMPLE.Com.", "example.com"),
        ("bücher.example.com", "xn--bcher-kva.example.com"),
        ("BÜCHER。example.com", "xn--bcher-kva.example.com"),
        ("XN--BCHER-KVA.example.com", "xn--bcher-kva.example.com"),
        ("localhost", "localhost"),
        ("_dns.r3---sn-x.example.com", "_dns.r3---sn-x.example.com"),
        ("1.example", "1.example"),
    ] {
        assert_eq!(text.parse::<DnsName>().unwrap().as_str(), canonical);
    }
}

#[test]
fn what_is_no_name_is_refused_with_its_column() {
    for (text, column) in [
        ("", 1),
        (".", 1),
        ("a..example.com", 3),
        ("exa mple.com", 4),
        ("-a.example.com", 1),
        ("ab.c-.example.com", 5),
        ("example.com..", 13),
        ("xn--\u{fc}.example.com", 5),
        ("a/b", 2),
        ("foo.*.example.com", 5),
        ("example.com\u{2100}", 12),
        ("xn--a.example.com", 1),
    ] {
        let error = text.parse::<DnsName>().unwrap_err();
        assert_eq!(error.column, column, "{text:?}: {error}");
    }
}

#[test]
fn lengths_are_those_of_rfc_1035() {
    let label = "a".repeat(63);
    assert!(label.parse::<DnsName>().is_ok());
    assert!(format!("{label}a").parse::<DnsName>().is_err());
    let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(name.len(), 253);
    assert!(name.parse::<DnsName>().is_ok());
    assert!(format!("{name}a").parse::<DnsName>().is_err());
    assert!("a.".repeat(100_000).parse::<DnsName>().is_err());
}

#[test]
fn an_all_numeric_end_looks_like_a_broken_address() {
    for text in ["1.2.3", "12", "example.123", "0x7f000001", "256.0.0.1"] {
        let error = text.parse::<DnsName>().unwrap_err().to_string();
        assert!(error.contains("broken address"), "{text}: {error}");
    }
}

#[test]
fn a_plain_pattern_covers_the_name_and_everything_below_it() {
    let subtree = pattern("example.com");
    for name in ["example.com", "Example.COM.", "a.example.com", "a.b.example.com."] {
        assert!(subtree.matches(name), "{name}");
    }
    for name in ["com", "notexample.com", "example.com.evil.test", "", "."] {
        assert!(!subtree.matches(name), "{name}");
    }
}

#[test]
fn an_exact_pattern_covers_one_name_and_a_starred_one_only_what_is_below() {
    assert!(pattern("=example.com").matches("EXAMPLE.com."));
    assert!(!pattern("=example.com").matches("a.example.com"));
    assert!(pattern("*.example.com").matches("a.example.com"));
    assert!(!pattern("*.example.com").matches("example.com"));
    assert!(!pattern("*.example.com").matches(".example.com"));
}

#[test]
fn a_label_with_a_dot_inside_it_does_not_pass_for_a_subdomain() {
    let subtree = pattern("example.com");
    for name in [r"x\.example.com", "x..example.com", "a b.example.com", "é.example.com"] {
        assert!(!subtree.matches(name), "{name}");
    }
}

#[test]
fn patterns_print_what_they_were_read_from() {
    for text in ["example.com", "=example.com", "*.example.com"] {
        assert_eq!(pattern(text).to_string(), text);
        let json = serde_json::to_string(&pattern(text)).unwrap();
        assert_eq!(serde_json::from_str::<NamePattern>(&json).unwrap(), pattern(text));
    }
    assert!("=*.example.com".parse::<NamePattern>().is_err());
    assert_eq!("*.".parse::<NamePattern>().unwrap_err().column, 3);
}
