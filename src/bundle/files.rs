//! What the files of a bundle say. `schemas/` holds their JSON Schemas, made from these types.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::NamespaceId;
use crate::policy::{Addresses, Entry, Grant, Mode, Policy, PublishedPort, Refuse};

/// Version of every file of a bundle. A file of another version is refused: half understood is not understood.
pub const VERSION: u32 = 1;

/// Settings of one container, fixed when it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How TCP is refused.
    pub refuse: Refuse,
}

/// `policy.json`: what the operator wants for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Always 1.
    pub version: u32,
    /// The container's name.
    pub name: String,
    /// Proof of the launch that this policy was made for: the container carries the same in an annotation.
    pub launch: String,
    /// Its id, once it was started; the bundle belongs to this container and no other.
    pub container_id: Option<String>,
    /// Where the runtime keeps its configuration; gone when the container is removed.
    pub oci_bundle: Option<PathBuf>,
    /// Profiles, in the order in which they were named.
    pub profiles: Vec<String>,
    /// The profiles' targets, includes resolved.
    pub targets: Vec<Entry>,
    /// What `--allow` gave at the launch; kept when the container is made anew.
    pub launch_grants: Vec<Grant>,
    /// What the operator allowed and denied since, oldest first.
    pub grants: Vec<Grant>,
    /// Desired mode.
    pub mode: Mode,
    /// Ports of the container that are published.
    pub published: Vec<PublishedPort>,
    /// Settings of this container.
    pub settings: Settings,
    /// The container that `run --replace` removes; should it start again after all, this policy is not its own.
    pub replaces: Option<String>,
    /// Places that the container must not see, as they were when it was launched: the hook does not know the operator's
    /// environment.
    pub protected: Vec<PathBuf>,
}

impl PolicyFile {
    /// The policy that it describes, for a container whose resolvers are `upstreams`.
    #[must_use]
    pub fn policy(&self, upstreams: Vec<IpAddr>) -> Policy {
        let mut policy = Policy {
            mode: self.mode,
            refuse: self.settings.refuse,
            entries: self.targets.clone(),
            grants: Vec::new(),
            published: self.published.clone(),
            upstreams,
        };
        // The operator's later word on a target replaces the launch's.
        for grant in self.launch_grants.iter().chain(&self.grants) {
            policy.grant(grant.clone());
        }
        policy
    }

    /// As it was at the launch: `up`, and without what was allowed and denied since.
    pub fn start_anew(&mut self) {
        self.container_id = None;
        self.oci_bundle = None;
        self.grants.clear();
        self.mode = Mode::Up;
    }
}

/// One name of `resolved.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolvedName {
    /// Its addresses, as they came.
    pub addresses: Vec<IpAddr>,
    /// Until when they may be used without asking again, in seconds since 1970.
    pub expires: u64,
}

/// `resolved.json`: names that were looked up ahead of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolvedFile {
    /// Always 1.
    pub version: u32,
    /// By name in A-label form.
    pub names: BTreeMap<String, ResolvedName>,
}

impl Default for ResolvedFile {
    fn default() -> Self {
        Self {
            version: VERSION,
            names: BTreeMap::new(),
        }
    }
}

impl ResolvedFile {
    /// Forgets names that are too old at `now`; whether there were any. `kept` are kept however old: an old address of a
    /// denied name is closed rather than opened by it.
    pub fn forget_stale(&mut self, now: SystemTime, kept: &BTreeSet<String>) -> bool {
        let (now, before) = (seconds(now), self.names.len());
        self.names
            .retain(|name, entry| kept.contains(name) || (entry.expires > now && entry.expires <= now + 3600));
        self.names.len() != before
    }

    /// Addresses of every name, however old: what a running container's table holds.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.names
            .iter()
            .map(|(name, entry)| (name.clone(), entry.addresses.clone()))
            .collect()
    }

    /// Those of `names` that are missing, or too old at `now`. An expiry more than an hour ahead is not believed: the
    /// clock was set back.
    pub fn stale<'a>(&self, names: impl IntoIterator<Item = &'a String>, now: SystemTime) -> Vec<String> {
        let now = seconds(now);
        names
            .into_iter()
            .filter(|name| {
                !self
                    .names
                    .get(*name)
                    .is_some_and(|entry| entry.expires > now && entry.expires <= now + 3600)
            })
            .cloned()
            .collect()
    }

    /// Notes what a name resolved to, to be used for `life` from `now` on.
    pub fn put(&mut self, name: String, addresses: Vec<IpAddr>, now: SystemTime, life: Duration) {
        let expires = seconds(now) + life.as_secs();
        self.names.insert(name, ResolvedName { addresses, expires });
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `running.json`: the running container as the hook saw it, so that a verb finds it without asking Podman.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunningFile {
    /// Always 1.
    pub version: u32,
    /// The boot in which the numbers below mean something.
    pub boot_id: String,
    /// Its first process.
    pub pid: i32,
    /// When that started, in clock ticks since boot: a later process of the same number is another one.
    pub start_time: u64,
    /// Its network namespace.
    pub net_namespace: NamespaceId,
    /// Resolvers that Podman chose for it, read before its program ran.
    pub upstreams: Vec<IpAddr>,
    /// Why there are none, where Podman was to name them after the hook.
    pub dns_closed: Option<String>,
}
