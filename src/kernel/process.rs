//! A process that cannot be mistaken for its successor.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{KernelError, NetNamespace};

/// A process held by pidfd. Reading `/proc/PID` and asking [`Process::is_alive`] *afterwards* proves that what was
/// read belonged to it: a pid is not given away again while its process is still there.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// Takes hold of `pid`, as seen from our pid namespace.
    pub fn open(pid: i32) -> Result<Self, KernelError> {
        // SAFETY: pidfd_open takes two integers and returns a descriptor or -1; no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ESRCH | libc::EINVAL) => KernelError::Gone { pid },
                _ => KernelError::system("take hold of process", pid.to_string(), error),
            });
        }
        let fd = i32::try_from(fd).map_err(|_| KernelError::Gone { pid })?;
        // SAFETY: the descriptor was made just now and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { pid, fd })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has not ended yet. A zombie counts as ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// When it started, in clock ticks since boot (proc(5), field 22 of `stat`).
    pub fn start_time(&self) -> Result<u64, KernelError> {
        let path = format!("/proc/{}/stat", self.pid);
        let text = fs::read_to_string(&path).map_err(|_| KernelError::Gone { pid: self.pid })?;
        // The command name (field 2) is in parentheses and may hold anything, parentheses included.
        let ticks = text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
            .and_then(|field| field.parse().ok());
        match ticks {
            Some(ticks) if self.is_alive() => Ok(ticks),
            _ => Err(KernelError::Gone { pid: self.pid }),
        }
    }

    /// Its network namespace, held open.
    pub fn net_namespace(&self) -> Result<NetNamespace, KernelError> {
        let namespace = NetNamespace::open(format!("/proc/{}/ns/net", self.pid).as_ref());
        if self.is_alive() {
            namespace
        } else {
            Err(KernelError::Gone { pid: self.pid })
        }
    }

    /// The raw descriptor, for messages and tests.
    #[must_use]
    pub fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// Identifies the running boot: start times and namespace numbers mean nothing in another one.
pub fn boot_id() -> Result<String, KernelError> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .map_err(|error| KernelError::system("read", "/proc/sys/kernel/random/boot_id", error))
}

/// A number that nobody can guess (a random UUID), from the kernel.
pub fn random_id() -> Result<String, KernelError> {
    fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map(|text| text.trim().to_owned())
        .map_err(|error| KernelError::system("read", "/proc/sys/kernel/random/uuid", error))
}

/// The process that started this one (in a hook: the runtime).
#[must_use]
pub fn parent_pid() -> i32 {
    nix::unistd::getppid().as_raw()
}
