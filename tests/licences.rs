//! What is linked into the program goes together with libnftables' GPL-2.0-only: every dependency's licence is one that
//! `deny.toml` allows, and no crate is there that it bans. cargo-deny says the same and more, but has to be installed.
//!
//! The dependencies are those of `cargo tree`, whose features are the real ones; `cargo metadata` and `Cargo.lock` also
//! name optional crates that nobody asked for.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Name and licence of each crate that is built into the program or runs while it is built.
fn dependencies() -> BTreeSet<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--edges", "no-dev", "--prefix", "none"])
        .args(["--format", "{p}|{l}|", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (package, rest) = line.split_once('|').unwrap();
            let (licence, _) = rest.split_once('|').unwrap();
            let (name, _) = package.split_once(' ').unwrap();
            (name.to_owned(), licence.to_owned())
        })
        .collect()
}

fn deny_toml() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// Whether an SPDX expression (`AND` binds more than `OR`) can be met with the allowed licences alone.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(&mut rest, allowed);
    assert!(rest.is_empty(), "not understood: {expression}");
    met
}

fn either(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = both(rest, allowed);
    while take(rest, "OR") {
        met |= both(rest, allowed);
    }
    met
}

fn both(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = one(rest, allowed);
    while take(rest, "AND") {
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> bool {
    if take(rest, "(") {
        let met = either(rest, allowed);
        assert!(take(rest, ")"), "a parenthesis is missing");
        return met;
    }
    let Some((licence, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    if take(rest, "WITH") {
        // An exception adds permissions; with it, it is another licence.
        let (exception, after) = rest.split_first().unwrap();
        *rest = after;
        return allowed.contains(&format!("{licence} WITH {exception}").as_str());
    }
    allowed.contains(licence)
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == word => {
            *rest = after;
            true
        }
        _ => false,
    }
}

#[test]
fn every_dependency_can_be_linked_with_gpl_2() {
    let deny = deny_toml();
    let allowed: Vec<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|licence| licence.as_str().unwrap())
        .collect();
    assert!(!allowed.contains(&"Apache-2.0"));
    let dependencies = dependencies();
    assert!(dependencies.len() > 50, "{dependencies:?}");
    let refused: Vec<_> = dependencies
        .iter()
        .filter(|(_, licence)| !is_met(licence, &allowed))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:?}");
}

#[test]
fn no_banned_crate_is_a_dependency() {
    let deny = deny_toml();
    let dependencies = dependencies();
    for ban in deny["bans"]["deny"].as_array().unwrap() {
        let name = ban["crate"].as_str().unwrap();
        let reason = ban["reason"].as_str().unwrap();
        assert!(
            dependencies.iter().all(|(other, _)| other != name),
            "{name} is banned: {reason}"
        );
    }
}

#[test]
fn expressions_mean_what_spdx_says() {
    let met = |expression| is_met(expression, &["MIT", "Unicode-3.0"]);
    for good in [
        "MIT",
        "Apache-2.0 OR MIT",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        "Apache-2.0 AND ISC OR MIT",
    ] {
        assert!(met(good), "{good}");
    }
    for bad in [
        "Apache-2.0",
        "MIT AND Apache-2.0",
        "(MIT OR Apache-2.0) AND Apache-2.0",
        "MIT WITH Something",
        "Apache-2.0 AND (MIT OR ISC)",
        "",
    ] {
        assert!(!met(bad), "{bad}");
    }
}
