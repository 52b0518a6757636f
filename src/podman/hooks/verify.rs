//! Whether podman would run the hooks. Asked by every `run`: a few small reads, no forks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::file::HookFile;
use super::{HookSet, is_executable, resolve_program};
use crate::podman::conf::HooksDirs;
use crate::podman::{files, shell_quote};

/// What is wrong with an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// A hook file is not there.
    Missing,
    /// A hook file is not what this version writes: another program's path, usually.
    Differs,
    /// The program is not there or cannot be executed.
    Program,
    /// Others may write a hook file or its directory.
    Writable,
    /// Podman doesn't read the directory.
    NotListed,
    /// A later directory has a file of the same name.
    Masked,
    /// Something cannot be read, so nothing can be said.
    Unreadable,
}

/// One thing that would keep podman from running the hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// One line.
    pub message: String,
    /// The command that mends it, where one does.
    pub mend: Option<String>,
}

impl HookSet {
    /// Everything that would keep podman from running these hooks with `program`; empty if nothing. A few small reads, no forks.
    #[must_use]
    pub fn verify(&self, program: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        match resolve_program(program) {
            Ok(program) => {
                for (path, stage) in self.files() {
                    findings.extend(self.check_file(&path, &HookFile::new(&program, stage)));
                }
            }
            Err(error) => findings.push(Finding {
                kind: FindingKind::Program,
                message: error.to_string(),
                mend: None,
            }),
        }
        match self.conf.hooks_dirs() {
            Ok(effective) => {
                for dir in self.dirs() {
                    findings.extend(self.check_dir(dir, &effective));
                }
            }
            Err(error) => findings.push(Finding {
                kind: FindingKind::Unreadable,
                message: error.to_string(),
                mend: error.path().map(edit),
            }),
        }
        findings
    }

    fn check_file(&self, path: &Path, wanted: &HookFile) -> Option<Finding> {
        let shown = path.display();
        let bytes = match files::read(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Some(self.finding(FindingKind::Missing, format!("hook file {shown} is missing")));
            }
            Err(error) => return Some(self.finding(FindingKind::Unreadable, error.to_string())),
        };
        if bytes != wanted.to_bytes() {
            let what = match HookFile::recognise(&bytes) {
                Some(file) if file.hook.path != wanted.hook.path => {
                    let gone = if is_executable(Path::new(&file.hook.path)) {
                        ""
                    } else {
                        ", which is missing"
                    };
                    format!(
                        "hook file {shown} runs {}{gone}, not {}",
                        file.hook.path.escape_debug(),
                        wanted.hook.path
                    )
                }
                Some(_) => format!("hook file {shown} is another version's"),
                None => format!("hook file {shown} is not terok-shield's"),
            };
            return Some(self.finding(FindingKind::Differs, what));
        }
        let writable =
            |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o022 != 0);
        if writable(path) {
            return Some(self.finding(
                FindingKind::Writable,
                format!("hook file {shown} can be written by others"),
            ));
        }
        let directory = path.parent().filter(|directory| writable(directory))?;
        let message = format!(
            "hooks directory {} can be written by others; chmod go-w it",
            directory.display()
        );
        Some(Finding {
            kind: FindingKind::Writable,
            message,
            mend: Some(command("chmod go-w", directory)),
        })
    }

    fn check_dir(&self, dir: &Path, effective: &HooksDirs) -> Vec<Finding> {
        let set_by = match &effective.set_by {
            Some(path) => format!("hooks_dir is set in {}", path.display()),
            None => "no containers.conf sets hooks_dir".to_owned(),
        };
        let Some(at) = effective
            .dirs
            .iter()
            .rposition(|listed| is_same(Path::new(listed), dir))
        else {
            // setup writes one file; where another one has the last word, it must be mended there
            let target = effective
                .set_by
                .as_deref()
                .is_none_or(|path| path == self.conf_target() || !self.has_entries());
            let message = format!("podman does not read {}: {set_by}", dir.display());
            let mend = match &effective.set_by {
                Some(path) if !target => Some(edit(path)),
                _ => Some(self.scope.setup_command().to_owned()),
            };
            let message = if target {
                message
            } else {
                format!("{message}; add it there or remove that setting")
            };
            return vec![Finding {
                kind: FindingKind::NotListed,
                message,
                mend,
            }];
        };
        let later = &effective.dirs[at + 1..];
        let names = self
            .files()
            .into_iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .filter_map(|(path, _)| path.file_name().map(OsString::from));
        names
            .flat_map(|name| later.iter().map(move |listed| Path::new(listed).join(&name)))
            .filter(|path| path.symlink_metadata().is_ok() && !is_same(path.parent().unwrap_or(path), dir))
            .map(|path| Finding {
                kind: FindingKind::Masked,
                message: format!(
                    "{} masks the hook of the same name in {}; remove it",
                    path.display(),
                    dir.display()
                ),
                mend: Some(command("rm", &path)),
            })
            .collect()
    }

    /// True if our target lists the directories, so that writing it again would not help.
    fn has_entries(&self) -> bool {
        let Ok(dirs) = self.listed() else {
            return false;
        };
        self.conf
            .plan_add(self.conf_target(), &dirs)
            .is_ok_and(|edit| edit.is_none())
    }

    fn finding(&self, kind: FindingKind, message: String) -> Finding {
        Finding {
            kind,
            message,
            mend: Some(self.scope.setup_command().to_owned()),
        }
    }
}

/// The first set without findings; else the findings of the first that has any file installed, or of the first.
///
/// # Errors
/// What keeps every set from serving.
pub fn serving<'a>(sets: &'a [HookSet], program: &Path) -> Result<&'a HookSet, Vec<Finding>> {
    let mut all: Vec<(&HookSet, Vec<Finding>)> = Vec::new();
    for set in sets {
        let findings = set.verify(program);
        if findings.is_empty() {
            return Ok(set);
        }
        all.push((set, findings));
    }
    let chosen = all.iter().position(|(set, _)| set.is_present()).unwrap_or(0);
    Err(all
        .into_iter()
        .nth(chosen)
        .map(|(_, findings)| findings)
        .unwrap_or_default())
}

/// A command line about one path.
fn command(words: &str, path: &Path) -> String {
    format!("{words} {}", shell_quote(&[path.to_string_lossy().into_owned()]))
}

/// What somebody else wrote is his to change.
fn edit(path: &Path) -> String {
    command("${EDITOR:-vi}", path)
}

/// The same directory, also through symbolic links (`/home` is one on some systems).
fn is_same(left: &Path, right: &Path) -> bool {
    left == right || matches!((fs::canonicalize(left), fs::canonicalize(right)), (Ok(left), Ok(right)) if left == right)
}
