//! Looking names up ahead of time, and noting what came of it in the bundle.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::audit::{Action, AuditError, Event};
use crate::bundle::{Bundle, BundleError, Lock, ResolvedFile};
use crate::dns::{self, ResolveError};

/// Time for one whole set of names.
const DEADLINE: Duration = Duration::from_secs(5);
/// Shortest time for which an answer is used: between a launch and its hook the look-up must not have to be made again.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Most addresses that are kept of a denied name.
const ADDRESSES_KEPT: usize = 1024;
/// Where the host's resolvers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What a look-up could not do. None of it is an error: what does not resolve stays closed.
#[derive(Debug, Default)]
pub struct Shortfall {
    /// Said once when no resolver answered at all.
    pub unreachable: Option<String>,
    /// Names without addresses, each with the reason. Empty if no resolver answered.
    pub unresolved: Vec<(String, String)>,
}

impl Shortfall {
    /// One line for each thing to tell the operator.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let reach = self
            .unreachable
            .iter()
            .map(|why| format!("names cannot be resolved: {why}; they stay closed until `terok-shield resolve`"));
        let names = self
            .unresolved
            .iter()
            .map(|(name, why)| format!("{name} does not resolve: {why}; it stays closed"));
        reach.chain(names).collect()
    }
}

/// Why a look-up could not be made or noted.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No look-up can be made at all.
    #[error("names cannot be looked up")]
    Resolve(#[source] ResolveError),
}

/// Looks `names` up, all at once, and writes what came to `resolved.json` and the audit log. A name that did not resolve keeps
/// what `resolved` held of it. The addresses of a name in `denied` only ever grow: an answer that came in part, or another
/// server's, opens nothing that was closed.
pub fn refresh(
    bundle: &Bundle,
    lock: &Lock,
    resolved: &mut ResolvedFile,
    names: &[String],
    denied: &BTreeSet<String>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Shortfall, LookupError> {
    let before = resolved.clone();
    let shortfall = refresh_into(resolved, names, progress)?;
    for name in denied {
        keep_old_addresses(resolved, &before, name);
    }
    bundle.set_resolved(lock, resolved)?;
    let container = bundle.name().as_ref();
    if let Some(why) = &shortfall.unreachable {
        bundle
            .log()
            .append(&Event::new(container, Action::Note).detail(format!("names cannot be resolved: {why}")))?;
    }
    for (name, why) in &shortfall.unresolved {
        bundle.log().append(
            &Event::new(container, Action::Note)
                .domain(name)
                .detail(format!("does not resolve: {why}")),
        )?;
    }
    Ok(shortfall)
}

/// Adds the addresses that `before` held of a name to those that it has now, as far as there is room: a new answer is never
/// pushed out by old ones.
pub fn keep_old_addresses(resolved: &mut ResolvedFile, before: &ResolvedFile, name: &str) {
    if let (Some(old), Some(new)) = (before.names.get(name), resolved.names.get_mut(name)) {
        let room = ADDRESSES_KEPT.saturating_sub(new.addresses.len());
        let old: Vec<_> = old
            .addresses
            .iter()
            .filter(|address| !new.addresses.contains(address))
            .take(room)
            .copied()
            .collect();
        new.addresses.extend(old);
        new.addresses.sort_unstable();
    }
}

/// Looks `names` up, all at once, and notes what came in `resolved` alone.
pub fn refresh_into(
    resolved: &mut ResolvedFile,
    names: &[String],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Shortfall, LookupError> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let servers = dns::servers_from(&text, |_| true);
    if servers.is_empty() {
        return Ok(Shortfall {
            unreachable: Some(format!("{RESOLV_CONF} names no resolver")),
            ..Shortfall::default()
        });
    }
    let resolution = dns::resolve(names, &servers, DEADLINE, progress).map_err(LookupError::Resolve)?;
    let now = SystemTime::now();
    let mut shortfall = Shortfall {
        unreachable: resolution.unreachable,
        ..Shortfall::default()
    };
    for (name, answer) in resolution.answers {
        if answer.addresses.is_empty() {
            if shortfall.unreachable.is_none() {
                let why = answer
                    .problem
                    .map_or_else(|| "no addresses".to_owned(), |problem| problem.to_string());
                shortfall.unresolved.push((name, why));
            }
        } else {
            resolved.put(name, answer.addresses, now, answer.ttl.max(SHORTEST_LIFE));
        }
    }
    Ok(shortfall)
}
