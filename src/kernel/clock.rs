//! The clock by which timed grants and modes end.

use nix::time::{ClockId, clock_gettime};

use super::{KernelError, boot_id};
use crate::policy::Moment;

/// This moment.
pub fn now() -> Result<Moment, KernelError> {
    let time =
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(|error| KernelError::system("read", "the clock", error))?;
    let millis =
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000_000;
    Ok(Moment {
        boot_id: boot_id()?,
        millis,
    })
}
