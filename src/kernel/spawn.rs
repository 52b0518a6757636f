//! Running a program in our place: what reaches us reaches it, and its end is ours.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::unistd::Pid;

use super::KernelError;

/// Signals that an operator or a service manager sends on purpose, and that the program in our place should see.
const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Runs `command` to its end, in our process group and on our terminal, and returns its exit status (128 and the signal's
/// number if one ended it).
///
/// Signals sent to us are passed on. What the terminal sends to the whole group reaches the program by itself and is not
/// passed on a second time. If we are killed, so is it, as if it had been started without us.
pub fn run_to_end(command: &mut Command) -> Result<u8, KernelError> {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(signal);
    }
    set.add(Signal::SIGCHLD);
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))
        .map_err(|e| KernelError::system("block", "signals", e))?;
    let restore = before;
    let prepare = move || {
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&restore), None)?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .map_err(|e| KernelError::system("start", program.clone(), e))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|_| KernelError::Gone { pid: 0 })?);
    loop {
        let ended = child
            .try_wait()
            .map_err(|e| KernelError::system("wait for", program.clone(), e))?;
        if let Some(status) = ended {
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            return Ok(u8::try_from(code).unwrap_or(1));
        }
        // SAFETY: an all-zero siginfo_t is a valid value of this plain C structure.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values of the right types.
        let number = unsafe { libc::sigwaitinfo(set.as_ref(), &raw mut info) };
        if number < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(KernelError::system("wait for", "signals", error));
        }
        if number != libc::SIGCHLD
            && info.si_code != libc::SI_KERNEL
            && let Ok(signal) = Signal::try_from(number)
        {
            // It may have ended between; the next turn sees that.
            let _ = kill(pid, signal);
        }
    }
}
