//! The state directory of one container.
//!
//! Everything in it is trusted once, at the door: the directory and each file must belong to us, be writable by nobody
//! else, and not be a link. Writers hold the lock; readers need none, because every file is replaced as a whole.
//!
//! | file | content |
//! | --- | --- |
//! | `policy.json` | desired state ([`PolicyFile`]) |
//! | `resolved.json` | names looked up ahead of time ([`ResolvedFile`]) |
//! | `running.json` | the running container, as the hook saw it ([`RunningFile`]); gone when it stops |
//! | `audit.jsonl` | the audit log |
//! | `hook-error.log` | why the last start was refused |
//! | `lock` | held by whoever changes something |

mod files;
mod store;

pub use files::{Ended, GrantRecord, Member, PolicyFile, ResolvedFile, ResolvedName, RunningFile, Settings, VERSION};
pub use store::{Bundle, Lock, list, note_refusal, owned_by, refusal};

use std::io;
use std::path::PathBuf;

/// Why a bundle could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is none of this name.
    #[error("no shielded container {name}; start one with `terok-shield run {name} -- IMAGE`")]
    Missing {
        /// The container's name.
        name: String,
    },
    /// It is not ours alone.
    #[error("{} {problem}; refusing to trust it", path.display())]
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file's content is not what it should be.
    #[error("{} is not usable: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
