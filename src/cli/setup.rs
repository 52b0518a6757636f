//! `setup`, and the installation that `run` and `prepare` do by themselves.

use std::path::{Path, PathBuf};

use anyhow::Result;
use terok_shield::podman::{ConfPaths, Finding, HookSet, Outcome, serving};
use terok_shield::{Error, Exit};

use super::launch::home;
use super::{args, print, warn};

/// This program, as the hooks will start it.
pub(super) fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// The sets of hooks that podman may read for us: the user's first, as it masks root's.
pub(super) fn hook_sets() -> [HookSet; 2] {
    let conf = conf_paths();
    [
        HookSet::user(&home(), conf.clone(), |name| std::env::var_os(name)),
        HookSet::root(conf),
    ]
}

/// The files in which podman finds what is configured for us.
pub(super) fn conf_paths() -> ConfPaths {
    ConfPaths::from_env(&home(), nix::unistd::geteuid().as_raw(), |name| std::env::var_os(name))
}

/// Hooks in place, installed now if they were not. Returns the places that a container must not see because of them.
pub(super) fn ensure_hooks() -> Result<Vec<PathBuf>> {
    let program = program()?;
    let sets = hook_sets();
    let conf = conf_paths();
    conf.screen_network().map_err(Error::from)?;
    if serving(&sets, &program).is_err() {
        let mine = &sets[usize::from(nix::unistd::geteuid().is_root())];
        let report = mine.install(&program).map_err(Error::from)?;
        if let Some(finding) = report.findings.first() {
            return Err(not_ready(finding).into());
        }
        let [hooks, _] = mine.dirs();
        warn(&format!(
            "installed the OCI hooks in {} and listed them in containers.conf",
            hooks.display()
        ));
    }
    let set = serving(&sets, &program).map_err(|findings| {
        findings.first().map_or_else(
            || Error::Hooks {
                finding: "the hooks are not in place".to_owned(),
                mend: "terok-shield setup --user".to_owned(),
            },
            not_ready,
        )
    })?;
    let mut places: Vec<PathBuf> = set.dirs().map(Path::to_owned).to_vec();
    places.push(conf.user_target().to_owned());
    places.extend(
        std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && path != Path::new("/")),
    );
    Ok(places)
}

pub(super) fn not_ready(finding: &Finding) -> Error {
    Error::Hooks {
        finding: finding.message.clone(),
        mend: finding
            .mend
            .clone()
            .unwrap_or_else(|| "terok-shield check-environment".to_owned()),
    }
}

pub(super) fn setup(args: &args::Setup) -> Result<u8> {
    let is_root = nix::unistd::geteuid().is_root();
    if args.root && !is_root {
        return Err(Error::Hooks {
            finding: "installing hooks for every user needs root".to_owned(),
            mend: "sudo terok-shield setup --root".to_owned(),
        }
        .into());
    }
    let [user, root] = hook_sets();
    let set = if args.root || (is_root && !args.user) {
        root
    } else {
        user
    };
    let (changes, findings, errors) = if args.uninstall {
        let report = set.uninstall();
        (report.changes, Vec::new(), report.errors)
    } else {
        let report = set.install(&program()?).map_err(Error::from)?;
        (report.changes, report.findings, Vec::new())
    };
    let mut text = String::new();
    for change in changes {
        let word = match change.outcome {
            Outcome::Changed => "wrote",
            Outcome::Unchanged => "unchanged",
            Outcome::Removed => "removed",
            Outcome::Kept => "kept (not ours)",
        };
        text.push_str(&format!("{word} {}\n", change.path.display()));
    }
    print(&text)?;
    for error in &errors {
        warn(&error.to_string());
    }
    if let Some(finding) = findings.first() {
        return Err(not_ready(finding).into());
    }
    Ok(if errors.is_empty() { Exit::Done } else { Exit::Failed } as u8)
}
