//! The OCI hook files: installing, removing, and finding out whether podman will really run them.
//!
//! Podman starts a container without a word where the hooks directory or the hook's binary is missing, or where a later directory
//! has a file of the same name. `verify` is what `run` asks beforehand; the seal is what holds when nobody asks. What the hooks do
//! is in `hook/`.

mod file;
mod verify;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::conf::{ConfError, ConfPaths, DEFAULT_HOOKS_DIR};
use super::files::{self, FileError};
use super::{HOOK_FILE_CREATE_RUNTIME, HOOK_FILE_POSTSTOP, HOOK_FILE_PRECREATE};

pub use verify::{Finding, FindingKind, serving};

use file::HookFile;

/// Where root's precreate hook lives: CRI-O reads [`DEFAULT_HOOKS_DIR`] and refuses a stage it doesn't know.
pub const ROOT_PRECREATE_DIR: &str = "/usr/share/terok-shield/precreate.d";

/// For whom the hooks are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One user, below the home directory.
    User,
    /// Every user and root.
    Root,
}

impl Scope {
    /// The command that mends what [`HookSet::verify`] finds.
    #[must_use]
    pub fn setup_command(self) -> &'static str {
        match self {
            Self::User => "terok-shield setup --user",
            Self::Root => "terok-shield setup --root",
        }
    }
}

/// One installed (or to be installed) set of hook files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSet {
    scope: Scope,
    hooks_dir: PathBuf,
    precreate_dir: PathBuf,
    conf: ConfPaths,
}

/// Why hooks cannot be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The program that the hooks would run.
    #[error("program {}: {what}; install terok-shield in its final place, then run setup again", path.display())]
    Program {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A path that neither JSON nor containers.conf can carry.
    #[error("directory {}: not valid UTF-8; choose another with XDG_DATA_HOME", path.display())]
    Directory {
        /// As given.
        path: PathBuf,
    },
    /// containers.conf.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// A hook file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written anew.
    Changed,
    /// As it should be already.
    Unchanged,
    /// Removed.
    Removed,
    /// Somebody else's: left alone.
    Kept,
}

/// One file and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
}

/// What `install` did, and what it could not mend.
#[derive(Debug)]
pub struct InstallReport {
    /// Every file looked at.
    pub changes: Vec<Change>,
    /// What [`HookSet::verify`] still finds: a drop-in that sets `hooks_dir` after us, for one.
    pub findings: Vec<Finding>,
}

/// What `uninstall` did. It goes on after an error.
#[derive(Debug)]
pub struct UninstallReport {
    /// Every file looked at.
    pub changes: Vec<Change>,
    /// What could not be removed.
    pub errors: Vec<HookError>,
}

impl HookSet {
    /// One user's set, below `$XDG_DATA_HOME` or `~/.local/share`.
    #[must_use]
    pub fn user(home: &Path, conf: ConfPaths, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let data = variable("XDG_DATA_HOME")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from);
        let base = data.unwrap_or_else(|| home.join(".local/share")).join("terok/shield");
        Self::at(Scope::User, base.join("hooks.d"), base.join("precreate.d"), conf)
    }

    /// The system's set.
    #[must_use]
    pub fn root(conf: ConfPaths) -> Self {
        Self::at(
            Scope::Root,
            PathBuf::from(DEFAULT_HOOKS_DIR),
            PathBuf::from(ROOT_PRECREATE_DIR),
            conf,
        )
    }

    /// A set in any two directories.
    #[must_use]
    pub fn at(scope: Scope, hooks_dir: PathBuf, precreate_dir: PathBuf, conf: ConfPaths) -> Self {
        Self {
            scope,
            hooks_dir,
            precreate_dir,
            conf,
        }
    }

    /// For whom.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The directories that podman must read, in order.
    #[must_use]
    pub fn dirs(&self) -> [&Path; 2] {
        [&self.hooks_dir, &self.precreate_dir]
    }

    /// The hook files and their stages.
    #[must_use]
    pub fn files(&self) -> [(PathBuf, &'static str); 3] {
        [
            (self.hooks_dir.join(HOOK_FILE_CREATE_RUNTIME), "createRuntime"),
            (self.hooks_dir.join(HOOK_FILE_POSTSTOP), "poststop"),
            (self.precreate_dir.join(HOOK_FILE_PRECREATE), "precreate"),
        ]
    }

    /// True if any of the files is there, ours or not.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.files().iter().any(|(path, _)| path.symlink_metadata().is_ok())
    }

    /// Writes the hook files, then makes podman read them. Doing it again changes nothing.
    ///
    /// # Errors
    /// The program is no program, containers.conf is malformed (nothing is written then), or a write failed: hook files written
    /// before are as they were.
    pub fn install(&self, program: &Path) -> Result<InstallReport, HookError> {
        let program = resolve_program(program)?;
        let dirs = self.listed()?;
        let edit = self.conf.plan_add(self.conf_target(), &dirs)?;
        let mut changes = Vec::new();
        let mut undo: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        let written = self.write_files(&program, &mut changes, &mut undo).and_then(|()| {
            let (path, outcome) = match &edit {
                Some(edit) => {
                    edit.apply()?;
                    (edit.path().to_owned(), Outcome::Changed)
                }
                None => (self.conf_target().to_owned(), Outcome::Unchanged),
            };
            changes.push(Change { path, outcome });
            Ok(())
        });
        if let Err(error) = written {
            for (path, old) in undo {
                // the first error is the one to report
                let _ = match old {
                    Some(bytes) => files::write(&path, &bytes, 0o644),
                    None => files::remove(&path),
                };
            }
            return Err(error);
        }
        Ok(InstallReport {
            changes,
            findings: self.verify(Path::new(&program)),
        })
    }

    fn write_files(
        &self,
        program: &str,
        changes: &mut Vec<Change>,
        undo: &mut Vec<(PathBuf, Option<Vec<u8>>)>,
    ) -> Result<(), HookError> {
        for (path, stage) in self.files() {
            let wanted = HookFile::new(program, stage).to_bytes();
            let old = files::read(&path)?;
            let safe = fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o7777 == 0o644);
            let outcome = if safe && old.as_deref() == Some(&wanted) {
                Outcome::Unchanged
            } else {
                files::write(&path, &wanted, 0o644)?;
                undo.push((path.clone(), old));
                Outcome::Changed
            };
            changes.push(Change { path, outcome });
        }
        Ok(())
    }

    /// Takes our entries out of containers.conf and removes the hook files that are ours, with the directories that are empty then.
    #[must_use]
    pub fn uninstall(&self) -> UninstallReport {
        let mut report = UninstallReport {
            changes: Vec::new(),
            errors: Vec::new(),
        };
        match self.unlist() {
            Ok(change) => report.changes.extend(change),
            Err(error) => report.errors.push(error),
        }
        for (path, _) in self.files() {
            match remove_ours(&path) {
                Ok(Some(outcome)) => report.changes.push(Change { path, outcome }),
                Ok(None) => {}
                Err(error) => report.errors.push(error),
            }
        }
        let parent = |path: &Path| path.parent().map(Path::to_owned);
        let mut empty = vec![Some(self.precreate_dir.clone())];
        if self.scope == Scope::User {
            empty.push(Some(self.hooks_dir.clone()));
        }
        empty.push(parent(&self.precreate_dir));
        for directory in empty.into_iter().flatten() {
            // refused for a directory that isn't empty, which is what is wanted
            let _ = fs::remove_dir(directory);
        }
        report
    }

    fn unlist(&self) -> Result<Option<Change>, HookError> {
        let dirs = self.listed()?;
        // podman's own default is not ours to take out
        let own: Vec<&str> = dirs.into_iter().filter(|dir| *dir != DEFAULT_HOOKS_DIR).collect();
        let Some(edit) = self.conf.plan_remove(self.conf_target(), &own)? else {
            return Ok(None);
        };
        edit.apply()?;
        let outcome = if edit.path().exists() {
            Outcome::Changed
        } else {
            Outcome::Removed
        };
        Ok(Some(Change {
            path: edit.path().to_owned(),
            outcome,
        }))
    }

    fn conf_target(&self) -> &Path {
        match self.scope {
            Scope::User => self.conf.user_target(),
            Scope::Root => &self.conf.admin,
        }
    }

    fn listed(&self) -> Result<[&str; 2], HookError> {
        let utf8 = |path: &'_ PathBuf| HookError::Directory { path: path.clone() };
        let hooks = self.hooks_dir.to_str().ok_or_else(|| utf8(&self.hooks_dir))?;
        let precreate = self.precreate_dir.to_str().ok_or_else(|| utf8(&self.precreate_dir))?;
        Ok([hooks, precreate])
    }
}

/// Canonical, UTF-8 and executable: podman passes over a hook whose program is missing.
fn resolve_program(program: &Path) -> Result<String, HookError> {
    let wrong = |what| HookError::Program {
        path: program.to_owned(),
        what,
    };
    let resolved = fs::canonicalize(program).map_err(|_| wrong("not found"))?;
    if !is_executable(&resolved) {
        return Err(wrong("not an executable file"));
    }
    resolved
        .into_os_string()
        .into_string()
        .map_err(|_| wrong("its path is not valid UTF-8"))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn remove_ours(path: &Path) -> Result<Option<Outcome>, HookError> {
    let Some(bytes) = files::read(path)? else {
        return Ok(None);
    };
    if HookFile::recognise(&bytes).is_none() {
        return Ok(Some(Outcome::Kept));
    }
    files::remove(path)?;
    Ok(Some(Outcome::Removed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
