//! Whose a bundle is. It belongs to one container: one that is there keeps it; one that was removed leaves it to its
//! successor, without what the operator changed at run time.

use super::{Refusal, Surroundings, annotated, mounts, oci};
use crate::audit::{Action, Event};
use crate::bundle::{Bundle, Lock, PolicyFile};
use crate::podman::ANNOTATION_LAUNCH;
use crate::policy::ContainerName;
use crate::shield::launch::exists;

/// The container's bundle, locked, and the desired state in it, bound to the container.
pub(super) fn bundle(
    state: &oci::State,
    surroundings: &Surroundings,
    name: &ContainerName,
) -> Result<(Bundle, Lock, PolicyFile), Refusal> {
    match state.annotations.get(ANNOTATION_LAUNCH) {
        Some(proof) => prepared(state, surroundings, name, proof),
        None => unprepared(state, surroundings, name),
    }
}

/// What `run` or `prepare` wrote, for the container that can prove that it was meant.
fn prepared(
    state: &oci::State,
    surroundings: &Surroundings,
    name: &ContainerName,
    proof: &str,
) -> Result<(Bundle, Lock, PolicyFile), Refusal> {
    let bundle = Bundle::open(&surroundings.state_dir, name)?;
    let lock = bundle.lock()?;
    let mut desired = bundle.policy()?;
    is_free(&bundle, &desired, state)?;
    // A name is no proof: an image can bring an annotation with anybody's.
    if desired.launch.as_deref() != Some(proof) {
        return Err(made_for_another());
    }
    if is_owner(&desired, state) {
        return Ok((bundle, lock, desired));
    }
    if desired.container_id.is_some() {
        desired.start_anew();
    }
    desired.replaces = None;
    bind(&mut desired, state);
    bundle.set_policy_soon(&lock, &desired)?;
    Ok((bundle, lock, desired))
}

/// What the container's annotations ask for, or what they came to at its first start. They take nothing that was prepared, and
/// nothing of a container that is still there.
fn unprepared(
    state: &oci::State,
    surroundings: &Surroundings,
    name: &ContainerName,
) -> Result<(Bundle, Lock, PolicyFile), Refusal> {
    let rules = annotated::Rules::read(state, surroundings)?;
    let profiles = annotated::profiles(state)?;
    let is_kept = |bundle: &Bundle| -> Result<Option<PolicyFile>, Refusal> {
        if !bundle.has_policy() {
            return Ok(None);
        }
        let before = bundle.policy()?;
        is_free(bundle, &before, state)?;
        let waits = before.container_id.is_none() || is_owner(&before, state);
        if before.launch.is_some() && waits {
            return Err(made_for_another());
        }
        // Podman's annotations never change; who starts the runtime himself may use an id again for something else.
        let same = before
            .profiles
            .iter()
            .eq(profiles.iter().map(|profile| profile.as_ref()));
        Ok((is_owner(&before, state) && same).then_some(before))
    };
    if let Ok(bundle) = Bundle::open(&surroundings.state_dir, name) {
        let lock = bundle.lock()?;
        if let Some(desired) = is_kept(&bundle)? {
            return Ok((bundle, lock, desired));
        }
    }
    // What cannot be right leaves nothing behind.
    let wanted = annotated::compile(state, &rules, name, &profiles)?;
    let bundle = Bundle::open_or_make(&surroundings.state_dir, name)?;
    let lock = bundle.lock()?;
    // Somebody may have come in between.
    if let Some(desired) = is_kept(&bundle)? {
        return Ok((bundle, lock, desired));
    }
    let mut desired = wanted.desired;
    bind(&mut desired, state);
    bundle.set_policy_soon(&lock, &desired)?;
    if !wanted.ignored.is_empty() {
        bundle
            .log()
            .append(&Event::new(name.as_ref(), Action::Note).detail(format!(
                "annotations that do not count here: {}",
                wanted.ignored.join(", ")
            )))?;
    }
    Ok((bundle, lock, desired))
}

fn is_owner(desired: &PolicyFile, state: &oci::State) -> bool {
    desired.container_id.as_deref() == Some(state.id.as_str())
}

/// Refuses what another container still has, or what this one has no more.
fn is_free(bundle: &Bundle, desired: &PolicyFile, state: &oci::State) -> Result<(), Refusal> {
    if desired.replaces.as_deref() == Some(state.id.as_str()) {
        return Err(Refusal::new(
            "`run --replace` was to remove this container and its policy is gone; `podman rm` it and run it anew",
        ));
    }
    if let Some(owner) = desired.container_id.as_deref().filter(|owner| *owner != state.id)
        && exists(bundle, desired)?
    {
        return Err(Refusal::new(format!(
            "the bundle belongs to another container, {owner:.12}, which still exists"
        )));
    }
    Ok(())
}

fn bind(desired: &mut PolicyFile, state: &oci::State) {
    desired.container_id = Some(state.id.clone());
    desired.oci_bundle = mounts::podmans_record(&state.bundle, &state.id).map(ToOwned::to_owned);
}

fn made_for_another() -> Refusal {
    Refusal::new(
        "the policy of this name was made for another launch; start the container with the flags that `prepare` printed last",
    )
}
