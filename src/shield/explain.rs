//! What happens to one destination, and why: told from the policy, and checked against the live table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shield;
use super::live::{Meant, running, snapshot};
use crate::Error;
use crate::bundle::{Bundle, ResolvedFile};
use crate::kernel::{self, Detail, in_child};
use crate::policy::{
    Action, Destination, Mode, NamePattern, Policy, Ports, Target, covers_address, resolvable, special_source,
};
use crate::ruleset::{Case, Contents, Verdict, cases};

/// `explain --json`: what happens to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation {
    /// The container's name.
    pub container: String,
    /// What was asked about.
    pub target: Target,
    /// The mode in force.
    pub mode: Mode,
    /// For a name: whether the policy lists it, by which line, or which line denies it.
    pub name: Option<NameAnswer>,
    /// What happens, part by part: addresses and ports that are treated alike are one part.
    pub parts: Vec<Part>,
    /// Where the live table decides otherwise; empty if it agrees.
    pub differs: Vec<String>,
    /// Whether a live table was there to be asked.
    pub checked: bool,
}

/// A part in words: addresses, ports, verdict.
type Told = (String, String, String);

/// What the policy says about a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NameAnswer {
    /// `listed`, `denied` or `not listed`.
    pub verdict: String,
    /// The lines and grants that say so.
    pub because: Vec<String>,
    /// Its addresses as they were looked up.
    pub addresses: Vec<IpAddr>,
}

/// A part of a destination that is treated alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// An address, a network, or a range of addresses.
    pub addresses: String,
    /// Ports and protocol: `443/tcp`, `all`, `without ports` (ICMP and the rest).
    pub ports: String,
    /// `allowed`, `resolver`, `bypassed`, `local`, `denied`, `private` or `blocked`.
    pub verdict: String,
    /// The rule of the table that decides, or the end of the list.
    pub rule: String,
    /// The lines of profiles, and the grants, because of which.
    pub because: Vec<String>,
    /// What would change that.
    pub change: String,
}

impl Shield {
    /// Says what happens to a destination.
    pub fn explain(&self, bundle: &Bundle, target: &Target) -> Result<Explanation, Error> {
        let desired = bundle.policy()?;
        let resolved = bundle.resolved()?;
        let now = kernel::now()?;
        let running = running(bundle)?;
        let upstreams = running
            .as_ref()
            .map_or_else(Vec::new, |running| running.file.upstreams.clone());
        let policy = desired.policy(upstreams, &now);
        let meant = Meant::new(&policy, &resolved.addresses(), &now);
        let name = match &target.destination {
            Destination::Name(pattern) => Some(about_name(&policy, &resolved, pattern)),
            Destination::Network(_) => None,
        };
        let destinations: Vec<Destination> = match &name {
            Some(name) => name
                .addresses
                .iter()
                .map(|address| Destination::address(*address))
                .collect(),
            None => vec![target.destination.clone()],
        };
        let ask = |mode: Mode, contents: &Contents| -> Vec<Case> {
            destinations
                .iter()
                .filter_map(|destination| match destination {
                    Destination::Network(net) => Some(cases(mode, contents, *net, &target.ports)),
                    Destination::Name(_) => None,
                })
                .flatten()
                .collect()
        };
        let parts: Vec<Part> = ask(policy.mode, &meant.contents)
            .iter()
            .map(|case| Part {
                addresses: case.addresses(),
                ports: case.ports(),
                verdict: case.decision.verdict.to_string(),
                rule: case.rule(),
                because: because(&policy, &resolved, case),
                change: change(bundle.name().as_ref(), &policy, &resolved, target, case),
            })
            .collect();
        let told = |mode: Mode, contents: &Contents| -> BTreeSet<Told> {
            let words = |case: &Case| (case.addresses(), case.ports(), case.decision.verdict.to_string());
            ask(mode, contents).iter().map(words).collect()
        };
        let mut differs = Vec::new();
        if let Some(running) = &running {
            let live: Option<(Mode, BTreeSet<Told>)> = in_child(&running.namespace, |nft| {
                let live = snapshot(nft, Detail::Full)?;
                Ok(live.mode().map(|(mode, _)| (mode, told(mode, &live.contents()))))
            })?;
            match live {
                None => differs.push("the live table is missing or not ours".to_owned()),
                Some((mode, live)) => {
                    if mode != policy.mode {
                        differs.push(format!("the live table is in mode {mode}"));
                    }
                    differs.extend(live.difference(&told(policy.mode, &meant.contents)).map(
                        |(addresses, ports, verdict)| format!("in the live table {addresses} ({ports}) is {verdict}"),
                    ));
                }
            }
        }
        Ok(Explanation {
            container: bundle.name().to_string(),
            target: target.clone(),
            mode: policy.mode,
            name,
            parts,
            differs,
            checked: running.is_some(),
        })
    }
}

fn about_name(policy: &Policy, resolved: &ResolvedFile, pattern: &NamePattern) -> NameAnswer {
    let name = pattern.name.to_string();
    let matching = |target: &Target| match &target.destination {
        Destination::Name(other) => other.matches(&name),
        Destination::Network(_) => false,
    };
    let denied: Vec<String> = policy
        .denied()
        .filter(|target| matching(target))
        .map(|target| format!("{target} is denied by the operator"))
        .collect();
    let listed: Vec<String> = lines(policy, |target| matching(target)).into_values().collect();
    let (verdict, because) = match (denied.is_empty(), listed.is_empty()) {
        (false, _) => ("denied", denied),
        (true, false) => ("listed", listed),
        (true, true) => ("not listed", Vec::new()),
    };
    let addresses = resolvable(pattern)
        .and_then(|name| resolved.names.get(&name))
        .map(|entry| entry.addresses.clone())
        .unwrap_or_default();
    NameAnswer {
        verdict: verdict.to_owned(),
        because,
        addresses,
    }
}

/// The allowing lines and grants that a question picks, in words, in order.
fn lines(policy: &Policy, picks: impl Fn(&Target) -> bool) -> BTreeMap<usize, String> {
    let entries = policy
        .entries
        .iter()
        .filter(|entry| picks(&entry.target))
        .map(|entry| format!("{} ({})", entry.target, entry.origin));
    let grants = policy
        .grants
        .iter()
        .filter(|grant| grant.action == Action::Allow && picks(&grant.target))
        .map(|grant| match grant.life {
            None => format!("{} is allowed by the operator", grant.target),
            Some(left) => format!("{} is allowed by the operator for {left} s more", grant.target),
        });
    entries.chain(grants).enumerate().collect()
}

/// Whether a line has to do with a case: with its first address, and with its ports.
fn touches(target: &Target, resolved: &ResolvedFile, case: &Case) -> bool {
    let ports = match (&target.ports, case.service) {
        (Ports::All, _) => true,
        (_, None) => false,
        (ports, Some((protocol, range))) => ports.contains(protocol, range.first),
    };
    ports
        && match &target.destination {
            Destination::Network(net) => covers_address(*net, case.first()),
            Destination::Name(pattern) => resolved
                .names
                .iter()
                .any(|(name, entry)| pattern.matches(name) && entry.addresses.contains(&case.first())),
        }
}

fn because(policy: &Policy, resolved: &ResolvedFile, case: &Case) -> Vec<String> {
    match case.decision.verdict {
        Verdict::Allowed => lines(policy, |target| touches(target, resolved, case))
            .into_values()
            .collect(),
        Verdict::Denied => policy
            .denied()
            .filter(|target| touches(target, resolved, case))
            .map(|target| format!("{target} is denied by the operator"))
            .collect(),
        Verdict::Resolver => vec!["Podman chose it as the container's resolver".to_owned()],
        Verdict::Private => special_source(case.first()).map(str::to_owned).into_iter().collect(),
        Verdict::Local => vec!["it does not leave the container".to_owned()],
        Verdict::Bypassed => vec![format!("the shield is {}", policy.mode)],
        Verdict::Blocked if policy.mode == Mode::Block => vec!["everything is blocked".to_owned()],
        Verdict::Blocked => vec!["no profile and no grant lists it".to_owned()],
    }
}

fn change(name: &str, policy: &Policy, resolved: &ResolvedFile, asked: &Target, case: &Case) -> String {
    // Between others a part may be a range that is no network; what was asked about takes it in.
    let target = match (case.first(), case.service, case.addresses()) {
        (_, _, range) if range.contains('-') => asked.to_string(),
        (_, None, addresses) => addresses,
        (IpAddr::V4(_), Some((protocol, range)), addresses) => format!("{addresses}:{range}/{protocol}"),
        (IpAddr::V6(_), Some((protocol, range)), addresses) => format!("[{addresses}]:{range}/{protocol}"),
    };
    match case.decision.verdict {
        Verdict::Local => "nothing".to_owned(),
        // It is judged before the denials.
        Verdict::Resolver => "nothing: names are asked there".to_owned(),
        Verdict::Allowed => format!("`terok-shield deny {name} {target}` closes it"),
        Verdict::Bypassed => format!("`terok-shield up {name}` closes it"),
        Verdict::Blocked if policy.mode == Mode::Block => format!("`terok-shield up {name}` ends that"),
        Verdict::Denied => match policy.denied().find(|denied| touches(denied, resolved, case)) {
            Some(denial) => format!("`terok-shield allow {name} {denial}` lifts the denial"),
            None => "allowing what was denied lifts the denial".to_owned(),
        },
        Verdict::Private | Verdict::Blocked => format!("`terok-shield allow {name} {target}` opens it"),
    }
}
