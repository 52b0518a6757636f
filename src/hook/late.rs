//! What Podman does after its hooks and before the container's program: podman 5 names the resolvers then, and with a user
//! namespace of the container's own, the network comes then, too.
//!
//! A process that the hook leaves behind holds the container's first process at the edge of its program, looks at what
//! was done, and lets it go, or ends it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Subject, pasta, report, resolvers};
use crate::bundle::{Bundle, RunningFile};
use crate::kernel::{Edge, Held, KernelError, Orphaned, Process, end_after, leave_behind};

/// How long a created container may wait for its start (`podman init`) before we look at the resolvers that there are by
/// then. A network is waited for as long as the first process lives.
const WAIT: Duration = Duration::from_secs(60);
/// Time for what is to be done while the program is held back.
const WORK: Duration = Duration::from_secs(30);

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
        leave_behind(|ready| {
            // Without resolvers DNS is closed; a network that nobody has looked at may be open.
            let (orphaned, wait) = if self.network {
                (Orphaned::Ends, None)
            } else {
                end_after(WAIT + WORK);
                (Orphaned::GoesOn, Some(WAIT))
            };
            let held = match Held::take(process, orphaned) {
                Ok(held) => held,
                Err(error) => return ready.no(&error),
            };
            ready.yes();
            // Podman is done if the program is loaded, or if nothing happened for so long.
            let edge = held.until_program(wait.map(|wait| Instant::now() + wait));
            end_after(WORK);
            let looked = match edge {
                Ok(Edge::Ended) => return,
                Ok(Edge::Program | Edge::Runtime) => pasta::check(running.net_namespace),
                Err(error) => Err(error.into()),
            };
            if let Err(refusal) = looked {
                // Said before anybody can see its end.
                report(about, &refusal);
                held.end();
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

/// Whether the network namespace that we are in has a network. Interfaces alone are none: the kernel puts tunnels that nobody
/// has set up into each new namespace.
pub(super) fn network_is_there() -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    has_route(&read("route")) || has_address(&read("if_inet6"))
}

/// Of IPv4; the first line is a heading, and routes to own addresses are not in this table.
fn has_route(table: &str) -> bool {
    table.lines().skip(1).any(|line| !line.starts_with("lo\t"))
}

/// Of IPv6, on an interface beside the loopback.
fn has_address(table: &str) -> bool {
    table
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().last())
        .any(|interface| interface != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_route_or_an_address_beside_the_loopback() {
        let heading = "Iface\tDestination\tGateway\n";
        assert!(!has_route(""));
        assert!(!has_route(heading));
        assert!(!has_route(&format!("{heading}lo\t0000007F\t00000000\n")));
        assert!(has_route(&format!("{heading}eth0\t00000000\t0202000A\n")));
        let own = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert!(!has_address(""));
        assert!(!has_address(own));
        assert!(has_address(&format!(
            "{own}fd000000000000000000000000000100 02 40 00 00     tap0\n"
        )));
    }
}
