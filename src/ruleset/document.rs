//! Documents: what is handed to libnftables, each one transaction.
//!
//! A table is created once for a network namespace and edited in place from then on, never deleted and added: that would
//! let packets through in between. A set is declared again with new elements inline, because `add element` first
//! dumps every interval set of the namespace.

use std::collections::{BTreeMap, BTreeSet};

use nftables::schema::{Counter, Element as ElementCommand, FlushObject, NfCmd, NfListObject, NfObject, Table};
use nftables::types::NfFamily;
use serde::Serialize;
use serde_json::{Value, json};

use super::TABLE;
use super::contents::Contents;
use super::element::Element;
use super::layout::{COUNTERS, Layout, chains, rules};
use super::sets::{Class, Kind, SetId};

/// Bytes of netlink attributes that one transaction may take. A rootless process's send buffer holds about 425,000 on an
/// ordinary system (`net.core.wmem_default`, doubled); past it libnftables says "Message too long". Half of that leaves
/// room for the rules and for what is not counted.
const BUDGET: usize = 200_000;

/// Netlink bytes of one element, measured on libnftables 1.0.6 and rounded up.
fn weight(set: SetId, elements: &[Element]) -> usize {
    let timeout = if elements.iter().any(|element| element.life.is_some()) {
        48
    } else {
        0
    };
    timeout
        + match set {
            SetId::Destinations(_, Kind::Hosts, _) | SetId::Upstream(_) | SetId::Window => 56,
            SetId::Destinations(_, Kind::Ports, _) => 80,
            SetId::Reserved(..) | SetId::Destinations(_, Kind::Nets, _) | SetId::Published => 120,
            SetId::Destinations(_, Kind::Ranges, _) => 160,
        }
}

/// One command of a document.
#[derive(Serialize)]
#[serde(untagged)]
enum Command {
    Typed(NfObject<'static>),
    /// What the crate `nftables` has no type for.
    Raw(Value),
}

#[derive(Serialize)]
struct Document {
    nftables: Vec<Command>,
}

fn command(command: NfCmd<'static>) -> Command {
    Command::Typed(NfObject::CmdObject(command))
}

fn add(object: NfListObject<'static>) -> Command {
    command(NfCmd::Add(object))
}

fn declare(set: SetId, elements: &[Element]) -> Command {
    // An empty list is an error: the key is left out.
    let elements = (!elements.is_empty()).then(|| {
        elements
            .iter()
            .map(|element| element.expr(set.family()))
            .collect::<Vec<_>>()
    });
    if set == SetId::Window {
        let mut value = set.declared();
        if let Some(elements) = elements {
            value["elem"] = serde_json::to_value(elements).unwrap_or_default();
        }
        return Command::Raw(json!({ "add": { "set": value } }));
    }
    let mut declaration = set.declaration();
    declaration.elem = elements.map(Into::into);
    add(NfListObject::Set(Box::new(declaration)))
}

/// Empties a set that exists. Unlike the removal of elements this cannot fail because the kernel took one out meanwhile.
fn flush(set: SetId) -> Command {
    command(NfCmd::Flush(FlushObject::Set(Box::new(set.declaration()))))
}

fn text(commands: Vec<Command>) -> String {
    let document = Document { nftables: commands };
    serde_json::to_string(&document).unwrap_or_else(|_| unreachable!("typed documents always serialize"))
}

/// Cuts elements into groups that each fit a transaction, in the order of the sets: what closes comes before what opens.
fn groups(contents: &BTreeMap<SetId, Vec<Element>>) -> Vec<Vec<(SetId, &[Element])>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut room = BUDGET;
    for (&set, elements) in contents {
        let mut rest = elements.as_slice();
        let weight = weight(set, elements);
        while !rest.is_empty() {
            let fits = room / weight;
            if fits == 0 {
                groups.push(std::mem::take(&mut group));
                room = BUDGET;
                continue;
            }
            let (now, later) = rest.split_at(fits.min(rest.len()));
            room -= now.len() * weight;
            group.push((set, now));
            rest = later;
        }
    }
    groups.push(group);
    groups
}

/// The documents that make the table in a namespace that has none. The first holds everything but elements for which a
/// transaction has no room; until the last is in, the table is closed to what it doesn't hold yet. The first fails if
/// a table is there.
#[must_use]
pub fn create(layout: &Layout, contents: &Contents) -> Vec<String> {
    let mut groups = groups(&contents.sets).into_iter();
    let first: BTreeMap<SetId, &[Element]> = groups.next().unwrap_or_default().into_iter().collect();
    let mut commands = vec![command(NfCmd::Create(NfListObject::Table(Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    })))];
    commands.extend(COUNTERS.iter().map(|name| {
        add(NfListObject::Counter(Counter {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: (*name).into(),
            handle: None,
            packets: Some(0),
            bytes: Some(0),
        }))
    }));
    commands.extend(
        layout
            .sets
            .iter()
            .map(|set| declare(*set, first.get(set).copied().unwrap_or_default())),
    );
    commands.extend(chains().into_iter().map(|chain| add(NfListObject::Chain(chain))));
    commands.extend(
        rules(layout)
            .into_iter()
            .map(|rule| add(NfListObject::Rule(rule.into_rule()))),
    );
    let mut documents = vec![text(commands)];
    documents.extend(groups.map(|group| {
        text(
            group
                .into_iter()
                .map(|(set, elements)| declare(set, elements))
                .collect(),
        )
    }));
    documents
}

/// Whether an element of `set` at once covers what another does: their order within a transaction matters.
fn difference(from: &[Element], to: &[Element]) -> Vec<Element> {
    let other: BTreeSet<&Element> = to.iter().collect();
    from.iter()
        .filter(|element| !other.contains(element))
        .copied()
        .collect()
}

/// The documents that lead from one state of a table to another, in place. One document, unless more elements are added
/// than a transaction holds; then what is taken away and what is denied stands in the first. Nothing for no difference.
#[must_use]
pub fn change(from: &Layout, before: &Contents, to: &Layout, after: &Contents) -> Vec<String> {
    edit(from, before, to, after, from != to)
}

/// The same for a table whose rules are not to be relied upon: they are written anew.
#[must_use]
pub fn repair(from: &Layout, before: &Contents, to: &Layout, after: &Contents) -> Vec<String> {
    edit(from, before, to, after, true)
}

fn edit(from: &Layout, before: &Contents, to: &Layout, after: &Contents, rewrite: bool) -> Vec<String> {
    if from.timed && to.timed && from.mode != to.mode {
        // Packets that still see the old rules must not find the new mode's window: theirs may have closed by now.
        let mut between = after.clone();
        match before.sets.get(&SetId::Window) {
            Some(window) => between.sets.insert(SetId::Window, window.clone()),
            None => between.sets.remove(&SetId::Window),
        };
        let mut documents = edit_once(from, before, to, &between, true);
        documents.extend(edit_once(to, &between, to, after, false));
        return documents;
    }
    edit_once(from, before, to, after, rewrite)
}

fn edit_once(from: &Layout, before: &Contents, to: &Layout, after: &Contents, rewrite: bool) -> Vec<String> {
    let nothing = Vec::new();
    let of = |contents: &'_ Contents, set: &SetId| contents.sets.get(set).cloned().unwrap_or_else(|| nothing.clone());
    let mut removals = Vec::new();
    let mut additions = BTreeMap::new();
    for set in &to.sets {
        let (old, new) = (of(before, set), of(after, set));
        let gone = difference(&old, &new);
        let fresh = difference(&new, &old);
        let denies = matches!(set, SetId::Destinations(Class::Deny, ..));
        let mortal = old.iter().chain(&new).any(|element| element.life.is_some());
        if mortal && !(gone.is_empty() && fresh.is_empty()) {
            // As a whole: what is to be removed may have ended, and one that is there keeps its own time.
            if from.sets.contains(set) {
                removals.push(flush(*set));
            }
            if !new.is_empty() {
                additions.insert(*set, new);
            }
            continue;
        }
        if !gone.is_empty() {
            removals.push(command(NfCmd::Delete(NfListObject::Element(ElementCommand {
                family: NfFamily::INet,
                table: TABLE.into(),
                name: set.to_string().into(),
                elem: gone.iter().map(|element| element.expr(set.family())).collect(),
            }))));
        }
        if denies && !new.is_empty() {
            // All of them each time: what an interrupted command desired and did not bring would never come otherwise, as
            // it is no difference any more. What is there already passes.
            additions.insert(*set, new);
        } else if !fresh.is_empty() {
            additions.insert(*set, fresh);
        }
    }
    let mut groups = groups(&additions).into_iter();
    let mut commands = removals;
    let first: BTreeMap<SetId, &[Element]> = groups.next().unwrap_or_default().into_iter().collect();
    for set in &to.sets {
        match first.get(set) {
            Some(elements) => commands.push(declare(*set, elements)),
            None if !from.sets.contains(set) => commands.push(declare(*set, &[])),
            None => {}
        }
    }
    if rewrite {
        for chain in chains() {
            commands.push(add(NfListObject::Chain(chain.clone())));
            commands.push(command(NfCmd::Flush(FlushObject::Chain(nftables::schema::Chain {
                _type: None,
                hook: None,
                prio: None,
                policy: None,
                ..chain
            }))));
        }
        commands.extend(
            rules(to)
                .into_iter()
                .map(|rule| add(NfListObject::Rule(rule.into_rule()))),
        );
    }
    if commands.is_empty() {
        return Vec::new();
    }
    let mut documents = vec![text(commands)];
    documents.extend(groups.map(|group| {
        text(
            group
                .into_iter()
                .map(|(set, elements)| declare(set, elements))
                .collect(),
        )
    }));
    documents
}

/// Everything that [`create`] would apply, as one document for people and programs to read.
#[must_use]
pub fn preview(layout: &Layout, contents: &Contents) -> Value {
    let mut commands = Vec::new();
    for document in create(layout, contents) {
        if let Ok(mut value) = serde_json::from_str::<Value>(&document)
            && let Some(Value::Array(list)) = value.get_mut("nftables").map(Value::take)
        {
            commands.extend(list);
        }
    }
    json!({ "nftables": commands })
}
