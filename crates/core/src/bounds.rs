//! Clock bounds: the interval that contains the difference between two replicas' clocks.
//!
//! Owns: what ledgers prove about `d`, the amount by which this replica's clock is ahead of another
//! replica's. Does not own: what follows from it (`peers`).
//!
//! If this replica received at `r` (on its own clock) a ledger that the other replica stamped `s` (on the
//! other clock), then `d <= r - s`, because the ledger was stamped before it was received. If the other
//! replica received at `w` (on its clock) a ledger that this replica stamped `s`, then `d >= s - w`. Each
//! bound holds for the time of its sample. Clocks can drift apart by up to 1 ms/s, so a bound weakens by
//! that much for every second before or after its sample, and by one more millisecond because moments are
//! whole milliseconds.

use rollcall_model::lease::Moment;

/// Milliseconds per second.
const SECOND: u64 = 1000;

/// A bound that was valid when the other clock showed `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClockSample {
    difference: i64,
    at: Moment,
}

/// The bounds on the difference between this replica's clock and the clock of one other process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    upper: Option<ClockSample>,
    lower: Option<ClockSample>,
    /// By how many milliseconds per second clocks can drift apart.
    ageing: u64,
}

impl Bounds {
    pub(super) fn new(ageing: u64) -> Self {
        Self { ageing, ..Self::default() }
    }

    /// This replica received at `received` (its clock) a ledger stamped `stamp` (the other clock).
    pub(super) fn record_received(&mut self, stamp: Moment, received: Moment) {
        let new =
            ClockSample { difference: difference(received, stamp).saturating_add(1), at: stamp };
        let old = self.upper.map(|old| self.aged_up(old, stamp));
        if old.is_none_or(|old| new.difference <= old) {
            self.upper = Some(new);
        }
    }

    /// The other replica reports that it received, at `at` (its clock), the ledger that this replica
    /// stamped `stamp`.
    pub(super) fn record_reported(&mut self, stamp: Moment, at: Moment) {
        let new = ClockSample { difference: difference(stamp, at).saturating_sub(1), at };
        let old = self.lower.map(|old| self.aged_down(old, at));
        if old.is_none_or(|old| new.difference >= old) {
            self.lower = Some(new);
        }
    }

    /// Whether no difference satisfies both bounds when the other clock shows `at`: then one of the clocks
    /// has jumped, or they drift apart faster than allowed.
    pub(super) fn contradict(&self, at: Moment) -> bool {
        let upper = self.upper.map(|upper| self.aged_up(upper, at));
        let lower = self.lower.map(|lower| self.aged_down(lower, at));
        upper.zip(lower).is_some_and(|(upper, lower)| lower > upper)
    }

    /// The latest moment on this clock that `at` on the other clock can be.
    pub(super) fn latest(&self, at: Moment) -> Option<Moment> {
        self.upper.map(|upper| shift(at, self.aged_up(upper, at)))
    }

    /// The earliest moment on this clock that `at` on the other clock can be.
    pub(super) fn earliest(&self, at: Moment) -> Option<Moment> {
        self.lower.map(|lower| shift(at, self.aged_down(lower, at)))
    }

    fn aged_up(&self, sample: ClockSample, at: Moment) -> i64 {
        sample.difference.saturating_add(self.weakening(sample, at))
    }

    fn aged_down(&self, sample: ClockSample, at: Moment) -> i64 {
        sample.difference.saturating_sub(self.weakening(sample, at))
    }

    fn weakening(&self, sample: ClockSample, at: Moment) -> i64 {
        let apart = sample.at.0.abs_diff(at.0).saturating_mul(self.ageing);
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
    fn smallest_sample_is_the_upper_bound_and_ages() {
        let mut bounds = Bounds::new(1);
        bounds.record_received(Moment(1_000), Moment(5_100));
        bounds.record_received(Moment(2_000), Moment(6_050));
        bounds.record_received(Moment(3_000), Moment(7_400));
        assert_eq!(bounds.latest(Moment(2_000)), Some(Moment(6_051)));
        assert_eq!(bounds.latest(Moment(3_000)), Some(Moment(7_052)));
        assert_eq!(
            bounds.latest(Moment(1_500)),
            Some(Moment(5_552)),
            "a bound also ages towards the past"
        );
        assert_eq!(bounds.earliest(Moment(2_000)), None);
    }

    #[test]
    fn incompatible_bounds_contradict_each_other() {
        let mut bounds = Bounds::new(1);
        bounds.record_received(Moment(1_000), Moment(5_100));
        bounds.record_reported(Moment(5_000), Moment(1_000));
        assert!(!bounds.contradict(Moment(1_000)));
        bounds.record_reported(Moment(9_000), Moment(4_000));
        assert!(bounds.contradict(Moment(4_000)));
    }

    proptest! {
        /// Ledger objects are untrusted input: any client with the right can edit them.
        #[test]
        fn arbitrary_samples_do_not_panic(
            samples in prop::collection::vec((any::<bool>(), any::<u64>(), any::<u64>()), 1..9),
            at in any::<u64>(),
        ) {
            let mut bounds = Bounds::new(1);
            for (up, one, other) in samples {
                match up {
                    true => bounds.record_received(Moment(one), Moment(other)),
                    false => bounds.record_reported(Moment(one), Moment(other)),
                }
                bounds.contradict(Moment(at));
                let _ = (bounds.latest(Moment(at)), bounds.earliest(Moment(at)));
            }
        }

        /// The bounds contain the true difference for any delays, as long as the clocks drift apart more
        /// slowly than allowed.
        #[test]
        fn true_difference_lies_between_the_bounds(
            rate in -900i64..900,
            samples in prop::collection::vec((0u64..600_000, 0u64..5_000, any::<bool>()), 1..40),
            asked in 0u64..600_000,
        ) {
            // Our clock shows `t + 10^6`; their clock runs `rate` ppm faster.
            let ours = |t: u64| Moment(t + 1_000_000);
            let theirs = |t: u64| Moment(7_000 + (t as i64 * (1_000_000 + rate) / 1_000_000) as u64);
            let mut bounds = Bounds::new(1);
            let mut samples = samples;
            samples.sort_unstable();
            for (t, delay, is_theirs) in samples {
                if is_theirs {
                    bounds.record_received(theirs(t), ours(t + delay));
                } else {
                    bounds.record_reported(ours(t), theirs(t + delay));
                }
            }
            let at = theirs(asked);
            prop_assert!(bounds.latest(at).is_none_or(|latest| latest >= ours(asked)));
            prop_assert!(bounds.earliest(at).is_none_or(|earliest| earliest <= ours(asked)));
            prop_assert!(!bounds.contradict(at));
        }
    }
}
