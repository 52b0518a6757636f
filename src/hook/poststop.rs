//! `poststop`: the container is gone; what was noted about the running one is forgotten.

use super::{Refusal, Subject, Surroundings, name, oci};
use crate::audit::{Action, Event};
use crate::bundle::{self, Bundle};

pub(super) fn run(input: &[u8], about: &mut Subject) -> Result<(), Refusal> {
    let state = oci::State::parse(input)?;
    let surroundings = Surroundings::discover(&state.annotations)?;
    let bundle = match name::annotated(&state.annotations)? {
        Some(name) => Bundle::open(&surroundings.state_dir, &name)?,
        None => match bundle::owned_by(&surroundings.state_dir, &state.id)? {
            Some(bundle) => bundle,
            None => return Ok(()),
        },
    };
    about.surroundings = Some(surroundings);
    let lock = bundle.lock()?;
    // A container that was refused never was this bundle's.
    if bundle.policy()?.container_id.as_deref() != Some(state.id.as_str()) || bundle.running()?.is_none() {
        return Ok(());
    }
    bundle.forget_running(&lock)?;
    bundle
        .log()
        .append(&Event::new(bundle.name().as_ref(), Action::Note).detail("container stopped"))?;
    Ok(())
}
