//! Running libnftables in a short-lived child.
//!
//! Joining a user namespace cannot be undone and libnftables can crash or call `exit(2)`, so a verb does both in a
//! child. There is a third reason: after a delete or flush, closing the netlink socket waits 4 to 30 ms for an RCU grace
//! period. The child answers first and waits alone; it holds none of our descriptors by then.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{KernelError, NetNamespace, Nft};

#[derive(Serialize, Deserialize)]
enum Answer<T> {
    Done(T),
    Refused(String),
    Failed(String),
}

/// Runs `work` with a libnftables context inside `namespace`, in a child process, and returns what it returned.
pub fn in_child<T, F>(namespace: &NetNamespace, work: F) -> Result<T, KernelError>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce(&mut Nft) -> Result<T, KernelError>,
{
    forked(|| namespace.enter(), work)
}

/// Seconds after which a child in namespaces of its own is killed, whatever it waits for.
const THROW_AWAY_SECONDS: u32 = 10;

/// The same in a user and a network namespace that are made for it and end with it: nothing is there but a loopback
/// device that is down, and nothing leads anywhere. It needs no privilege.
pub fn in_new_namespaces<T, F>(work: F) -> Result<T, KernelError>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce(&mut Nft) -> Result<T, KernelError>,
{
    let make = || {
        nix::unistd::alarm::set(THROW_AWAY_SECONDS);
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
            .map_err(|error| KernelError::system("make", "a user and a network namespace", error))
    };
    forked(make, work)
}

fn forked<T, F>(place: impl FnOnce() -> Result<(), KernelError>, work: F) -> Result<T, KernelError>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce(&mut Nft) -> Result<T, KernelError>,
{
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| KernelError::system("make", "a pipe", e))?;
    // SAFETY: the process has one thread (no runtime or logger thread is alive when the kernel is spoken to), so the
    // child may use the whole of libc; it leaves through `_exit` and never returns into the caller's frames.
    match unsafe { fork() }.map_err(|e| KernelError::system("fork", "a child", e))? {
        ForkResult::Parent { child } => {
            drop(writer);
            let mut text = Vec::new();
            let read = File::from(reader).read_to_end(&mut text);
            let answer = match read {
                Ok(_) => serde_json::from_slice(&text).ok(),
                Err(_) => None,
            };
            match answer {
                Some(Answer::Done(value)) => Ok(value),
                Some(Answer::Refused(message)) => Err(KernelError::Refused { message }),
                Some(Answer::Failed(message)) => Err(KernelError::Remote { message }),
                None => Err(KernelError::Crashed {
                    how: match waitpid(child, None) {
                        Ok(WaitStatus::Signaled(_, signal, _)) => format!("{signal}"),
                        Ok(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
                        _ => "no answer".to_owned(),
                    },
                }),
            }
        }
        ForkResult::Child => {
            drop(reader);
            // A panic must not unwind into the parent's code in the child.
            let status =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(place, work, File::from(writer))))
                    .unwrap_or(101);
            // SAFETY: ends the child without running the parent's exit handlers a second time.
            unsafe { libc::_exit(status) }
        }
    }
}

fn serve<T, F>(place: impl FnOnce() -> Result<(), KernelError>, work: F, mut answers: File) -> i32
where
    T: Serialize,
    F: FnOnce(&mut Nft) -> Result<T, KernelError>,
{
    release_standard_streams();
    let mut context = None;
    let result = place()
        .and_then(|()| Nft::new())
        .and_then(|nft| work(context.insert(nft)));
    let answer = match result {
        Ok(value) => Answer::Done(value),
        Err(KernelError::Refused { message }) => Answer::Refused(message),
        Err(error) => Answer::Failed(error.to_string()),
    };
    let written = serde_json::to_vec(&answer)
        .map_err(std::io::Error::from)
        .and_then(|text| answers.write_all(&text));
    // The parent reads to the end of the pipe: it goes on here, before the socket is closed.
    drop(answers);
    drop(context);
    i32::from(written.is_err())
}

/// Whoever reads our caller's output to its end must not wait for the child.
pub(super) fn release_standard_streams() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else {
        return;
    };
    for stream in 0..=2 {
        // SAFETY: replaces one of the child's own standard streams by an open descriptor.
        unsafe { libc::dup2(null.as_raw_fd(), stream) };
    }
}
