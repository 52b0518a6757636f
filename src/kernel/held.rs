//! The container's first process, held at the edge between the runtime's code and the container's program.
//!
//! What Podman writes after its hooks and before the program, nobody could read in time by watching for it: the program
//! can write the same files a moment later. So the process is traced, and the kernel stops it inside `execve`, when the
//! runtime's code is gone and no instruction of the program has run.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{KernelError, Process};

/// Where the first process has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Stopped: the program is loaded and has not begun.
    Program,
    /// Still the runtime, and going on; it cannot become the program as long as it is held.
    Runtime,
    /// It ended.
    Ended,
}

/// What becomes of the process if its holder is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphaned {
    /// It goes on, to its program.
    GoesOn,
    /// It ends with its holder.
    Ends,
}

/// A first process that cannot run its program before we have seen it.
#[derive(Debug)]
pub struct Held {
    pid: i32,
    events: SignalFd,
}

impl Held {
    /// Takes hold of every thread of a process that is still the runtime. The process goes on.
    pub fn take(process: &Process, orphaned: Orphaned) -> Result<Self, KernelError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)
            .map_err(|error| KernelError::system("block", "signals", error))?;
        let events = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|error| KernelError::system("wait for", "signals", error))?;
        let pid = process.pid();
        let end = match orphaned {
            Orphaned::GoesOn => 0,
            Orphaned::Ends => libc::PTRACE_O_EXITKILL,
        };
        let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACECLONE | end;
        let mut held = BTreeSet::new();
        // A thread made by one that is held is held too; so this ends when a look finds none that is not.
        loop {
            let mut fresh = false;
            for thread in threads(pid)? {
                if !held.insert(thread) {
                    continue;
                }
                fresh = true;
                match trace(libc::PTRACE_SEIZE, thread, i64::from(options)) {
                    Ok(()) => {}
                    // Ended meanwhile, or held already because its maker is.
                    Err(_) if thread != pid && !is_strange(pid, thread) => {}
                    Err(error) => return Err(KernelError::system("hold process", pid.to_string(), error)),
                }
            }
            if !fresh {
                break;
            }
        }
        if !process.is_alive() {
            return Err(KernelError::Gone { pid });
        }
        Ok(Self { pid, events })
    }

    /// Waits for the program, at most until `deadline` if there is one.
    pub fn until_program(&self, deadline: Option<Instant>) -> Result<Edge, KernelError> {
        loop {
            while let Some((thread, status)) = wait_for_any()? {
                if let Some(edge) = self.follow(thread, status) {
                    return Ok(edge);
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Edge::Runtime);
            }
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(KernelError::system("wait for process", self.pid.to_string(), error)),
            }
            while let Ok(Some(_)) = self.events.read_signal() {}
        }
    }

    /// Ends the process before its program begins.
    pub fn end(self) {
        // Its number is its own until we have been told of its end.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), Signal::SIGKILL);
    }

    /// Lets the program begin. Where it is not stopped at its edge, our own end does.
    pub fn release(self) {
        let _ = trace(libc::PTRACE_DETACH, self.pid, 0);
    }

    /// One thing that a thread did; it goes on unless that is the edge.
    fn follow(&self, thread: i32, status: i32) -> Option<Edge> {
        if !libc::WIFSTOPPED(status) {
            // The first thread's end is told when it is the process's.
            return (thread == self.pid || thread == 0).then_some(Edge::Ended);
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let (request, data) = match event {
            libc::PTRACE_EVENT_EXEC if thread == self.pid => return Some(Edge::Program),
            // A process of its own that the runtime made; what it starts is not the container's program.
            libc::PTRACE_EVENT_EXEC => (libc::PTRACE_DETACH, 0),
            // Stopped by somebody: it stays so until that one continues it.
            libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => (libc::PTRACE_LISTEN, 0),
            // A signal on its way to it.
            0 => (libc::PTRACE_CONT, signal),
            _ => (libc::PTRACE_CONT, 0),
        };
        // It may have been killed meanwhile; that is told next.
        let _ = trace(request, thread, i64::from(data));
        None
    }
}

fn threads(pid: i32) -> Result<Vec<i32>, KernelError> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| KernelError::Gone { pid })?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// Whether a thread is there and held by nobody or by somebody else.
fn is_strange(pid: i32, thread: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")) else {
        return false;
    };
    let ours = std::process::id().to_string();
    !status
        .lines()
        .filter_map(|line| line.strip_prefix("TracerPid:"))
        .any(|tracer| tracer.trim() == ours)
}

/// What one of the threads did, if any did something.
fn wait_for_any() -> Result<Option<(i32, i32)>, KernelError> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
    match thread {
        0 => Ok(None),
        1.. => Ok(Some((thread, status))),
        _ => match io::Error::last_os_error() {
            // Nobody is left: told as the end of thread 0.
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(Some((0, 0))),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            error => Err(KernelError::system("wait for", "the container's first process", error)),
        },
    }
}

fn trace(request: libc::c_uint, thread: i32, data: i64) -> io::Result<()> {
    let nowhere = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests use neither our memory nor the tracee's: the address is null and `data` a number.
    match unsafe { libc::ptrace(request, thread, nowhere, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
