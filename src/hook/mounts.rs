//! Whether what is mounted into a container reaches what protects it.
//!
//! Files are compared by device and inode as well as by path: a bind mount or a link gives one directory many names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Refusal;
use super::mountinfo::{self, Mounted, Place};
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

/// None if there is nothing, or nothing that we may see: the container has no more rights than we. Any other error is no
/// answer.
fn present<T>(path: &Path, looked: std::io::Result<T>) -> Result<Option<T>, Refusal> {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if [NotFound, NotADirectory, PermissionDenied].contains(&error.kind()) => Ok(None),
        Err(error) => Err(Refusal::new(format!("cannot examine {}: {error}", path.display()))),
    }
}

fn node(path: &Path) -> Result<Option<Node>, Refusal> {
    let meta = present(path, fs::metadata(path))?;
    Ok(meta.map(|meta| Node {
        device: meta.dev(),
        inode: meta.ino(),
    }))
}

/// `path` and everything above it, as nodes.
fn chain(path: &Path) -> Result<Vec<Node>, Refusal> {
    path.ancestors().filter_map(|path| node(path).transpose()).collect()
}

/// A protected place, looked up once. What does not exist yet is its nearest ancestor that does: who may write there can
/// make it.
struct Known<'a> {
    place: &'a Protected,
    /// The nearest ancestor that exists, or the place itself.
    path: PathBuf,
    /// What of the place is missing.
    rest: PathBuf,
    own: Option<Node>,
    above: Vec<Node>,
}

impl<'a> Known<'a> {
    /// None if not even the root directory can be seen from here.
    fn new(place: &'a Protected) -> Result<Option<Self>, Refusal> {
        for existing in place.path.ancestors() {
            let Some(path) = present(existing, fs::canonicalize(existing))? else {
                continue;
            };
            let Ok(rest) = place.path.strip_prefix(existing) else {
                continue;
            };
            return Ok(Some(Self {
                place,
                rest: rest.to_owned(),
                above: chain(&path)?,
                own: node(&path)?,
                path,
            }));
        }
        Ok(None)
    }

    fn exists(&self) -> bool {
        self.rest.as_os_str().is_empty()
    }
}

fn known(protected: &[Protected]) -> Result<Vec<Known<'_>>, Refusal> {
    protected
        .iter()
        .filter_map(|place| Known::new(place).transpose())
        .collect()
}

/// Refuses a container that sees one of `protected`: by its configuration, and by what the runtime has mounted by now in the
/// namespace of `pid`. `id` is its own: Podman mounts files of its own `userdata` (`resolv.conf`, `hosts`, `secrets`, ...),
/// which lie below protected places.
pub fn check(spec: &Spec, pid: i32, own: Own<'_>, protected: &[Protected]) -> Result<(), Refusal> {
    let known = known(protected)?;
    configured(spec, own, &known)?;
    let root = spec
        .root
        .as_ref()
        .ok_or_else(|| Refusal::new("the container's configuration names no root directory"))?;
    mounted(pid, &root.path, own, &known)
}

fn configured(spec: &Spec, own: Own<'_>, known: &[Known]) -> Result<(), Refusal> {
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
        if let Some(own) = own.userdata(&path) {
            // `overlay/NUMBER/merge`, bind-mounted: what fuse-overlayfs shows there cannot be told from here. The kernel's
            // own overlays have no such directory mounted; they name their layers.
            let mut parts = own.components();
            if parts.next() == Some(Component::Normal("overlay".as_ref()))
                && parts.nth(1) == Some(Component::Normal("merge".as_ref()))
            {
                return Err(Refusal::new(format!(
                    "the overlay mounted at {} is made by a program and cannot be examined (mount_program)",
                    destination.display()
                )));
            }
            continue;
        }
        let Some(shown) = node(&path)? else {
            return Err(Refusal::new(format!("cannot examine {}", path.display())));
        };
        let above = chain(&path)?;
        for one in known {
            if (one.place.writes_only || !one.exists()) && !writable {
                continue;
            }
            let contains = one.above.contains(&shown) || one.path.starts_with(&path);
            let below = one.place.below
                && one.exists()
                && (one.own.is_some_and(|own| above.contains(&own)) || path.starts_with(&one.path));
            if contains || below {
                return Err(shows(&source, destination, one.place));
            }
        }
    }
    Ok(())
}

fn shows(source: &Path, destination: &Path, place: &Protected) -> Refusal {
    Refusal::new(format!(
        "the mount of {} at {} shows the container {} ({})",
        source.display(),
        destination.display(),
        place.what,
        place.path.display()
    ))
}

fn mounted(pid: i32, root: &Path, own: Own<'_>, known: &[Known]) -> Result<(), Refusal> {
    let read = |path: String| {
        fs::read_to_string(&path)
            .ok()
            .and_then(|text| mountinfo::parse(&text))
            .ok_or_else(|| Refusal::new(format!("cannot read {path}")))
    };
    let ours = read("/proc/self/mountinfo".to_owned())?;
    let theirs = read(format!("/proc/{pid}/mountinfo"))?;
    let root =
        fs::canonicalize(root).map_err(|error| Refusal::new(format!("cannot examine the root directory: {error}")))?;
    judge(&ours, &theirs, &root, own, known)
}

fn judge(ours: &[Mounted], theirs: &[Mounted], root: &Path, own: Own<'_>, known: &[Known]) -> Result<(), Refusal> {
    let places: Vec<(&Protected, Place)> = known
        .iter()
        .filter_map(|one| Some((one.place, mountinfo::locate(&one.path, &one.rest, ours)?)))
        .collect();
    // Until the runtime has moved the root, the host's mounts are on the list too.
    let mut inside = theirs.iter().filter(|mount| mount.point.starts_with(root)).peekable();
    if inside.peek().is_none() {
        return Err(Refusal::new(
            "the runtime has mounted nothing yet: what the container will see cannot be examined",
        ));
    }
    for mount in inside {
        if own.userdata(&mount.root).is_some() {
            continue;
        }
        for (place, at) in &places {
            if at.device != mount.device || (place.writes_only && !mount.writable) {
                continue;
            }
            let contains = at.path.starts_with(&mount.root);
            let below = place.below && mount.root.starts_with(&at.path);
            if contains || below {
                let point = mount.point.strip_prefix(root).unwrap_or(&mount.point);
                return Err(shows(&mount.root, &Path::new("/").join(point), place));
            }
        }
    }
    Ok(())
}

/// What Podman removes with the container, `.../DRIVER-containers/ID`, if this bundle of the runtime's is one that Podman made.
pub fn podmans_record<'a>(bundle: &'a Path, id: &str) -> Option<&'a Path> {
    let rest = own_userdata(bundle, id)?;
    rest.as_os_str().is_empty().then(|| bundle.parent()).flatten()
}

/// Whether Podman made this file for the container itself.
pub fn is_own_userdata(path: &Path, own: Own<'_>) -> bool {
    fs::canonicalize(path).is_ok_and(|path| own.userdata(&path).is_some_and(|rest| !rest.starts_with("overlay")))
}

/// Whose files Podman mounts into a container.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The container's id.
    pub id: &'a str,
    /// That of its pod's infra container, whose network files all members share.
    pub infra: Option<&'a str>,
}

/// What members of a pod see of their infra container's `userdata`.
const SHARED: [&str; 4] = ["resolv.conf", "hosts", "hostname", "shm"];

impl Own<'_> {
    /// What follows `userdata` in a path to what Podman made for this container.
    fn userdata(self, path: &Path) -> Option<&Path> {
        let shared =
            || own_userdata(path, self.infra?).filter(|rest| SHARED.iter().any(|name| *rest == Path::new(name)));
        own_userdata(path, self.id).or_else(shared)
    }
}

/// What follows `.../DRIVER-containers/ID/userdata` of the container itself in a path.
fn own_userdata<'a>(path: &'a Path, id: &str) -> Option<&'a Path> {
    let directory = path.ancestors().find(|directory| {
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let parent = directory.parent();
        name(directory).as_deref() == Some("userdata")
            && parent.and_then(name).as_deref() == Some(id)
            && parent
                .and_then(Path::parent)
                .and_then(name)
                .is_some_and(|name| name.ends_with("-containers"))
    })?;
    path.strip_prefix(directory).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ABC: Own = Own {
        id: "abc",
        infra: Some("infra"),
    };

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
        let known = known(protected).unwrap();
        configured(&spec(source, options), ABC, &known).is_err()
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
        let pods = run.path().join("overlay-containers/infra/userdata");
        fs::create_dir_all(&pods).unwrap();
        for file in ["resolv.conf", "config.json"] {
            for directory in [&own, &other, &pods] {
                fs::write(directory.join(file), "").unwrap();
            }
        }
        let protected = [Protected::tree(run.path(), "the runtime directory")];
        assert!(!refused(&own.join("resolv.conf"), "rbind", &protected));
        assert!(refused(&other, "rbind", &protected));
        assert!(refused(&other.join("resolv.conf"), "rbind", &protected));
        // Of the pod's infra container only what its members share.
        assert!(!refused(&pods.join("resolv.conf"), "rbind", &protected));
        assert!(refused(&pods.join("config.json"), "rbind", &protected));
        assert!(refused(&pods, "rbind", &protected));
    }

    #[test]
    fn what_does_not_exist_yet_cannot_be_planted() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("config")).unwrap();
        let protected = [Protected::tree(
            home.path().join("config/terok/shield"),
            "its configuration",
        )];
        assert!(refused(&home.path().join("config"), "rbind,rw", &protected));
        assert!(!refused(&home.path().join("config"), "rbind,ro", &protected));
    }

    #[test]
    fn an_overlay_made_by_a_program_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let merged = run.path().join("overlay-containers/abc/userdata/overlay/1/merge");
        fs::create_dir_all(&merged).unwrap();
        assert!(refused(&merged, "rbind", &[]));
    }

    fn line(device: &str, root: &str, point: &str) -> Mounted {
        Mounted {
            device: device.to_owned(),
            root: root.into(),
            point: point.into(),
            writable: true,
        }
    }

    #[test]
    fn what_is_mounted_is_judged_by_file_system_and_not_by_name() {
        let own = [line("8:1", "/", "/")];
        let protected = [Protected::tree("/nonexistent-home/state", "its policy")];
        let known = known(&protected).unwrap();
        let judged = |device: &str, root: &str| {
            let theirs = [line("0:50", "/", "/r"), line(device, root, "/r/x/deep")];
            judge(&own, &theirs, Path::new("/r"), ABC, &known)
        };
        for bad in [
            "/",
            "/nonexistent-home",
            "/nonexistent-home/state",
            "/nonexistent-home/state/containers/web",
        ] {
            assert!(judged("8:1", bad).is_err(), "{bad}");
        }
        judged("8:1", "/nonexistent-home/work").unwrap();
        judged("8:2", "/nonexistent-home/state").unwrap();
        judged("8:1", "/nonexistent-home/state/overlay-containers/abc/userdata/hosts").unwrap();
        assert!(judge(&own, &own, Path::new("/r"), ABC, &known).is_err());
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
