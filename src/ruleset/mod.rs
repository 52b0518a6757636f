//! From a policy to libnftables documents, and from a live listing back to what it means. Pure: nothing here touches a
//! kernel, a file or a clock.
//!
//! [`compile`] says what stands in which set, [`Layout`] which rules a table has, [`create`] and [`change`] make the
//! documents, [`Snapshot`] reads a table back and names every difference.

mod cases;
mod contents;
mod document;
mod element;
mod layout;
mod render;
mod sets;
mod snapshot;
mod verdict;
mod words;

pub use cases::{Case, cases};
pub use contents::{Contents, Note, compile, covered_explicitly};
pub use document::{change, create, preview, repair};
pub use element::{Element, Span};
pub use layout::{COUNTERS, Layout, RuleSpec, chains, marker, rules};
pub use render::{rule_text, table_text};
pub use sets::{Class, Family, Kind, Reserved, SetId};
pub use snapshot::{Drift, Snapshot, SnapshotError};
pub use verdict::{Decision, Verdict, decide};
pub use words::LOG_GROUP;

/// Our table, of family `inet`.
pub const TABLE: &str = "terok_shield";

/// Version of the table's form. A table of another form is not ours to edit.
pub const FORMAT: u32 = 1;
