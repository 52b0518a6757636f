//! Network namespaces: telling them apart, and entering one.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::KernelError;

/// `NS_GET_USERNS` of `linux/nsfs.h`: `_IO(0xb7, 0x1)`, a descriptor of the user namespace that owns a namespace.
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// What tells one namespace from another within a boot: device and inode of its nsfs file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceId {
    /// Device of the nsfs file.
    pub device: u64,
    /// Inode of the nsfs file.
    pub inode: u64,
}

/// A network namespace, held open so that it outlives its processes.
#[derive(Debug)]
pub struct NetNamespace {
    file: File,
    id: NamespaceId,
}

impl NetNamespace {
    /// Opens a namespace file such as `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let subject = || path.display().to_string();
        let file = File::open(path).map_err(|e| KernelError::system("open", subject(), e))?;
        let meta = file
            .metadata()
            .map_err(|e| KernelError::system("examine", subject(), e))?;
        let id = NamespaceId {
            device: meta.dev(),
            inode: meta.ino(),
        };
        Ok(Self { file, id })
    }

    /// Finds a namespace through any process in it that we may examine.
    pub fn find(id: NamespaceId) -> Result<Option<Self>, KernelError> {
        let entries = std::fs::read_dir("/proc").map_err(|e| KernelError::system("list", "/proc", e))?;
        for entry in entries.flatten() {
            if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let path = entry.path().join("ns/net");
            let matches = |meta: std::fs::Metadata| meta.dev() == id.device && meta.ino() == id.inode;
            // What was opened is compared again: the process may have ended or moved in between.
            if std::fs::metadata(&path).is_ok_and(matches)
                && let Ok(namespace) = Self::open(&path)
                && namespace.id == id
            {
                return Ok(Some(namespace));
            }
        }
        Ok(None)
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, KernelError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// Moves the calling process into it, for good.
    ///
    /// A hook, and real root, may join directly. An ordinary user first becomes a member of the user namespace that
    /// owns it, which the kernel allows to the uid that made it, and only to a process with a single thread.
    /// Joining no more than needed keeps real root's wider socket buffers.
    pub fn enter(&self) -> Result<(), KernelError> {
        match setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET) {
            Ok(()) => return Ok(()),
            Err(Errno::EPERM) => {}
            Err(error) => return Err(KernelError::system("enter", "the network namespace", error)),
        }
        let owner = self.owner()?;
        setns(owner.as_fd(), CloneFlags::CLONE_NEWUSER).map_err(|error| {
            KernelError::system("enter", "the user namespace of the container (is it yours?)", error)
        })?;
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|error| KernelError::system("enter", "the network namespace", error))
    }

    fn owner(&self) -> Result<OwnedFd, KernelError> {
        // SAFETY: the descriptor is open for the whole call; NS_GET_USERNS takes no argument.
        let fd = unsafe { libc::ioctl(self.file.as_raw_fd(), NS_GET_USERNS) };
        if fd < 0 {
            return Err(KernelError::system(
                "find the owner of",
                "the network namespace",
                Errno::last(),
            ));
        }
        // SAFETY: the kernel made the descriptor for us just now; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
