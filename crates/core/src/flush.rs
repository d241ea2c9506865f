//! What this replica tells the others, and when.
//!
//! Owns: the pace of the own ledger, and the segments that are told again until everybody has them.
//! Does not own: which slots were beaten (`touched`), and the writing (`witness`).

use std::{collections::VecDeque, time::Duration};

use rollcall_model::lease::{Moment, millis};

use crate::{
    ledger::{Ledger, Segment},
    pacer::{PERIOD, Pacer, SPACING},
};

/// The soonest that beats alone are told: with the self-beats, and the leader's checkpoints and renewals, two
/// writes a second and replica in all.
const SOONEST: Duration = Duration::from_millis(750);

/// The shortest lease is told so many times within itself.
const TIMES: u32 = 6;

/// Segments that are told again at most. Who has missed more notices it, as a gap.
const MOST_KEPT: usize = 8;

/// Beats that were taken out of the slots and that somebody may not have seen yet.
#[derive(Debug)]
struct Kept {
    first: u64,
    sequence: u64,
    stamp: Moment,
    /// By rising id, on our clock.
    beats: Vec<(u64, Moment)>,
    /// Whether it is known to be stored.
    stored: bool,
}

/// The own ledger.
#[derive(Debug, Default)]
pub(super) struct Flush {
    sequence: u64,
    /// The ledger being written, and the index in it; none when that is of an earlier epoch.
    under_way: Option<(u64, Option<u64>)>,
    pacer: Pacer,
    /// Another replica waits for this one.
    asked: bool,
    leaving: bool,
    /// The first ledger that says so.
    farewell: Option<u64>,
    /// The ledger that says so is stored.
    left: bool,
    kept: VecDeque<Kept>,
}

/// What calls for a flush.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) now: Moment,
    /// The latest deadline that waits for the horizon.
    pub(super) due: Option<Moment>,
    /// Whether beats wait to be told.
    pub(super) beats: bool,
    /// The shortest lease of all.
    pub(super) shortest: Option<Duration>,
}

impl Flush {
    /// Another replica waits for this one's ledger.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// The next ledger is the last one.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether a flush goes as soon as the pace allows.
    pub(super) fn is_urgent(&self) -> bool {
        self.asked || (self.leaving && !self.left)
    }

    /// Whether a ledger is to be written now; if so, it is paid for.
    pub(super) fn is_wanted(&mut self, call: &Call) -> bool {
        let Call { now, due, beats, shortest } = *call;
        if self.under_way.is_some() || self.left {
            return false;
        }
        let quiet = self.pacer.quiet(now);
        let been = |pause| quiet.is_none_or(|quiet| quiet >= pause);
        let period = shortest.map_or(PERIOD, |shortest| (shortest / TIMES).clamp(SOONEST, PERIOD));
        let wanted = been(PERIOD)
            || (self.is_urgent() && been(SPACING))
            || (beats && been(period))
            || self.pacer.is_due(due, now);
        wanted && self.pacer.pay(now)
    }

    /// Puts what was witnessed since the last flush into `ledger`, with what is to be told again.
    /// `known` is the stamp up to which every live replica has seen our ledgers; none when there is no
    /// other.
    pub(super) fn fill(
        &mut self,
        ledger: &mut Ledger,
        beats: Vec<(u64, Moment)>,
        known: Option<Moment>,
    ) {
        self.sequence += 1;
        let stamp = ledger.stamp;
        let (mut first, mut beats) = (self.sequence, beats);
        // Whether a write that failed was carried out is not known: what it told is told anew.
        while self.kept.back().is_some_and(|kept| !kept.stored) {
            let Some(kept) = self.kept.pop_back() else { break };
            first = kept.first;
            beats = merged(kept.beats, beats);
        }
        let known = known.unwrap_or(stamp);
        while self.kept.len() >= MOST_KEPT || self.kept.front().is_some_and(|it| it.stamp <= known)
        {
            self.kept.pop_front();
        }
        let sequence = self.sequence;
        self.kept.push_back(Kept { first, sequence, stamp, beats, stored: false });
        ledger.sequence = sequence;
        ledger.leaving = self.leaving;
        if self.leaving {
            self.farewell.get_or_insert(sequence);
        }
        ledger.segments = self.kept.iter().map(|kept| kept.segment(stamp)).collect();
        self.under_way = Some((sequence, Some(ledger.index)));
        self.asked = false;
    }

    /// The write of a ledger was answered, or given up. Answers the index in it, if it is of this epoch.
    pub(super) fn written(&mut self, sequence: u64, stored: bool) -> Option<u64> {
        if stored {
            self.stored(sequence);
        }
        let (_, index) = self.under_way.take_if(|(under_way, _)| *under_way == sequence)?;
        index
    }

    /// The store went back, and with it what was reported: `heartbeats` are reported in the next ledger, which goes at
    /// once. It covers every ledger before it.
    pub(super) fn begin_epoch(&mut self, mut heartbeats: Vec<(u64, Moment)>) {
        heartbeats.sort_unstable_by_key(|(id, _)| *id);
        heartbeats.dedup_by_key(|(id, _)| *id);
        // A number of its own, so that the answer to a ledger under way does not speak for it.
        self.sequence += 1;
        let sequence = self.sequence;
        let again = Kept { first: 0, sequence, stamp: Moment(0), beats: heartbeats, stored: false };
        self.kept = VecDeque::from([again]);
        self.under_way = self.under_way.map(|(sequence, _)| (sequence, None));
        self.asked = true;
    }

    /// A ledger is known to be stored: the write was answered, or the watch brought it.
    pub(super) fn stored(&mut self, sequence: u64) {
        for kept in self.kept.iter_mut().filter(|kept| kept.sequence <= sequence) {
            kept.stored = true;
        }
        self.left |= self.farewell.is_some_and(|first| sequence >= first);
    }
}

impl Kept {
    fn segment(&self, stamp: Moment) -> Segment {
        let age = |at: Moment| u32::try_from(millis(stamp.since(at))).unwrap_or(u32::MAX);
        let beats = self.beats.iter().map(|(id, at)| (*id, age(*at))).collect();
        Segment { first: self.first, sequence: self.sequence, beats }
    }
}

/// The later beat of each, by rising id.
fn merged(older: Vec<(u64, Moment)>, newer: Vec<(u64, Moment)>) -> Vec<(u64, Moment)> {
    let mut beats = newer;
    beats.extend(older);
    // Stable: of two with the same id the newer one stays in front.
    beats.sort_by_key(|(id, _)| *id);
    beats.dedup_by_key(|(id, _)| *id);
    beats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_under_way_when_a_replica_leaves_is_not_its_last() {
        let mut flush = Flush::default();
        let mut ledger = Ledger::default();
        flush.fill(&mut ledger, Vec::new(), None);
        flush.leave();
        flush.written(1, true);
        assert!(flush.is_urgent(), "the one that takes leave is still to come");
        flush.fill(&mut ledger, Vec::new(), None);
        assert!(ledger.leaving);
        flush.written(2, true);
        assert!(!flush.is_urgent());
    }
}
