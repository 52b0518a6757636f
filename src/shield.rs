//! What an operator can do to containers: launch one with a policy, change it, ask about it.
//!
//! Desired state is written first, then the kernel is changed; if the kernel refuses, the desired state goes back. Both
//! happen under the bundle's lock, so two commands at once never lose an update.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::Value;

use crate::Error;
use crate::audit::{self, Event};
use crate::bundle::{self, Bundle, BundleError, Lock, PolicyFile, ResolvedFile, RunningFile, Settings, VERSION};
use crate::config::{Config, Paths};
use crate::kernel::{self, Detail, KernelError, NetNamespace, Nft, Process, in_child};
use crate::lookup::{self, Shortfall};
use crate::policy::{self, Action, ContainerName, Destination, Entry, Grant, Mode, ProfileName, PublishedPort, Target};
use crate::profiles::Profiles;
use crate::ruleset::{Contents, Drift, Layout, Snapshot, TABLE, change, compile, repair};

/// Beyond so many elements a table is read back without them (see `hook::apply`).
const READ_BACK_LIMIT: usize = 4096;

/// Called while names are looked up: how many of how many are done.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Access to the shielded containers of one user.
#[derive(Debug, Clone)]
pub struct Shield {
    /// Where his files are.
    pub paths: Paths,
    /// What his configuration says.
    pub config: Config,
}

/// What a launch asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Profiles; the configured ones if empty.
    pub profiles: Vec<ProfileName>,
    /// Targets to allow beside them, for good.
    pub allow: Vec<Target>,
    /// Ports that Podman publishes.
    pub published: Vec<PublishedPort>,
    /// Places that the container must not see.
    pub protected: Vec<PathBuf>,
    /// Podman removes a container of that name first.
    pub replace: bool,
}

/// What a launch came to.
#[derive(Debug)]
pub struct Prepared {
    /// The bundle, ready for the hook.
    pub bundle: Bundle,
    /// The profiles it was made from.
    pub profiles: Vec<ProfileName>,
    /// What did not resolve.
    pub shortfall: Shortfall,
    /// The policy of the container that Podman is to remove first.
    replaced: Option<PolicyFile>,
}

/// What allowing or denying came to.
#[derive(Debug)]
pub struct Outcome {
    /// Addresses that the target stands for; none for a network or for a name without any.
    pub addresses: Vec<IpAddr>,
    /// Whether anything was changed.
    pub changed: bool,
    /// Why an allowed target stays closed nevertheless.
    pub still_denied_by: Option<Target>,
}

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
struct Running {
    process: Process,
    namespace: NetNamespace,
    file: RunningFile,
}

impl Shield {
    /// The user's own, from the environment and the configuration file.
    pub fn open() -> Result<Self, Error> {
        let paths = Paths::for_user()?;
        let config = Config::load(&paths)?;
        Ok(Self { paths, config })
    }

    /// Where profiles come from.
    #[must_use]
    pub fn profiles(&self) -> Profiles {
        Profiles {
            user_dir: Some(self.paths.profiles()),
        }
    }

    /// The profiles to use where `given` names none, and their targets.
    pub fn targets(&self, given: &[ProfileName]) -> Result<(Vec<ProfileName>, Vec<Entry>), Error> {
        let names = if given.is_empty() { &self.config.profiles } else { given };
        Ok((names.to_vec(), policy::load(names, &self.profiles())?))
    }

    /// The bundle of a container given by name, full id, or the first 12 digits or more of its id.
    pub fn find(&self, given: &str) -> Result<Bundle, Error> {
        let name: ContainerName = given.parse().map_err(|source| Error::Name {
            name: given.to_owned(),
            source,
        })?;
        match Bundle::open(&self.paths.state, &name) {
            Err(BundleError::Missing { .. }) if is_id(given) => self.find_by_id(given),
            other => Ok(other?),
        }
    }

    fn find_by_id(&self, id: &str) -> Result<Bundle, Error> {
        let mut found = None;
        for name in bundle::list(&self.paths.state)? {
            let bundle = Bundle::open(&self.paths.state, &name)?;
            // A bundle that cannot be read is not the one that was meant; asking for it by name says why.
            let owner = bundle.policy().ok().and_then(|policy| policy.container_id);
            if owner.is_some_and(|owner| owner.starts_with(id)) && found.replace(bundle).is_some() {
                return Err(Error::Ambiguous { id: id.to_owned() });
            }
        }
        found.ok_or_else(|| BundleError::Missing { name: id.to_owned() }.into())
    }

    /// Every bundle.
    pub fn bundles(&self) -> Result<Vec<Bundle>, Error> {
        bundle::list(&self.paths.state)?
            .iter()
            .map(|name| Ok(Bundle::open(&self.paths.state, name)?))
            .collect()
    }

    /// Writes the desired state of a container that is about to be made, and looks its names up.
    pub fn prepare(&self, name: &ContainerName, request: &Request, progress: Progress<'_>) -> Result<Prepared, Error> {
        let (profiles, targets) = self.targets(&request.profiles)?;
        let bundle = Bundle::open_or_make(&self.paths.state, name)?;
        let lock = bundle.lock()?;
        let mut replaced = None;
        if bundle.has_policy() {
            let before = bundle.policy()?;
            if exists(&before) {
                if !request.replace {
                    return Err(Error::Exists { name: name.to_string() });
                }
                replaced = Some(before);
            }
        }
        let mut protected = request.protected.clone();
        protected.push(self.paths.config.clone());
        let desired = PolicyFile {
            version: VERSION,
            name: name.to_string(),
            container_id: None,
            oci_bundle: None,
            profiles: profiles.iter().map(ToString::to_string).collect(),
            targets,
            launch_grants: request
                .allow
                .iter()
                .map(|target| Grant {
                    action: Action::Allow,
                    target: target.clone(),
                })
                .collect(),
            grants: Vec::new(),
            mode: Mode::Up,
            published: request.published.clone(),
            settings: Settings {
                refuse: self.config.refuse,
            },
            replaces: replaced.as_ref().and_then(|before| before.container_id.clone()),
            protected,
        };
        let mut resolved = bundle.resolved()?;
        let policy = desired.policy(Vec::new());
        let stale = resolved.stale(&policy.names(), SystemTime::now());
        let shortfall = if stale.is_empty() {
            Shortfall::default()
        } else {
            lookup::refresh(&bundle, &lock, &mut resolved, &stale, &policy.denied_names(), progress)?
        };
        bundle.set_policy(&lock, &desired)?;
        bundle.forget_refusal(&lock)?;
        drop(lock);
        Ok(Prepared {
            bundle,
            profiles,
            shortfall,
            replaced,
        })
    }

    /// Gives a container that Podman was to replace, and did not, its policy back.
    pub fn give_back(&self, prepared: &Prepared) -> Result<(), Error> {
        let Some(before) = prepared.replaced.as_ref().filter(|before| exists(before)) else {
            return Ok(());
        };
        let lock = prepared.bundle.lock()?;
        let now = prepared.bundle.policy()?;
        // Only if nobody has taken the new policy: it is as it was written.
        if now.container_id.is_none() && now.replaces == before.container_id {
            prepared.bundle.set_policy(&lock, before)?;
        }
        Ok(())
    }

    /// Lets a running container reach a target, for good. What was denied before is denied no more.
    pub fn allow(&self, bundle: &Bundle, target: &Target) -> Result<Outcome, Error> {
        self.grant(bundle, Action::Allow, target)
    }

    /// Keeps a running container from a target, for good, whatever lists it.
    pub fn deny(&self, bundle: &Bundle, target: &Target) -> Result<Outcome, Error> {
        self.grant(bundle, Action::Deny, target)
    }

    fn grant(&self, bundle: &Bundle, action: Action, target: &Target) -> Result<Outcome, Error> {
        let lock = bundle.lock()?;
        let before = bundle.policy()?;
        let running = running(bundle)?.ok_or_else(|| Error::NotRunning {
            name: bundle.name().to_string(),
        })?;
        let resolved_before = bundle.resolved()?;
        let mut resolved = resolved_before.clone();
        if let Destination::Name(pattern) = &target.destination
            && let Some(name) = policy::resolvable(pattern)
        {
            let mut found = ResolvedFile::default();
            let shortfall = lookup::refresh_into(&mut found, std::slice::from_ref(&name), &mut |_, _| {})?;
            let why = shortfall
                .unreachable
                .or_else(|| shortfall.unresolved.into_iter().next().map(|(_, why)| why));
            match why {
                // A name that had addresses keeps them; one that never had any can be neither opened nor closed.
                Some(why) if !resolved.names.contains_key(&name) => {
                    return Err(Error::Unresolved { name, why });
                }
                _ => resolved.names.extend(found.names),
            }
        }
        let mut after = before.clone();
        let mut policy = after.policy(Vec::new());
        let grant = Grant {
            action,
            target: target.clone(),
        };
        let news = policy.grant(grant.clone());
        if news {
            after.grants.retain(|other| other.target != grant.target);
            after.grants.push(grant);
        }
        let outcome = Outcome {
            addresses: addresses(target, &resolved),
            changed: news,
            still_denied_by: (action == Action::Allow)
                .then(|| policy.denied().find(|denied| covers(denied, target)).cloned())
                .flatten(),
        };
        self.replace(
            bundle,
            &lock,
            &running,
            (&before, &resolved_before),
            (&after, &resolved),
        )?;
        if news {
            let event = match action {
                Action::Allow => audit::Action::Allowed,
                Action::Deny => audit::Action::Denied,
            };
            bundle.log().append(
                &Event::new(bundle.name().as_ref(), event)
                    .dest(target.to_string())
                    .addresses(&outcome.addresses),
            )?;
        }
        Ok(outcome)
    }

    /// Looks the names of a container up again: those that are too old, or all of them. A running container's table follows.
    pub fn resolve(&self, bundle: &Bundle, force: bool, progress: Progress<'_>) -> Result<(usize, Shortfall), Error> {
        let lock = bundle.lock()?;
        let desired = bundle.policy()?;
        let before = bundle.resolved()?;
        let names = desired.policy(Vec::new()).names();
        let wanted: Vec<String> = if force {
            names.into_iter().collect()
        } else {
            before.stale(&names, SystemTime::now())
        };
        if wanted.is_empty() {
            return Ok((0, Shortfall::default()));
        }
        let mut after = before.clone();
        let denied = desired.policy(Vec::new()).denied_names();
        let shortfall = lookup::refresh(bundle, &lock, &mut after, &wanted, &denied, progress)?;
        if let Some(running) = running(bundle)? {
            self.replace(bundle, &lock, &running, (&desired, &before), (&desired, &after))?;
        }
        Ok((wanted.len(), shortfall))
    }

    /// Desired state and kernel from one to the other, or neither. A denial that the kernel refuses stays desired: the next
    /// verb or start brings it.
    fn replace(
        &self,
        bundle: &Bundle,
        lock: &Lock,
        running: &Running,
        before: (&PolicyFile, &ResolvedFile),
        after: (&PolicyFile, &ResolvedFile),
    ) -> Result<(), Error> {
        bundle.set_resolved(lock, after.1)?;
        if before.0 != after.0 {
            bundle.set_policy(lock, after.0)?;
        }
        let result = self.reshape(bundle, running, before, after);
        let denies = after
            .0
            .grants
            .iter()
            .any(|grant| grant.action == Action::Deny && !before.0.grants.contains(grant));
        if result.is_err() && !denies {
            bundle.set_policy(lock, before.0)?;
            bundle.set_resolved(lock, before.1)?;
            // The kernel may hold part of what failed. The first error is the one to report.
            let _ = self.reshape(bundle, running, after, before);
        }
        result
    }

    fn reshape(
        &self,
        bundle: &Bundle,
        running: &Running,
        before: (&PolicyFile, &ResolvedFile),
        after: (&PolicyFile, &ResolvedFile),
    ) -> Result<(), Error> {
        let contents = |(policy, resolved): (&PolicyFile, &ResolvedFile)| {
            compile(&policy.policy(running.file.upstreams.clone()), &resolved.addresses())
        };
        let (old, new) = (contents(before), contents(after));
        let wanted = layout(after.0.mode, after.0.settings.refuse, &new);
        let drift: Option<String> = in_child(&running.namespace, |nft| edit(nft, &old, &wanted, &new))?;
        match drift {
            None => Ok(()),
            Some(drift) => Err(Error::Drifted {
                name: bundle.name().to_string(),
                drift,
            }),
        }
    }

    /// The state of a container's firewall. `listed` tells whether Podman says that the container runs; it is asked only
    /// where our own record does not settle it.
    pub fn state(&self, bundle: &Bundle, listed: impl FnOnce(&PolicyFile) -> bool) -> Result<State, Error> {
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

fn is_id(given: &str) -> bool {
    (12..=64).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// The layout that a policy asks for: sets exist where they are needed.
fn layout(mode: Mode, refuse: policy::Refuse, contents: &Contents) -> Layout {
    Layout {
        mode,
        refuse,
        sets: contents.sets.keys().copied().collect(),
    }
}

fn snapshot(nft: &mut Nft, detail: Detail) -> Result<Snapshot, KernelError> {
    let listing: Value = nft.list_ruleset(detail)?;
    Snapshot::read(&listing).map_err(|error| KernelError::Answer {
        message: error.to_string(),
    })
}

/// Brings a table from `old` to `new`, and says what is still not as it was meant. If it did not hold `old`, because a
/// command was interrupted or somebody edited it, it is read in full and led from what it does hold.
fn edit(nft: &mut Nft, old: &Contents, wanted: &Layout, new: &Contents) -> Result<Option<String>, KernelError> {
    let live = snapshot(nft, Detail::Terse)?;
    let Some(from) = live.layout() else {
        return Ok(live.drift(wanted, None).first().map(ToString::to_string));
    };
    // Sets that were needed once stay.
    let mut to = wanted.clone();
    to.sets.extend(from.sets.iter().copied());
    let applied = change(&from, old, &to, new)
        .iter()
        .try_for_each(|document| nft.apply(document));
    match applied {
        Ok(()) if verify(nft, &to, new)?.is_empty() => return Ok(None),
        Ok(()) | Err(KernelError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    let live = snapshot(nft, Detail::Full)?;
    for document in repair(&from, &live.contents(), &to, new) {
        nft.apply(&document)?;
    }
    Ok(verify(nft, &to, new)?.first().map(ToString::to_string))
}

/// Whether the container that a policy belongs to has not been removed.
fn exists(policy: &PolicyFile) -> bool {
    policy.container_id.is_some() && policy.oci_bundle.as_deref().is_some_and(std::path::Path::exists)
}

/// Reads the table back, elements included unless there are very many, and names what is not as it was meant.
fn verify(nft: &mut Nft, meant: &Layout, contents: &Contents) -> Result<Vec<Drift>, KernelError> {
    let many = contents.sets.values().map(Vec::len).sum::<usize>() > READ_BACK_LIMIT;
    let detail = if many { Detail::Terse } else { Detail::Full };
    Ok(snapshot(nft, detail)?.drift(meant, (!many).then_some(contents)))
}

/// The running container that the hook noted, if it is still the same one.
fn running(bundle: &Bundle) -> Result<Option<Running>, Error> {
    let Some(file) = bundle.running()? else {
        return Ok(None);
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

fn addresses(target: &Target, resolved: &ResolvedFile) -> Vec<IpAddr> {
    match &target.destination {
        Destination::Network(net) if net.prefix_len() == net.max_prefix_len() => vec![net.addr()],
        Destination::Network(_) => Vec::new(),
        Destination::Name(pattern) => policy::resolvable(pattern)
            .and_then(|name| resolved.names.get(&name))
            .map(|entry| entry.addresses.clone())
            .unwrap_or_default(),
    }
}

/// Whether a denial covers all of a target.
fn covers(denial: &Target, target: &Target) -> bool {
    if denial == target || denial.ports != policy::Ports::All {
        return denial == target;
    }
    match (&denial.destination, &target.destination) {
        (Destination::Network(wide), Destination::Network(net)) => wide.contains(net),
        (Destination::Name(pattern), Destination::Name(name)) => pattern.matches(name.name.as_ref()),
        _ => false,
    }
}
