//! Changing a running container: desired state and kernel from one to the other, or neither.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::cut::cut;
use super::live::{Meant, Running, edit, running};
use super::{Progress, Shield};
use crate::Error;
use crate::audit::{self, Event};
use crate::bundle::{Bundle, Ended, GrantRecord, Lock, PolicyFile, ResolvedFile};
use crate::kernel::{self, in_child};
use crate::lookup::{self, Shortfall};
use crate::policy::{self, Action, Class as Reach, Destination, Mode, Moment, Target, classify};
use crate::ruleset::{Note, compile};

/// What allowing or denying came to.
#[derive(Debug)]
pub struct Outcome {
    /// Addresses that the target stands for; none for a network or for a name without any.
    pub addresses: Vec<IpAddr>,
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether it was to be allowed for a time and is allowed for good.
    pub for_good_already: bool,
    /// Why an allowed target stays closed nevertheless.
    pub still_denied_by: Option<Target>,
    /// What the operator should know about what was opened.
    pub notes: Vec<Note>,
}

/// A running container in the hands of a verb.
struct Subject<'a> {
    bundle: &'a Bundle,
    lock: Lock,
    running: Running,
    now: Moment,
    /// Its desired state, without what has ended.
    desired: PolicyFile,
    resolved: ResolvedFile,
    /// What has ended and was in the file.
    ended: Vec<Ended>,
}

impl<'a> Subject<'a> {
    fn take(bundle: &'a Bundle) -> Result<Self, Error> {
        let lock = bundle.lock()?;
        let mut desired = bundle.policy()?;
        let running = own(running(bundle)?, &desired).ok_or_else(|| Error::NotRunning {
            name: bundle.name().to_string(),
        })?;
        let now = kernel::now()?;
        let ended = desired.forget_ended(&now);
        Ok(Self {
            resolved: bundle.resolved()?,
            bundle,
            lock,
            running,
            now,
            desired,
            ended,
        })
    }

    fn note(&self, action: audit::Action) -> Event {
        Event::new(self.bundle.name().as_ref(), action)
    }

    /// Writes events down, and before them what had ended.
    fn tell(&self, events: impl IntoIterator<Item = Event>) -> Result<(), Error> {
        let ended = self.ended.iter().map(|ended| {
            let action = match ended {
                Ended::Mode(_) => audit::Action::ShieldUp,
                Ended::Grant(_) => audit::Action::Note,
            };
            self.note(action).detail(ended.to_string())
        });
        for event in ended.chain(events) {
            self.bundle.log().append(&event)?;
        }
        Ok(())
    }
}

impl Shield {
    /// Lets a running container reach a target, for good or for a time. What was denied before is denied no more.
    pub fn allow(&self, bundle: &Bundle, target: &Target, time: Option<Duration>) -> Result<Outcome, Error> {
        self.grant(bundle, Action::Allow, target, time)
    }

    /// Keeps a running container from a target, for good, whatever lists it.
    pub fn deny(&self, bundle: &Bundle, target: &Target) -> Result<Outcome, Error> {
        self.grant(bundle, Action::Deny, target, None)
    }

    fn grant(
        &self,
        bundle: &Bundle,
        action: Action,
        target: &Target,
        time: Option<Duration>,
    ) -> Result<Outcome, Error> {
        let mut subject = Subject::take(bundle)?;
        let denied = |last: &GrantRecord| last.action == Action::Deny;
        if time.is_some() && subject.desired.last_word(target).is_some_and(denied) {
            return Err(Error::LiftedForATime {
                target: target.to_string(),
            });
        }
        let with_grant = |subject: &Subject<'_>| {
            let mut after = subject.desired.clone();
            let changed = after.grant(GrantRecord {
                until: time.map(|time| subject.now.after(time)),
                ..GrantRecord::for_good(action, target.clone())
            });
            (after, changed)
        };
        let names = |file: &PolicyFile, now: &Moment| file.policy(Vec::new(), now).denied_names();
        let resolved = look_again(
            target,
            &subject.resolved,
            &names(&subject.desired, &subject.now),
            &names(&with_grant(&subject).0, &subject.now),
        )?;
        // Looking up took its time, and nothing lasts longer than it was meant to.
        subject.now = kernel::now()?;
        let before = &subject.desired;
        let (after, changed) = with_grant(&subject);
        let policy = |file: &PolicyFile| file.policy(Vec::new(), &subject.now);
        let still_denied_by = (action == Action::Allow)
            .then(|| policy(&after).denied().find(|denied| covers(denied, target)).cloned())
            .flatten();
        let notes = replace(&subject, (before, &subject.resolved), (&after, &resolved))?;
        let mut addresses = addresses(target, &resolved);
        if action == Action::Allow && matches!(target.destination, Destination::Name(_)) {
            addresses.retain(|address| classify(*address) == Reach::Public);
        }
        let change = changed.then(|| granted(&subject, action, target, time, &addresses));
        let remarks = notes
            .iter()
            .map(|note| subject.note(audit::Action::Note).detail(note.to_string()));
        if let Err(error) = subject.tell(change.into_iter().chain(remarks)) {
            // What cannot be accounted for is not opened; what is closed stays closed.
            if action == Action::Allow {
                replace(&subject, (&after, &resolved), (before, &subject.resolved))?;
            }
            return Err(error);
        }
        Ok(Outcome {
            addresses,
            changed,
            for_good_already: time.is_some() && !changed,
            still_denied_by,
            notes,
        })
    }

    /// Puts a running container into a mode, for good or until it is `up` again by itself. `false` if nothing was to be
    /// changed.
    pub fn set_mode(&self, bundle: &Bundle, mode: Mode, time: Option<Duration>) -> Result<bool, Error> {
        let subject = Subject::take(bundle)?;
        let before = &subject.desired;
        let mut after = before.clone();
        after.mode = mode;
        after.mode_until = time.map(|time| subject.now.after(time));
        let changed = (mode, &after.mode_until) != (before.mode, &before.mode_until);
        // Even if nothing is to be changed: the table may not be as it was left.
        replace(&subject, (before, &subject.resolved), (&after, &subject.resolved))?;
        let event = changed.then(|| {
            let event = subject.note(match mode {
                Mode::Up => audit::Action::ShieldUp,
                Mode::Down | Mode::DownAll => audit::Action::ShieldDown,
                Mode::Block => audit::Action::ShieldBlock,
            });
            match time {
                Some(time) => event.detail(format!("{mode} for {}", humantime::format_duration(time))),
                None => event.detail(mode.to_string()),
            }
        });
        if let Err(error) = subject.tell(event) {
            if matches!(mode, Mode::Down | Mode::DownAll) {
                replace(&subject, (&after, &subject.resolved), (before, &subject.resolved))?;
            }
            return Err(error);
        }
        Ok(changed)
    }

    /// Looks the names of a container up again: those that are too old, or all of them. A running container's table follows.
    pub fn resolve(&self, bundle: &Bundle, force: bool, progress: Progress<'_>) -> Result<(usize, Shortfall), Error> {
        let lock = bundle.lock()?;
        let mut desired = bundle.policy()?;
        let now = kernel::now()?;
        let ended = desired.forget_ended(&now);
        let before = bundle.resolved()?;
        let policy = desired.policy(Vec::new(), &now);
        let names = policy.names();
        let wanted: Vec<String> = if force {
            names.into_iter().collect()
        } else {
            before.stale(&names, SystemTime::now())
        };
        if wanted.is_empty() {
            return Ok((0, Shortfall::default()));
        }
        let mut after = before.clone();
        let looked_up = lookup::refresh(bundle, &lock, &mut after, &wanted, &policy.denied_names(), progress);
        if looked_up.is_err() {
            // The table holds what was there before.
            bundle.set_resolved(&lock, &before)?;
        }
        let shortfall = looked_up?;
        if let Some(running) = own(running(bundle)?, &desired) {
            let subject = Subject {
                bundle,
                lock,
                running,
                // Looking up took its time.
                now: kernel::now()?,
                desired,
                resolved: before,
                ended,
            };
            replace(
                &subject,
                (&subject.desired, &subject.resolved),
                (&subject.desired, &after),
            )?;
            subject.tell(None)?;
        }
        Ok((wanted.len(), shortfall))
    }
}

type Desired<'a> = (&'a PolicyFile, &'a ResolvedFile);

/// Desired state and kernel from one to the other, or neither. What closes stays desired if the kernel refuses it: the next
/// verb or start brings it.
fn replace(subject: &Subject<'_>, before: Desired<'_>, after: Desired<'_>) -> Result<Vec<Note>, Error> {
    let (bundle, lock) = (subject.bundle, &subject.lock);
    let written = bundle
        .set_resolved(lock, after.1)
        .and_then(|()| bundle.set_policy(lock, after.0));
    let result = written
        .map_err(Error::from)
        .and_then(|()| reshape(subject, before, after));
    let denies = after
        .0
        .grants
        .iter()
        .any(|record| record.action == Action::Deny && !before.0.grants.contains(record));
    if result.is_err() && !denies && !after.0.mode.is_more_closed_than(before.0.mode) {
        // The kernel first, which may hold part of what failed; then both files, whatever becomes of either. The first
        // error is the one to report.
        let _ = reshape(subject, after, before);
        let _ = bundle.set_policy(lock, before.0);
        let _ = bundle.set_resolved(lock, before.1);
    }
    result
}

fn reshape(subject: &Subject<'_>, before: Desired<'_>, after: Desired<'_>) -> Result<Vec<Note>, Error> {
    let running = &subject.running;
    let policy = |(policy, _): Desired<'_>| policy.policy(running.file.upstreams.clone(), &subject.now);
    let old = compile(&policy(before), &before.1.addresses());
    let new = policy(after);
    let meant = Meant::new(&new, &after.1.addresses(), &subject.now);
    let notes = meant.contents.notes.difference(&old.notes).cloned().collect();
    let drift: Option<String> = in_child(&running.namespace, |nft| {
        let contents = meant.contents.clone();
        // While the rules still let it pass, the other side is told, too: it would go on sending. What is opened in
        // between, or while this fails, is ended below.
        let _ = cut(new.mode, &contents);
        let drift = edit(nft, &old, meant)?;
        cut(new.mode, &contents)?;
        Ok(drift)
    })?;
    match drift {
        None => Ok(notes),
        Some(drift) => Err(Error::Drifted {
            name: subject.bundle.name().to_string(),
            drift,
        }),
    }
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

/// The line about a target that was allowed or denied.
fn granted(
    subject: &Subject<'_>,
    action: Action,
    target: &Target,
    time: Option<Duration>,
    addresses: &[IpAddr],
) -> Event {
    let event = subject
        .note(match action {
            Action::Allow => audit::Action::Allowed,
            Action::Deny => audit::Action::Denied,
        })
        .dest(target.to_string());
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let time = time.map(|time| format!("for {}", humantime::format_duration(time)));
    let words: Vec<String> = time.into_iter().chain(list).collect();
    if words.is_empty() {
        event
    } else {
        event.detail(words.join(" "))
    }
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
