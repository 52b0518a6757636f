//! What the OCI runtime and Podman run at a container's start and stop.
//!
//! A container that was meant to be shielded starts shielded or not at all: whatever is in doubt here is a refusal, and
//! a refusal is an exit status other than zero, on which the runtime gives the container up before its program has run.
//! The reason goes to standard error, to `hook-error.log` and to the audit log; the first of these Podman often
//! swallows.

mod annotated;
mod apply;
mod claim;
mod guard;
mod late;
mod monitor;
mod mountinfo;
mod mounts;
mod name;
mod oci;
mod pasta;
mod pod;
mod poststop;
mod precreate;
mod resolvers;
mod seccomp;
mod surroundings;
mod vsock;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::audit::{self, Action, Event};
use crate::bundle::{self, Bundle};
use crate::policy::ContainerName;
pub use mounts::Protected;
pub use surroundings::Surroundings;

/// Why a container is not started: one line for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    reason: String,
}

impl Refusal {
    /// Paths and names in a reason come from others: what could forge a line or a colour is taken out.
    fn new(reason: impl AsRef<str>) -> Self {
        Self {
            reason: audit::printable(reason.as_ref(), REASON_LIMIT),
        }
    }
}

/// Longest reason, in characters: two paths and a sentence.
const REASON_LIMIT: usize = 1024;

/// Turns any error into a refusal, with its causes.
impl Refusal {
    fn because(error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(": ");
            reason.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(reason)
    }
}

macro_rules! refusal_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::because(&error)
            }
        }
    )*};
}

refusal_from!(
    crate::bundle::BundleError,
    crate::kernel::KernelError,
    crate::audit::AuditError,
    crate::ruleset::SnapshotError,
    crate::lookup::LookupError,
    crate::config::ConfigError,
    crate::policy::ProfileError,
    crate::Error
);

/// Stages that hooks are installed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Podman's own: may edit the configuration before the runtime sees it.
    Precreate,
    /// The namespaces exist, the program has not been started.
    CreateRuntime,
    /// The container is gone.
    Poststop,
}

impl Stage {
    /// The stage of that name, as OCI spells it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "precreate" => Some(Self::Precreate),
            "createRuntime" => Some(Self::CreateRuntime),
            "poststop" => Some(Self::Poststop),
            _ => None,
        }
    }
}

/// Largest input on standard input, in bytes.
const INPUT_LIMIT: u64 = 16 * 1024 * 1024;

/// Runs the hook for a stage and returns the process's exit status.
#[must_use]
pub fn run(stage: Option<&str>) -> u8 {
    let mut about = Subject::default();
    let result = match stage.and_then(Stage::named) {
        None => Err(Refusal::new(
            "usage: terok-shield hook precreate|createRuntime|poststop",
        )),
        Some(stage) => read_input().and_then(|input| match stage {
            Stage::Precreate => precreate::run(&input, &mut about),
            Stage::CreateRuntime => apply::run(&input, &mut about),
            Stage::Poststop => poststop::run(&input, &mut about),
        }),
    };
    match result {
        Ok(()) => 0,
        Err(refusal) => {
            report(&about, &refusal);
            1
        }
    }
}

/// What a refusal is about, as far as it is known when it happens.
#[derive(Debug, Default)]
struct Subject {
    surroundings: Option<Surroundings>,
    name: Option<ContainerName>,
}

fn report(about: &Subject, refusal: &Refusal) {
    let name = about.name.as_ref().map_or("a container", |name| name.as_ref());
    eprintln!("terok-shield: refused to start {name}: {refusal}");
    let Some(state) = about.surroundings.as_ref().map(|s| s.state_dir.as_path()) else {
        return;
    };
    bundle::note_refusal(state, about.name.as_ref(), &refusal.to_string());
    if let Some(name) = &about.name
        && let Ok(bundle) = Bundle::open(state, name)
    {
        // The refusal stands whether or not it can be logged.
        let _ = bundle
            .log()
            .append(&Event::new(name.as_ref(), Action::Error).detail(format!("start refused: {refusal}")));
    }
}

fn read_input() -> Result<Vec<u8>, Refusal> {
    let mut input = Vec::new();
    std::io::stdin()
        .take(INPUT_LIMIT + 1)
        .read_to_end(&mut input)
        .map_err(|error| Refusal::new(format!("cannot read standard input: {error}")))?;
    if input.len() as u64 > INPUT_LIMIT {
        return Err(Refusal::new("standard input is too large"));
    }
    Ok(input)
}

/// Whose a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Ours or root's.
    Trusted,
    /// Anybody's: with a user namespace of its own, the container's root owns what Podman makes for it.
    Any,
}

/// Reads a file of the runtime's: regular, not a link, not writable by everybody.
fn read_file(path: &Path, owner: Owner, limit: u64) -> Result<Vec<u8>, Refusal> {
    let failed = |what: &str| Refusal::new(format!("{} {what}", path.display()));
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| failed(&format!("cannot be read: {error}")))?;
    let meta = file
        .metadata()
        .map_err(|error| failed(&format!("cannot be examined: {error}")))?;
    if !meta.is_file() {
        return Err(failed("is not a regular file"));
    }
    let trusted = [nix::unistd::geteuid().as_raw(), 0].contains(&meta.uid());
    if owner == Owner::Trusted && !trusted {
        return Err(failed("belongs to another user"));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(failed("is writable by everybody"));
    }
    let mut text = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut text)
        .map_err(|error| failed(&format!("cannot be read: {error}")))?;
    if text.len() as u64 > limit {
        return Err(failed("is too large"));
    }
    Ok(text)
}
