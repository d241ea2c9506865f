//! Timers by moment. They are not moved when a lease is renewed: the part that takes one checks whether
//! it still means anything, and sets it anew. So a heartbeat costs nothing here.

use std::{cmp::Reverse, collections::BinaryHeap};

use rollcall_model::{instance::InstanceKey, lease::Moment};

/// A queue of timers, soonest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, InstanceKey)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Moment, key: InstanceKey) {
        self.heap.push(Reverse((at, key)));
    }

    /// The soonest, left where it is.
    pub(super) fn peek(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the soonest, if its time has come.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, InstanceKey)> {
        let due = self.peek().is_some_and(|at| at <= now);
        due.then(|| self.heap.pop().map(|Reverse(timer)| timer)).flatten()
    }
}
