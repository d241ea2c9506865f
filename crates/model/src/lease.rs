//! Leases and the notions of time: moments, which decide, wall time, which is shown, and readings,
//! which measure.
//!
//! Owns: [`Moment`], [`Wall`], [`Now`], [`Reading`] and the terms of a [`Lease`]. Does not own: when a lease ends, which
//! also depends on what a replica has seen (`rollcall-core`).

use std::{fmt, time::Duration};

use jiff::{
    Timestamp,
    fmt::{StdFmtWrite, temporal::DateTimePrinter},
};

use crate::defaults;
pub use crate::vocabulary::{LeaseMode, OnExpiry};

/// A point on this replica's own clock: milliseconds of a monotonic clock that counts suspend.
///
/// Moments of two replicas, or of two boots of one, are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Wall time in milliseconds since the Unix epoch: for people and for stored times, never for a
/// verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// RFC 3339 in UTC, to the millisecond. A time outside the years that jiff can hold, -9999 to 9999, is
/// written as the epoch.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MILLIS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let time = Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        MILLIS.print_timestamp(&time, StdFmtWrite(f)).map_err(|_| fmt::Error)
    }
}

/// A reading of a monotonic clock that is finer than moments: to measure how long something took, for
/// metrics, and never for a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading(pub Duration);

impl Reading {
    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Decides.
    pub moment: Moment,
    /// Is shown.
    pub wall: Wall,
}

impl Now {
    /// The wall time of `moment`, as this replica's clocks relate now.
    #[must_use]
    pub fn wall_of(self, moment: Moment) -> Wall {
        let ahead = i64::try_from(moment.0).unwrap_or(i64::MAX);
        let base = i64::try_from(self.moment.0).unwrap_or(i64::MAX);
        Wall(self.wall.0.saturating_add(ahead.saturating_sub(base)))
    }
}

/// Whole milliseconds of `span`, the most a moment can hold when it is longer.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The terms of one instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Whether it needs beats at all.
    pub mode: LeaseMode,
    /// How long one beat is good for; 2 s to 24 h.
    pub duration: Duration,
    /// What happens after the end.
    pub on_expiry: OnExpiry,
    /// How long an expired object of `OnExpiry::Evict` stays.
    pub evict_after: Duration,
}

/// Of an instance that registers over HTTP for the first time and asks for none.
impl Default for Lease {
    fn default() -> Self {
        Self {
            mode: LeaseMode::Heartbeat,
            duration: Duration::from_secs(defaults::DURATION_SECONDS.into()),
            on_expiry: defaults::ON_EXPIRY_OF_REGISTRATION,
            evict_after: Duration::from_secs(defaults::EVICT_AFTER_SECONDS.into()),
        }
    }
}

impl Lease {
    /// Whether beats decide over this instance's life.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.mode == LeaseMode::Heartbeat
    }

    /// How often a client should beat: a third of the lease, so that two losses in a row do no
    /// harm.
    #[must_use]
    pub fn renew_after(&self) -> Duration {
        self.duration / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wall_time_is_written_in_rfc_3339_with_milliseconds_or_as_the_epoch() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_709_251_199_050, "2024-02-29T23:59:59.050Z"),
            (LATEST, "9999-12-30T22:00:00.000Z"),
            (LATEST + 1, "1970-01-01T00:00:00.000Z"),
            (EARLIEST, "-009999-01-02T01:59:59.000Z"),
            (EARLIEST - 1, "1970-01-01T00:00:00.000Z"),
            (i64::MAX, "1970-01-01T00:00:00.000Z"),
            (i64::MIN, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Wall(millis).to_string(), text, "{millis}");
        }
    }

    /// What jiff can hold, in milliseconds.
    const EARLIEST: i64 = -377_705_023_201_000;
    const LATEST: i64 = 253_402_207_200_000;

    /// Any, and more often those that can be written and those beside them.
    fn walls() -> impl Strategy<Value = i64> {
        let near = |end: i64| end - 2_000..end + 2_000;
        prop_oneof![any::<i64>(), EARLIEST..=LATEST, near(EARLIEST), near(LATEST)]
    }

    proptest! {
        /// The text is what jiff prints of the time, or of the epoch, and read again it is the same time.
        #[test]
        fn every_wall_time_has_a_text(millis in walls()) {
            let is_held = (EARLIEST..=LATEST).contains(&millis);
            let time = Timestamp::from_millisecond(if is_held { millis } else { 0 }).unwrap();
            let text = Wall(millis).to_string();
            prop_assert_eq!(&text, &format!("{time:.3}"));
            prop_assert_eq!(text.parse::<Timestamp>().unwrap(), time);
        }
    }
}
