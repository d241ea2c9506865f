//! Grace: the moments before which no lease ends, because heartbeats may have been missed.
//!
//! Owns: [`Grace`], and the deadline that follows from it. Does not own: detecting gaps (`horizon`, `peers`).

use std::time::Duration;

use rollcall_model::lease::Moment;

/// A time in which heartbeats could not reach this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    ended: Moment,
    lost: Duration,
}

/// The moments before which no lease ends, because heartbeats may have been missed.
///
/// A gap that ended at `e` and lasted `d` keeps every deadline at or after `e + min(d, lease)`: a client
/// gets back the time in which its heartbeats could not arrive, but at most one lease. With several gaps
/// the latest of these moments counts, so several gaps never give less grace than the longest of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Grace {
    /// Newest last. `lost` strictly decreases along the list: a newer gap that is at least as long makes
    /// an older one redundant.
    gaps: Vec<Gap>,
    /// The latest moment from which every instance has a whole lease.
    whole: Option<Moment>,
    /// Like `whole`, but because of silent replicas, and withdrawn when they are back.
    silent: Option<Moment>,
}

/// If there are more gaps than this, the oldest ones are merged, in favour of the instances. Only gaps of
/// decreasing length are kept, so such a long list means that each outage was shorter than the one before.
const MAX_GAPS: usize = 16;

impl Grace {
    /// Records a gap of length `lost` that ended at `ended`.
    pub(super) fn record_gap(&mut self, ended: Moment, lost: Duration) {
        self.gaps.retain(|gap| gap.lost > lost);
        self.gaps.push(Gap { ended, lost });
        if self.gaps.len() > MAX_GAPS {
            let merged = self.gaps.remove(0);
            if let Some(first) = self.gaps.first_mut() {
                first.lost = first.lost.max(merged.lost);
            }
        }
    }

    /// Gives every instance a whole lease from `from` on.
    pub(super) fn grant_whole_lease(&mut self, from: Moment) {
        self.whole = self.whole.max(Some(from));
    }

    /// Gives every instance a whole lease from `from` on because of silent replicas, replacing the earlier
    /// value; `None` withdraws it.
    pub(super) fn set_silence(&mut self, from: Option<Moment>) {
        self.silent = from;
    }

    /// The current value of [`Self::set_silence`].
    #[must_use]
    pub(super) fn silence(&self) -> Option<Moment> {
        self.silent
    }

    /// The moment before which no lease of this length ends.
    #[must_use]
    pub(super) fn not_before(&self, duration: Duration) -> Moment {
        let gaps = self.gaps.iter().map(|gap| gap.ended.after(gap.lost.min(duration)));
        let whole = self.whole.max(self.silent).map(|from| from.after(duration));
        gaps.chain(whole).max().unwrap_or_default()
    }

    /// When a lease of this length ends that began with a heartbeat at `beat`.
    #[must_use]
    pub(super) fn deadline(&self, beat: Moment, duration: Duration) -> Moment {
        beat.after(duration).max(self.not_before(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn whole_leases_combine_to_a_maximum_and_only_silence_is_withdrawn() {
        let mut grace = Grace::default();
        grace.grant_whole_lease(Moment(50_000));
        grace.set_silence(Some(Moment(70_000)));
        grace.grant_whole_lease(Moment(40_000));
        assert_eq!(grace.not_before(S(20)), Moment(90_000));
        grace.set_silence(None);
        assert_eq!(grace.not_before(S(20)), Moment(70_000));
        assert_eq!(
            Grace::default().not_before(S(86_400)),
            Moment(0),
            "without gaps there is no grace"
        );
    }

    #[test]
    fn gap_gives_back_the_lost_time_up_to_one_lease() {
        let mut grace = Grace::default();
        grace.record_gap(Moment(100_000), S(20));
        assert_eq!(grace.not_before(S(5)), Moment(105_000));
        assert_eq!(grace.not_before(S(60)), Moment(120_000));
        assert_eq!(grace.deadline(Moment(119_000), S(5)), Moment(124_000));
    }

    proptest! {
        /// The short list gives the same result as a list of all gaps.
        #[test]
        fn grace_is_the_maximum_over_all_gaps(
            gaps in prop::collection::vec((0u64..10_000, 1u64..100), 0..15),
            duration in 2u64..120,
        ) {
            let mut gaps = gaps;
            gaps.sort_unstable();
            let mut grace = Grace::default();
            let mut expected = Moment(0);
            for (ended, lost) in gaps {
                grace.record_gap(Moment(ended * 1000), S(lost));
                expected = expected.max(Moment(ended * 1000).after(S(lost.min(duration))));
            }
            prop_assert_eq!(grace.not_before(S(duration)), expected);
        }

        /// Every gap gives at least its own length as grace, however many gaps there are.
        #[test]
        fn merging_gaps_never_lowers_grace(lost in prop::collection::vec(1u64..1000, 20..60)) {
            let mut grace = Grace::default();
            let mut expected = Moment(0);
            let mut sorted = lost;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            for (i, lost) in sorted.into_iter().enumerate() {
                let ended = Moment(i as u64 * 1000);
                grace.record_gap(ended, S(lost));
                expected = expected.max(ended.after(S(lost)));
                prop_assert!(grace.not_before(S(86_400)) >= expected);
            }
        }
    }
}
