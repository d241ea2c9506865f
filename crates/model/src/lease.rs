//! Leases and times: moments, which decide; wall times, which are displayed; and readings, which measure
//! durations.
//!
//! Owns: [`Moment`], [`Wall`], [`Now`], [`Reading`] and the terms of a [`Lease`]. Does not own: when a
//! lease ends, which also depends on what a replica has received (`rollcall-core`).

use std::{fmt, time::Duration};

use jiff::{
    Timestamp,
    fmt::{StdFmtWrite, temporal::DateTimePrinter},
};

use crate::defaults;
pub use crate::vocabulary::{LeaseMode, OnExpiry};

/// A point on this replica's own clock: milliseconds of a monotonic clock that includes suspended time.
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

    /// The time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Wall time in milliseconds since the Unix epoch: for display and stored times, never for a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// RFC 3339 in UTC, with milliseconds. A time outside the years that jiff supports, -9999 to 9999, is written
/// as the epoch.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MILLIS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let time = Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        MILLIS.print_timestamp(&time, StdFmtWrite(f)).map_err(|_| fmt::Error)
    }
}

/// A reading of a monotonic clock with a higher resolution than moments: it measures durations for metrics,
/// and never decides a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading(pub Duration);

impl Reading {
    /// The time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For decisions.
    pub moment: Moment,
    /// For display.
    pub wall: Wall,
}

impl Now {
    /// The wall time of `moment`, according to the current offset of the two clocks.
    #[must_use]
    pub fn wall_of(self, moment: Moment) -> Wall {
        let ahead = i64::try_from(moment.0).unwrap_or(i64::MAX);
        let base = i64::try_from(self.moment.0).unwrap_or(i64::MAX);
        Wall(self.wall.0.saturating_add(ahead.saturating_sub(base)))
    }
}

/// `span` in whole milliseconds; a span that is too long gives the largest number.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The terms of an instance's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Whether the instance needs heartbeats.
    pub mode: LeaseMode,
    /// How long a heartbeat keeps the instance live; 2 s to 24 h.
    pub duration: Duration,
    /// What happens to the object once the instance has expired.
    pub on_expiry: OnExpiry,
    /// How long an expired object with `OnExpiry::Evict` stays.
    pub evict_after: Duration,
}

/// The lease of an instance that registers over HTTP for the first time and specifies none.
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
    /// Whether the instance needs heartbeats.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.mode == LeaseMode::Heartbeat
    }

    /// How often a client should send a heartbeat: every third of the lease, so that two lost heartbeats in a
    /// row do no harm.
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
    fn wall_time_is_rfc_3339_with_milliseconds_or_the_epoch() {
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

    /// The range of jiff, in milliseconds.
    const EARLIEST: i64 = -377_705_023_201_000;
    const LATEST: i64 = 253_402_207_200_000;

    /// Any value, with more weight on the supported range and its limits.
    fn walls() -> impl Strategy<Value = i64> {
        let near = |end: i64| end - 2_000..end + 2_000;
        prop_oneof![any::<i64>(), EARLIEST..=LATEST, near(EARLIEST), near(LATEST)]
    }

    proptest! {
        /// The text is what jiff prints for the time, or for the epoch, and parsing it gives the same time.
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
