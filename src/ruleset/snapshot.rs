//! A live table, read back: is it ours, in which mode, and what about it is not as it should be.
//!
//! The reader is tolerant in form and strict in content: objects it does not know, in our table, are themselves a
//! difference. Nothing is recognised by searching text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::TABLE;
use super::contents::Contents;
use super::element::Element;
use super::layout::{COUNTERS, Layout, chains, read_marker, rules};
use super::render::rule_text;
use super::sets::SetId;
use crate::policy::Mode;

/// A listing that is not in the form libnftables documents.
#[derive(Debug, thiserror::Error)]
#[error("the listing of the table cannot be read: {0}")]
pub struct SnapshotError(String);

#[derive(Debug, Clone, PartialEq)]
struct LiveRule {
    comment: Option<String>,
    expr: Value,
}

#[derive(Debug, Clone, PartialEq)]
struct LiveSet {
    declaration: Value,
    /// `None` in a terse listing.
    elements: Option<Vec<Element>>,
    unreadable: usize,
}

/// Our table as the kernel has it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    terse: bool,
    present: bool,
    chains: BTreeMap<String, Value>,
    rules: BTreeMap<String, Vec<LiveRule>>,
    sets: BTreeMap<String, LiveSet>,
    counters: BTreeMap<String, (u64, u64)>,
    strangers: Vec<String>,
}

/// One difference between the live table and the one that was meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// There is no table.
    NoTable,
    /// Its first rule does not say what it is, so it is not ours.
    Unmarked,
    /// It is in another mode, or refuses in another way, than it should.
    Mode(String, String),
    /// A chain, set or counter is missing.
    Missing(String),
    /// A chain or set is declared otherwise.
    Declared(String),
    /// Something is there that should not be.
    Foreign(String),
    /// A rule is missing: chain and rule.
    RuleMissing(String, String),
    /// A rule is there that should not be: chain and rule.
    RuleForeign(String, String),
    /// The rules of a chain stand in another order.
    Order(String),
    /// Elements are missing: set, how many, the first.
    ElementsMissing(String, usize, String),
    /// Elements are there that should not be: set, how many, the first.
    ElementsForeign(String, usize, String),
    /// An element ends at another time than it should, or never: set, element.
    Life(String, String),
}

/// Seconds by which an element may end before or after it should: its time begins when the kernel takes it, which is a little
/// after it was written down, and both are whole seconds.
const CLOCK_SLACK: u32 = 5;

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => write!(f, "the table inet {TABLE} is missing"),
            Self::Unmarked => write!(
                f,
                "the table inet {TABLE} is not one of ours: its first rule is not our mark"
            ),
            Self::Mode(live, meant) => write!(f, "the table is {live} and should be {meant}"),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Declared(what) => write!(f, "{what} is declared otherwise"),
            Self::Foreign(what) => write!(f, "{what} should not be there"),
            Self::RuleMissing(chain, rule) => write!(f, "chain {chain}: a rule is missing: {rule}"),
            Self::RuleForeign(chain, rule) => write!(f, "chain {chain}: a rule should not be there: {rule}"),
            Self::Order(chain) => write!(f, "chain {chain}: its rules stand in another order"),
            Self::ElementsMissing(set, 1, first) => write!(f, "set {set}: {first} is missing"),
            Self::ElementsMissing(set, count, first) => {
                write!(f, "set {set}: {count} elements are missing, {first} among them")
            }
            Self::ElementsForeign(set, 1, first) => write!(f, "set {set}: {first} should not be there"),
            Self::ElementsForeign(set, count, first) => {
                write!(f, "set {set}: {count} elements should not be there, {first} among them")
            }
            Self::Life(set, element) => write!(f, "set {set}: {element} does not end when it should"),
        }
    }
}

fn string(object: &Value, key: &str) -> Result<String, SnapshotError> {
    object
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| SnapshotError(format!("an object has no {key}")))
}

/// Without what the kernel adds (handles), and with optional parts in one form.
fn declaration(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        for key in ["handle", "elem", "size", "comment"] {
            map.remove(key);
        }
        if let Some(Value::Array(flags)) = map.get_mut("flags") {
            flags.sort_by_key(ToString::to_string);
        }
    }
    object
}

/// Nulls that stand for "not given" in typed documents, and never in a listing. (`{"accept": null}` is no such null.)
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => {
            for item in items {
                *item = without_nulls(item.take());
            }
        }
        Value::Object(map) => {
            map.retain(|key, item| {
                !item.is_null() || matches!(key.as_str(), "accept" | "drop" | "return" | "continue")
            });
            for item in map.values_mut() {
                *item = without_nulls(item.take());
            }
        }
        _ => {}
    }
    value
}

impl Snapshot {
    /// Reads our table from a listing of a ruleset or of the table, with elements.
    pub fn read(listing: &Value) -> Result<Self, SnapshotError> {
        Self::default().reading(listing)
    }

    /// The same from a terse listing, which has no elements.
    pub fn read_terse(listing: &Value) -> Result<Self, SnapshotError> {
        let terse = Self {
            terse: true,
            ..Self::default()
        };
        terse.reading(listing)
    }

    fn reading(mut self, listing: &Value) -> Result<Self, SnapshotError> {
        let objects = listing
            .get("nftables")
            .and_then(Value::as_array)
            .ok_or_else(|| SnapshotError("it has no list of objects".to_owned()))?;
        for object in objects {
            let Some((kind, body)) = object.as_object().and_then(|map| map.iter().next()) else {
                return Err(SnapshotError("an entry is not an object".to_owned()));
            };
            let in_table = |key: &str| body.get(key).and_then(Value::as_str) == Some(TABLE);
            if body.get("family").and_then(Value::as_str) != Some("inet") {
                continue;
            }
            if kind == "table" {
                self.present |= in_table("name");
            } else if in_table("table") {
                self.take(kind, body)?;
            }
        }
        Ok(self)
    }

    fn take(&mut self, kind: &str, body: &Value) -> Result<(), SnapshotError> {
        match kind {
            "chain" => {
                self.chains.insert(string(body, "name")?, declaration(body));
            }
            "rule" => self.rules.entry(string(body, "chain")?).or_default().push(LiveRule {
                comment: body.get("comment").and_then(Value::as_str).map(str::to_owned),
                expr: body.get("expr").cloned().unwrap_or_default(),
            }),
            "set" => {
                let listed = match body.get("elem") {
                    Some(Value::Array(list)) => list.as_slice(),
                    Some(one) => std::slice::from_ref(one),
                    None => &[],
                };
                let mut elements: Vec<Element> = listed.iter().filter_map(Element::read).collect();
                elements.sort_unstable();
                self.sets.insert(
                    string(body, "name")?,
                    LiveSet {
                        declaration: declaration(body),
                        unreadable: listed.len() - elements.len(),
                        elements: (!self.terse).then_some(elements),
                    },
                );
            }
            "counter" => {
                let number = |key| body.get(key).and_then(Value::as_u64).unwrap_or(0);
                self.counters
                    .insert(string(body, "name")?, (number("packets"), number("bytes")));
            }
            other => self.strangers.push(format!(
                "{other} {}",
                body.get("name").and_then(Value::as_str).unwrap_or("without a name")
            )),
        }
        Ok(())
    }

    /// Whether there is a table of our name.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// The layout that it claims to have, with the sets that exist.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        let first = self.rules.get("output")?.first()?;
        Some(Layout {
            sets: self.sets.keys().filter_map(|name| name.parse().ok()).collect(),
            ..read_marker(first.comment.as_deref()?)?
        })
    }

    /// The mode that it is in, with the seconds that are left of it: one that ends by itself, and has ended, is `up`.
    /// From a terse listing only if [`Snapshot::add_elements`] brought the window.
    #[must_use]
    pub fn mode(&self) -> Option<(Mode, Option<u32>)> {
        let layout = self.layout()?;
        if !layout.timed {
            return Some((layout.mode, None));
        }
        let window = self.sets.get(&SetId::Window.to_string());
        let elements = window.and_then(|set| set.elements.as_ref());
        let left = elements.and_then(|elements| elements.iter().filter_map(|element| element.life).max());
        Some(left.map_or((Mode::Up, None), |left| (layout.mode, Some(left))))
    }

    /// Takes the elements of one set from a listing of it, where the snapshot was made from a terse one.
    pub fn add_elements(&mut self, listing: &Value) -> Result<(), SnapshotError> {
        self.sets.extend(Self::read(listing)?.sets);
        Ok(())
    }

    /// Packets and bytes of each named counter.
    #[must_use]
    pub fn counters(&self) -> &BTreeMap<String, (u64, u64)> {
        &self.counters
    }

    /// The elements that it holds.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents {
            sets: self
                .sets
                .iter()
                .filter_map(|(name, set)| Some((name.parse().ok()?, set.elements.clone()?)))
                .collect(),
            notes: BTreeSet::new(),
        }
    }

    /// Compares with what was meant; nothing means that they agree. Sets whose elements were not listed are not compared
    /// by them. `late` is how many seconds ago the lives in `contents` were right.
    #[must_use]
    pub fn drift(&self, meant: &Layout, contents: &Contents, late: u32) -> Vec<Drift> {
        if !self.present {
            return vec![Drift::NoTable];
        }
        let Some(live) = self.layout() else {
            return vec![Drift::Unmarked];
        };
        let mut drift = Vec::new();
        self.mode_drift(&live, meant, contents, late, &mut drift);
        self.chain_drift(&mut drift);
        self.set_drift(meant, &mut drift);
        self.rule_drift(&live, &mut drift);
        for name in COUNTERS {
            if !self.counters.contains_key(name) {
                drift.push(Drift::Missing(format!("counter {name}")));
            }
        }
        for name in self.counters.keys().filter(|name| !COUNTERS.contains(&name.as_str())) {
            drift.push(Drift::Foreign(format!("counter {name}")));
        }
        drift.extend(self.strangers.iter().cloned().map(Drift::Foreign));
        self.element_drift(contents, late, &mut drift);
        drift
    }

    fn mode_drift(&self, live: &Layout, meant: &Layout, contents: &Contents, late: u32, drift: &mut Vec<Drift>) {
        // A mode that has ended is as good as `up`, whether or not the rules were written anew since.
        let (now, left) = self.mode().unwrap_or((live.mode, None));
        let about_to_end = left.is_some_and(|left| left <= CLOCK_SLACK) && meant.mode == Mode::Up;
        let just_ended = live.timed && left.is_none() && meant.timed && {
            let window = contents.sets.get(&SetId::Window);
            window.is_none_or(|elements| elements.iter().all(|element| element.life <= Some(late + CLOCK_SLACK)))
        };
        let same = now == meant.mode && left.is_some() == meant.timed;
        if live.refuse != meant.refuse || !(same || about_to_end || just_ended) {
            let words = |mode: Mode, timed: bool, layout: &Layout| {
                let timed = if timed { " for a time" } else { "" };
                format!("{mode}{timed} (refuse {})", layout.refuse)
            };
            drift.push(Drift::Mode(
                words(now, left.is_some(), live),
                words(meant.mode, meant.timed, meant),
            ));
        }
    }

    fn chain_drift(&self, drift: &mut Vec<Drift>) {
        let mut known = BTreeSet::new();
        for chain in chains() {
            let name = chain.name.to_string();
            let meant = declaration(&serde_json::to_value(&chain).unwrap_or_default());
            match self.chains.get(&name) {
                None => drift.push(Drift::Missing(format!("chain {name}"))),
                Some(live) if *live != meant => drift.push(Drift::Declared(format!("chain {name}"))),
                Some(_) => {}
            }
            known.insert(name);
        }
        drift.extend(
            self.chains
                .keys()
                .filter(|name| !known.contains(*name))
                .map(|name| Drift::Foreign(format!("chain {name}"))),
        );
    }

    fn set_drift(&self, meant: &Layout, drift: &mut Vec<Drift>) {
        for set in &meant.sets {
            if !self.sets.contains_key(&set.to_string()) {
                drift.push(Drift::Missing(format!("set {set}")));
            }
        }
        for (name, live) in &self.sets {
            // A set that was needed once may stay; it is judged by its elements.
            let Ok(set) = name.parse::<SetId>() else {
                drift.push(Drift::Foreign(format!("set {name}")));
                continue;
            };
            let declared = declaration(&set.declared());
            if live.declaration != declared {
                drift.push(Drift::Declared(format!("set {name}")));
            }
        }
    }

    fn rule_drift(&self, live: &Layout, drift: &mut Vec<Drift>) {
        let mut meant: BTreeMap<&str, Vec<LiveRule>> = BTreeMap::new();
        for rule in rules(live) {
            meant.entry(rule.chain).or_default().push(LiveRule {
                expr: without_nulls(serde_json::to_value(&rule.statements).unwrap_or_default()),
                comment: rule.comment,
            });
        }
        let none = Vec::new();
        for chain in chains() {
            let name = chain.name.as_ref();
            let wanted = meant.get(name).unwrap_or(&none);
            let there = self.rules.get(name).unwrap_or(&none);
            if wanted == there {
                continue;
            }
            let mut foreign: Vec<&LiveRule> = there.iter().collect();
            let before = drift.len();
            for rule in wanted {
                match foreign.iter().position(|other| *other == rule) {
                    Some(index) => {
                        foreign.remove(index);
                    }
                    None => drift.push(Drift::RuleMissing(name.to_owned(), rule_text(&rule.expr))),
                }
            }
            drift.extend(
                foreign
                    .into_iter()
                    .map(|rule| Drift::RuleForeign(name.to_owned(), rule_text(&rule.expr))),
            );
            if drift.len() == before {
                drift.push(Drift::Order(name.to_owned()));
            }
        }
    }

    fn element_drift(&self, contents: &Contents, late: u32, drift: &mut Vec<Drift>) {
        let none = Vec::new();
        for (name, live) in &self.sets {
            let Some(listed) = &live.elements else { continue };
            let meant = name
                .parse()
                .ok()
                .and_then(|set: SetId| contents.sets.get(&set))
                .unwrap_or(&none);
            if live.unreadable > 0 {
                drift.push(Drift::Foreign(format!(
                    "{} elements of set {name} that cannot be read",
                    live.unreadable
                )));
            }
            let lives = |elements: &[Element]| -> BTreeMap<Element, Option<u32>> {
                elements
                    .iter()
                    .map(|element| (element.lasting(), element.life))
                    .collect()
            };
            let (meant, there) = (lives(meant), lives(listed));
            let lacking =
                |from: &BTreeMap<Element, Option<u32>>, other: &BTreeMap<Element, Option<u32>>, slack: u32| {
                    from.iter()
                        .filter(|(element, life)| !other.contains_key(element) && life.is_none_or(|life| life > slack))
                        .map(|(element, _)| *element)
                        .collect::<Vec<_>>()
                };
            let missing = lacking(&meant, &there, late + CLOCK_SLACK);
            if let Some(first) = missing.first() {
                drift.push(Drift::ElementsMissing(name.clone(), missing.len(), first.to_string()));
            }
            let foreign = lacking(&there, &meant, CLOCK_SLACK);
            if let Some(first) = foreign.first() {
                drift.push(Drift::ElementsForeign(name.clone(), foreign.len(), first.to_string()));
            }
            for (element, life) in &meant {
                let agrees = match (life, there.get(element)) {
                    (_, None) | (None, Some(None)) => true,
                    (Some(meant), Some(Some(live))) => {
                        *live <= meant + CLOCK_SLACK && live + late + CLOCK_SLACK >= *meant
                    }
                    (None, Some(Some(_))) | (Some(_), Some(None)) => false,
                };
                if !agrees {
                    drift.push(Drift::Life(name.clone(), element.to_string()));
                }
            }
        }
    }
}
