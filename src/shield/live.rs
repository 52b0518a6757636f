//! A running container, found and asked about.

use serde_json::Value;

use super::Shield;
use crate::Error;
use crate::bundle::{Bundle, BundleError, PolicyFile, RunningFile};
use crate::kernel::{self, Detail, KernelError, NetNamespace, Nft, Process, in_child};
use crate::policy::{Mode, Refuse};
use crate::ruleset::{Contents, Drift, Layout, Snapshot, TABLE, compile};

/// Beyond so many elements a table is read back without them: the kernel has acknowledged each, and listing them takes longer
/// than adding them.
const READ_BACK_LIMIT: usize = 4096;

/// The state of a container's firewall, from the kernel alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The table is as it should be, in this mode.
    Mode(Mode),
    /// The container is not running.
    Inactive,
    /// The container is running and its table is not as it should be: why.
    Error(Vec<String>),
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mode(mode) => mode.fmt(f),
            Self::Inactive => f.write_str("inactive"),
            Self::Error(_) => f.write_str("error"),
        }
    }
}

/// A running container, held so that it cannot be mistaken for another.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) namespace: NetNamespace,
    pub(super) file: RunningFile,
}

impl Shield {
    /// The state of a container's firewall. `listed` tells whether Podman says that the container runs; it is asked only
    /// where our own record does not settle it.
    pub fn state(&self, bundle: &Bundle, listed: impl Fn(&PolicyFile) -> bool) -> Result<State, Error> {
        match self.look(bundle, &listed)? {
            // Somebody may be in the middle of a change. Nobody is while we hold the lock.
            State::Error(_) => {
                let _lock = bundle.lock()?;
                self.look(bundle, &listed)
            }
            state => Ok(state),
        }
    }

    fn look(&self, bundle: &Bundle, listed: impl Fn(&PolicyFile) -> bool) -> Result<State, Error> {
        let desired = bundle.policy()?;
        let Some(running) = running(bundle)? else {
            return Ok(if listed(&desired) {
                State::Error(vec![
                    "the container is running and was not shielded at its start".to_owned(),
                ])
            } else {
                State::Inactive
            });
        };
        let resolved = bundle.resolved()?;
        let contents = compile(&desired.policy(running.file.upstreams.clone()), &resolved.addresses());
        let meant = layout(desired.mode, desired.settings.refuse, &contents);
        let drift: Vec<String> = in_child(&running.namespace, |nft| {
            Ok(verify(nft, &meant, &contents)?
                .iter()
                .map(ToString::to_string)
                .collect())
        })?;
        if !running.process.is_alive() {
            return Ok(State::Inactive);
        }
        Ok(if drift.is_empty() {
            State::Mode(desired.mode)
        } else {
            State::Error(drift)
        })
    }

    /// The live table, exactly as libnftables prints it.
    pub fn rules(&self, bundle: &Bundle) -> Result<String, Error> {
        let running = running(bundle)?.ok_or_else(|| Error::NotRunning {
            name: bundle.name().to_string(),
        })?;
        Ok(in_child(&running.namespace, |nft| nft.list_table("inet", TABLE))?)
    }
}

/// The layout that a policy asks for: sets exist where they are needed.
pub(crate) fn layout(mode: Mode, refuse: Refuse, contents: &Contents) -> Layout {
    Layout {
        mode,
        refuse,
        sets: contents.sets.keys().copied().collect(),
    }
}

pub(crate) fn snapshot(nft: &mut Nft, detail: Detail) -> Result<Snapshot, KernelError> {
    let listing: Value = nft.list_ruleset(detail)?;
    Snapshot::read(&listing).map_err(|error| KernelError::Answer {
        message: error.to_string(),
    })
}

/// Reads the table back, elements included unless there are very many, and names what is not as it was meant.
pub(crate) fn verify(nft: &mut Nft, meant: &Layout, contents: &Contents) -> Result<Vec<Drift>, KernelError> {
    let many = contents.sets.values().map(Vec::len).sum::<usize>() > READ_BACK_LIMIT;
    let detail = if many { Detail::Terse } else { Detail::Full };
    Ok(snapshot(nft, detail)?.drift(meant, (!many).then_some(contents)))
}

/// The running container that the hook noted, if it is still the same one.
pub(super) fn running(bundle: &Bundle) -> Result<Option<Running>, Error> {
    let file = match bundle.running() {
        Ok(Some(file)) => file,
        // Not flushed, as it means nothing after a reboot: a power cut may leave anything of it.
        Ok(None) | Err(BundleError::Malformed { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.boot_id != kernel::boot_id()? {
        return Ok(None);
    }
    let gone = |error| match error {
        KernelError::Gone { .. } => Ok(None),
        other => Err(Error::from(other)),
    };
    let process = match Process::open(file.pid) {
        Ok(process) => process,
        Err(error) => return gone(error),
    };
    match process.start_time() {
        Ok(time) if time == file.start_time => {}
        Ok(_) => return Ok(None),
        Err(error) => return gone(error),
    }
    let namespace = match process.net_namespace() {
        Ok(namespace) if namespace.id() == file.net_namespace => namespace,
        // It needs no capability to move to a new namespace in a user namespace of its own, and leave its children behind in
        // the one that is online. That one is the one we want.
        Ok(_) => match NetNamespace::find(file.net_namespace)? {
            Some(namespace) => namespace,
            None if process.is_alive() => {
                return Err(Error::NamespaceLost {
                    name: bundle.name().to_string(),
                });
            }
            None => return Ok(None),
        },
        Err(error) => return gone(error),
    };
    Ok(Some(Running {
        process,
        namespace,
        file,
    }))
}
