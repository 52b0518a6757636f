//! The policy of a container that nobody prepared: what its annotations ask for, compiled here.
//!
//! Annotations may be the word of a tenant or of an image, so they choose among what the operator has: his profiles, and,
//! where he trusts them with it, ports that are open to others.

use super::{Refusal, Surroundings, oci};
use crate::bundle::{PolicyFile, Settings};
use crate::config::{Annotations, Config, Paths};
use crate::podman::{
    ANNOTATION_NAME, ANNOTATION_PREFIX, ANNOTATION_PROFILES, ANNOTATION_PUBLISH, ANNOTATION_STATE_DIR, PublishedPort,
};
use crate::policy::{self, ContainerName, ProfileName};
use crate::profiles::Profiles;

/// The profiles that a container asks for. No name at all is a policy that denies everything.
pub(super) fn profiles(state: &oci::State) -> Result<Vec<ProfileName>, Refusal> {
    let list = state
        .annotations
        .get(ANNOTATION_PROFILES)
        .ok_or_else(|| Refusal::new(format!("there is no annotation {ANNOTATION_PROFILES}")))?;
    if list.is_empty() {
        return Ok(Vec::new());
    }
    list.split(':')
        .map(|name| {
            name.parse()
                .map_err(|error| Refusal::new(format!("{ANNOTATION_PROFILES}: {error}")))
        })
        .collect()
}

/// What the operator's configuration says of containers that nobody prepared.
pub(super) struct Rules {
    config: Config,
    paths: Paths,
    /// Whether more counts than profiles and name.
    all: bool,
    is_root: bool,
}

impl Rules {
    /// Reads it, and refuses a state directory that a container may not choose: what is in it would be believed.
    pub(super) fn read(state: &oci::State, surroundings: &Surroundings) -> Result<Self, Refusal> {
        let paths = Paths {
            state: surroundings.state_dir.clone(),
            config: surroundings.config_dir.clone(),
        };
        let config = Config::load(&paths)?;
        let is_root = surroundings.uid == 0;
        let all = match config.annotations {
            Some(Annotations::All) => true,
            Some(Annotations::Few) => false,
            None => !is_root,
        };
        // Root's state directory is the same for all.
        if !all && !is_root && state.annotations.contains_key(ANNOTATION_STATE_DIR) {
            return Err(Refusal::new(format!(
                "{ANNOTATION_STATE_DIR} does not count without `prepare` where config.toml says annotations = \"few\""
            )));
        }
        Ok(Self {
            config,
            paths,
            all,
            is_root,
        })
    }

    /// The published ports that a container asks for, as far as they count.
    pub(super) fn published(&self, state: &oci::State) -> Result<Vec<policy::PublishedPort>, Refusal> {
        let Some(list) = state.annotations.get(ANNOTATION_PUBLISH).filter(|_| self.all) else {
            return Ok(Vec::new());
        };
        let ports = PublishedPort::parse_list(list)
            .map_err(|error| Refusal::new(format!("{ANNOTATION_PUBLISH}={list}: {error}")))?;
        Ok(ports.into_iter().map(Into::into).collect())
    }
}

/// What annotations came to.
pub(super) struct Wanted {
    pub(super) desired: PolicyFile,
    /// Annotations of ours that were given and do not count.
    pub(super) ignored: Vec<String>,
}

/// The policy of a container that was never started, from its annotations and the operator's files.
pub(super) fn compile(
    state: &oci::State,
    rules: &Rules,
    name: &ContainerName,
    profiles: &[ProfileName],
) -> Result<Wanted, Refusal> {
    let source = Profiles {
        user_dir: Some(rules.paths.profiles()),
    };
    let targets = policy::load(profiles, &source)?;
    let settings = Settings {
        refuse: rules.config.refuse,
    };
    let mut desired = PolicyFile::new(name, profiles, targets, settings);
    let mut counts = vec![ANNOTATION_PROFILES, ANNOTATION_NAME];
    if rules.all {
        counts.push(ANNOTATION_PUBLISH);
    }
    desired.published = rules.published(state)?;
    if !rules.is_root {
        counts.push(ANNOTATION_STATE_DIR);
    }
    let ignored = state.annotations.keys();
    let ignored = ignored.filter(|key| key.starts_with(ANNOTATION_PREFIX) && !counts.contains(&key.as_str()));
    Ok(Wanted {
        ignored: ignored.cloned().collect(),
        desired,
    })
}
