//! A process that a hook leaves behind.
//!
//! conmon reaps it, and may wait for it: so it holds none of the hook's descriptors, takes signals again (a hook's children
//! start with almost all of them blocked), and ends with what it is there for.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::{ForkResult, fork, pipe2};

use super::KernelError;
use super::child::release_standard_streams;

/// What is told to whoever waits for the process to be ready.
const READY: &str = "ready";

/// Told once by a process that is left behind: the hook waits for it.
#[derive(Debug)]
pub struct Ready(File);

impl Ready {
    /// The hook may go on.
    pub fn yes(mut self) {
        let _ = self.0.write_all(READY.as_bytes());
    }

    /// It may go on, and has to do without.
    pub fn no(mut self, why: &KernelError) {
        let _ = self.0.write_all(why.to_string().as_bytes());
    }
}

/// The calling process ends after this time, whatever it hangs in: nothing catches the signal.
pub fn end_after(life: Duration) {
    nix::unistd::alarm::set(u32::try_from(life.as_secs()).unwrap_or(u32::MAX).max(1));
}

/// Starts `work` in a process that outlives this one, and waits until it says that it is ready.
///
/// The child has a copy of everything that this process holds, locks too: hold none.
pub fn leave_behind(work: impl FnOnce(Ready)) -> Result<(), KernelError> {
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| KernelError::system("make", "a pipe", e))?;
    // SAFETY: the process has one thread (no runtime or logger thread is alive when the kernel is spoken to), so the
    // child may use the whole of libc; it leaves through `_exit` and never returns into the caller's frames.
    match unsafe { fork() }.map_err(|e| KernelError::system("fork", "a child", e))? {
        ForkResult::Parent { .. } => {
            drop(writer);
            let mut answer = String::new();
            let _ = File::from(reader).read_to_string(&mut answer);
            match answer.as_str() {
                READY => Ok(()),
                "" => Err(KernelError::Crashed {
                    how: "no answer".to_owned(),
                }),
                _ => Err(KernelError::Remote { message: answer }),
            }
        }
        ForkResult::Child => {
            drop(reader);
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                settle();
                work(Ready(File::from(writer)));
            }));
            // SAFETY: ends the child without running the parent's exit handlers a second time.
            unsafe { libc::_exit(if status.is_ok() { 0 } else { 101 }) }
        }
    }
}

fn settle() {
    release_standard_streams();
    close_what_was_inherited();
    let _ = std::env::set_current_dir("/");
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Descriptors that came from whoever started the hook. Ours are all close-on-exec.
fn close_what_was_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // SAFETY: the number is looked at for this call alone, and nothing is closed through the borrow.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let inherited = fcntl(fd, FcntlArg::F_GETFD)
            .is_ok_and(|flags| !FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        if inherited {
            // SAFETY: no value of ours owns a descriptor that is not close-on-exec.
            unsafe { libc::close(number) };
        }
    }
}
