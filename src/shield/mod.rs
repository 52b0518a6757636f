//! What an operator can do to containers: launch one with a policy, change it, ask about it.
//!
//! Desired state is written first, then the kernel is changed; if the kernel refuses, the desired state goes back. Both
//! happen under the bundle's lock, so two commands at once never lose an update.

mod control;
mod cut;
mod explain;
pub(crate) mod launch;
pub(crate) mod live;
mod status;

pub use control::Outcome;
pub use explain::{Explanation, NameAnswer, Part};
pub use launch::{Prepared, Request};
pub use live::State;
pub use status::{Count, GrantStatus, Status, Summary};

use crate::Error;
use crate::bundle::{self, Bundle, BundleError, Member};
use crate::config::{Config, Paths};
use crate::policy::{self, ContainerName, Entry, ProfileName};
use crate::profiles::Profiles;

/// Called while names are looked up: how many of how many are done.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Access to the shielded containers of one user.
#[derive(Debug, Clone)]
pub struct Shield {
    /// Where his files are.
    pub paths: Paths,
    /// What his configuration says.
    pub config: Config,
}

impl Shield {
    /// The user's own, from the environment and the configuration file.
    pub fn open() -> Result<Self, Error> {
        let paths = Paths::for_user()?;
        let config = Config::load(&paths)?;
        Ok(Self { paths, config })
    }

    /// Where profiles come from.
    #[must_use]
    pub fn profiles(&self) -> Profiles {
        Profiles {
            user_dir: Some(self.paths.profiles()),
        }
    }

    /// The profiles to use where `given` names none, and their targets.
    pub fn targets(&self, given: &[ProfileName]) -> Result<(Vec<ProfileName>, Vec<Entry>), Error> {
        let names = if given.is_empty() { &self.config.profiles } else { given };
        Ok((names.to_vec(), policy::load(names, &self.profiles())?))
    }

    /// The bundle of a container given by name, full id, or the first 12 digits or more of its id.
    pub fn find(&self, given: &str) -> Result<Bundle, Error> {
        let name: ContainerName = given.parse().map_err(|source| Error::Name {
            name: given.to_owned(),
            source,
        })?;
        match Bundle::open(&self.paths.state, &name) {
            Err(BundleError::Missing { .. }) if is_id(given) => self.find_by_id(given),
            Err(missing @ BundleError::Missing { .. }) => {
                Ok(self.find_pod(|member| member.name == given)?.ok_or(missing)?)
            }
            other => Ok(other?),
        }
    }

    /// The bundle of the pod that such a container was started in.
    fn find_pod(&self, wanted: impl Fn(&Member) -> bool) -> Result<Option<Bundle>, Error> {
        for bundle in self.bundles()? {
            let running = bundle.running().ok().flatten();
            if running.is_some_and(|running| running.members.iter().any(&wanted)) {
                return Ok(Some(bundle));
            }
        }
        Ok(None)
    }

    fn find_by_id(&self, id: &str) -> Result<Bundle, Error> {
        let mut found = None;
        for name in bundle::list(&self.paths.state)? {
            let bundle = Bundle::open(&self.paths.state, &name)?;
            // A bundle that cannot be read is not the one that was meant; asking for it by name says why.
            let owner = bundle.policy().ok().and_then(|policy| policy.container_id);
            if owner.is_some_and(|owner| owner.starts_with(id)) && found.replace(bundle).is_some() {
                return Err(Error::Ambiguous { id: id.to_owned() });
            }
        }
        match found {
            Some(bundle) => Ok(bundle),
            None => self
                .find_pod(|member| member.id.starts_with(id))?
                .ok_or_else(|| BundleError::Missing { name: id.to_owned() }.into()),
        }
    }

    /// Every bundle.
    pub fn bundles(&self) -> Result<Vec<Bundle>, Error> {
        bundle::list(&self.paths.state)?
            .iter()
            .map(|name| Ok(Bundle::open(&self.paths.state, name)?))
            .collect()
    }
}

fn is_id(given: &str) -> bool {
    (12..=64).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}
