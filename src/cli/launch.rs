//! `run` and `prepare`: a policy, the hooks in place, and Podman.

use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use terok_shield::podman::{
    self, Launch, PODMAN_ENV_TO_REMOVE, is_interactive_needed, publish_flags, screen, shell_quote,
};
use terok_shield::policy::{ContainerName, ProfileName, Target};
use terok_shield::shield::{Prepared, Request, Shield};
use terok_shield::{Error, Exit, bundle, kernel};

use super::args;
use super::setup::ensure_hooks;
use super::{Meter, print, shield, warn};

pub(super) fn run(args: args::Run) -> Result<u8> {
    let name = container_name(&args.name)?;
    let screened = screen(&args.podman).map_err(Error::from)?;
    let mut request = request(&args.profiles, &args.allow)?;
    request.published = screened.publish.iter().copied().map(Into::into).collect();
    request.replace = screened.replace;
    let shield = shield()?;
    let prepared = prepare_bundle(&shield, &name, request)?;
    let flags = shield_flags(&shield, &prepared)?;
    let terminal = is_interactive_needed(
        &screened,
        std::io::stdin().is_terminal(),
        std::io::stdout().is_terminal(),
    );
    let mut command = Command::new("podman");
    command.args(screened.podman_args(&flags, terminal));
    for variable in PODMAN_ENV_TO_REMOVE {
        command.env_remove(variable);
    }
    let code = kernel::run_to_end(&mut command).map_err(Error::from)?;
    if matches!(code, 125..=127) {
        shield.give_back(&prepared)?;
    }
    // Podman shows its runtime's words and not the hook's. Another status than these is that of a first process which the
    // hook ended before its program began.
    if code != 0
        && let Some(reason) = bundle::refusal(&shield.paths.state, &name)
    {
        let reason = reason.split_once(' ').map_or(reason.as_str(), |(_, reason)| reason);
        warn(&format!("{name} was not started: {reason}"));
    }
    Ok(code)
}

pub(super) fn prepare(args: args::Prepare) -> Result<u8> {
    let name = container_name(&args.name)?;
    let mut request = request(&args.profiles, &args.allow)?;
    let publish = publish_flags(&args.publish).map_err(Error::from)?;
    request.published = publish.into_iter().map(Into::into).collect();
    let shield = shield()?;
    let prepared = prepare_bundle(&shield, &name, request)?;
    let flags = shield_flags(&shield, &prepared)?;
    let line = if args.json {
        serde_json::to_string(&flags)?
    } else {
        shell_quote(&flags)
    };
    print(&format!("{line}\n"))?;
    Ok(Exit::Done as u8)
}

fn prepare_bundle(shield: &Shield, name: &ContainerName, mut request: Request) -> Result<Prepared> {
    // What cannot be right is said before anything is changed.
    shield.targets(&request.profiles)?;
    request.protected = ensure_hooks()?;
    let prepared = {
        let mut meter = Meter::new();
        shield.prepare(name, &request, &mut |done, total| meter.show(done, total))?
    };
    for line in prepared.shortfall.lines() {
        warn(&line);
    }
    Ok(prepared)
}

fn shield_flags(shield: &Shield, prepared: &Prepared) -> Result<Vec<String>> {
    let launch = Launch {
        name: prepared.bundle.name().to_string(),
        profiles: prepared.profiles.iter().map(ToString::to_string).collect(),
        state_dir: absolute(&shield.paths.state),
        proof: prepared.proof().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(podman::launch::flags(&launch).map_err(Error::from)?)
}

/// The path by which the hook finds the same directory, links resolved.
fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn container_name(given: &str) -> Result<ContainerName> {
    Ok(given.parse().map_err(|source| Error::Name {
        name: given.to_owned(),
        source,
    })?)
}

pub(super) fn profile_names(given: &[String]) -> Result<Vec<ProfileName>> {
    given
        .iter()
        // An empty list is a mistake, and not the default one.
        .flat_map(|list| {
            if list.trim().is_empty() {
                vec![""]
            } else {
                list.split_whitespace().collect()
            }
        })
        .map(|name| {
            Ok(name.parse().map_err(|source| Error::ProfileName {
                name: name.to_owned(),
                source,
            })?)
        })
        .collect()
}

pub(super) fn target(given: &str) -> Result<Target> {
    Ok(given.parse().map_err(|source| Error::Target {
        target: given.to_owned(),
        source,
    })?)
}

fn request(profiles: &[String], allow: &[String]) -> Result<Request> {
    Ok(Request {
        profiles: profile_names(profiles)?,
        allow: allow.iter().map(|given| target(given)).collect::<Result<_>>()?,
        ..Request::default()
    })
}

/// The home directory, for what Podman keeps there.
pub(super) fn home() -> PathBuf {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(|home| PathBuf::from(std::ffi::OsString::from_vec(home.into_vec())))
        .or_else(|| {
            nix::unistd::User::from_uid(nix::unistd::geteuid())
                .ok()
                .flatten()
                .map(|user| user.dir)
        })
        .unwrap_or_else(|| PathBuf::from("/"))
}
