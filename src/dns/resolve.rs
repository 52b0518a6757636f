//! Ahead-of-time resolution: many names at once, within one deadline.
//!
//! The resolvers are asked in their order, the next one where one is silent,
//! refuses or fails. Nothing is cached here and nothing is filtered.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::query::{Failure, Reply, ask};

/// The longest time for which an answer holds, whatever the record says.
pub const MAX_TTL: Duration = Duration::from_secs(3600);

/// Questions under way at once; each holds a socket.
const IN_FLIGHT: usize = 256;
/// The most addresses that are kept of one name.
const MAX_ADDRESSES: usize = 256;
/// The longest wait for one resolver before the next is asked.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The shortest wait, unless the deadline comes first.
const MIN_ATTEMPT: Duration = Duration::from_millis(100);
/// After so many silences in a row a resolver is asked last.
const SILENCES: u32 = 2;

/// What was found out about a set of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// By name, as it was asked; every name that was asked has its answer.
    pub answers: BTreeMap<String, Answer>,
    /// Said once when not a single resolver answered: which, and why.
    pub unreachable: Option<String>,
}

/// What was found out about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Sorted, without duplicates, at most 256, of both families.
    pub addresses: Vec<IpAddr>,
    /// How long they hold: the shortest of the records, at most [`MAX_TTL`];
    /// zero where there are none.
    pub ttl: Duration,
    /// Why there are no addresses; nothing where there are some.
    pub problem: Option<Problem>,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// NXDOMAIN.
    #[error("no such name")]
    NoSuchName,
    /// The name exists and has neither IPv4 nor IPv6 addresses.
    #[error("the name has no addresses")]
    NoAddresses,
    /// No answer came before the deadline.
    #[error("no answer in time")]
    Timeout,
    /// The resolvers failed; what the last one said.
    #[error("the resolver failed: {0}")]
    ServerFailure(String),
}

/// Why nothing could be looked up at all.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The list of resolvers is empty.
    #[error("no resolver is known; check the nameserver lines of resolv.conf")]
    NoServers,
    /// The event loop could not be started.
    #[error("name resolution could not be started; check the limit of open files")]
    Runtime(#[source] io::Error),
}

/// Looks up the addresses of all names, IPv4 and IPv6, within `deadline`.
///
/// `progress` is called with the number of finished names and of all names.
/// Must not be called from within an asynchronous runtime: it runs its own.
///
/// # Errors
///
/// There are no resolvers, or the event loop can't be started. A name that
/// can't be resolved is no error but has a [`Problem`].
pub fn resolve<N: AsRef<str>>(
    names: &[N],
    servers: &[SocketAddr],
    deadline: Duration,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Resolution, ResolveError> {
    if names.is_empty() {
        return Ok(Resolution::default());
    }
    if servers.is_empty() {
        return Err(ResolveError::NoServers);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ResolveError::Runtime)?;
    let servers = Arc::new(Servers::new(servers));
    let names: BTreeSet<&str> = names.iter().map(AsRef::as_ref).collect();
    let families = runtime.block_on(look_up(&names, &servers, deadline, progress));
    let answers = names
        .into_iter()
        .zip(families)
        .map(|(name, families)| (name.to_owned(), families.answer()))
        .collect();
    let unreachable = servers.unreachable();
    Ok(Resolution { answers, unreachable })
}

/// What came back for the two questions about one name.
#[derive(Clone, Default)]
struct Families([Option<Result<Reply, Failure>>; 2]);

const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

impl Families {
    fn answer(self) -> Answer {
        let mut addresses = Vec::new();
        let mut ttl = MAX_TTL;
        let mut missing = false;
        let mut problem = Problem::NoAddresses;
        for result in self.0 {
            match result.unwrap_or(Err(Failure::Timeout)) {
                Ok(Reply::Addresses(found, seconds)) => {
                    addresses.extend(found);
                    ttl = ttl.min(Duration::from_secs(seconds.into()));
                }
                Ok(Reply::NoAddresses) => {}
                Ok(Reply::NoSuchName) => missing = true,
                Err(Failure::Timeout) => problem = Problem::Timeout,
                Err(Failure::Unreachable(why) | Failure::Server(why)) => {
                    problem = Problem::ServerFailure(why);
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            let problem = if missing { Problem::NoSuchName } else { problem };
            return Answer {
                addresses,
                ttl: Duration::ZERO,
                problem: Some(problem),
            };
        }
        Answer {
            addresses,
            ttl,
            problem: None,
        }
    }
}

/// The answers in the order of the names; what the deadline cut off is missing.
async fn look_up(
    names: &BTreeSet<&str>,
    servers: &Arc<Servers>,
    deadline: Duration,
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<Families> {
    let end = Instant::now() + deadline;
    let attempt = (deadline / (servers.len() + 1)).clamp(MIN_ATTEMPT, ATTEMPT);
    let mut results = vec![Families::default(); names.len()];
    let mut questions = names
        .iter()
        .enumerate()
        .flat_map(|(index, name)| [(index, *name, 0), (index, *name, 1)]);
    let mut tasks = JoinSet::new();
    let mut done = 0;
    loop {
        while tasks.len() < IN_FLIGHT
            && let Some((index, name, family)) = questions.next()
        {
            let question = question(name, family, servers.clone(), attempt, end);
            tasks.spawn(async move { (index, family, question.await) });
        }
        // At the deadline the tasks are dropped with the set.
        let Ok(Some(finished)) = timeout_at(end, tasks.join_next()).await else {
            return results;
        };
        let Ok((index, family, result)) = finished else {
            continue;
        };
        let families = &mut results[index].0;
        families[family] = Some(result);
        if families.iter().all(Option::is_some) {
            done += 1;
            progress(done, names.len());
        }
    }
}

fn question(
    name: &str,
    family: usize,
    servers: Arc<Servers>,
    attempt: Duration,
    end: Instant,
) -> impl Future<Output = Result<Reply, Failure>> + Send + 'static {
    // Always from the root: search domains are the container's affair.
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
    async move {
        match name {
            Ok(name) => servers.ask(&name, FAMILIES[family], attempt, end).await,
            Err(_) => Err(Failure::Server("not a name that DNS can hold".to_owned())),
        }
    }
}

/// The resolvers and what was learned about them on the way.
struct Servers(Vec<Server>);

struct Server {
    address: SocketAddr,
    /// Whether it ever answered anything.
    answered: AtomicBool,
    /// How often in a row it was silent.
    silences: AtomicU32,
    /// Why it was last without an answer.
    failure: Mutex<Option<Failure>>,
}

impl Servers {
    fn new(addresses: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| Server {
            address: *address,
            answered: AtomicBool::new(false),
            silences: AtomicU32::new(0),
            failure: Mutex::new(None),
        };
        Self(addresses.iter().map(server).collect())
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX - 1)
    }

    /// In the operator's order, but those that keep silent last.
    fn in_order(&self) -> Vec<&Server> {
        let mut order: Vec<&Server> = self.0.iter().collect();
        order.sort_by_key(|server| server.silences.load(Ordering::Relaxed) >= SILENCES);
        order
    }

    /// Asks one resolver after the other. Silence may be a lost packet, so they
    /// are asked again until `end`; a failure is asked about once more only
    /// where another resolver was silent.
    async fn ask(&self, name: &Name, family: RecordType, attempt: Duration, end: Instant) -> Result<Reply, Failure> {
        let mut failed = None;
        for round in 0_u32.. {
            let mut silent = false;
            for server in self.in_order() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(failed.unwrap_or(Failure::Timeout));
                }
                let result = ask(server.address, name, family, attempt.min(left)).await;
                server.note(&result);
                match result {
                    Ok(reply) => return Ok(reply),
                    Err(Failure::Timeout) => silent = true,
                    Err(failure) => failed = Some(failure),
                }
            }
            match failed {
                Some(failure) if !silent || round > 0 => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::Timeout)
    }

    /// Which resolvers there are and why none of them answered; nothing if one did.
    fn unreachable(&self) -> Option<String> {
        if self.0.iter().any(|s| s.answered.load(Ordering::Relaxed)) {
            return None;
        }
        let reasons: Vec<String> = self.0.iter().map(Server::reason).collect();
        Some(format!("no resolver answered: {}", reasons.join(", ")))
    }
}

impl Server {
    fn note(&self, result: &Result<Reply, Failure>) {
        match result {
            Ok(_) | Err(Failure::Server(_)) => {
                self.answered.store(true, Ordering::Relaxed);
                self.silences.store(0, Ordering::Relaxed);
            }
            Err(failure) => {
                self.silences.fetch_add(1, Ordering::Relaxed);
                let mut last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(failure.clone());
            }
        }
    }

    fn reason(&self) -> String {
        let last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(Failure::Unreachable(why) | Failure::Server(why)) => {
                format!("{} ({why})", self.address)
            }
            Some(Failure::Timeout) | None => format!("{} (no answer in time)", self.address),
        }
    }
}

#[cfg(test)]
mod tests;
