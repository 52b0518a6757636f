//! Changing a running container: desired state and kernel from one to the other, or neither.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use super::live::{Running, layout, running, snapshot, verify};
use super::{Progress, Shield};
use crate::Error;
use crate::audit::{self, Event};
use crate::bundle::{Bundle, Lock, PolicyFile, ResolvedFile};
use crate::kernel::{Detail, KernelError, Nft, in_child};
use crate::lookup::{self, Shortfall};
use crate::policy::{self, Action, Class as Reach, Destination, Grant, Target, classify};
use crate::ruleset::{Contents, Layout, Note, change, compile, repair};

/// What allowing or denying came to.
#[derive(Debug)]
pub struct Outcome {
    /// Addresses that the target stands for; none for a network or for a name without any.
    pub addresses: Vec<IpAddr>,
    /// Whether anything was changed.
    pub changed: bool,
    /// Why an allowed target stays closed nevertheless.
    pub still_denied_by: Option<Target>,
    /// What the operator should know about what was opened.
    pub notes: Vec<Note>,
}

impl Shield {
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
        let running = own(running(bundle)?, &before).ok_or_else(|| Error::NotRunning {
            name: bundle.name().to_string(),
        })?;
        let resolved_before = bundle.resolved()?;
        let mut after = before.clone();
        let mut policy = after.policy(Vec::new());
        let denied_before = policy.denied_names();
        let grant = Grant {
            action,
            target: target.clone(),
        };
        let news = policy.grant(grant.clone());
        if news {
            after.grants.retain(|other| other.target != grant.target);
            after.grants.push(grant);
        }
        let resolved = look_again(target, &resolved_before, &denied_before, &policy.denied_names())?;
        let still_denied_by = (action == Action::Allow)
            .then(|| policy.denied().find(|denied| covers(denied, target)).cloned())
            .flatten();
        let notes = self.replace(
            bundle,
            &lock,
            &running,
            (&before, &resolved_before),
            (&after, &resolved),
        )?;
        let mut addresses = addresses(target, &resolved);
        if action == Action::Allow && matches!(target.destination, Destination::Name(_)) {
            addresses.retain(|address| classify(*address) == Reach::Public);
        }
        let logged = tell(bundle, news.then_some(action), target, &addresses, &notes);
        if let Err(error) = logged {
            // What cannot be accounted for is not opened; what is closed stays closed.
            if action == Action::Allow {
                self.replace(
                    bundle,
                    &lock,
                    &running,
                    (&after, &resolved),
                    (&before, &resolved_before),
                )?;
            }
            return Err(error);
        }
        Ok(Outcome {
            addresses,
            changed: news,
            still_denied_by,
            notes,
        })
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
        let looked_up = lookup::refresh(bundle, &lock, &mut after, &wanted, &denied, progress);
        if looked_up.is_err() {
            // The table holds what was there before.
            bundle.set_resolved(&lock, &before)?;
        }
        let shortfall = looked_up?;
        if let Some(running) = own(running(bundle)?, &desired) {
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
    ) -> Result<Vec<Note>, Error> {
        let written = bundle
            .set_resolved(lock, after.1)
            .and_then(|()| bundle.set_policy(lock, after.0));
        let result = written
            .map_err(Error::from)
            .and_then(|()| self.reshape(bundle, running, before, after));
        let denies = after
            .0
            .grants
            .iter()
            .any(|grant| grant.action == Action::Deny && !before.0.grants.contains(grant));
        if result.is_err() && !denies {
            // The kernel first, which may hold part of what failed; then both files, whatever becomes of either. The first
            // error is the one to report.
            let _ = self.reshape(bundle, running, after, before);
            let _ = bundle.set_policy(lock, before.0);
            let _ = bundle.set_resolved(lock, before.1);
        }
        result
    }

    fn reshape(
        &self,
        bundle: &Bundle,
        running: &Running,
        before: (&PolicyFile, &ResolvedFile),
        after: (&PolicyFile, &ResolvedFile),
    ) -> Result<Vec<Note>, Error> {
        let contents = |(policy, resolved): (&PolicyFile, &ResolvedFile)| {
            compile(&policy.policy(running.file.upstreams.clone()), &resolved.addresses())
        };
        let (old, new) = (contents(before), contents(after));
        let wanted = layout(after.0.mode, after.0.settings.refuse, &new);
        let drift: Option<String> = in_child(&running.namespace, |nft| edit(nft, &old, &wanted, &new))?;
        match drift {
            None => Ok(new.notes.difference(&old.notes).cloned().collect()),
            Some(drift) => Err(Error::Drifted {
                name: bundle.name().to_string(),
                drift,
            }),
        }
    }
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

/// The running container, if the policy is its own: between a launch with `--replace` and Podman's removal it is another's.
fn own(running: Option<Running>, policy: &PolicyFile) -> Option<Running> {
    running.filter(|_| policy.container_id.is_some())
}

/// What was looked up, with a new look at the name of the target and at the names that are denied no more: what was kept of
/// those, however old, was for closing. A denied name's addresses only grow.
fn look_again(
    target: &Target,
    before: &ResolvedFile,
    denied_before: &BTreeSet<String>,
    denied_after: &BTreeSet<String>,
) -> Result<ResolvedFile, Error> {
    let own = match &target.destination {
        Destination::Name(pattern) => policy::resolvable(pattern),
        Destination::Network(_) => None,
    };
    let mut names: BTreeSet<String> = denied_before.difference(denied_after).cloned().collect();
    let mut resolved = before.clone();
    resolved.names.retain(|name, _| !names.contains(name));
    names.extend(own.clone());
    if names.is_empty() {
        return Ok(resolved);
    }
    let names: Vec<String> = names.into_iter().collect();
    let mut found = ResolvedFile::default();
    let shortfall = lookup::refresh_into(&mut found, &names, &mut |_, _| {})?;
    resolved.names.extend(found.names);
    let Some(name) = own else {
        return Ok(resolved);
    };
    // A name that had addresses keeps them; one that never had any can be neither opened nor closed.
    if !resolved.names.contains_key(&name) {
        let why = shortfall.unreachable.or_else(|| {
            shortfall
                .unresolved
                .into_iter()
                .find(|(other, _)| *other == name)
                .map(|(_, why)| why)
        });
        return Err(Error::Unresolved {
            name,
            why: why.unwrap_or_else(|| "no addresses".to_owned()),
        });
    }
    if denied_after.contains(&name) {
        lookup::keep_old_addresses(&mut resolved, before, &name);
    }
    Ok(resolved)
}

/// Writes down what was changed, if anything was, and what the operator should know about it.
fn tell(
    bundle: &Bundle,
    changed: Option<Action>,
    target: &Target,
    addresses: &[IpAddr],
    notes: &[Note],
) -> Result<(), Error> {
    let name = bundle.name().as_ref();
    let change = changed.map(|action| {
        let action = match action {
            Action::Allow => audit::Action::Allowed,
            Action::Deny => audit::Action::Denied,
        };
        let event = Event::new(name, action).dest(target.to_string());
        if addresses.is_empty() {
            event
        } else {
            event.addresses(addresses)
        }
    });
    let notes = notes
        .iter()
        .map(|note| Event::new(name, audit::Action::Note).detail(note.to_string()));
    for event in change.into_iter().chain(notes) {
        bundle.log().append(&event)?;
    }
    Ok(())
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
