//! Errors of the library, by what the caller can do about them.

use crate::audit::AuditError;
use crate::bundle::BundleError;
use crate::config::ConfigError;
use crate::kernel::KernelError;
use crate::lookup::LookupError;
use crate::podman::{ConfError, FlagError, HookError, LaunchError};
use crate::policy::{ContainerNameError, ProfileError, ProfileNameError, TargetError};
use crate::ruleset::SnapshotError;

/// How a command ends. Documented in the manual; scripts depend on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed, or the state is not as it should be.
    Failed = 1,
    /// Wrong usage: an argument, a profile or the configuration file is not right.
    Usage = 2,
    /// No such container, or none of ours.
    Missing = 3,
    /// The environment is not ready; the message names the command that mends it.
    Environment = 4,
    /// `run` did not come to Podman (Podman's own number for that).
    NotLaunched = 125,
}

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A container's name is none.
    #[error("container name {name:?}")]
    Name {
        /// As given.
        name: String,
        /// Why.
        source: ContainerNameError,
    },
    /// A target is none.
    #[error("target {target:?}")]
    Target {
        /// As given.
        target: String,
        /// Where and why.
        source: TargetError,
    },
    /// A profile's name is none.
    #[error("profile {name:?}")]
    ProfileName {
        /// As given.
        name: String,
        /// Why.
        source: ProfileNameError,
    },
    /// A profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A podman flag cannot be used.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// A launch cannot be put into flags.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A container of that name is there already.
    #[error("container {name} exists already; `podman start {name}` it, or `podman rm {name}` it first")]
    Exists {
        /// Its name.
        name: String,
    },
    /// The container is not running.
    #[error("container {name} is not running; start it with `podman start {name}`")]
    NotRunning {
        /// Its name.
        name: String,
    },
    /// A denial cannot be lifted for a time: the kernel can end a grant by itself, and can't bring a denial back.
    #[error("{target} is denied, and that cannot be lifted for a time: allow it for good, or not at all")]
    LiftedForATime {
        /// What was to be allowed for a time.
        target: String,
    },
    /// A length of time is none, or out of range.
    #[error("--for {given:?}: {why}")]
    Time {
        /// As given.
        given: String,
        /// What was expected.
        why: String,
    },
    /// More than one container is meant.
    #[error("{id} is the beginning of several containers' ids; give more of it")]
    Ambiguous {
        /// As given.
        id: String,
    },
    /// A name has no address and so cannot be allowed or denied.
    #[error("{name} does not resolve: {why}; nothing was changed")]
    Unresolved {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// The container runs and its network namespace is nowhere to be seen.
    #[error("no process of container {name} is left in the network namespace that was shielded; restart the container")]
    NamespaceLost {
        /// Its name.
        name: String,
    },
    /// The table is not ours, or not as it was written.
    #[error("the table of {name} is not as it was written: {drift}; restart the container")]
    Drifted {
        /// The container's name.
        name: String,
        /// The first difference.
        drift: String,
    },
    /// The hooks are not in place.
    #[error("{finding}; run `{mend}`")]
    Hooks {
        /// What is wrong.
        finding: String,
        /// The command that mends it.
        mend: String,
    },
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The kernel or libnftables.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A listing could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Looking names up.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Installing hooks.
    #[error(transparent)]
    Setup(#[from] HookError),
    /// Podman's configuration.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// Podman cannot be started.
    #[error("podman cannot be started; install podman")]
    Podman(#[source] std::io::Error),
}

impl Error {
    /// The exit status that tells a script what kind of error it is.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Name { .. }
            | Self::Target { .. }
            | Self::ProfileName { .. }
            | Self::Profile(_)
            | Self::Config(_)
            | Self::Flag(_)
            | Self::Launch(_)
            | Self::Time { .. }
            | Self::Ambiguous { .. } => Exit::Usage,
            Self::Bundle(BundleError::Missing { .. }) => Exit::Missing,
            Self::Hooks { .. } | Self::Setup(_) | Self::Conf(_) | Self::Podman(_) => Exit::Environment,
            _ => Exit::Failed,
        }
    }
}
