use std::collections::BTreeMap;

use super::*;

struct Texts(BTreeMap<&'static str, &'static str>);

impl Source for Texts {
    fn read(&self, name: &ProfileName) -> Result<Option<ProfileText>, ProfileError> {
        Ok(self.0.get(name.as_str()).map(|text| ProfileText {
            file: format!("profiles/{name}.txt"),
            text: Cow::Borrowed(text),
        }))
    }

    fn names(&self) -> BTreeSet<ProfileName> {
        self.0.keys().map(|name| profile(name)).collect()
    }
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

fn load_from(texts: &[(&'static str, &'static str)], names: &[&str]) -> Result<Vec<Entry>, ProfileError> {
    let names: Vec<ProfileName> = names.iter().map(|name| profile(name)).collect();
    load(&names, &Texts(texts.iter().copied().collect()))
}

fn shown(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| format!("{} {}", entry.target, entry.origin))
        .collect()
}

fn message(text: &str) -> String {
    parse("profiles/x.txt", text).unwrap_err().to_string()
}

#[test]
fn comments_blank_lines_windows_line_ends_and_a_byte_order_mark_are_read_over() {
    let text = "\u{feff}# about\r\n\r\n \texample.com:443#why\r\n@base # more\r\n203.0.113.1";
    let lines = parse("x", text).unwrap();
    let shown: Vec<(u32, usize)> = lines.iter().map(|l| (l.number, l.column)).collect();
    assert_eq!(shown, [(3, 3), (4, 1), (5, 1)]);
    assert_eq!(lines[1].statement, Statement::Include(profile("base")));
    assert_eq!(description(text), Some("about"));
}

#[test]
fn an_error_names_file_line_column_and_what_was_expected() {
    assert_eq!(
        message("example.com\n\n  203.0.113.9/24\n"),
        "profiles/x.txt:3:3: expected a network without host bits: 203.0.113.0/24 was probably \
         meant, or the address 203.0.113.9 alone"
    );
    assert_eq!(
        message("  example.com:0"),
        "profiles/x.txt:1:15: expected a port from 1 to 65535"
    );
    assert!(message("a.example b.example").starts_with("profiles/x.txt:1:10: expected the end"));
    assert!(message("@Base").starts_with("profiles/x.txt:1:2: expected the name of a profile"));
    assert!(message("@ base").starts_with("profiles/x.txt:1:2: expected the name of a profile"));
    assert!(message("exa\rmple.com").starts_with("profiles/x.txt:1:4: expected letters"));
    assert!(message("exa\0mple.com").starts_with("profiles/x.txt:1:4: expected letters"));
}

#[test]
fn a_line_and_a_text_have_a_largest_size() {
    let comment = format!("#{}", "x".repeat(MAX_LINE_BYTES - 1));
    assert!(parse("x", &comment).is_ok());
    let error = message(&format!("\n{comment}x"));
    assert!(
        error.starts_with("profiles/x.txt:2:1025: expected the line to end"),
        "{error}"
    );
    let large = "\n".repeat(MAX_PROFILE_BYTES + 1);
    assert!(matches!(parse("x", &large), Err(ProfileError::TooLarge { .. })));
}

#[test]
fn a_hundred_thousand_addresses_are_read() {
    let mut text = String::new();
    for i in 0..120_000_u32 {
        text.push_str(&std::net::Ipv4Addr::from(0x0100_0000 + i).to_string());
        text.push('\n');
    }
    assert_eq!(parse("x", &text).unwrap().len(), 120_000);
}

#[test]
fn includes_are_read_depth_first_and_once_and_the_first_origin_wins() {
    let texts = [
        ("a", "@b\nexample.com\n@c"),
        ("b", "@c\nb.example"),
        ("c", "c.example\nexample.com"),
    ];
    let entries = load_from(&texts, &["a", "c", "a"]).unwrap();
    assert_eq!(shown(&entries), ["c.example c:1", "example.com c:2", "b.example b:2"]);
    assert!(load_from(&texts, &[]).unwrap().is_empty());
}

#[test]
fn the_same_target_written_differently_is_kept_once() {
    let texts = [(
        "a",
        "Example.COM:80,443\nexample.com:443,80\n203.0.113.1/32\n203.0.113.1",
    )];
    assert_eq!(load_from(&texts, &["a"]).unwrap().len(), 2);
}

#[test]
fn a_cycle_is_shown_with_the_line_that_closes_it() {
    let texts = [("a", "@b"), ("b", "\n@c"), ("c", "@b")];
    let error = load_from(&texts, &["a"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "profiles/c.txt:1: profiles include each other: b -> c -> b; remove one `@` line"
    );
    let error = load_from(&[("a", "@a")], &["a"]).unwrap_err().to_string();
    assert!(error.contains("a -> a"), "{error}");
}

#[test]
fn an_unknown_profile_offers_what_is_near_or_everything() {
    let texts = [("dev-python", ""), ("dev-node", ""), ("base", "x.example\n@bsae")];
    let error = load_from(&texts, &["dev-pyton"]).unwrap_err().to_string();
    assert_eq!(error, "no profile dev-pyton; did you mean dev-python?");
    let error = load_from(&texts, &["zzzzzz"]).unwrap_err().to_string();
    assert_eq!(error, "no profile zzzzzz; there are: base, dev-node, dev-python");
    let error = load_from(&[("a", "@nil")], &["a"]).unwrap_err().to_string();
    assert_eq!(error, "profiles/a.txt:1: no profile nil; there are: a");
    assert!(matches!(
        load_from(&texts, &["base"]),
        Err(ProfileError::Unknown {
            included: Some((_, 2)),
            ..
        })
    ));
}

#[test]
fn nesting_has_an_end() {
    let texts: Vec<(&'static str, &'static str)> = (0..40)
        .map(|i| {
            let name: &'static str = Box::leak(format!("p{i}").into_boxed_str());
            let text: &'static str = Box::leak(format!("@p{}", i + 1).into_boxed_str());
            (name, text)
        })
        .collect();
    assert!(matches!(load_from(&texts, &["p0"]), Err(ProfileError::TooDeep { .. })));
}

#[test]
fn profile_names_are_plain() {
    for good in ["a", "dev-python", "9_x"] {
        assert!(good.parse::<ProfileName>().is_ok());
    }
    for bad in ["", "-a", "A", "a.b", "a/b", "..", "a b", &"a".repeat(65)] {
        assert!(bad.parse::<ProfileName>().is_err(), "{bad}");
    }
}

#[test]
fn distances_are_those_of_levenshtein() {
    for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
        assert_eq!(distance(a, b), expected);
    }
}
