//! `poststop`: the container is gone; what was noted about the running one is forgotten.

use super::{Refusal, Subject, Surroundings, oci, surroundings};
use crate::audit::{Action, Event};
use crate::bundle::Bundle;

pub(super) fn run(input: &[u8], about: &mut Subject) -> Result<(), Refusal> {
    let state = oci::State::parse(input)?;
    let surroundings = Surroundings::discover(&state.annotations)?;
    let name = surroundings::container_name(&state.annotations)?;
    let bundle = Bundle::open(&surroundings.state_dir, &name)?;
    about.surroundings = Some(surroundings);
    let lock = bundle.lock()?;
    // A container that was refused never was this bundle's.
    if bundle.policy()?.container_id.as_deref() != Some(state.id.as_str()) || bundle.running()?.is_none() {
        return Ok(());
    }
    bundle.forget_running(&lock)?;
    bundle
        .log()
        .append(&Event::new(name.as_ref(), Action::Note).detail("container stopped"))?;
    Ok(())
}
