//! `createRuntime`: from the bundle to a verified table, before the program runs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use super::claim::Owner;
use super::monitor::Monitor;
use super::pod::Infra;
use super::resolvers::{self, Resolvers};
use super::{Refusal, Subject, Surroundings, claim, guard, late, mounts, name, oci, pasta, surroundings, vsock};
use crate::audit::{Action, Event};
use crate::bundle::{Bundle, Lock, Member, RunningFile, VERSION};
use crate::kernel::{self, Detail, NetNamespace, Nft, Process};
use crate::lookup;
use crate::policy::{Addresses, Moment, Policy};
use crate::ruleset::{Note, create, repair};
use crate::shield::live::{Meant, snapshot, verify};

pub(super) fn run(input: &[u8], about: &mut Subject) -> Result<(), Refusal> {
    let state = oci::State::parse(input)?;
    let surroundings = about.surroundings.insert(Surroundings::discover(&state.annotations)?);
    let monitor = Monitor::of_our_runtime().filter(|monitor| monitor.id == state.id);
    let owner = Owner {
        id: &state.id,
        bundle: &state.bundle,
        name: monitor.as_ref().map(|monitor| monitor.name.as_str()),
    };
    about.name = Some(name::of(&state.annotations, &owner, &surroundings.state_dir)?);
    let pid = state.pid()?;

    let spec = oci::Spec::read(&state.bundle)?;
    surroundings::same_annotations(&state, &spec)?;
    guard::runtime(surroundings::calling_runtime().as_deref())?;
    guard::check(&spec)?;
    vsock::check(spec.linux.seccomp.as_ref())?;
    if surroundings::runtime_preserves_descriptors()? {
        return Err(Refusal::new("the container inherits descriptors (--preserve-fds)"));
    }
    let process = Process::open(pid)?;
    if surroundings::inherits_a_socket(pid)? {
        return Err(Refusal::new(
            "a standard stream of the container is a socket of somebody else's network",
        ));
    }
    let namespace = process.net_namespace()?;
    if namespace.id() == NetNamespace::current()?.id() {
        return Err(Refusal::new("the container has no network namespace of its own"));
    }
    let pod = Infra::of(&state, &spec, namespace.id())?;
    let (owner, lasting) = match &pod {
        Some(infra) => (infra.owner(), infra.process()),
        None => (owner, &process),
    };
    let name = name::of(&state.annotations, &owner, &surroundings.state_dir)?;
    about.name = Some(name.clone());
    surroundings::alone(pid, &namespace, |other| {
        pod.as_ref().is_some_and(|infra| infra.knows(other, &state))
    })?;
    pasta::check(namespace.id())?;

    let (bundle, lock, mut desired) = claim::bundle(&state, &owner, surroundings, &name)?;
    let protected = surroundings.protected(&state, &desired.protected)?;
    let own = mounts::Own {
        id: &state.id,
        infra: pod.as_ref().map(|infra| infra.owner().id),
    };
    mounts::check(&spec, pid, own, &protected)?;
    let resolvers = Resolvers::of(&spec, own)?;
    let upstreams = resolvers.known();
    if upstreams.is_empty() && !matches!(resolvers, Resolvers::Later(_)) {
        bundle.log().append(
            &Event::new(name.as_ref(), Action::Note)
                .detail("Podman chose no resolver outside the container: DNS is closed"),
        )?;
    }
    let now = kernel::now()?;
    let ended = desired.forget_ended(&now);
    if !ended.is_empty() {
        bundle.set_policy_soon(&lock, &desired)?;
    }
    let addresses = addresses(&bundle, &lock, &desired.policy(upstreams.clone(), &now))?;
    // Looking up took its time, and nothing lasts longer than it was meant to.
    let now = kernel::now()?;
    let policy = desired.policy(upstreams, &now);
    let running = RunningFile {
        version: VERSION,
        boot_id: kernel::boot_id()?,
        pid: lasting.pid(),
        start_time: lasting.start_time()?,
        net_namespace: namespace.id(),
        upstreams: Vec::new(),
        dns_closed: None,
        members: Vec::new(),
    };
    let mode = policy.mode;
    let enforced = enforce(&namespace, policy, &addresses, &now)?;
    for note in &enforced.notes {
        bundle
            .log()
            .append(&Event::new(name.as_ref(), Action::Note).detail(note.to_string()))?;
    }
    // A table that was there already keeps the resolvers that it has, or has not: by now the container had its file.
    let late = late::Late {
        resolvers: match resolvers {
            Resolvers::Later(file) if enforced.fresh => Some(file),
            _ => None,
        },
        network: !late::network_is_there(),
    };
    let mut running = RunningFile {
        upstreams: enforced.upstreams,
        dns_closed: late.resolvers.as_ref().map(|_| resolvers::AWAITED.to_owned()),
        ..running
    };
    // Another member of the pod may still wait for them.
    if !enforced.fresh
        && let Some(before) = bundle.running()?
        && (before.pid, before.start_time) == (running.pid, running.start_time)
    {
        running.dns_closed = before.dns_closed;
        running.members = before.members;
    }
    if pod.is_some() {
        running.members.retain(|member| member.id != state.id);
        running.members.push(Member {
            id: state.id.clone(),
            name: monitor.map(|monitor| monitor.name).unwrap_or_default(),
        });
    }
    bundle.set_running(&lock, &running)?;
    if !process.is_alive() {
        if pod.is_none() {
            bundle.forget_running(&lock)?;
        }
        return Err(Refusal::new(format!("the container's first process {pid} is gone")));
    }
    bundle.forget_refusal(&lock)?;
    for ended in &ended {
        bundle
            .log()
            .append(&Event::new(name.as_ref(), Action::Note).detail(ended.to_string()))?;
    }
    bundle.log().append(
        &Event::new(name.as_ref(), Action::Setup).detail(format!("{mode} profiles={}", desired.profiles.join(","))),
    )?;
    drop(lock);
    if !late.is_nothing()
        && let Err(error) = late.wait(about, &bundle, &process, &running)
    {
        // A network that nobody looks at may be anything.
        if late.network {
            return Err(error.into());
        }
        resolvers::note_closed(&bundle, &running, &error.to_string());
    }
    Ok(())
}

/// Addresses of the policy's names: those looked up before, and a new look for those that are too old. What does not
/// resolve stays closed.
fn addresses(bundle: &Bundle, lock: &Lock, policy: &Policy) -> Result<Addresses, Refusal> {
    let mut resolved = bundle.resolved()?;
    let names = policy.names();
    let stale = resolved.stale(&names, SystemTime::now());
    let denied = policy.denied_names();
    let forgot = resolved.forget_stale(SystemTime::now(), &denied);
    if !stale.is_empty() {
        lookup::refresh(bundle, lock, &mut resolved, &stale, &denied, &mut |_, _| {})?;
    } else if forgot {
        bundle.set_resolved(lock, &resolved)?;
    }
    Ok(resolved.addresses())
}

/// What is in force.
struct Enforced {
    /// Whether the table is a new one.
    fresh: bool,
    upstreams: Vec<IpAddr>,
    notes: BTreeSet<Note>,
}

/// Makes the table in the namespace and reads it back.
///
/// A namespace can outlive its container: where Podman restarts one by itself it keeps the network, and our table with it.
/// That table is edited in place. Its resolvers stay: they were recorded at the first start, and the file that named them
/// may have been written by the container since.
fn enforce(
    namespace: &NetNamespace,
    mut policy: Policy,
    addresses: &Addresses,
    now: &Moment,
) -> Result<Enforced, Refusal> {
    let mut meant = Meant::new(&policy, addresses, now);
    let documents = create(&meant.layout, &meant.contents);
    namespace.enter()?;
    let mut nft = Nft::new()?;
    let mut fresh = true;
    if let Err(error) = apply(&mut nft, &documents) {
        let live = snapshot(&mut nft, Detail::Full)?;
        if !live.is_present() {
            return Err(error);
        }
        let from = live
            .layout()
            .ok_or_else(|| Refusal::new("the network namespace holds a table of our name that is not ours"))?;
        let before = live.contents();
        policy.upstreams = before.upstreams();
        fresh = false;
        meant = Meant::new(&policy, addresses, now).with_sets_of(&from);
        apply(&mut nft, &repair(&from, &before, &meant.layout, &meant.contents))?;
    }
    let drift = verify(&mut nft, &meant)?;
    // The process ends soon, and its end closes the socket: here it would have to wait for that.
    std::mem::forget(nft);
    match drift.first() {
        None => Ok(Enforced {
            fresh,
            upstreams: policy.upstreams,
            notes: meant.contents.notes,
        }),
        Some(drift) => Err(Refusal::new(format!("the table is not as it was written: {drift}"))),
    }
}

fn apply(nft: &mut Nft, documents: &[String]) -> Result<(), Refusal> {
    for document in documents {
        nft.apply(document)?;
    }
    Ok(())
}
