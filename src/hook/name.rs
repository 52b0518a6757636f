//! What a container is called: by its annotation, else as it was called before, else as Podman told its monitor, else by its
//! id.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Refusal, oci};
use crate::bundle;
use crate::kernel;
use crate::podman::ANNOTATION_NAME;
use crate::policy::ContainerName;

/// Digits of an id that stand for a name, as Podman shows it.
const SHORT_ID: usize = 12;

/// The name that an annotation gives. One that cannot be a name is an error.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Option<ContainerName>, Refusal> {
    annotations
        .get(ANNOTATION_NAME)
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| Refusal::new(format!("{ANNOTATION_NAME}: {error}")))
}

/// The name of the container that the runtime is about to start.
pub fn of(state: &oci::State, state_dir: &Path) -> Result<ContainerName, Refusal> {
    if let Some(name) = annotated(&state.annotations)? {
        return Ok(name);
    }
    // What the operator denied it stays denied, whether Podman has renamed it or not.
    if let Some(bundle) = bundle::owned_by(state_dir, &state.id)? {
        return Ok(bundle.name().clone());
    }
    let told = monitor().and_then(|line| told_to_monitor(&line, &state.id)?.parse().ok());
    if let Some(name) = told {
        return Ok(name);
    }
    let short: String = state.id.chars().take(SHORT_ID).collect();
    short
        .parse()
        .map_err(|error| Refusal::new(format!("{error}; name it in the annotation {ANNOTATION_NAME}")))
}

/// The command line of the process that started the runtime that started us.
fn monitor() -> Option<Vec<u8>> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", kernel::parent_pid())).ok()?;
    // The command's name is in parentheses and may hold anything; after it come its state and its parent.
    let parent: i32 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
    fs::read(format!("/proc/{parent}/cmdline")).ok()
}

/// The name on a command line of conmon's, if it monitors the container of that id.
fn told_to_monitor(line: &[u8], id: &str) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let words: Vec<&str> = line.split_terminator('\0').collect();
    let value = |flag: &str| {
        let place = words.iter().position(|word| *word == flag)?;
        words.get(place + 1).copied()
    };
    let is_conmon = Path::new(words.first()?).file_name()? == "conmon";
    if is_conmon && value("-c") == Some(id) {
        value("-n").map(str::to_owned)
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_before_it_becomes_a_path() {
        for bad in ["", "../x", "a/b", "..", "-x", "a\0b"] {
            let annotations = BTreeMap::from([(ANNOTATION_NAME.to_owned(), bad.to_owned())]);
            assert!(annotated(&annotations).is_err(), "{bad:?}");
        }
        assert_eq!(annotated(&BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn only_the_containers_own_monitor_knows_its_name() {
        let line = |text: &str| text.replace(' ', "\0") + "\0";
        let usual = line("/usr/bin/conmon --api-version 1 -c abc -u abc -r /usr/bin/crun -b /b -n web -l k8s-file:/x");
        assert_eq!(told_to_monitor(usual.as_bytes(), "abc").as_deref(), Some("web"));
        assert_eq!(told_to_monitor(usual.as_bytes(), "abcd"), None);
        for other in [
            "",
            "conmon",
            "conmon -c",
            "conmon -c abc",
            "conmon -c abc -n",
            "sh -c abc -n web",
        ] {
            assert_eq!(told_to_monitor(line(other).as_bytes(), "abc"), None, "{other:?}");
        }
    }
}
