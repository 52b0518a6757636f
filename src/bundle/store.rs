//! The files of a bundle on disk: checked when opened, replaced as a whole, under a lock.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BundleError;
use super::files::{PolicyFile, ResolvedFile, RunningFile, VERSION};
use crate::audit::Log;
use crate::policy::ContainerName;

const POLICY: &str = "policy.json";
const RESOLVED: &str = "resolved.json";
const RUNNING: &str = "running.json";
const LOCK: &str = "lock";
const REFUSAL: &str = "hook-error.log";

/// Largest file that is read, in bytes: 100,000 targets take about 8 MB.
const SIZE_LIMIT: u64 = 128 * 1024 * 1024;

/// The state directory of one container, checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    name: ContainerName,
    path: PathBuf,
}

/// Held by whoever changes a bundle; given up when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What a power cut may do to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Nothing: it is on disk.
    Full,
    /// Undo it as a whole.
    Content,
    /// Anything: the file means nothing after a reboot.
    None,
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        operation,
        path,
        source,
    }
}

/// A directory that is ours alone, or why not. `private` asks for 0700, otherwise nobody else may write.
fn trusted_directory(path: &Path, private: bool) -> Result<(), BundleError> {
    let untrusted = |problem: &str| BundleError::Untrusted {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let meta = fs::symlink_metadata(path).map_err(io_error("examine", path))?;
    if meta.file_type().is_symlink() {
        return Err(untrusted("is a symbolic link"));
    }
    if !meta.is_dir() {
        return Err(untrusted("is not a directory"));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(untrusted("belongs to another user"));
    }
    let forbidden = if private { 0o077 } else { 0o022 };
    if meta.mode() & forbidden != 0 {
        return Err(untrusted(if private {
            "is open to others (its mode must be 0700)"
        } else {
            "is writable by others"
        }));
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), BundleError> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    match builder.create(path) {
        // The mode again: the umask took its share, and a directory's mode is part of the promise.
        Ok(()) => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error("set the mode of", path))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error("make", path)(error)),
    }
}

fn containers(state: &Path) -> PathBuf {
    state.join("containers")
}

impl Bundle {
    /// The bundle `name` below the state directory, which must exist and be ours alone.
    pub fn open(state: &Path, name: &ContainerName) -> Result<Self, BundleError> {
        let path = containers(state).join(name.as_ref());
        for (directory, private) in [(state, false), (&containers(state), true), (&path, true)] {
            match trusted_directory(directory, private) {
                Err(BundleError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(BundleError::Missing { name: name.to_string() });
                }
                other => other?,
            }
        }
        Ok(Self {
            name: name.clone(),
            path,
        })
    }

    /// The same, made first where it is missing.
    pub fn open_or_make(state: &Path, name: &ContainerName) -> Result<Self, BundleError> {
        if let Some(parent) = state.parent() {
            fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        }
        make_directory(state)?;
        trusted_directory(state, false)?;
        make_directory(&containers(state))?;
        trusted_directory(&containers(state), true)?;
        make_directory(&containers(state).join(name.as_ref()))?;
        Self::open(state, name)
    }

    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &ContainerName {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its audit log.
    #[must_use]
    pub fn log(&self) -> Log {
        Log::in_bundle(&self.path)
    }

    /// Waits until nobody else changes this bundle.
    pub fn lock(&self) -> Result<Lock, BundleError> {
        let path = self.path.join(LOCK);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path)
            .map_err(io_error("open", &path))?;
        file.lock().map_err(io_error("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// The desired state.
    pub fn policy(&self) -> Result<PolicyFile, BundleError> {
        let file: PolicyFile = self.read(POLICY)?.ok_or_else(|| BundleError::Malformed {
            path: self.path.join(POLICY),
            problem: "it is missing".to_owned(),
        })?;
        if file.name != self.name.as_ref() {
            return Err(BundleError::Malformed {
                path: self.path.join(POLICY),
                problem: format!("it is the policy of {:?}", file.name),
            });
        }
        Ok(file)
    }

    /// Whether there is a desired state at all.
    #[must_use]
    pub fn has_policy(&self) -> bool {
        self.path.join(POLICY).symlink_metadata().is_ok()
    }

    /// Replaces the desired state; on disk when this returns.
    pub fn set_policy(&self, _: &Lock, file: &PolicyFile) -> Result<(), BundleError> {
        self.write(POLICY, file, Durability::Full)
    }

    /// The same where the change may be lost in a power cut, because the next start makes it again; what is there then is
    /// still one state or the other.
    pub fn set_policy_soon(&self, _: &Lock, file: &PolicyFile) -> Result<(), BundleError> {
        self.write(POLICY, file, Durability::Content)
    }

    /// What was looked up ahead of time; nothing if it was never.
    pub fn resolved(&self) -> Result<ResolvedFile, BundleError> {
        Ok(self.read(RESOLVED)?.unwrap_or_default())
    }

    /// Replaces what was looked up.
    pub fn set_resolved(&self, _: &Lock, file: &ResolvedFile) -> Result<(), BundleError> {
        self.write(RESOLVED, file, Durability::Content)
    }

    /// The running container, if the hook noted one.
    pub fn running(&self) -> Result<Option<RunningFile>, BundleError> {
        self.read(RUNNING)
    }

    /// Notes the running container.
    pub fn set_running(&self, _: &Lock, file: &RunningFile) -> Result<(), BundleError> {
        self.write(RUNNING, file, Durability::None)
    }

    /// Forgets the running container.
    pub fn forget_running(&self, _: &Lock) -> Result<(), BundleError> {
        self.remove(RUNNING)
    }

    /// Forgets why the last start was refused.
    pub fn forget_refusal(&self, _: &Lock) -> Result<(), BundleError> {
        self.remove(REFUSAL)
    }

    fn remove(&self, name: &str) -> Result<(), BundleError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, BundleError> {
        let path = self.path.join(name);
        let malformed = |problem: String| BundleError::Malformed {
            path: path.clone(),
            problem,
        };
        let file = match File::options()
            .read(true)
            // NONBLOCK: a FIFO in its place must not hold us up.
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(BundleError::Untrusted {
                    path,
                    problem: "is a symbolic link".to_owned(),
                });
            }
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let meta = file.metadata().map_err(io_error("examine", &path))?;
        let problem = if !meta.is_file() {
            Some("is not a regular file")
        } else if meta.uid() != nix::unistd::geteuid().as_raw() {
            Some("belongs to another user")
        } else if meta.mode() & 0o022 != 0 {
            Some("is writable by others")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(BundleError::Untrusted {
                path,
                problem: problem.to_owned(),
            });
        }
        if meta.len() > SIZE_LIMIT {
            return Err(malformed(format!("it is larger than {SIZE_LIMIT} bytes")));
        }
        let mut text = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
        file.take(SIZE_LIMIT)
            .read_to_end(&mut text)
            .map_err(io_error("read", &path))?;
        match serde_json::from_slice::<Versioned>(&text) {
            Ok(Versioned { version: VERSION }) => {}
            Ok(Versioned { version }) => {
                return Err(malformed(format!(
                    "it has version {version}, and this terok-shield reads version {VERSION}"
                )));
            }
            Err(error) => return Err(malformed(error.to_string())),
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| malformed(error.to_string()))
    }

    fn write<T: Serialize>(&self, name: &str, content: &T, durability: Durability) -> Result<(), BundleError> {
        let path = self.path.join(name);
        let mut text = serde_json::to_vec_pretty(content).map_err(|error| BundleError::Malformed {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        text.push(b'\n');
        // Whoever writes holds the lock. So the name can be the same each time, and what a killed command left is gone with
        // the next one.
        let new = self.path.join(format!(".new-{name}"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("write beside", &path)(error));
            }
            _ => {}
        }
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(io_error("write beside", &path))
            .and_then(|mut file| {
                file.write_all(&text).map_err(io_error("write", &path))?;
                if durability != Durability::None {
                    file.sync_all().map_err(io_error("write", &path))?;
                }
                fs::rename(&new, &path).map_err(io_error("replace", &path))
            });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        if durability != Durability::Full {
            return Ok(());
        }
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error("write", &self.path))
    }
}

/// The field that every file opens with; the others are read only if it fits.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Names of all bundles, sorted. Entries that are no container's name are not ours and are passed over.
pub fn list(state: &Path) -> Result<Vec<ContainerName>, BundleError> {
    let path = containers(state);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", &path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", &path))?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            names.push(name);
        }
    }
    names.sort_by(|a: &ContainerName, b| a.as_ref().cmp(b.as_ref()));
    Ok(names)
}

/// The bundle of the container with this id. One that cannot be read is nobody's.
pub fn owned_by(state: &Path, id: &str) -> Result<Option<Bundle>, BundleError> {
    for name in list(state)? {
        let Ok(bundle) = Bundle::open(state, &name) else {
            continue;
        };
        if bundle
            .policy()
            .is_ok_and(|policy| policy.container_id.as_deref() == Some(id))
        {
            return Ok(Some(bundle));
        }
    }
    Ok(None)
}

/// Writes down why a start was refused, where the operator will look: in the bundle if that can be trusted, else in the
/// state directory. Best effort: the refusal itself does not depend on it.
pub fn note_refusal(state: &Path, name: Option<&ContainerName>, reason: &str) {
    let directory = name
        .and_then(|name| Bundle::open(state, name).ok())
        .map_or_else(|| state.to_owned(), |bundle| bundle.path);
    // The first container of all may be one that is refused.
    let made = state
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map(|()| make_directory(state));
    if made.is_err() || trusted_directory(&directory, false).is_err() {
        return;
    }
    let stamp = humantime::format_rfc3339_millis(std::time::SystemTime::now());
    let line = format!("{stamp} {}\n", reason.replace('\n', " "));
    let path = directory.join(REFUSAL);
    let written = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(&directory)
        .and_then(|mut file| file.write_all(line.as_bytes()).map(|()| file))
        .map(|file| file.persist(&path));
    if let Err(error) = written {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
}

/// Why the last start of `name` was refused, if it was.
#[must_use]
pub fn refusal(state: &Path, name: &ContainerName) -> Option<String> {
    let path = Bundle::open(state, name).ok()?.path.join(REFUSAL);
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}
