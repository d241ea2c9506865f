//! The slots that were beaten since the last flush, so that a flush costs time proportional to them.
//!
//! Owns: the list, and with it the second race that matters: a beat and the flush whose stamp speaks
//! for it. A beat is counted only when it is certain that it will be told: by a flush that is stamped
//! later than it. Does not own: what is told (`flush`).
//!
//! ```text
//! beat   read the flush · note the moment, later than that flush · queue · the same flush still?
//! flush  publish the stamp · take the queue · read the moments
//! ```
//!
//! If the beat sees the same flush at its end, its moment and its place in the queue were there
//! before the next stamp was published, so that flush finds both. If not, the beat is taken again,
//! a little later. Both sides are sequentially consistent, or neither might see the other.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use rollcall_model::lease::Moment;

use crate::slot::{Slot, Taken};

/// Queues, so that doors on several cores seldom wait for each other. A queue holds each slot at most
/// once a flush, and once more for each door that beats the same instance at the same moment.
const QUEUES: usize = 16;

/// The slots beaten since the last flush.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// The stamp of the last flush.
    flush: AtomicU64,
    queues: [Mutex<Vec<Arc<Slot>>>; QUEUES],
}

impl Touched {
    /// Takes a beat that arrived at `now`, and sees to it that it will be told. `deadline` says, for a
    /// given last beat, until when it was good.
    pub(super) fn beat(
        &self,
        slot: &Arc<Slot>,
        now: Moment,
        deadline: impl Fn(Moment) -> Moment,
    ) -> Taken {
        loop {
            let flush = self.flush.load(Ordering::SeqCst);
            let at = now.max(Moment(flush.saturating_add(1)));
            let taken = slot.beat(at, &deadline);
            if taken != Taken::Counted {
                return taken;
            }
            self.queue(slot, at, flush);
            if self.flush.load(Ordering::SeqCst) == flush {
                return Taken::Counted;
            }
        }
    }

    /// A beat that the catalog itself noted; it and the flush are of one task.
    pub(super) fn note(&self, slot: &Arc<Slot>, at: Moment) {
        self.queue(slot, at, self.flush.load(Ordering::SeqCst));
    }

    fn queue(&self, slot: &Arc<Slot>, at: Moment, flush: u64) {
        slot.witness(at);
        if !slot.is_queued(flush) {
            self.of(slot).push(slot.clone());
            slot.set_queued(flush);
        }
    }

    /// Whether any beat waits to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.lock().is_empty())
    }

    /// A flush stamped `stamp`: what was witnessed up to then since the last one, by rising id. A
    /// beat that came meanwhile is told as of `stamp`, and again by the next flush.
    pub(super) fn take(&self, stamp: Moment) -> Vec<(u64, Moment)> {
        self.flush.store(stamp.0, Ordering::SeqCst);
        let mut beats = Vec::new();
        for queue in &self.queues {
            let taken = std::mem::take(&mut *queue.lock());
            let mut again = Vec::new();
            for slot in taken {
                let at = slot.witnessed();
                beats.push((slot.id(), at.min(stamp)));
                if at > stamp {
                    again.push(slot);
                }
            }
            // Whatever its mark says: it may have been queued for the next flush before this one took
            // the queue.
            again.sort_unstable_by_key(|slot| slot.id());
            again.dedup_by_key(|slot| slot.id());
            for slot in again {
                slot.set_queued(stamp.0);
                queue.lock().push(slot);
            }
        }
        // Of one that was queued twice, the later look.
        beats.sort_unstable_by_key(|(id, at)| (*id, Reverse(*at)));
        beats.dedup_by_key(|(id, _)| *id);
        beats
    }

    fn of(&self, slot: &Slot) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        // The index is below the number of queues; the first is there, should anybody change that.
        let queue = self.queues.get(slot.id() as usize % QUEUES);
        queue.unwrap_or(&self.queues[0]).lock()
    }
}
