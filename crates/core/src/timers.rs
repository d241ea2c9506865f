//! Timers by moment. A renewed lease does not move its timer: the code that handles a timer checks whether it
//! is still current, and sets it again if not. So a heartbeat costs nothing here.

use std::{cmp::Reverse, collections::BinaryHeap};

use rollcall_model::{instance::InstanceKey, lease::Moment};

/// A queue of timers, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, InstanceKey)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Moment, key: InstanceKey) {
        self.heap.push(Reverse((at, key)));
    }

    pub(super) fn peek(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the earliest timer, if it is due.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, InstanceKey)> {
        let due = self.peek().is_some_and(|at| at <= now);
        due.then(|| self.heap.pop().map(|Reverse(timer)| timer)).flatten()
    }
}
