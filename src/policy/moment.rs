//! A moment on the one clock by which timed grants and modes end.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A moment on the clock that counts from boot and goes on in suspend (CLOCK_BOOTTIME). After a reboot every moment of
/// the boot before is past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// The boot that it counts from.
    pub boot_id: String,
    /// Milliseconds since then.
    pub millis: u64,
}

impl Moment {
    /// So much later.
    #[must_use]
    pub fn after(&self, time: Duration) -> Self {
        Self {
            boot_id: self.boot_id.clone(),
            millis: self
                .millis
                .saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Whole seconds from `now` until this moment, rounded down, so that nothing lasts longer than it was meant to.
    /// Nothing if less than one is left, or if it belongs to another boot.
    #[must_use]
    pub fn left(&self, now: &Self) -> Option<u32> {
        if self.boot_id != now.boot_id {
            return None;
        }
        let seconds = self.millis.saturating_sub(now.millis) / 1000;
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
    }

    /// Seconds that have gone by since `earlier`, rounded up.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> u32 {
        u32::try_from(self.millis.saturating_sub(earlier.millis).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_id: &str, millis: u64) -> Moment {
        Moment {
            boot_id: boot_id.to_owned(),
            millis,
        }
    }

    #[test]
    fn what_is_left_is_whole_seconds_and_never_too_long() {
        let end = at("a", 500).after(Duration::from_secs(10));
        assert_eq!(end.left(&at("a", 500)), Some(10));
        assert_eq!(end.left(&at("a", 501)), Some(9));
        assert_eq!(end.left(&at("a", 9_501)), None);
        assert_eq!(end.left(&at("a", 20_000)), None);
    }

    #[test]
    fn a_reboot_ends_everything() {
        let end = at("a", 0).after(Duration::from_secs(10));
        assert_eq!(end.left(&at("b", 0)), None);
    }
}
