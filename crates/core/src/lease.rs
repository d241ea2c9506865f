//! Leases and the notions of time: moments, which decide, wall time, which is shown, and readings,
//! which measure.
//!
//! Owns: [`Moment`], [`Wall`], [`Now`], [`Reading`], the terms of a [`Lease`] and the [`Floors`] below which
//! no deadline may fall. Does not own: when a beat was (`pulse`) and what has been seen
//! (`horizon`).

use std::time::Duration;

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

/// Which life an instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Alive while beats come.
    Heartbeat,
    /// Alive until its object is deleted.
    Permanent,
}

/// What becomes of the object of an expired instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnExpiry {
    /// It stays, to be seen and to come back by a beat.
    Retain,
    /// It is deleted `evict_after` later.
    Evict,
}

/// The terms of one instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Whether it needs beats at all.
    pub mode: Mode,
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
            mode: Mode::Heartbeat,
            duration: Duration::from_secs(30),
            on_expiry: OnExpiry::Evict,
            evict_after: Duration::from_secs(60),
        }
    }
}

impl Lease {
    /// Whether beats decide over this instance's life.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.mode == Mode::Heartbeat
    }

    /// How often a client should beat: a third of the lease, so that two losses in a row do no
    /// harm.
    #[must_use]
    pub fn renew_after(&self) -> Duration {
        self.duration / 3
    }
}

/// A time in which beats could not reach this replica, and how much of it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    /// When it was over.
    ended: Moment,
    /// How long it had been.
    lost: Duration,
}

/// The moments before which nobody's lease ends, because of gaps in what was witnessed.
///
/// A gap that ended at `e` and lasted `d` keeps every deadline at or after `e + min(d, lease)`:
/// a client gets back the time in which it could not be heard, one lease at most. Floors add as a
/// maximum, so that many gaps are never worth less than the largest of them.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    /// Newest last; `lost` strictly falls along the list, since a newer gap that is at least as
    /// long makes an older one pointless.
    gaps: Vec<Gap>,
    /// The latest moment from which on everybody has a whole lease.
    whole: Option<Moment>,
    /// The same because of replicas that fell silent; withdrawn when they are back.
    silent: Option<Moment>,
}

/// More gaps than this are merged, to the benefit of the instances. Only gaps of falling length
/// count, so a list this long means a cluster that is failing in ever shorter bursts.
const MAX_GAPS: usize = 16;

impl Floors {
    /// Takes note that until `ended` beats had gone unheard for `lost`.
    pub fn raise(&mut self, ended: Moment, lost: Duration) {
        self.gaps.retain(|gap| gap.lost > lost);
        self.gaps.push(Gap { ended, lost });
        if self.gaps.len() > MAX_GAPS {
            let merged = self.gaps.remove(0);
            if let Some(first) = self.gaps.first_mut() {
                first.lost = first.lost.max(merged.lost);
            }
        }
    }

    /// Everybody has a whole lease from `from` on, whatever was heard before.
    pub fn begin_anew(&mut self, from: Moment) {
        self.whole = self.whole.max(Some(from));
    }

    /// The same from `from` on, in place of what was said so before; or not any more.
    pub fn hold(&mut self, from: Option<Moment>) {
        self.silent = from;
    }

    /// From when on that is so.
    #[must_use]
    pub fn held(&self) -> Option<Moment> {
        self.silent
    }

    /// The floor for a lease of this length.
    #[must_use]
    pub fn floor(&self, duration: Duration) -> Moment {
        let gaps = self.gaps.iter().map(|gap| gap.ended.after(gap.lost.min(duration)));
        let whole = self.whole.max(self.silent).map(|from| from.after(duration));
        gaps.chain(whole).max().unwrap_or_default()
    }

    /// When a lease of this length ends whose last beat was at `beat`.
    #[must_use]
    pub fn deadline(&self, beat: Moment, duration: Duration) -> Moment {
        beat.after(duration).max(self.floor(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn whole_leases_add_as_a_maximum_and_only_those_of_the_silent_are_withdrawn() {
        let mut floors = Floors::default();
        floors.begin_anew(Moment(50_000));
        floors.hold(Some(Moment(70_000)));
        floors.begin_anew(Moment(40_000));
        assert_eq!(floors.floor(S(20)), Moment(90_000));
        floors.hold(None);
        assert_eq!(floors.floor(S(20)), Moment(70_000));
        assert_eq!(Floors::default().floor(S(86_400)), Moment(0), "no floor is none");
    }

    #[test]
    fn a_gap_gives_back_what_was_lost_but_one_lease_at_most() {
        let mut floors = Floors::default();
        floors.raise(Moment(100_000), S(20));
        assert_eq!(floors.floor(S(5)), Moment(105_000));
        assert_eq!(floors.floor(S(60)), Moment(120_000));
        assert_eq!(floors.deadline(Moment(119_000), S(5)), Moment(124_000));
    }

    proptest! {
        /// The short list answers as if every gap had been kept.
        #[test]
        fn floors_are_the_maximum_over_all_gaps(
            gaps in prop::collection::vec((0u64..10_000, 1u64..100), 0..15),
            duration in 2u64..120,
        ) {
            let mut gaps = gaps;
            gaps.sort_unstable();
            let mut floors = Floors::default();
            let mut expected = Moment(0);
            for (ended, lost) in gaps {
                floors.raise(Moment(ended * 1000), S(lost));
                expected = expected.max(Moment(ended * 1000).after(S(lost.min(duration))));
            }
            prop_assert_eq!(floors.floor(S(duration)), expected);
        }

        /// However many gaps there are, none is worth less than it says.
        #[test]
        fn merging_gaps_never_lowers_a_floor(lost in prop::collection::vec(1u64..1000, 20..60)) {
            let mut floors = Floors::default();
            let mut expected = Moment(0);
            let mut sorted = lost;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            for (i, lost) in sorted.into_iter().enumerate() {
                let ended = Moment(i as u64 * 1000);
                floors.raise(ended, S(lost));
                expected = expected.max(ended.after(S(lost)));
                prop_assert!(floors.floor(S(86_400)) >= expected);
            }
        }
    }
}
