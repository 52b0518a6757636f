//! The audit log: one JSON object a line, in the bundle of the container it is about.
//!
//! What is written here is what happened; nothing reads it to decide anything.

mod event;
mod log;

pub use event::{Action, Event, printable};
pub use log::{AuditError, Log, read_all, read_file};
