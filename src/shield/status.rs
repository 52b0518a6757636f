//! Everything that can be said about the state of one container's firewall.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::Shield;
use super::live::{Look, State};
use crate::bundle::{self, Bundle, PolicyFile};
use crate::kernel;
use crate::policy::{Action, Mode, Target};

/// `status --json`: one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// The container's name.
    pub container: String,
    /// Its id, once it was started.
    pub container_id: Option<String>,
    /// `up`, `down`, `down_all`, `block`: its table is as it should be, in this mode. `inactive`: it isn't running. `error`:
    /// it is running and its table is not as it should be.
    pub state: String,
    /// Seconds until it is `up` again by itself.
    pub left: Option<u32>,
    /// The mode that it should be in.
    pub desired: Option<Mode>,
    /// Why the state is `error`: each difference between the table and what it should be.
    pub reasons: Vec<String>,
    /// What the operator allowed and denied at run time, oldest first.
    pub grants: Vec<GrantStatus>,
    /// What was counted since its network was made, by verdict.
    pub counters: BTreeMap<String, Count>,
    /// Its profiles.
    pub profiles: Vec<String>,
    /// Why its resolvers are not known, where Podman was to name them after the hook.
    pub dns_closed: Option<String>,
    /// Why its last start was refused.
    pub last_refusal: Option<String>,
}

/// `status --json` without a name: the set-up, and every shielded container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Summary {
    /// Whether the hooks are installed, in words.
    pub hooks: String,
    /// The containers, by name.
    pub containers: Vec<Status>,
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GrantStatus {
    /// Allowed or denied.
    pub action: Action,
    /// What.
    pub target: Target,
    /// Seconds until it ends by itself.
    pub left: Option<u32>,
}

/// One counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Count {
    /// Packets; of what passes, only those that open a connection.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Shield {
    /// The state of a container's firewall. `listed` tells whether Podman says that the container runs; it is asked only
    /// where our own record does not settle it. What cannot be found out is a reason, not an error.
    pub fn status(&self, bundle: &Bundle, listed: impl Fn(&PolicyFile) -> bool) -> Status {
        let look = self.look(bundle, listed).unwrap_or_else(|error| {
            let mut reason = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                let text = error.to_string();
                // Transparent errors repeat their cause.
                if !reason.ends_with(&text) {
                    reason.push_str(": ");
                    reason.push_str(&text);
                }
                cause = error.source();
            }
            Look::of(State::Error(vec![reason]))
        });
        let desired = bundle.policy().ok();
        let policy = desired.as_ref().zip(kernel::now().ok());
        let policy = policy.map(|(desired, now)| desired.policy(Vec::new(), &now));
        let runs = matches!(look.state, State::Mode(_));
        Status {
            container: bundle.name().to_string(),
            container_id: desired.as_ref().and_then(|desired| desired.container_id.clone()),
            state: look.state.to_string(),
            left: look.left,
            desired: policy.as_ref().map(|policy| policy.mode),
            reasons: match look.state {
                State::Error(reasons) => reasons,
                _ => Vec::new(),
            },
            grants: policy.map_or_else(Vec::new, |policy| {
                policy
                    .grants
                    .into_iter()
                    .map(|grant| GrantStatus {
                        action: grant.action,
                        target: grant.target,
                        left: grant.life,
                    })
                    .collect()
            }),
            counters: look
                .counters
                .into_iter()
                .map(|(name, (packets, bytes))| (name, Count { packets, bytes }))
                .collect(),
            profiles: desired.map(|desired| desired.profiles).unwrap_or_default(),
            dns_closed: runs.then(|| bundle.running().ok().flatten()?.dns_closed).flatten(),
            last_refusal: bundle::refusal(&self.paths.state, bundle.name()),
        }
    }
}
