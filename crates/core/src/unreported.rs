//! Heartbeats that the replica's own ledger does not report yet: a list of slots, so that a flush costs time
//! in proportion to them.
//!
//! Owns: the list, and with it the second most important race: a heartbeat and the flush whose stamp covers
//! it. A heartbeat counts only if a flush with a later stamp is certain to report it. Does not own: what a
//! ledger contains (`flush`).
//!
//! ```text
//! heartbeat  read the flush · record a moment later than that flush · queue the slot · still the same flush?
//! flush      publish the stamp · take the queue · read the moments
//! ```
//!
//! If the heartbeat reads the same flush at the end, its moment and its place in the queue existed before
//! the next stamp was published, so the next flush finds both. Otherwise the heartbeat is taken again,
//! slightly later. Both sides must use sequentially consistent operations: otherwise each could miss the
//! other's write.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use rollcall_model::lease::Moment;

use crate::slot::{Slot, SlotOutcome};

/// Several queues, so that handlers on different cores rarely wait for each other. A queue holds each slot at
/// most once per flush, plus once for each handler that takes a heartbeat of the same instance at the same
/// moment.
const QUEUES: usize = 16;

/// The slots that took a heartbeat since the last flush.
#[derive(Debug, Default)]
pub(super) struct Unreported {
    /// The stamp of the last flush.
    flush: AtomicU64,
    queues: [Mutex<Vec<Arc<Slot>>>; QUEUES],
}

impl Unreported {
    /// Takes a heartbeat that arrived at `now`, and makes sure that a flush reports it. `deadline` maps the
    /// last heartbeat to the end of the lease that it started.
    pub(super) fn take_heartbeat(
        &self,
        slot: &Arc<Slot>,
        now: Moment,
        deadline: impl Fn(Moment) -> Moment,
    ) -> SlotOutcome {
        loop {
            let flush = self.flush.load(Ordering::SeqCst);
            let at = now.max(Moment(flush.saturating_add(1)));
            let taken = slot.take_heartbeat(at, &deadline);
            if taken != SlotOutcome::Counted {
                return taken;
            }
            self.queue(slot, at, flush);
            if self.flush.load(Ordering::SeqCst) == flush {
                return SlotOutcome::Counted;
            }
        }
    }

    /// Records a heartbeat on behalf of the catalog, which runs in the same task as the flush.
    pub(super) fn record(&self, slot: &Arc<Slot>, at: Moment) {
        self.queue(slot, at, self.flush.load(Ordering::SeqCst));
    }

    fn queue(&self, slot: &Arc<Slot>, at: Moment, flush: u64) {
        slot.record_taken_here(at);
        if !slot.is_queued(flush) {
            self.queue_of(slot).push(slot.clone());
            slot.set_queued(flush);
        }
    }

    /// Whether no heartbeat waits to be reported.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.lock().is_empty())
    }

    /// Starts the flush stamped `stamp`: returns the heartbeats taken since the last flush, by rising id. A
    /// heartbeat that comes during this call is reported as of `stamp`, and again by the next flush.
    pub(super) fn take(&self, stamp: Moment) -> Vec<(u64, Moment)> {
        self.flush.store(stamp.0, Ordering::SeqCst);
        let mut beats = Vec::new();
        for queue in &self.queues {
            let taken = std::mem::take(&mut *queue.lock());
            let mut again = Vec::new();
            for slot in taken {
                let at = slot.taken_here();
                beats.push((slot.id(), at.min(stamp)));
                if at > stamp {
                    again.push(slot);
                }
            }
            // Regardless of its mark: it may have been queued for the next flush before this flush took the
            // queue.
            again.sort_unstable_by_key(|slot| slot.id());
            again.dedup_by_key(|slot| slot.id());
            for slot in again {
                slot.set_queued(stamp.0);
                queue.lock().push(slot);
            }
        }
        // Of a slot that was queued twice, the later moment counts.
        beats.sort_unstable_by_key(|(id, at)| (*id, Reverse(*at)));
        beats.dedup_by_key(|(id, _)| *id);
        beats
    }

    fn queue_of(&self, slot: &Slot) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        // The index is always below the number of queues; the fallback only avoids a panic.
        let queue = self.queues.get(slot.id() as usize % QUEUES);
        queue.unwrap_or(&self.queues[0]).lock()
    }
}
