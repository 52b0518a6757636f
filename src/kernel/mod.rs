//! The one door to a container's table: hold its first process, enter its network namespace, hand libnftables
//! a document, read the table back.
//!
//! All `unsafe` code of the crate lives in this room. It knows nothing of policies: what a document means is
//! `ruleset`'s business, and which container it is for is `shield`'s.

#![allow(unsafe_code)]

mod child;
mod clock;
mod held;
mod leftover;
mod namespace;
mod nft;
mod process;
mod sockets;
mod spawn;
mod tun;

pub use child::{in_child, in_new_namespaces};
pub use clock::now;
pub use held::{Edge, Held, Orphaned};
pub use leftover::{Ready, end_after, leave_behind};
pub use namespace::{NamespaceId, NetNamespace};
pub use nft::{Detail, Nft};
pub use process::{Process, boot_id, parent_pid, random_id};
pub use sockets::{Socket, Sockets};
pub use spawn::run_to_end;
pub use tun::Tun;

/// Why the kernel or libnftables did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The process ended, or its number now belongs to another one.
    #[error("process {pid} is gone")]
    Gone {
        /// Number of the process in our pid namespace.
        pid: i32,
    },
    /// A system call failed.
    #[error("cannot {operation} {subject}: {}", errno_text(.source))]
    System {
        /// What was being done, as a verb.
        operation: &'static str,
        /// What it was done to.
        subject: String,
        /// The errno.
        source: std::io::Error,
    },
    /// libnftables refused a document; nothing of it was applied.
    #[error("nftables refused the change: {message}")]
    Refused {
        /// libnftables' own words, on one line.
        message: String,
    },
    /// libnftables' answer could not be read.
    #[error("nftables gave an answer that cannot be read: {message}")]
    Answer {
        /// What is wrong with it.
        message: String,
    },
    /// The child that ran libnftables ended without an answer.
    #[error("nftables ended unexpectedly ({how}); nothing is known to have changed")]
    Crashed {
        /// Signal or exit status.
        how: String,
    },
    /// The child that ran libnftables failed; its words are all that is left of the error.
    #[error("{message}")]
    Remote {
        /// The child's error, on one line.
        message: String,
    },
}

fn errno_text(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |code| nix::errno::Errno::from_raw(code).desc().to_owned(),
    )
}

impl KernelError {
    pub(crate) fn system(
        operation: &'static str,
        subject: impl Into<String>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::System {
            operation,
            subject: subject.into(),
            source: source.into(),
        }
    }
}
