//! Timers by moment. They are not moved when a lease is renewed: whoever takes one checks whether
//! it still means anything, and sets it anew. So a beat costs nothing here.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{instance::InstanceKey, lease::Moment};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A lease may have ended.
    Lease,
    /// An expired object may be evicted.
    Evict,
    /// A failed duty may be tried again.
    Retry,
}

/// A queue of timers, soonest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, Alarm, InstanceKey)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Moment, alarm: Alarm, key: InstanceKey) {
        self.heap.push(Reverse((at, alarm, key)));
    }

    /// The soonest, left where it is.
    pub(super) fn peek(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the soonest, if its time has come.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, Alarm, InstanceKey)> {
        let due = self.peek().is_some_and(|at| at <= now);
        due.then(|| self.heap.pop().map(|Reverse(timer)| timer)).flatten()
    }
}
