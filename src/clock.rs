//! The clock: the one place where time is read.
//!
//! Everything else gets time as an argument, so that it can be proved without waiting.

use std::time::Duration;

use rollcall_model::lease::{Moment, Now, Reading, Wall};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now, on both clocks.
///
/// Moments come from CLOCK_BOOTTIME: monotonic, and it counts the time in which the machine was
/// suspended.
#[must_use]
pub fn now() -> Now {
    Now { moment: moment(), wall: wall() }
}

/// Now, on the clock that decides.
#[must_use]
pub fn moment() -> Moment {
    Moment(u64::try_from(millis(clock_gettime(ClockId::Boottime))).unwrap_or(0))
}

/// For how long this machine has been suspended since it was started: by so much is the clock that counts
/// it ahead of the one that does not. How long a suspension was, machines know to a second or so.
#[must_use]
pub fn suspended() -> Duration {
    let millis = |clock| u64::try_from(millis(clock_gettime(clock))).unwrap_or(0);
    let (monotonic, boot) = (millis(ClockId::Monotonic), millis(ClockId::Boottime));
    Duration::from_millis(boot.saturating_sub(monotonic))
}

/// Now, on the clock that is shown.
#[must_use]
pub fn wall() -> Wall {
    Wall(millis(clock_gettime(ClockId::Realtime)))
}

fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// Now, on the clock that measures: CLOCK_MONOTONIC, in nanoseconds.
#[must_use]
pub fn reading() -> Reading {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Reading(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Reading);

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        Self(reading())
    }

    /// The time since it began.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        reading().since(self.0)
    }
}
