//! Evictions: which expired objects are deleted, and when; and the memory of those that were.
//!
//! Owns: eviction timers, the queue, the budget of evictions, and how long one is remembered. Does not own: what stops an
//! eviction elsewhere (a hold, a horizon that stalled, a replica that has not seen the verdict: `catalog`), and deleting.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rollcall_model::{
    instance::{InstanceKey, State},
    lease::{Lease, Moment, Now, OnExpiry, millis},
};

use crate::{
    directory::{Directory, RecentEviction},
    fact::{Duty, Version},
    table::{Entry, Table},
    task::{LONGEST_RETRY, UnderWay},
    timers::Timers,
};

/// Evictions a second, and the most that can be saved up.
const PER_SECOND: u32 = 20;

/// An eviction that is stopped is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long an eviction is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// And how many at most: ten minutes of evictions at their highest rate are 12,000.
const MAX_REMEMBERED: usize = 16_384;

/// Which expired objects are deleted, and when.
#[derive(Debug, Default)]
pub(super) struct Evictions {
    timers: Timers,
    /// Objects to be deleted, as far as they still are what they were; empty while this replica does not lead.
    queue: VecDeque<InstanceKey>,
    credit: Duration,
    credited: Moment,
    /// Evictions that readers are told of, oldest first, to forget them in time.
    recent: VecDeque<(Moment, InstanceKey)>,
    evicted: u64,
}

impl Evictions {
    /// Evictions that were carried out.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// When the next timer goes off.
    pub(super) fn next(&self) -> Option<Moment> {
        self.timers.peek()
    }

    /// Sets the eviction timer of an object that is stored as expired, and clears it otherwise.
    pub(super) fn consider(&mut self, entry: &Entry, now: Moment) {
        if !may_be_evicted(entry) {
            entry.slot().set_evict_at(None);
        } else if entry.slot().evict_at().is_none() {
            let at = now.after(entry.lease().evict_after);
            self.set(entry, entry.respected.map_or(at, |respected| at.max(respected)));
        }
    }

    /// Queues the objects whose timers have gone off; the leader deletes them.
    pub(super) fn follow_timers(&mut self, table: &Table, now: Moment, leads: bool) {
        while let Some((at, key)) = self.timers.pop_due(now) {
            let is_due = |entry: &Entry| entry.slot().evict_at() == Some(at);
            if leads && table.get(&key).is_some_and(is_due) {
                self.queue.push_back(key);
            }
        }
    }

    /// This replica leads from now on: an object whose timer has gone off is queued.
    pub(super) fn queue_if_due(&mut self, entry: &Entry, now: Moment) {
        if entry.slot().evict_at().is_some_and(|at| at <= now) {
            self.queue.push_back(entry.instance().key.clone());
        }
    }

    /// This replica leads no more.
    pub(super) fn close(&mut self) {
        self.queue = VecDeque::new();
    }

    /// The next object in the queue, if the budget allows for one more.
    pub(super) fn pop(&mut self, now: Moment) -> Option<InstanceKey> {
        if self.queue.is_empty() || !self.pay(now) { None } else { self.queue.pop_front() }
    }

    /// Everything is asked again here: in a long queue an object may have come back, expired anew
    /// and begun another wait, and a gap may have become known.
    pub(super) fn duty(
        &mut self,
        entry: &mut Entry,
        now: Moment,
        is_stopped: bool,
    ) -> Option<Duty> {
        if entry.slot().evict_at().is_none_or(|at| at > now) || !may_be_evicted(entry) {
            return None;
        }
        if is_stopped || !entry.task.is_idle(now) {
            self.set(entry, now.after(LOOK_AGAIN));
            return None;
        }
        let reason = reason(entry.lease());
        entry.task.begin(UnderWay::Evict(reason.clone()));
        // Should the delete fail, the object is looked at again after another such pause.
        self.set(entry, now.after(LONGEST_RETRY));
        Some(Duty::Evict { on: Version::of(entry.instance()), reason })
    }

    /// An eviction was carried out.
    pub(super) fn count(&mut self) {
        self.evicted += 1;
    }

    /// Readers are told of an eviction for a while.
    pub(super) fn record(
        &mut self,
        directory: &Directory,
        key: &InstanceKey,
        reason: Arc<str>,
        now: Now,
    ) {
        let recent_eviction = RecentEviction { at: now.moment, evicted: now.wall, reason };
        directory.recent_evictions.pin().insert(key.clone(), recent_eviction);
        self.recent.push_back((now.moment, key.clone()));
    }

    /// And then no more.
    pub(super) fn forget(&mut self, directory: &Directory, now: Moment) {
        while let Some((at, key)) = self.recent.front() {
            if now.since(*at) < MEMORY && self.recent.len() <= MAX_REMEMBERED {
                break;
            }
            let recent_evictions = directory.recent_evictions.pin();
            if recent_evictions.get(key).is_some_and(|recent_eviction| recent_eviction.at == *at) {
                recent_evictions.remove(key);
            }
            self.recent.pop_front();
        }
    }

    fn set(&mut self, entry: &Entry, at: Moment) {
        entry.slot().set_evict_at(Some(at));
        self.timers.set(at, entry.instance().key.clone());
    }

    /// Takes the price of one eviction, if it can be paid.
    fn pay(&mut self, now: Moment) -> bool {
        let cost = Duration::from_secs(1) / PER_SECOND;
        let earned = Duration::from_millis(millis(now.since(self.credited)));
        self.credit = Duration::from_secs(1).min(self.credit + earned);
        self.credited = now;
        let enough = self.credit >= cost;
        if enough {
            self.credit -= cost;
        }
        enough
    }
}

/// Why an object was evicted.
fn reason(lease: Lease) -> Arc<str> {
    let after = match lease.evict_after.as_secs() {
        0 => String::new(),
        seconds => format!(", nor in the {seconds} s after its end"),
    };
    format!("no heartbeat for a whole lease of {} s{after}", lease.duration.as_secs()).into()
}

/// Whether an object is expired, in store as in truth, its operator does not want it kept, and its deletion was not yet
/// taken by the API server: it is asked for once. One whose status another
/// installation wrote is left alone: heartbeats that it takes are not known here.
fn may_be_evicted(entry: &Entry) -> bool {
    let instance = entry.instance();
    instance.lease.on_expiry == OnExpiry::Evict
        && instance.state != State::OutOfService
        && !instance.is_terminating()
        && !entry.task.is_deleted()
        && instance.is_stored_expired()
        && !entry.mark().is_foreign()
        && entry.slot().is_expired()
}
