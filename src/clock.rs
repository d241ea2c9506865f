//! The clock: the one place where time is read.
//!
//! Everything else gets time as an argument, so that it can be proved without waiting.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::registry::lease::{Moment, Now, Wall};

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

/// A wall time in RFC 3339 with milliseconds.
#[must_use]
pub fn show(wall: Wall) -> String {
    let time = jiff::Timestamp::from_millisecond(wall.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// Measures how long something took, for metrics: finer than moments, and never a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Timespec);

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        Self(clock_gettime(ClockId::Monotonic))
    }

    /// The time since it began.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        let now = clock_gettime(ClockId::Monotonic);
        let nanos = |t: Timespec| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
        Duration::from_nanos(u64::try_from(nanos(now) - nanos(self.0)).unwrap_or(0))
    }
}
