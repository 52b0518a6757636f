//! What the files of a bundle say. `schemas/` holds their JSON Schemas, made from these types.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::NamespaceId;
use crate::policy::{
    Action, Addresses, ContainerName, Entry, Grant, Mode, Moment, Policy, ProfileName, PublishedPort, Refuse, Target,
};

/// Version of every file of a bundle. A file of another version is refused: half understood is not understood.
pub const VERSION: u32 = 1;

/// Settings of one container, fixed when it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How TCP is refused.
    pub refuse: Refuse,
}

/// A target that the operator allowed or denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRecord {
    /// Allowed or denied.
    pub action: Action,
    /// What.
    pub target: Target,
    /// When it ends; for good without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

impl GrantRecord {
    /// One that lasts.
    #[must_use]
    pub fn for_good(action: Action, target: Target) -> Self {
        Self {
            action,
            target,
            until: None,
        }
    }

    fn has_ended(&self, now: &Moment) -> bool {
        self.until.as_ref().is_some_and(|until| until.left(now).is_none())
    }
}

/// `policy.json`: what the operator wants for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Always 1.
    pub version: u32,
    /// The container's name.
    pub name: String,
    /// Proof of the launch that this policy was made for: the container carries the same in an annotation. Without one the
    /// hook made this policy by itself, for a container that carries none.
    pub launch: Option<String>,
    /// Its id, once it was started; the bundle belongs to this container and no other.
    pub container_id: Option<String>,
    /// Where Podman keeps its configuration; gone when the container is removed. Nothing where somebody else started the
    /// runtime: then the container is there while it runs.
    pub oci_bundle: Option<PathBuf>,
    /// Profiles, in the order in which they were named.
    pub profiles: Vec<String>,
    /// The profiles' targets, includes resolved.
    pub targets: Vec<Entry>,
    /// What `--allow` gave at the launch; kept when the container is made anew.
    pub launch_grants: Vec<GrantRecord>,
    /// What the operator allowed and denied since, oldest first. No target stands in it twice.
    pub grants: Vec<GrantRecord>,
    /// Desired mode.
    pub mode: Mode,
    /// When it is `up` again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_until: Option<Moment>,
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
    /// The policy of a container that was never started: `up`, with what these profiles list.
    #[must_use]
    pub fn new(name: &ContainerName, profiles: &[ProfileName], targets: Vec<Entry>, settings: Settings) -> Self {
        Self {
            version: VERSION,
            name: name.to_string(),
            launch: None,
            container_id: None,
            oci_bundle: None,
            profiles: profiles.iter().map(ToString::to_string).collect(),
            targets,
            launch_grants: Vec::new(),
            grants: Vec::new(),
            mode: Mode::Up,
            mode_until: None,
            published: Vec::new(),
            settings,
            replaces: None,
            protected: Vec::new(),
        }
    }

    /// The policy that it describes at a moment, for a container whose resolvers are `upstreams`.
    #[must_use]
    pub fn policy(&self, upstreams: Vec<IpAddr>, now: &Moment) -> Policy {
        let (mode, mode_life) = match &self.mode_until {
            None => (self.mode, None),
            Some(until) => match until.left(now) {
                Some(left) => (self.mode, Some(left)),
                None => (Mode::Up, None),
            },
        };
        let mut grants: Vec<Grant> = Vec::new();
        // The operator's later word on a target replaces the launch's.
        for record in self.launch_grants.iter().chain(&self.grants) {
            if record.has_ended(now) {
                continue;
            }
            grants.retain(|other| other.target != record.target);
            grants.push(Grant {
                action: record.action,
                target: record.target.clone(),
                life: record.until.as_ref().and_then(|until| until.left(now)),
            });
        }
        Policy {
            mode,
            mode_life,
            refuse: self.settings.refuse,
            entries: self.targets.clone(),
            grants,
            published: self.published.clone(),
            upstreams,
        }
    }

    /// The operator's last word on a target.
    #[must_use]
    pub fn last_word(&self, target: &Target) -> Option<&GrantRecord> {
        self.grants
            .iter()
            .chain(&self.launch_grants)
            .find(|record| record.target == *target)
    }

    /// Makes `record` the last word on its target. `false` if it was already, or if the target is allowed for good and
    /// is to be allowed for a time.
    pub fn grant(&mut self, record: GrantRecord) -> bool {
        let for_good = GrantRecord::for_good(record.action, record.target.clone());
        let last = self.last_word(&record.target);
        if last == Some(&record) || last == Some(&for_good) {
            return false;
        }
        self.grants.retain(|other| other.target != record.target);
        self.grants.push(record);
        true
    }

    /// Takes out what has ended by now, and says what that was.
    pub fn forget_ended(&mut self, now: &Moment) -> Vec<Ended> {
        let mut ended = Vec::new();
        if self.mode_until.as_ref().is_some_and(|until| until.left(now).is_none()) {
            ended.push(Ended::Mode(self.mode));
            self.mode = Mode::Up;
            self.mode_until = None;
        }
        self.grants.retain(|record| {
            let over = record.has_ended(now);
            if over {
                ended.push(Ended::Grant(record.target.clone()));
            }
            !over
        });
        ended
    }

    /// As it was at the launch: `up`, and without what was allowed and denied since.
    pub fn start_anew(&mut self) {
        self.container_id = None;
        self.oci_bundle = None;
        self.grants.clear();
        self.mode = Mode::Up;
        self.mode_until = None;
    }
}

/// What the kernel's clock has ended, and no command has noted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A mode; it is `up` again.
    Mode(Mode),
    /// A grant.
    Grant(Target),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mode(mode) => write!(f, "the time of {mode} is over"),
            Self::Grant(target) => write!(f, "the time of the grant for {target} is over"),
        }
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
    /// The containers that were started behind this shield, where it is a pod's; the process above is its infra container's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// What Podman calls it.
    pub name: String,
}

impl RunningFile {
    /// Whether nothing but the members has changed.
    #[must_use]
    pub fn is_as_before(&self, before: &Self) -> bool {
        let alone = |file: &Self| Self {
            members: Vec::new(),
            ..file.clone()
        };
        alone(self) == alone(before)
    }
}
