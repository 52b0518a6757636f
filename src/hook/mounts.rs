//! Whether what is mounted into a container reaches what protects it.
//!
//! Files are compared by device and inode as well as by path: a bind mount or a link gives one directory many names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Refusal;
use super::oci::{Mount, Spec};

/// A place that no container may see.
#[derive(Debug, Clone)]
pub struct Protected {
    /// The place.
    pub path: PathBuf,
    /// What it is, for the message.
    pub what: &'static str,
    /// Whether what lies below it is protected too, or only what contains it.
    pub below: bool,
    /// Whether a read-only mount is harmless.
    pub writes_only: bool,
}

impl Protected {
    /// A place whose inside is protected like itself.
    #[must_use]
    pub fn tree(path: impl Into<PathBuf>, what: &'static str) -> Self {
        Self {
            path: path.into(),
            what,
            below: true,
            writes_only: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    device: u64,
    inode: u64,
}

fn node(path: &Path) -> Option<Node> {
    let meta = fs::metadata(path).ok()?;
    Some(Node {
        device: meta.dev(),
        inode: meta.ino(),
    })
}

/// `path` and everything above it, as nodes.
fn chain(path: &Path) -> Vec<Node> {
    path.ancestors().filter_map(node).collect()
}

/// Refuses a container that would see one of `protected`. `id` is its own: Podman mounts files of its own `userdata`
/// (`resolv.conf`, `hosts`, `secrets`, ...), which lie below protected places.
pub fn check(spec: &Spec, id: &str, protected: &[Protected]) -> Result<(), Refusal> {
    // What does not exist can neither be mounted nor contain a mount.
    let places: Vec<(&Protected, PathBuf, Node, Vec<Node>)> = protected
        .iter()
        .filter_map(|place| {
            let path = fs::canonicalize(&place.path).ok()?;
            let own = node(&path)?;
            let above = chain(&path);
            Some((place, path, own, above))
        })
        .collect();
    let root = spec.root.iter().map(|root| (root.path.clone(), true, Path::new("/")));
    let mounts = spec.mounts.iter().flat_map(|mount: &Mount| {
        mount
            .host_paths()
            .into_iter()
            .map(move |path| (path, mount.is_writable(), mount.destination.as_path()))
    });
    for (source, writable, destination) in mounts.chain(root) {
        // A relative root is relative to the runtime's bundle; Podman writes absolute ones.
        let path = fs::canonicalize(&source).map_err(|error| {
            Refusal::new(format!(
                "cannot examine what is mounted at {}: {}: {}",
                destination.display(),
                source.display(),
                error
            ))
        })?;
        if is_own_userdata(&path, id) {
            continue;
        }
        let Some(shown) = node(&path) else {
            return Err(Refusal::new(format!("cannot examine {}", path.display())));
        };
        let above = chain(&path);
        for (place, place_path, place_node, place_above) in &places {
            if place.writes_only && !writable {
                continue;
            }
            let contains = place_above.contains(&shown) || place_path.starts_with(&path);
            let below = place.below && (above.contains(place_node) || path.starts_with(place_path));
            if contains || below {
                return Err(Refusal::new(format!(
                    "the mount of {} at {} shows the container {} ({})",
                    source.display(),
                    destination.display(),
                    place.what,
                    place.path.display()
                )));
            }
        }
    }
    Ok(())
}

/// `.../DRIVER-containers/ID/userdata/...` of the container itself.
fn is_own_userdata(path: &Path, id: &str) -> bool {
    path.ancestors().any(|directory| {
        directory.file_name().is_some_and(|name| name == "userdata")
            && directory
                .parent()
                .is_some_and(|parent| parent.file_name().is_some_and(|name| name == id))
            && directory
                .parent()
                .and_then(Path::parent)
                .and_then(Path::file_name)
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.ends_with("-containers"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn spec(source: &Path, options: &str) -> Spec {
        serde_json::from_value(serde_json::json!({
            "process": {},
            "mounts": [{
                "destination": "/x", "type": "bind", "source": source,
                "options": options.split(',').collect::<Vec<_>>()
            }],
            "linux": {}
        }))
        .unwrap()
    }

    fn refused(source: &Path, options: &str, protected: &[Protected]) -> bool {
        check(&spec(source, options), "abc", protected).is_err()
    }

    #[test]
    fn what_contains_equals_or_lies_below_a_protected_place_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state/shield");
        fs::create_dir_all(state.join("containers/web")).unwrap();
        fs::create_dir(home.path().join("work")).unwrap();
        let protected = [Protected::tree(&state, "its policy")];
        for bad in [
            home.path().to_owned(),
            home.path().join("state"),
            state.clone(),
            state.join("containers/web"),
            PathBuf::from("/"),
        ] {
            assert!(refused(&bad, "rbind,ro", &protected), "{}", bad.display());
        }
        assert!(!refused(&home.path().join("work"), "rbind,rw", &protected));
    }

    #[test]
    fn a_link_to_a_protected_place_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        fs::create_dir(&state).unwrap();
        symlink(&state, home.path().join("innocent")).unwrap();
        let protected = [Protected::tree(home.path().join("innocent"), "its policy")];
        assert!(refused(&state, "rbind", &protected));
        assert!(refused(
            &home.path().join("innocent"),
            "rbind",
            &[Protected::tree(&state, "its policy")]
        ));
    }

    #[test]
    fn what_cannot_be_examined_is_refused() {
        assert!(refused(Path::new("/nonexistent/x"), "rbind", &[]));
    }

    #[test]
    fn podmans_own_files_of_this_container_pass_and_those_of_another_do_not() {
        let run = tempfile::tempdir().unwrap();
        let own = run.path().join("overlay-containers/abc/userdata");
        let other = run.path().join("overlay-containers/def/userdata");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(own.join("resolv.conf"), "").unwrap();
        let protected = [Protected::tree(run.path(), "the runtime directory")];
        assert!(!refused(&own.join("resolv.conf"), "rbind", &protected));
        assert!(refused(&other, "rbind", &protected));
    }

    #[test]
    fn the_directory_of_the_binary_may_be_shown_but_not_written() {
        let bin = tempfile::tempdir().unwrap();
        let protected = [Protected {
            path: bin.path().to_owned(),
            what: "the directory of terok-shield",
            below: false,
            writes_only: true,
        }];
        assert!(!refused(bin.path(), "rbind,ro", &protected));
        assert!(refused(bin.path(), "rbind,rw", &protected));
    }
}
