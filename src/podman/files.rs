//! Reading with a bound and writing atomically, for the few files that `conf` and `hooks` own.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file operation that failed. The cause is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FileError {
    /// What was being done: `read`, `write`, `create the directory`...
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(super) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// Larger than any configuration a person wrote, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The whole file; `None` where there is none. More than 1 MiB, or something that isn't a file, is an error (`/dev/null`, which
/// `CONTAINERS_CONF` often names, reads as empty).
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |source| FileError::new("read", path, source);
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_file() && !kind.is_char_device() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > MAX_BYTES => Err(failed(io::Error::other("larger than 1 MiB"))),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Replaces `path` as a whole, with exactly this mode: a reader sees the old content or the new, also after a power cut.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::new("write", path, source);
    let directory = path
        .parent()
        .ok_or_else(|| failed(io::Error::other("no directory in the path")))?;
    make_dirs(directory)?;
    // The name must not end in .json: podman reads those in a hooks directory.
    let mut file = tempfile::Builder::new()
        .prefix(".terok-shield-")
        .suffix(".tmp")
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_dir(directory).map_err(failed)
}

/// Removes a file; one that is gone already is no error.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(FileError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Creates missing directories with mode 0755, whatever the umask; those that exist keep theirs.
pub(super) fn make_dirs(path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::new("create the directory", path, source);
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dirs(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed),
        // made by somebody else in between
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
