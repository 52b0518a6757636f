//! Where a hook is: whose container it is for, and where that user's files are. The hook's environment is not the user's, and
//! annotations are believed only where the operator alone can set them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mounts::{self, Protected};
use super::{Refusal, oci};
use crate::kernel::NetNamespace;
use crate::podman::{ANNOTATION_PROFILES, ANNOTATION_STATE_DIR, ConfPaths, HookSet};

/// Whose hook this is, and where his files are.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// State directory.
    pub state_dir: PathBuf,
    /// Configuration directory.
    pub config_dir: PathBuf,
    /// His home, or `/root`.
    pub home: PathBuf,
    /// His `$XDG_RUNTIME_DIR`.
    pub runtime_dir: PathBuf,
    /// His uid, outside the user namespace.
    pub uid: u32,
}

/// The uid outside that this user namespace's root is, from the text of `/proc/self/uid_map` (user_namespaces(7)).
fn outer_root(uid_map: &str) -> Option<u32> {
    uid_map.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (fields.next(), fields.next()) {
            (Some(Ok(0)), Some(Ok(outside))) => u32::try_from(outside).ok(),
            _ => None,
        }
    })
}

impl Surroundings {
    /// Finds out, from the kernel and the password file alone.
    pub fn discover(annotations: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let map = fs::read_to_string("/proc/self/uid_map")
            .map_err(|error| Refusal::new(format!("cannot read /proc/self/uid_map: {error}")))?;
        let uid = outer_root(&map).ok_or_else(|| Refusal::new("cannot tell whose user namespace this is"))?;
        // In the first user namespace the hook runs as real root, on behalf of whoever asked; annotations may then come
        // from a tenant.
        let is_root = uid == 0;
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
            .ok()
            .flatten()
            .ok_or_else(|| Refusal::new(format!("uid {uid} has no entry in the password file")))?;
        let (state_dir, config_dir) = if is_root {
            ("/var/lib/terok-shield".into(), "/etc/terok-shield".into())
        } else {
            let state = match annotations.get(ANNOTATION_STATE_DIR) {
                Some(path) if Path::new(path).is_absolute() => PathBuf::from(path),
                Some(_) => return Err(Refusal::new(format!("{ANNOTATION_STATE_DIR} is not an absolute path"))),
                None => user.dir.join(".local/state/terok/shield"),
            };
            (state, user.dir.join(".config/terok/shield"))
        };
        Ok(Self {
            state_dir,
            config_dir,
            home: user.dir,
            runtime_dir: PathBuf::from(format!("/run/user/{uid}")),
            uid,
        })
    }

    /// Everything that a container must not see. `recorded` was noted at the launch, when the operator's environment was
    /// known; what follows from his home alone is protected whether it was noted or not.
    pub fn protected(&self, state: &oci::State, recorded: &[PathBuf]) -> Result<Vec<Protected>, Refusal> {
        let binary = fs::canonicalize("/proc/self/exe")
            .map_err(|error| Refusal::new(format!("cannot find our own binary: {error}")))?;
        let mut places = vec![
            Protected::tree(&self.state_dir, "the firewall's state directory"),
            Protected::tree(&self.config_dir, "the firewall's configuration directory"),
            Protected::tree(&self.runtime_dir, "the user's runtime directory"),
        ];
        let conf = ConfPaths::from_env(&self.home, self.uid, |_| None);
        let user = HookSet::user(&self.home, conf.clone(), |_| None);
        let root = HookSet::root(conf.clone());
        for set in [&user, &root] {
            if set.is_present() {
                places.extend(
                    set.dirs()
                        .map(|directory| Protected::tree(directory, "the hooks directory")),
                );
            }
        }
        let mut drop_ins = conf.user.clone().into_os_string();
        drop_ins.push(".d");
        for file in [conf.user.clone(), PathBuf::from(drop_ins)] {
            places.push(Protected::tree(file, "Podman's configuration of hooks"));
        }
        // Every process's root can be seen through it.
        places.push(Protected::tree("/proc", "the host's processes"));
        for socket in [
            self.runtime_dir.join("podman/podman.sock"),
            self.runtime_dir.join("docker.sock"),
            "/run/podman/podman.sock".into(),
            "/run/docker.sock".into(),
            "/var/run/docker.sock".into(),
        ] {
            places.push(Protected::tree(socket, "a socket of Podman or Docker"));
        }
        // Podman's records of containers: who writes them decides which hooks run. The runtime's bundle is
        // STORAGE/DRIVER-containers/ID/userdata, or somebody's who started the runtime himself.
        let storage = match mounts::podmans_record(&state.bundle, &state.id) {
            Some(record) => record.parent().and_then(|records| {
                places.push(Protected::tree(records, "Podman's records of containers"));
                records.parent().map(Path::to_owned)
            }),
            None => {
                places.push(Protected::tree(
                    state.bundle.join("config.json"),
                    "the runtime's configuration",
                ));
                let storage = if self.uid == 0 {
                    PathBuf::from("/var/lib/containers/storage")
                } else {
                    self.home.join(".local/share/containers/storage")
                };
                places.push(Protected::tree(
                    storage.join("overlay-containers"),
                    "Podman's records of containers",
                ));
                Some(storage)
            }
        };
        if let Some(storage) = storage {
            places.push(Protected::tree(
                storage.join("libpod"),
                "Podman's records of containers",
            ));
        }
        if let Some(directory) = binary.parent() {
            places.push(Protected {
                path: directory.to_owned(),
                what: "the directory of terok-shield's binary",
                below: false,
                writes_only: true,
            });
        }
        places.push(Protected::tree(binary, "terok-shield's binary"));
        // Mostly the same places again; each is looked up once.
        for path in recorded {
            if !places.iter().any(|place| place.below && place.path == *path) {
                places.push(Protected::tree(path, "what the firewall is made of"));
            }
        }
        Ok(places)
    }
}

/// Whether the configuration asks for the shield at all.
pub fn is_shielded(annotations: &BTreeMap<String, String>) -> bool {
    annotations.contains_key(ANNOTATION_PROFILES)
}

/// Two views of the same annotations must agree: the runtime's state and the bundle's configuration.
pub fn same_annotations(state: &oci::State, spec: &oci::Spec) -> Result<(), Refusal> {
    let ours = |annotations: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        annotations
            .iter()
            .filter(|(key, _)| key.starts_with("terok.shield."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    if ours(&state.annotations) == ours(&spec.annotations) {
        Ok(())
    } else {
        Err(Refusal::new(
            "the runtime's state and config.json disagree about our annotations",
        ))
    }
}

/// The name of the program that called us, by its first argument: crun replaces itself by a copy whose file has no name.
pub fn calling_runtime() -> Option<String> {
    let arguments = fs::read(format!("/proc/{}/cmdline", crate::kernel::parent_pid())).ok()?;
    let first = arguments.split(|byte| *byte == 0).next()?;
    let name = Path::new(std::str::from_utf8(first).ok()?).file_name()?;
    name.to_str().map(str::to_owned)
}

/// Whether a standard stream of the container's first process is a socket (`--log-driver passthrough`): it was opened in
/// another network.
pub fn inherits_a_socket(pid: i32) -> Result<bool, Refusal> {
    for stream in 0..=2 {
        let path = format!("/proc/{pid}/fd/{stream}");
        match fs::read_link(&path) {
            Ok(target) if target.as_os_str().as_encoded_bytes().starts_with(b"socket:") => return Ok(true),
            Ok(_) => {}
            // It is closed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Refusal::new(format!("cannot examine {path}: {error}"))),
        }
    }
    Ok(false)
}

/// Whether the runtime was told to hand its own descriptors on to the container.
pub fn runtime_preserves_descriptors() -> Result<bool, Refusal> {
    let path = format!("/proc/{}/cmdline", crate::kernel::parent_pid());
    let arguments = fs::read(&path).map_err(|error| Refusal::new(format!("cannot read {path}: {error}")))?;
    let mut arguments = arguments.split(|byte| *byte == 0);
    while let Some(argument) = arguments.next() {
        let count = if argument == b"--preserve-fds" {
            arguments.next()
        } else {
            argument.strip_prefix(b"--preserve-fds=")
        };
        if count.is_some_and(|count| count != b"0") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How long a process that made the network may still be on its way out of it: slirp4netns says that it is ready before the
/// child that set up the interface has ended.
const LEAVING: Duration = Duration::from_secs(1);

/// Refuses a network namespace in which another process lives: the table would shield it without its policy having been
/// asked. Those that `knows` answers for do not count.
pub fn alone(first: i32, namespace: &NetNamespace, knows: impl Fn(i32) -> bool) -> Result<(), Refusal> {
    let deadline = Instant::now() + LEAVING;
    loop {
        let strangers = strangers(first, namespace)?;
        // One that ended meanwhile belonged to nobody.
        let Some(stranger) = strangers.into_iter().find(|pid| !knows(*pid)) else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            let program = fs::read_to_string(format!("/proc/{stranger}/comm")).unwrap_or_default();
            return Err(Refusal::new(format!(
                "the container's network namespace is shared with process {stranger} ({}), which is not shielded",
                program.trim_end()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Podman's own programs. Podman makes the namespace on one of its threads, and where that is the first thread the whole
/// process seems to live there; the port forwarder does live there.
const PODMANS: [&str; 5] = ["podman", "rootlessport", "slirp4netns", "pasta", "pasta.avx2"];

/// Processes other than `first` in its network namespace. Podman's own, in our own pid and mount namespaces, are none: a
/// container always has a mount namespace of its own, whatever its programs are called.
fn strangers(first: i32, namespace: &NetNamespace) -> Result<Vec<i32>, Refusal> {
    let unlisted = |error| Refusal::new(format!("cannot list processes: {error}"));
    let wanted = Some((namespace.id().device, namespace.id().inode));
    let own = |process: &str| -> Result<_, Refusal> {
        Ok((
            identity(&format!("/proc/{process}/ns/pid"))?,
            identity(&format!("/proc/{process}/ns/mnt"))?,
        ))
    };
    let ours = own("self")?;
    let mut strangers = Vec::new();
    for entry in fs::read_dir("/proc").map_err(unlisted)? {
        let name = entry.map_err(unlisted)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process whose namespaces we may not see belongs to somebody who could not have joined this one.
        if pid == first || identity(&format!("/proc/{pid}/ns/net"))? != wanted {
            continue;
        }
        let podmans = own(&pid.to_string())? == ours
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
                PODMANS
                    .iter()
                    .any(|name| exe.file_name().is_some_and(|file| file == *name))
            });
        if !podmans {
            strangers.push(pid);
        }
    }
    Ok(strangers)
}

/// What a namespace's file leads to. None if the process is gone or not ours to look at; any other error is no answer.
fn identity(path: &str) -> Result<Option<(u64, u64)>, Refusal> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(error)
            if [ErrorKind::NotFound, ErrorKind::PermissionDenied].contains(&error.kind())
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(Refusal::new(format!("cannot examine {path}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_rootless_namespace_is_found_in_its_map() {
        assert_eq!(
            outer_root("         0       1000          1\n         1     100000      65536\n"),
            Some(1000)
        );
        assert_eq!(outer_root("         0          0 4294967295\n"), Some(0));
        assert_eq!(outer_root("         1     100000      65536\n"), None);
        assert_eq!(outer_root(""), None);
    }
}
