//! Grace: the moments before which no lease ends, because of gaps in what was witnessed.
//!
//! Owns: [`Grace`] and the deadline that follows from one. Does not own: noticing gaps (`horizon`, `peers`).

use std::time::Duration;

use rollcall_model::lease::Moment;

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
/// a client gets back the time in which it could not be heard, one lease at most. Grace add as a
/// maximum, so that many gaps are never worth less than the largest of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Grace {
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

impl Grace {
    /// Takes note that until `ended` beats had gone unheard for `lost`.
    pub(super) fn raise(&mut self, ended: Moment, lost: Duration) {
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
    pub(super) fn begin_anew(&mut self, from: Moment) {
        self.whole = self.whole.max(Some(from));
    }

    /// The same from `from` on, in place of what was said so before; or not any more.
    pub(super) fn hold(&mut self, from: Option<Moment>) {
        self.silent = from;
    }

    /// From when on that is so.
    #[must_use]
    pub(super) fn held(&self) -> Option<Moment> {
        self.silent
    }

    /// The grace for a lease of this length.
    #[must_use]
    pub(super) fn not_before(&self, duration: Duration) -> Moment {
        let gaps = self.gaps.iter().map(|gap| gap.ended.after(gap.lost.min(duration)));
        let whole = self.whole.max(self.silent).map(|from| from.after(duration));
        gaps.chain(whole).max().unwrap_or_default()
    }

    /// When a lease of this length ends whose last beat was at `beat`.
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
    fn whole_leases_add_as_a_maximum_and_only_those_of_the_silent_are_withdrawn() {
        let mut grace = Grace::default();
        grace.begin_anew(Moment(50_000));
        grace.hold(Some(Moment(70_000)));
        grace.begin_anew(Moment(40_000));
        assert_eq!(grace.not_before(S(20)), Moment(90_000));
        grace.hold(None);
        assert_eq!(grace.not_before(S(20)), Moment(70_000));
        assert_eq!(Grace::default().not_before(S(86_400)), Moment(0), "no not_before is none");
    }

    #[test]
    fn a_gap_gives_back_what_was_lost_but_one_lease_at_most() {
        let mut grace = Grace::default();
        grace.raise(Moment(100_000), S(20));
        assert_eq!(grace.not_before(S(5)), Moment(105_000));
        assert_eq!(grace.not_before(S(60)), Moment(120_000));
        assert_eq!(grace.deadline(Moment(119_000), S(5)), Moment(124_000));
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
            let mut grace = Grace::default();
            let mut expected = Moment(0);
            for (ended, lost) in gaps {
                grace.raise(Moment(ended * 1000), S(lost));
                expected = expected.max(Moment(ended * 1000).after(S(lost.min(duration))));
            }
            prop_assert_eq!(grace.not_before(S(duration)), expected);
        }

        /// However many gaps there are, none is worth less than it says.
        #[test]
        fn merging_gaps_never_lowers_a_floor(lost in prop::collection::vec(1u64..1000, 20..60)) {
            let mut grace = Grace::default();
            let mut expected = Moment(0);
            let mut sorted = lost;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            for (i, lost) in sorted.into_iter().enumerate() {
                let ended = Moment(i as u64 * 1000);
                grace.raise(ended, S(lost));
                expected = expected.max(ended.after(S(lost)));
                prop_assert!(grace.not_before(S(86_400)) >= expected);
            }
        }
    }
}
