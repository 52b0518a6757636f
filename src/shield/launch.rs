//! A container that is about to be made: its desired state, and its names.

use std::path::PathBuf;
use std::time::SystemTime;

use super::{Progress, Shield, live};
use crate::Error;
use crate::bundle::{Bundle, GrantRecord, PolicyFile, ResolvedFile, Settings};
use crate::kernel;
use crate::lookup::{self, Shortfall};
use crate::policy::{Action, ContainerName, ProfileName, PublishedPort, Target};

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
    /// What was written for it.
    desired: PolicyFile,
    /// What the container that Podman is to remove first had.
    replaced: Option<(PolicyFile, ResolvedFile)>,
}

impl Prepared {
    /// What the container has to carry to be the one that this was made for.
    #[must_use]
    pub fn proof(&self) -> &str {
        self.desired.launch.as_deref().unwrap_or_default()
    }
}

impl Shield {
    /// Writes the desired state of a container that is about to be made, and looks its names up.
    pub fn prepare(&self, name: &ContainerName, request: &Request, progress: Progress<'_>) -> Result<Prepared, Error> {
        let (profiles, targets) = self.targets(&request.profiles)?;
        let bundle = Bundle::open_or_make(&self.paths.state, name)?;
        let lock = bundle.lock()?;
        let mut replaced = None;
        let mut replaces = None;
        if bundle.has_policy() {
            let before = bundle.policy()?;
            // A launch that was interrupted leaves its predecessor's container, which is still none of this policy's.
            replaces = before.container_id.clone().or_else(|| before.replaces.clone());
            if exists(&bundle, &before)? {
                if !request.replace {
                    return Err(Error::Exists { name: name.to_string() });
                }
                replaced = Some((before, bundle.resolved()?));
            }
        }
        let mut protected = request.protected.clone();
        protected.push(self.paths.config.clone());
        let settings = Settings {
            refuse: self.config.refuse,
        };
        let desired = PolicyFile {
            launch: Some(kernel::random_id()?),
            launch_grants: request
                .allow
                .iter()
                .map(|target| GrantRecord::for_good(Action::Allow, target.clone()))
                .collect(),
            published: request.published.clone(),
            replaces,
            protected,
            ..PolicyFile::new(name, &profiles, targets, settings)
        };
        let mut resolved = bundle.resolved()?;
        let policy = desired.policy(Vec::new(), &kernel::now()?);
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
            desired,
            replaced,
        })
    }

    /// Gives a container that Podman was to replace, and did not, its policy back.
    pub fn give_back(&self, prepared: &Prepared) -> Result<(), Error> {
        let Some((policy, resolved)) = &prepared.replaced else {
            return Ok(());
        };
        if !exists(&prepared.bundle, policy)? {
            return Ok(());
        }
        let lock = prepared.bundle.lock()?;
        // Only if nobody has taken or changed what was written.
        if prepared.bundle.policy()? == prepared.desired {
            prepared.bundle.set_resolved(&lock, resolved)?;
            prepared.bundle.set_policy(&lock, policy)?;
        }
        Ok(())
    }
}

/// Whether the container that a policy belongs to has not been removed. One that Podman does not keep is there while it runs.
pub(crate) fn exists(bundle: &Bundle, policy: &PolicyFile) -> Result<bool, Error> {
    match (&policy.container_id, &policy.oci_bundle) {
        (None, _) => Ok(false),
        (Some(_), Some(path)) => Ok(path.exists()),
        (Some(_), None) => Ok(live::running(bundle)?.is_some()),
    }
}
