//! What Podman does after its hooks and before the container's program: podman 5 names the resolvers then, and with a user
//! namespace of the container's own, the network comes then, too.
//!
//! A process that the hook leaves behind holds the container's first process at the edge of its program, looks at what
//! was done, and lets it go, or ends it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Refusal, Subject, pasta, report, resolvers};
use crate::bundle::{Bundle, RunningFile};
use crate::kernel::{Edge, Held, KernelError, Process, leave_behind};

/// How long a created container may wait for its start (`podman init`) before we look at what there is by then.
const WAIT: Duration = Duration::from_secs(60);
/// How long the process that waits may live, whatever it hangs in.
const LIFE: Duration = Duration::from_secs(75);

/// What is still to come when the hook ends.
#[derive(Debug)]
pub(super) struct Late {
    /// The file in which Podman will name the resolvers.
    pub(super) resolvers: Option<PathBuf>,
    /// The network itself.
    pub(super) network: bool,
}

impl Late {
    pub(super) fn is_nothing(&self) -> bool {
        self.resolvers.is_none() && !self.network
    }

    /// Leaves a process behind that waits for it. We are in the container's network namespace, and hold no lock.
    pub(super) fn wait(
        &self,
        about: &Subject,
        bundle: &Bundle,
        process: &Process,
        running: &RunningFile,
    ) -> Result<(), KernelError> {
        leave_behind(LIFE, |ready| {
            let held = match Held::take(process) {
                Ok(held) => held,
                Err(error) => return ready.no(&error),
            };
            ready.yes();
            // Podman is done if the program is loaded, or if nothing happened for so long.
            let looked = match held.until_program(Instant::now() + WAIT) {
                Ok(Edge::Ended) => return,
                Ok(Edge::Runtime) if self.network && !network_is_there() => {
                    Err(Refusal::new("the container's network did not come in time"))
                }
                Ok(Edge::Program | Edge::Runtime) => pasta::check(running.net_namespace),
                Err(error) => Err(error.into()),
            };
            if let Err(refusal) = looked {
                held.end();
                report(about, &refusal);
                return;
            }
            if let Some(file) = &self.resolvers
                && let Err(refusal) = resolvers::open(bundle, running, file)
            {
                resolvers::note_closed(bundle, running, &refusal.to_string());
            }
            held.release();
        })
    }
}

/// Whether the network namespace that we are in has an interface beside its loopback.
pub(super) fn network_is_there() -> bool {
    let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    interfaces
        .lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, _)| name.trim() != "lo")
}
