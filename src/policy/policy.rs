//! What one container may reach, as one value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Destination, Entry, NamePattern, PortRange, Ports, Protocol, Scope, Target};
use super::{Mode, Refuse};

/// Whether the operator allowed or denied a target at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Reachable although no profile lists it.
    Allow,
    /// Unreachable, whatever lists it.
    Deny,
}

/// A target that the operator allowed or denied at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Allowed or denied.
    pub action: Action,
    /// What.
    pub target: Target,
    /// Seconds that are left of it; for good without.
    pub life: Option<u32>,
}

/// A port of the container that the operator published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedPort {
    /// First and last port inside the container.
    pub ports: PortRange,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Addresses of names, by name in A-label form.
pub type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// What one container may reach. Everything that is not listed is refused; [`fmt::Display`] tells it to the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The mode.
    pub mode: Mode,
    /// Seconds until it is [`Mode::Up`] again by itself; only for [`Mode::Down`] and [`Mode::DownAll`].
    pub mode_life: Option<u32>,
    /// How TCP is refused.
    pub refuse: Refuse,
    /// What the profiles list.
    pub entries: Vec<Entry>,
    /// What the operator allowed and denied since, oldest first. No target stands in it twice.
    pub grants: Vec<Grant>,
    /// Ports that the operator published.
    pub published: Vec<PublishedPort>,
    /// Resolvers that the container may ask on port 53.
    pub upstreams: Vec<IpAddr>,
}

impl Policy {
    /// Targets that are listed, by profiles and by grants.
    pub fn allowed(&self) -> impl Iterator<Item = &Target> {
        self.entries
            .iter()
            .map(|entry| &entry.target)
            .chain(self.granted(Action::Allow))
    }

    /// Targets that the operator denied.
    pub fn denied(&self) -> impl Iterator<Item = &Target> {
        self.granted(Action::Deny)
    }

    /// Targets of the grants of one kind.
    pub fn granted(&self, action: Action) -> impl Iterator<Item = &Target> {
        self.grants
            .iter()
            .filter(move |grant| grant.action == action)
            .map(|grant| &grant.target)
    }

    /// Names whose addresses have to be known, in A-label form: listed ones, and denied ones. A pattern that matches
    /// only names below another (`*.example.com`) has no address of its own.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.allowed()
            .chain(self.denied())
            .filter_map(|target| match &target.destination {
                Destination::Name(pattern) => resolvable(pattern),
                Destination::Network(_) => None,
            })
            .collect()
    }

    /// Those of the names that the operator denied on every port: none of their addresses is opened by them.
    #[must_use]
    pub fn denied_names(&self) -> BTreeSet<String> {
        self.names()
            .into_iter()
            .filter(|name| {
                self.denied().any(|target| match &target.destination {
                    Destination::Name(pattern) => target.ports == Ports::All && pattern.matches(name),
                    Destination::Network(_) => false,
                })
            })
            .collect()
    }
}

/// The name that a pattern's addresses are looked up under ahead of time.
#[must_use]
pub fn resolvable(pattern: &NamePattern) -> Option<String> {
    (pattern.scope != Scope::Below).then(|| pattern.name.to_string())
}

fn for_a_time(life: Option<u32>) -> String {
    life.map_or_else(String::new, |seconds| format!(", {seconds} s left"))
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mode {}{}", self.mode, for_a_time(self.mode_life))?;
        for target in self.denied() {
            writeln!(f, "deny  {target}")?;
        }
        for entry in &self.entries {
            writeln!(f, "allow {}  ({})", entry.target, entry.origin)?;
        }
        for grant in self.grants.iter().filter(|grant| grant.action == Action::Allow) {
            writeln!(f, "allow {}  (operator{})", grant.target, for_a_time(grant.life))?;
        }
        for address in &self.upstreams {
            writeln!(f, "allow {address} port 53  (resolver)")?;
        }
        for port in &self.published {
            writeln!(f, "admit connections to port {}/{}", port.ports, port.protocol)?;
        }
        f.write_str("deny  everything else")
    }
}
