//! The clocks of this machine.
//!
//! Owns: every reading of a clock. All other modules take time as an argument, so that tests need not wait.

use std::time::Duration;

use rollcall_model::lease::{Moment, Now, Reading, Wall};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The current moment and the current wall time.
#[must_use]
pub fn now() -> Now {
    Now { moment: moment(), wall: wall() }
}

/// The current moment, on the clock that leases are judged by: CLOCK_BOOTTIME. It is monotonic, and it counts the time
/// in which the machine was suspended.
#[must_use]
pub fn moment() -> Moment {
    Moment(u64::try_from(millis(clock_gettime(ClockId::Boottime))).unwrap_or(0))
}

/// How long this machine has been suspended since it was started: the difference between CLOCK_BOOTTIME, which counts
/// suspensions, and CLOCK_MONOTONIC, which does not. The kernel measures the length of a suspension only to about a
/// second.
#[must_use]
pub fn suspended() -> Duration {
    let millis = |clock| u64::try_from(millis(clock_gettime(clock))).unwrap_or(0);
    let (monotonic, boot) = (millis(ClockId::Monotonic), millis(ClockId::Boottime));
    Duration::from_millis(boot.saturating_sub(monotonic))
}

/// The current wall time, which is only displayed.
#[must_use]
pub fn wall() -> Wall {
    Wall(millis(clock_gettime(ClockId::Realtime)))
}

fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// The current reading of the clock for durations: CLOCK_MONOTONIC, in nanoseconds.
#[must_use]
pub fn reading() -> Reading {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Reading(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
}

/// Measures a duration.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Reading);

impl Stopwatch {
    /// Starts a measurement.
    #[must_use]
    pub fn start() -> Self {
        Self(reading())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        reading().since(self.0)
    }
}
