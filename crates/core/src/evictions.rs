//! Evictions: which expired objects are deleted, when, and which were evicted recently.
//!
//! Owns: eviction timers, the queue, the budget of evictions, and how long an eviction is remembered. Does
//! not own: conditions in other parts that block an eviction (a hold, a stalled horizon, a replica that
//! has not received the verdict: `catalog`), and deleting.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rollcall_model::{
    instance::{InstanceKey, State},
    lease::{Lease, Moment, Now, OnExpiry, millis},
};

use crate::{
    directory::{Directory, RecentEviction},
    duty_state::{LONGEST_RETRY, UnderWay},
    fact::{Duty, Version},
    table::{Entry, Table},
    timers::Timers,
};

/// Evictions per second, and the maximum credit that accumulates.
const PER_SECOND: u32 = 20;

/// A blocked eviction is checked again after this time.
const CHECK_AGAIN: Duration = Duration::from_millis(500);

/// How long an eviction is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Maximum number of evictions that are remembered. Ten minutes at the highest rate are 12,000.
const MAX_REMEMBERED: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Evictions {
    timers: Timers,
    /// Objects to delete if they still qualify; empty while this replica does not lead.
    queue: VecDeque<InstanceKey>,
    credit: Duration,
    credited: Moment,
    /// Evictions that readers can query, oldest first, so that old ones can be dropped from the front.
    recent: VecDeque<(Moment, InstanceKey)>,
    evicted: u64,
}

impl Evictions {
    /// How many objects were evicted.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.timers.peek()
    }

    /// Sets the eviction timer if the object is stored as expired, and clears it otherwise.
    pub(super) fn consider(&mut self, entry: &Entry, now: Moment) {
        if !may_be_evicted(entry) {
            entry.slot().set_evict_at(None);
        } else if entry.slot().evict_at().is_none() {
            let at = now.after(entry.lease().evict_after);
            self.set(
                entry,
                entry
                    .not_evicted_before
                    .map_or(at, |not_evicted_before| at.max(not_evicted_before)),
            );
        }
    }

    /// Queues the objects whose timers have fired; only the leader deletes them.
    pub(super) fn queue_due(&mut self, table: &Table, now: Moment, leads: bool) {
        while let Some((at, key)) = self.timers.pop_due(now) {
            let is_due = |entry: &Entry| entry.slot().evict_at() == Some(at);
            if leads && table.get(&key).is_some_and(is_due) {
                self.queue.push_back(key);
            }
        }
    }

    /// Queues an object whose timer has already fired, when this replica starts to lead.
    pub(super) fn queue_if_due(&mut self, entry: &Entry, now: Moment) {
        if entry.slot().evict_at().is_some_and(|at| at <= now) {
            self.queue.push_back(entry.instance().key.clone());
        }
    }

    /// Clears the queue when this replica stops leading.
    pub(super) fn clear_queue(&mut self) {
        self.queue = VecDeque::new();
    }

    /// The next object in the queue, if the budget allows an eviction.
    pub(super) fn pop(&mut self, now: Moment) -> Option<InstanceKey> {
        if self.queue.is_empty() || !self.try_charge(now) { None } else { self.queue.pop_front() }
    }

    /// Returns the eviction if the object still qualifies. Everything is decided again: while the object
    /// was queued, it may have been revived, or have expired again and be waiting again, or a gap may have
    /// become known.
    pub(super) fn duty(
        &mut self,
        entry: &mut Entry,
        now: Moment,
        is_stopped: bool,
    ) -> Option<Duty> {
        if entry.slot().evict_at().is_none_or(|at| at > now) || !may_be_evicted(entry) {
            return None;
        }
        if is_stopped || !entry.duties.is_idle(now) {
            self.set(entry, now.after(CHECK_AGAIN));
            return None;
        }
        let reason = reason(entry.lease());
        entry.duties.begin(UnderWay::Evict(reason.clone()));
        // If the delete fails, the object is checked again after this pause.
        self.set(entry, now.after(LONGEST_RETRY));
        Some(Duty::Evict { on: Version::of(entry.instance()), reason })
    }

    pub(super) fn count(&mut self) {
        self.evicted += 1;
    }

    /// Records an eviction for readers.
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

    /// Drops evictions that are older than ten minutes or exceed the bound.
    pub(super) fn drop_old(&mut self, directory: &Directory, now: Moment) {
        while let Some((at, key)) = self.recent.front() {
            if now.since(*at) < REMEMBERED_FOR && self.recent.len() <= MAX_REMEMBERED {
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

    /// Charges the budget for one eviction, if it has enough credit.
    fn try_charge(&mut self, now: Moment) -> bool {
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

/// The reason for an eviction, as a sentence.
fn reason(lease: Lease) -> Arc<str> {
    let after = match lease.evict_after.as_secs() {
        0 => String::new(),
        seconds => format!(", nor in the {seconds} s after its end"),
    };
    format!("no heartbeat for a whole lease of {} s{after}", lease.duration.as_secs()).into()
}

/// Whether an object is both expired and stored as expired, no operator took it out of service, and the
/// API server has not accepted its deletion yet (a deletion is requested only once). An object whose
/// status another installation wrote is not evicted, because heartbeats that the other installation takes
/// are not known here.
fn may_be_evicted(entry: &Entry) -> bool {
    let instance = entry.instance();
    instance.lease.on_expiry == OnExpiry::Evict
        && instance.state != State::OutOfService
        && !instance.is_terminating()
        && !entry.duties.is_deleted()
        && instance.is_stored_expired()
        && !entry.author().is_foreign()
        && entry.slot().is_expired()
}
