//! The bounds between which the difference of two replicas' clocks lies.
//!
//! Owns: what sightings of ledgers say about `d`, the amount by which this replica's clock is ahead of
//! another's. Does not own: what is concluded from it (`peers`).
//!
//! A ledger stamped `s` by the other's clock was seen at `r` by ours: it was stamped before it was
//! seen, so `d <= r - s`. The other saw our ledger stamped `s` (ours) at `w` (its own): `d >= s - w`.
//! Each bound holds for the time of its sighting. Clocks that run apart by up to 1 ms/s weaken it by
//! that much for every second before or after; and since moments are whole milliseconds, by one more.

use rollcall_model::lease::Moment;

/// Milliseconds a second.
const SECOND: u64 = 1000;

/// A bound that was right when the other's clock showed `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sighting {
    difference: i64,
    at: Moment,
}

/// What is known of the difference to one process's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    upper: Option<Sighting>,
    lower: Option<Sighting>,
    /// By how many milliseconds a second clocks may run apart.
    ageing: u64,
}

impl Bounds {
    pub(super) fn new(ageing: u64) -> Self {
        Self { ageing, ..Self::default() }
    }

    /// A ledger stamped `stamp` (theirs) was seen at `seen` (ours).
    pub(super) fn seen(&mut self, stamp: Moment, seen: Moment) {
        let new = Sighting { difference: difference(seen, stamp).saturating_add(1), at: stamp };
        let old = self.upper.map(|old| self.aged_up(old, stamp));
        if old.is_none_or(|old| new.difference <= old) {
            self.upper = Some(new);
        }
    }

    /// A ledger of ours stamped `stamp` was seen by them at `at` (theirs).
    pub(super) fn was_seen(&mut self, stamp: Moment, at: Moment) {
        let new = Sighting { difference: difference(stamp, at).saturating_sub(1), at };
        let old = self.lower.map(|old| self.aged_down(old, at));
        if old.is_none_or(|old| new.difference >= old) {
            self.lower = Some(new);
        }
    }

    /// Whether no difference fits both bounds when their clock shows `at`: one of the clocks has
    /// jumped, or runs more than the allowance apart.
    pub(super) fn contradict(&self, at: Moment) -> bool {
        let upper = self.upper.map(|upper| self.aged_up(upper, at));
        let lower = self.lower.map(|lower| self.aged_down(lower, at));
        upper.zip(lower).is_some_and(|(upper, lower)| lower > upper)
    }

    /// The latest moment of ours that their `at` can have been.
    pub(super) fn latest(&self, at: Moment) -> Option<Moment> {
        self.upper.map(|upper| shift(at, self.aged_up(upper, at)))
    }

    /// The earliest moment of ours that their `at` can have been.
    pub(super) fn earliest(&self, at: Moment) -> Option<Moment> {
        self.lower.map(|lower| shift(at, self.aged_down(lower, at)))
    }

    fn aged_up(&self, sighting: Sighting, at: Moment) -> i64 {
        sighting.difference.saturating_add(self.lost(sighting, at))
    }

    fn aged_down(&self, sighting: Sighting, at: Moment) -> i64 {
        sighting.difference.saturating_sub(self.lost(sighting, at))
    }

    fn lost(&self, sighting: Sighting, at: Moment) -> i64 {
        let apart = sighting.at.0.abs_diff(at.0).saturating_mul(self.ageing);
        i64::try_from(apart.div_ceil(SECOND)).unwrap_or(i64::MAX / 4)
    }
}

fn difference(ours: Moment, theirs: Moment) -> i64 {
    let signed = |moment: Moment| i64::try_from(moment.0).unwrap_or(i64::MAX / 4);
    signed(ours).saturating_sub(signed(theirs))
}

fn shift(at: Moment, by: i64) -> Moment {
    Moment(at.0.saturating_add_signed(by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_difference_seen_bounds_from_above_and_ages() {
        let mut bounds = Bounds::new(1);
        bounds.seen(Moment(1_000), Moment(5_100));
        bounds.seen(Moment(2_000), Moment(6_050));
        bounds.seen(Moment(3_000), Moment(7_400));
        assert_eq!(bounds.latest(Moment(2_000)), Some(Moment(6_051)));
        assert_eq!(bounds.latest(Moment(3_000)), Some(Moment(7_052)));
        assert_eq!(bounds.latest(Moment(1_500)), Some(Moment(5_552)), "before it, too");
        assert_eq!(bounds.earliest(Moment(2_000)), None);
    }

    #[test]
    fn bounds_that_no_difference_fits_contradict_each_other() {
        let mut bounds = Bounds::new(1);
        bounds.seen(Moment(1_000), Moment(5_100));
        bounds.was_seen(Moment(5_000), Moment(1_000));
        assert!(!bounds.contradict(Moment(1_000)));
        bounds.was_seen(Moment(9_000), Moment(4_000));
        assert!(bounds.contradict(Moment(4_000)));
    }

    proptest! {
        /// An object can be edited by whoever may.
        #[test]
        fn whatever_a_ledger_says_is_no_panic(
            sightings in prop::collection::vec((any::<bool>(), any::<u64>(), any::<u64>()), 1..9),
            at in any::<u64>(),
        ) {
            let mut bounds = Bounds::new(1);
            for (up, one, other) in sightings {
                match up {
                    true => bounds.seen(Moment(one), Moment(other)),
                    false => bounds.was_seen(Moment(one), Moment(other)),
                }
                bounds.contradict(Moment(at));
                let _ = (bounds.latest(Moment(at)), bounds.earliest(Moment(at)));
            }
        }

        /// Two clocks that run apart by less than the allowance, any delays: the truth lies between.
        #[test]
        fn the_truth_lies_between_the_bounds(
            rate in -900i64..900,
            sightings in prop::collection::vec((0u64..600_000, 0u64..5_000, any::<bool>()), 1..40),
            asked in 0u64..600_000,
        ) {
            // Ours shows `t + 10^6`; theirs runs `rate` ppm faster.
            let ours = |t: u64| Moment(t + 1_000_000);
            let theirs = |t: u64| Moment(7_000 + (t as i64 * (1_000_000 + rate) / 1_000_000) as u64);
            let mut bounds = Bounds::new(1);
            let mut sightings = sightings;
            sightings.sort_unstable();
            for (t, delay, of_theirs) in sightings {
                if of_theirs {
                    bounds.seen(theirs(t), ours(t + delay));
                } else {
                    bounds.was_seen(ours(t), theirs(t + delay));
                }
            }
            let at = theirs(asked);
            prop_assert!(bounds.latest(at).is_none_or(|latest| latest >= ours(asked)));
            prop_assert!(bounds.earliest(at).is_none_or(|earliest| earliest <= ours(asked)));
            prop_assert!(!bounds.contradict(at));
        }
    }
}
