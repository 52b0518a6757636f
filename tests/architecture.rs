//! `docs/architecture.md` names the rooms that there are, and a room uses only rooms below it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The first column of the table of rooms, from the top.
fn named() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## The rooms\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(room, _)| room.to_owned())
        .collect()
}

/// What lies in `src/`; a directory has a slash. `lib.rs` is the list itself, and no room.
fn there() -> BTreeSet<String> {
    fs::read_dir(source())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let slash = if entry.file_type().unwrap().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_str().unwrap())
        })
        // `config.rs` may have its tests in `config/`.
        .filter(|name| name != "lib.rs" && !source().join(format!("{}.rs", name.trim_end_matches('/'))).exists())
        .collect()
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
}

/// First segments of the paths in a text that begin at the crate's root.
fn used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for root in ["crate::", "terok_shield::"] {
        for (at, _) in text.match_indices(root) {
            let rest = &text[at + root.len()..];
            let Some(list) = rest.strip_prefix('{') else {
                used.insert(identifier(rest));
                continue;
            };
            let mut depth = 0;
            let mut begins = true;
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => begins = true,
                    c if begins && !c.is_whitespace() => {
                        used.insert(identifier(&list[at..]));
                        begins = false;
                    }
                    _ => {}
                }
            }
        }
    }
    used
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn the_architecture_names_every_room_and_no_other() {
    let named: BTreeSet<String> = named().into_iter().collect();
    assert_eq!(named, there(), "docs/architecture.md on the left, src/ on the right");
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    let rooms = named();
    let place = |name: &str| {
        let name = match name {
            // The two that the library's root exports.
            "Error" | "Exit" => "error",
            other => other,
        };
        rooms
            .iter()
            .position(|room| room.trim_end_matches(".rs").trim_end_matches('/') == name)
    };
    for (at, room) in rooms.iter().enumerate() {
        let mut paths = Vec::new();
        files(&source().join(room), &mut paths);
        if let Some(name) = room.strip_suffix(".rs").filter(|name| source().join(name).is_dir()) {
            files(&source().join(name), &mut paths);
        }
        for path in paths
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        {
            for name in used(&fs::read_to_string(&path).unwrap()) {
                let below = place(&name).is_none_or(|other| other >= at);
                assert!(
                    below,
                    "{} uses {name}, which stands above it in docs/architecture.md",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_chain_of_the_table_is_described() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## The table\n").unwrap();
    let described: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    let chains = terok_shield::ruleset::chains();
    let there: BTreeSet<&str> = chains.iter().map(|chain| chain.name.as_ref()).collect();
    assert_eq!(
        described, there,
        "docs/architecture.md on the left, the table on the right"
    );
}

#[test]
fn paths_are_found_in_lists_and_alone() {
    let text = "use crate::policy::{self, Mode};\nuse terok_shield::{\n    Error, bundle::{Bundle, list}, kernel,\n};";
    let found: Vec<String> = used(text).into_iter().collect();
    assert_eq!(found, ["Error", "bundle", "kernel", "policy"]);
}
