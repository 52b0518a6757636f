//! A running container, found and asked about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shield;
use crate::Error;
use crate::bundle::{Bundle, BundleError, PolicyFile, RunningFile};
use crate::kernel::{self, Detail, KernelError, NetNamespace, Nft, Process, in_child};
use crate::policy::{Addresses, Mode, Moment, Policy};
use crate::ruleset::{Contents, Drift, Layout, SetId, Snapshot, SnapshotError, TABLE, change, compile, repair};

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
    pub(super) fn look(&self, bundle: &Bundle, listed: impl Fn(&PolicyFile) -> bool) -> Result<Look, Error> {
        let look = look_once(bundle, &listed)?;
        if matches!(look.state, State::Error(_)) {
            // Somebody may be in the middle of a change. Nobody is while we hold the lock.
            let _lock = bundle.lock()?;
            return look_once(bundle, &listed);
        }
        Ok(look)
    }

    /// The live table, exactly as libnftables prints it.
    pub fn rules(&self, bundle: &Bundle) -> Result<String, Error> {
        let running = running(bundle)?.ok_or_else(|| Error::NotRunning {
            name: bundle.name().to_string(),
        })?;
        Ok(in_child(&running.namespace, |nft| nft.list_table("inet", TABLE))?)
    }
}

/// What one look at the kernel found.
pub(super) struct Look {
    pub(super) state: State,
    /// Seconds until the mode is `up` again by itself.
    pub(super) left: Option<u32>,
    pub(super) counters: BTreeMap<String, (u64, u64)>,
}

impl Look {
    pub(super) fn of(state: State) -> Self {
        Self {
            state,
            left: None,
            counters: BTreeMap::new(),
        }
    }
}

/// What the child saw.
#[derive(Serialize, Deserialize)]
struct Seen {
    mode: Option<(Mode, Option<u32>)>,
    counters: BTreeMap<String, (u64, u64)>,
    drift: Vec<String>,
}

fn look_once(bundle: &Bundle, listed: impl Fn(&PolicyFile) -> bool) -> Result<Look, Error> {
    let desired = bundle.policy()?;
    let Some(running) = running(bundle)? else {
        return Ok(Look::of(if listed(&desired) {
            State::Error(vec![
                "the container is running and was not shielded at its start".to_owned(),
            ])
        } else {
            State::Inactive
        }));
    };
    let resolved = bundle.resolved()?;
    let now = kernel::now()?;
    let policy = desired.policy(running.file.upstreams.clone(), &now);
    let meant = Meant::new(&policy, &resolved.addresses(), &now);
    let seen: Seen = in_child(&running.namespace, |nft| {
        let (live, drift) = read_back(nft, &meant)?;
        Ok(Seen {
            mode: live.mode(),
            counters: live.counters().clone(),
            drift: drift.iter().map(ToString::to_string).collect(),
        })
    })?;
    if !running.process.is_alive() {
        return Ok(Look::of(State::Inactive));
    }
    let (state, left) = match (seen.mode, seen.drift.is_empty()) {
        (Some((mode, left)), true) => (State::Mode(mode), left),
        _ => (State::Error(seen.drift), None),
    };
    Ok(Look {
        state,
        left,
        counters: seen.counters,
    })
}

/// What a table is to hold, and the moment at which the time left of what ends was right.
pub(crate) struct Meant {
    pub(crate) layout: Layout,
    pub(crate) contents: Contents,
    pub(crate) at: Moment,
}

impl Meant {
    pub(crate) fn new(policy: &Policy, addresses: &Addresses, at: &Moment) -> Self {
        let contents = compile(policy, addresses);
        Self {
            layout: Layout::of(policy, &contents),
            contents,
            at: at.clone(),
        }
    }

    /// With the sets that a table has besides: one that was needed once stays.
    pub(crate) fn with_sets_of(mut self, live: &Layout) -> Self {
        self.layout.sets.extend(live.sets.iter().copied());
        self
    }

    /// Beyond so many elements a table is read back without them: the kernel has acknowledged each, and listing them takes
    /// longer than adding them.
    fn is_large(&self) -> bool {
        self.contents.sets.values().map(Vec::len).sum::<usize>() > READ_BACK_LIMIT
    }
}

pub(crate) fn snapshot(nft: &mut Nft, detail: Detail) -> Result<Snapshot, KernelError> {
    let listing: Value = nft.list_ruleset(detail)?;
    let unreadable = |error: SnapshotError| KernelError::Answer {
        message: error.to_string(),
    };
    match detail {
        Detail::Full => Snapshot::read(&listing).map_err(unreadable),
        Detail::Terse => {
            let mut snapshot = Snapshot::read_terse(&listing).map_err(unreadable)?;
            // Without its window nobody can tell the mode of a table in which one ends by itself.
            if snapshot
                .layout()
                .is_some_and(|live| live.timed && live.sets.contains(&SetId::Window))
            {
                let window = nft.list_set("inet", TABLE, &SetId::Window.to_string())?;
                snapshot.add_elements(&window).map_err(unreadable)?;
            }
            Ok(snapshot)
        }
    }
}

/// Reads the table back, elements included unless there are very many.
pub(crate) fn read_back(nft: &mut Nft, meant: &Meant) -> Result<(Snapshot, Vec<Drift>), KernelError> {
    let detail = if meant.is_large() { Detail::Terse } else { Detail::Full };
    let live = snapshot(nft, detail)?;
    let drift = live.drift(&meant.layout, &meant.contents, kernel::now()?.since(&meant.at));
    Ok((live, drift))
}

/// Names what is not as it was meant.
pub(crate) fn verify(nft: &mut Nft, meant: &Meant) -> Result<Vec<Drift>, KernelError> {
    Ok(read_back(nft, meant)?.1)
}

/// Brings a table from `old` to what is meant, and says what is still not so. If it did not hold `old`, because a command
/// was interrupted or somebody edited it, it is read in full and led from what it does hold.
pub(crate) fn edit(nft: &mut Nft, old: &Contents, meant: Meant) -> Result<Option<String>, KernelError> {
    let live = snapshot(nft, Detail::Terse)?;
    let Some(from) = live.layout() else {
        let drift = live.drift(&meant.layout, &meant.contents, 0);
        return Ok(drift.first().map(ToString::to_string));
    };
    let meant = meant.with_sets_of(&from);
    let applied = change(&from, old, &meant.layout, &meant.contents)
        .iter()
        .try_for_each(|document| nft.apply(document));
    match applied {
        Ok(()) if verify(nft, &meant)?.is_empty() => return Ok(None),
        Ok(()) | Err(KernelError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    let live = snapshot(nft, Detail::Full)?;
    for document in repair(&from, &live.contents(), &meant.layout, &meant.contents) {
        nft.apply(&document)?;
    }
    Ok(verify(nft, &meant)?.first().map(ToString::to_string))
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
