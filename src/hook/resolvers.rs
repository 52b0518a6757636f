//! The resolvers that Podman chose for a container, from the `resolv.conf` that it will see.
//!
//! Podman 5 leaves that file empty while hooks run and fills it a moment before the program starts. The program can write
//! it too, so what is read later than that is worth nothing: `late` sees to it that it is read in time.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Refusal, mounts, oci};
use crate::audit::{Action, Event};
use crate::bundle::{Bundle, RunningFile};
use crate::kernel::{self, Nft};
use crate::ruleset::compile;
use crate::shield::live::{Meant, edit};

/// Said while they are waited for.
pub(super) const AWAITED: &str = "Podman has not named the resolvers yet";

/// Where a container's resolvers are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolvers {
    /// Nowhere that may be believed.
    Nowhere,
    /// Here; none of them may be outside the container.
    Named(Vec<IpAddr>),
    /// In this file, which Podman has yet to fill.
    Later(PathBuf),
}

impl Resolvers {
    /// Only the file that Podman made for this start is asked: one that the operator mounts in its place may have been
    /// written by the container since.
    pub(super) fn of(spec: &oci::Spec, own: mounts::Own<'_>) -> Result<Self, Refusal> {
        let file = spec
            .mounts
            .iter()
            .find(|mount| mount.destination == Path::new("/etc/resolv.conf"))
            .map(|mount| mount.source.clone())
            .filter(|source| mounts::is_own_userdata(source, own));
        let Some(file) = file else {
            return Ok(Self::Nowhere);
        };
        let text = super::read_file(&file, super::Owner::Any, 64 * 1024)?;
        Ok(if text.is_empty() {
            Self::Later(file)
        } else {
            Self::Named(servers(&text))
        })
    }

    /// Those that are known by now.
    pub(super) fn known(&self) -> Vec<IpAddr> {
        match self {
            Self::Named(servers) => servers.clone(),
            Self::Nowhere | Self::Later(_) => Vec::new(),
        }
    }
}

/// The resolvers of a `resolv.conf`. The container's own addresses are none.
fn servers(text: &[u8]) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = crate::dns::servers_from(&String::from_utf8_lossy(text), |address| {
        !address.is_loopback() && !address.is_unspecified()
    })
    .into_iter()
    .map(|server| server.ip())
    .collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// Opens those that are named by now: for whoever keeps the program from running. We are in the container's network
/// namespace, and hold no lock.
pub(super) fn open(bundle: &Bundle, running: &RunningFile, file: &Path) -> Result<(), Refusal> {
    let named = servers(&super::read_file(file, super::Owner::Any, 64 * 1024)?);
    if named.is_empty() {
        return Err(Refusal::new("Podman named no resolver outside the container"));
    }
    let lock = bundle.lock()?;
    let Some(current) = bundle.running()?.filter(|current| current.is_as_before(running)) else {
        return Err(Refusal::new("the container's state was changed by somebody else"));
    };
    // As it is by now: a verb may have come in between.
    let desired = bundle.policy()?;
    let addresses = bundle.resolved()?.addresses();
    let now = kernel::now()?;
    let before = compile(&desired.policy(Vec::new(), &now), &addresses);
    let meant = Meant::new(&desired.policy(named.clone(), &now), &addresses, &now);
    bundle.set_running(
        &lock,
        &RunningFile {
            upstreams: named,
            dns_closed: None,
            ..current.clone()
        },
    )?;
    let opened = Nft::new()
        .and_then(|mut nft| edit(&mut nft, &before, meant))
        .map_err(Refusal::from)
        .and_then(|drift| match drift {
            None => Ok(()),
            Some(drift) => Err(Refusal::new(format!("the table is not as it was written: {drift}"))),
        });
    if opened.is_err() {
        bundle.set_running(&lock, &current)?;
    }
    opened
}

/// Tells the operator, in the log and for `status`, that DNS stays closed.
pub(super) fn note_closed(bundle: &Bundle, running: &RunningFile, why: &str) {
    // Closed it is, whether this can be written or not; `status` then still says that they are waited for.
    let _ = bundle
        .log()
        .append(&Event::new(bundle.name().as_ref(), Action::Note).detail(format!("DNS stays closed: {why}")));
    let Ok(lock) = bundle.lock() else { return };
    let current = bundle.running().ok().flatten();
    if let Some(current) = current.filter(|current| current.is_as_before(running)) {
        let closed = RunningFile {
            dns_closed: Some(why.to_owned()),
            ..current
        };
        let _ = bundle.set_running(&lock, &closed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_inside_of_the_container_is_none() {
        let text = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\nnameserver 169.254.1.1\nnameserver 2001:db8::53\n";
        let expected: Vec<IpAddr> = vec!["169.254.1.1".parse().unwrap(), "2001:db8::53".parse().unwrap()];
        assert_eq!(servers(text.as_bytes()), expected);
    }
}
