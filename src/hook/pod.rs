//! Pods: containers in the network namespace of another one, Podman's infra container, which only waits.
//!
//! The first member that carries our annotation shields that namespace, others with the same annotations join. Whoever else
//! lives there was not asked, so the start is refused.

use std::collections::BTreeMap;

use serde_json::Value;

use super::claim::Owner;
use super::monitor::Monitor;
use super::oci::{self, State};
use super::{Refusal, guard, mounts, precreate};
use crate::kernel::{NamespaceId, Process};
use crate::podman::ANNOTATION_PREFIX;

/// The id of a member's infra container, by Podman's word (5 says no more than this); believed only if processes say so, too.
const SANDBOX_ID: &str = "io.kubernetes.cri-o.SandboxID";

/// The program of every infra container.
const PAUSE: [&str; 2] = ["/catatonit", "-P"];

/// The infra container of a pod, which runs.
#[derive(Debug)]
pub(super) struct Infra {
    monitor: Monitor,
    process: Process,
}

impl Infra {
    /// That of the container which the runtime is about to start in this network namespace, if it is in a pod.
    pub(super) fn of(state: &State, spec: &oci::Spec, namespace: NamespaceId) -> Result<Option<Self>, Refusal> {
        let pid = spec.linux.namespaces.iter().find_map(|namespace| {
            let path = namespace.path.as_deref().filter(|_| namespace.kind == "network")?;
            path.to_str()?
                .strip_prefix("/proc/")?
                .strip_suffix("/ns/net")?
                .parse()
                .ok()
        });
        let (Some(pid), Some(id)) = (pid, state.annotations.get(SANDBOX_ID)) else {
            return Ok(None);
        };
        let process = Process::open(pid)?;
        let Some(monitor) = Monitor::above(pid).filter(|monitor| monitor.id == *id && *id != state.id) else {
            return Ok(None);
        };
        if mounts::podmans_record(&monitor.bundle, id).is_none() {
            return Ok(None);
        }
        let waits = oci::Spec::read(&monitor.bundle)?;
        // An ordinary container whose network somebody joins can do more than wait.
        if waits.process.args != PAUSE {
            return Ok(None);
        }
        guard::check(&waits)?;
        if process.net_namespace()?.id() != namespace {
            return Err(Refusal::new("the container is not in the network of its pod"));
        }
        Ok(Some(Self { monitor, process }))
    }

    /// Whose the pod's bundle is.
    pub(super) fn owner(&self) -> Owner<'_> {
        Owner {
            id: &self.monitor.id,
            bundle: &self.monitor.bundle,
            name: Some(&self.monitor.name),
        }
    }

    /// Its first process, which lives as long as the pod's network.
    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Whether a process in the pod's network is the infra container's, or that of a member which carries the same annotations
    /// as this one and whose start our hook judges, or has judged.
    pub(super) fn knows(&self, pid: i32, state: &State) -> bool {
        let Some(monitor) = Monitor::above(pid) else {
            return false;
        };
        if monitor.id == self.monitor.id {
            return true;
        }
        if mounts::podmans_record(&monitor.bundle, &monitor.id).is_none() {
            return false;
        }
        let Ok(config) = oci::config::<Value>(&monitor.bundle) else {
            return false;
        };
        let theirs = config.get("annotations").cloned().unwrap_or_default();
        let Ok(theirs) = serde_json::from_value::<BTreeMap<String, String>>(theirs) else {
            return false;
        };
        fn ours(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
            annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        }
        theirs.get(SANDBOX_ID) == Some(&self.monitor.id)
            && ours(&theirs).eq(ours(&state.annotations))
            && precreate::names_our_hook(&config).is_ok()
    }
}
