//! What this replica reports to the others, and when.
//!
//! Owns: the pace of the replica's own ledger, and the segments that are repeated until every replica has
//! them. Does not own: which slots took heartbeats (`unreported`), and writing the ledger (`heartbeat` in the
//! server).

use std::{collections::VecDeque, time::Duration};

use rollcall_model::lease::{Moment, millis};

use crate::{
    ledger::{Ledger, Segment},
    pacer::{PERIOD, Pacer, SPACING},
};

/// The shortest pause before heartbeats alone cause a ledger. Together with self-beats and the leader's
/// checkpoints and renewals that makes at most two writes per second and replica.
const MIN_PAUSE: Duration = Duration::from_millis(750);

/// Heartbeats are reported this many times within the shortest lease.
const REPORTS_PER_LEASE: u32 = 6;

/// Maximum number of segments that are repeated. A replica that missed more of them detects a gap.
const MAX_KEPT: usize = 8;

/// Heartbeats that were taken out of the slots and that some replica may not have received yet.
#[derive(Debug)]
struct KeptSegment {
    first: u64,
    sequence: u64,
    stamp: Moment,
    /// By rising id, on this replica's clock.
    beats: Vec<(u64, Moment)>,
    /// Whether the segment is known to be stored.
    stored: bool,
}

/// This replica's own ledger.
#[derive(Debug, Default)]
pub(super) struct Flush {
    sequence: u64,
    /// The sequence of the ledger being written, and the index in it; no index if it belongs to an earlier
    /// epoch.
    under_way: Option<(u64, Option<u64>)>,
    pacer: Pacer,
    asked: bool,
    leaving: bool,
    /// The sequence of the first ledger that says that this replica is leaving.
    final_sequence: Option<u64>,
    /// Whether that ledger is stored.
    left: bool,
    kept: VecDeque<KeptSegment>,
}

/// What decides whether a flush is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlushTrigger {
    pub(super) now: Moment,
    /// The latest deadline that waits for the horizon.
    pub(super) due: Option<Moment>,
    /// Whether heartbeats wait to be reported.
    pub(super) beats: bool,
    pub(super) shortest: Option<Duration>,
}

impl Flush {
    pub(super) fn request_now(&mut self) {
        self.asked = true;
    }

    /// The next ledger is the last one.
    pub(super) fn start_leaving(&mut self) {
        self.leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether a flush is due as soon as the pace allows.
    pub(super) fn is_urgent(&self) -> bool {
        self.asked || (self.leaving && !self.left)
    }

    /// Whether a ledger must be written now. If so, its cost is charged to the pacer.
    pub(super) fn is_wanted(&mut self, trigger: &FlushTrigger) -> bool {
        let FlushTrigger { now, due, beats, shortest } = *trigger;
        if self.under_way.is_some() || self.left {
            return false;
        }
        let since_last = self.pacer.since_last(now);
        let is_over = |pause| since_last.is_none_or(|since_last| since_last >= pause);
        let period = shortest
            .map_or(PERIOD, |shortest| (shortest / REPORTS_PER_LEASE).clamp(MIN_PAUSE, PERIOD));
        let wanted = is_over(PERIOD)
            || (self.is_urgent() && is_over(SPACING))
            || (beats && is_over(period))
            || self.pacer.is_due(due, now);
        wanted && self.pacer.try_charge(now)
    }

    /// Puts the heartbeats taken since the last flush into `ledger`, together with the segments to repeat.
    /// `known` is the stamp up to which every live replica has received this replica's ledgers; `None` if
    /// there is no other replica.
    pub(super) fn fill(
        &mut self,
        ledger: &mut Ledger,
        beats: Vec<(u64, Moment)>,
        known: Option<Moment>,
    ) {
        self.sequence += 1;
        let stamp = ledger.stamp;
        let (mut first, mut beats) = (self.sequence, beats);
        // A write that failed may or may not have been stored, so its heartbeats are reported again.
        while self.kept.back().is_some_and(|kept| !kept.stored) {
            let Some(kept) = self.kept.pop_back() else { break };
            first = kept.first;
            beats = merged(kept.beats, beats);
        }
        let known = known.unwrap_or(stamp);
        while self.kept.len() >= MAX_KEPT || self.kept.front().is_some_and(|it| it.stamp <= known) {
            self.kept.pop_front();
        }
        let sequence = self.sequence;
        self.kept.push_back(KeptSegment { first, sequence, stamp, beats, stored: false });
        ledger.sequence = sequence;
        ledger.leaving = self.leaving;
        if self.leaving {
            self.final_sequence.get_or_insert(sequence);
        }
        ledger.segments = self.kept.iter().map(|kept| kept.segment(stamp)).collect();
        self.under_way = Some((sequence, Some(ledger.index)));
        self.asked = false;
    }

    /// The write of a ledger was answered or abandoned. Returns the index in the ledger if it belongs to
    /// this epoch.
    pub(super) fn written(&mut self, sequence: u64, stored: bool) -> Option<u64> {
        if stored {
            self.stored(sequence);
        }
        let (_, index) = self.under_way.take_if(|(under_way, _)| *under_way == sequence)?;
        index
    }

    /// The store went back and may have lost ledgers. The next ledger reports `heartbeats`, covers every
    /// ledger before it, and is written at once.
    pub(super) fn begin_epoch(&mut self, mut heartbeats: Vec<(u64, Moment)>) {
        heartbeats.sort_unstable_by_key(|(id, _)| *id);
        heartbeats.dedup_by_key(|(id, _)| *id);
        // Takes its own sequence number, so that the answer to a ledger under way does not confirm it.
        self.sequence += 1;
        let sequence = self.sequence;
        let again =
            KeptSegment { first: 0, sequence, stamp: Moment(0), beats: heartbeats, stored: false };
        self.kept = VecDeque::from([again]);
        self.under_way = self.under_way.map(|(sequence, _)| (sequence, None));
        self.asked = true;
    }

    /// A ledger is known to be stored: the write was answered, or the watch delivered the ledger.
    pub(super) fn stored(&mut self, sequence: u64) {
        for kept in self.kept.iter_mut().filter(|kept| kept.sequence <= sequence) {
            kept.stored = true;
        }
        self.left |= self.final_sequence.is_some_and(|first| sequence >= first);
    }
}

impl KeptSegment {
    fn segment(&self, stamp: Moment) -> Segment {
        let age = |at: Moment| u32::try_from(millis(stamp.since(at))).unwrap_or(u32::MAX);
        let beats = self.beats.iter().map(|(id, at)| (*id, age(*at))).collect();
        Segment { first: self.first, sequence: self.sequence, beats }
    }
}

/// The later heartbeat of each id, by rising id.
fn merged(older: Vec<(u64, Moment)>, newer: Vec<(u64, Moment)>) -> Vec<(u64, Moment)> {
    let mut beats = newer;
    beats.extend(older);
    // The sort is stable: of two with the same id the newer one comes first.
    beats.sort_by_key(|(id, _)| *id);
    beats.dedup_by_key(|(id, _)| *id);
    beats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_under_way_is_not_the_last_one_of_a_leaving_replica() {
        let mut flush = Flush::default();
        let mut ledger = Ledger::default();
        flush.fill(&mut ledger, Vec::new(), None);
        flush.start_leaving();
        flush.written(1, true);
        assert!(
            flush.is_urgent(),
            "the ledger that says that the replica is leaving is not written yet"
        );
        flush.fill(&mut ledger, Vec::new(), None);
        assert!(ledger.leaving);
        flush.written(2, true);
        assert!(!flush.is_urgent());
    }
}
