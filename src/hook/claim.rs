//! Whose a bundle is. It belongs to one container: one that is there keeps it; one that was removed leaves it to its
//! successor, without what the operator changed at run time.

use std::path::Path;

use super::{Refusal, Surroundings, annotated, mounts, oci};
use crate::audit::{Action, Event};
use crate::bundle::{Bundle, Lock, PolicyFile};
use crate::podman::ANNOTATION_LAUNCH;
use crate::policy::ContainerName;
use crate::shield::launch::exists;

/// Whose a bundle is: a container, or for the members of a pod its infra container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) id: &'a str,
    /// The runtime's bundle.
    pub(super) bundle: &'a Path,
    /// What Podman calls it.
    pub(super) name: Option<&'a str>,
}

/// The container's bundle, locked, and the desired state in it, bound to the container.
pub(super) fn bundle(
    state: &oci::State,
    owner: &Owner<'_>,
    surroundings: &Surroundings,
    name: &ContainerName,
) -> Result<(Bundle, Lock, PolicyFile), Refusal> {
    match state.annotations.get(ANNOTATION_LAUNCH) {
        Some(_) if owner.id != state.id => Err(Refusal::new(
            "a member of a pod was prepared as a container of its own; give it the annotations alone",
        )),
        Some(proof) => prepared(owner, surroundings, name, proof),
        None => unprepared(state, owner, surroundings, name),
    }
}

/// What `run` or `prepare` wrote, for the container that can prove that it was meant.
fn prepared(
    owner: &Owner<'_>,
    surroundings: &Surroundings,
    name: &ContainerName,
    proof: &str,
) -> Result<(Bundle, Lock, PolicyFile), Refusal> {
    let bundle = Bundle::open(&surroundings.state_dir, name)?;
    let lock = bundle.lock()?;
    let mut desired = bundle.policy()?;
    is_free(&bundle, &desired, owner)?;
    // A name is no proof: an image can bring an annotation with anybody's.
    if desired.launch.as_deref() != Some(proof) {
        return Err(made_for_another());
    }
    if is_owner(&desired, owner) {
        return Ok((bundle, lock, desired));
    }
    if desired.container_id.is_some() {
        desired.start_anew();
    }
    desired.replaces = None;
    bind(&mut desired, owner);
    bundle.set_policy_soon(&lock, &desired)?;
    Ok((bundle, lock, desired))
}

/// What the container's annotations ask for, or what they came to at its first start. They take nothing that was prepared, and
/// nothing of a container that is still there.
fn unprepared(
    state: &oci::State,
    owner: &Owner<'_>,
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
        is_free(bundle, &before, owner)?;
        let waits = before.container_id.is_none() || is_owner(&before, owner);
        if before.launch.is_some() && waits {
            return Err(made_for_another());
        }
        if !is_owner(&before, owner) {
            return Ok(None);
        }
        let same = before
            .profiles
            .iter()
            .eq(profiles.iter().map(|profile| profile.as_ref()))
            && (owner.id == state.id || before.published == rules.published(state)?);
        match (same, &before.oci_bundle) {
            (true, _) => Ok(Some(before)),
            // Podman's annotations never change: this is another member of the same pod.
            (false, Some(_)) => Err(Refusal::new(format!(
                "its pod is shielded by other annotations ({})",
                before.profiles.join(":")
            ))),
            // Who starts the runtime himself may use an id again for something else.
            (false, None) => Ok(None),
        }
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
    bind(&mut desired, owner);
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

fn is_owner(desired: &PolicyFile, owner: &Owner<'_>) -> bool {
    desired.container_id.as_deref() == Some(owner.id)
}

/// Refuses what another container still has, or what this one has no more.
fn is_free(bundle: &Bundle, desired: &PolicyFile, owner: &Owner<'_>) -> Result<(), Refusal> {
    if desired.replaces.as_deref() == Some(owner.id) {
        return Err(Refusal::new(
            "`run --replace` was to remove this container and its policy is gone; `podman rm` it and run it anew",
        ));
    }
    if let Some(other) = desired.container_id.as_deref().filter(|other| *other != owner.id)
        && exists(bundle, desired)?
    {
        return Err(Refusal::new(format!(
            "the bundle belongs to another container, {other:.12}, which still exists"
        )));
    }
    Ok(())
}

fn bind(desired: &mut PolicyFile, owner: &Owner<'_>) {
    desired.container_id = Some(owner.id.to_owned());
    desired.oci_bundle = mounts::podmans_record(owner.bundle, owner.id).map(ToOwned::to_owned);
}

fn made_for_another() -> Refusal {
    Refusal::new(
        "the policy of this name was made for another launch; start the container with the flags that `prepare` printed last",
    )
}
