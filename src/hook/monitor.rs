//! conmon, the process that Podman starts for each container: its command line says whose it is.
//!
//! A container can start what it likes under that name; a process is believed only in our own pid and mount namespaces, where
//! no container's is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::kernel;

/// What a command line of conmon's says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// The container's id.
    pub id: String,
    /// The runtime's bundle.
    pub bundle: PathBuf,
    /// What Podman calls it.
    pub name: String,
}

impl Monitor {
    /// Of the process that started the runtime that started us.
    pub fn of_our_runtime() -> Option<Self> {
        Self::at(parent(kernel::parent_pid())?)
    }

    /// Of a process that is conmon, and outside of every container.
    fn at(pid: i32) -> Option<Self> {
        let monitor = Self::parse(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)?;
        is_outside(pid).then_some(monitor)
    }

    /// Of the container that a process belongs to: the nearest one above it.
    pub fn above(pid: i32) -> Option<Self> {
        let mut pid = pid;
        // A process that becomes its own ancestor while we look has a number that was given away again.
        for _ in 0..MAX_DEPTH {
            pid = parent(pid)?;
            if pid <= 1 {
                return None;
            }
            if let Some(monitor) = Self::at(pid) {
                return Some(monitor);
            }
        }
        None
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        let words: Vec<&str> = line.split_terminator('\0').collect();
        let value = |flag: &str| {
            let place = words.iter().position(|word| *word == flag)?;
            words.get(place + 1).copied()
        };
        if Path::new(words.first()?).file_name()? != "conmon" {
            return None;
        }
        Some(Self {
            id: value("-c")?.to_owned(),
            bundle: value("-b")?.into(),
            name: value("-n")?.to_owned(),
        })
    }
}

/// How far up a monitor is looked for.
const MAX_DEPTH: usize = 4096;

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything; after it come its state and its parent.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn is_outside(pid: i32) -> bool {
    let id = |process: &str, kind: &str| {
        let meta = fs::metadata(format!("/proc/{process}/ns/{kind}")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    ["pid", "mnt"].iter().all(|kind| {
        let ours = id("self", kind);
        ours.is_some() && id(&pid.to_string(), kind) == ours
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_of_conmon_is_understood_and_no_other() {
        let parse = |text: &str| Monitor::parse((text.replace(' ', "\0") + "\0").as_bytes());
        let usual = parse("/usr/bin/conmon --api-version 1 -c abc -u abc -r /usr/bin/crun -b /b -n web -l k8s-file:/x");
        let usual = usual.unwrap();
        assert_eq!((usual.id.as_str(), usual.name.as_str()), ("abc", "web"));
        assert_eq!(usual.bundle, Path::new("/b"));
        for other in [
            "",
            "conmon",
            "conmon -c",
            "conmon -c abc -n web",
            "conmon -c abc -b /b -n",
            "sh -c abc -b /b -n web",
        ] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn nobody_above_us_monitors_a_container() {
        assert_eq!(Monitor::above(std::process::id().cast_signed()), None);
    }
}
