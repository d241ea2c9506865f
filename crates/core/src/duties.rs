//! Which objects need something done, and when: status, checkpoints, eviction.
//!
//! Owns: the queues of duties, each bounded by the number of instances, and the budgets. A duty
//! is decided at the moment it is handed out, on the newest version known; while one is under way
//! on an object, no other is handed out for it. Does not own: carrying out (`controller`).

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    announce::{self, Told},
    catalog::{Catalog, Entry},
    fact::{Duty, Outcome, Version},
    instance::{Instance, InstanceKey, Phase, State},
    lease::{Lease, Moment, Now, OnExpiry, millis},
    pulse::Slot,
    status,
    timers::Alarm,
};

/// Announcements that wait for room; older ones are dropped first.
const MAX_ANNOUNCEMENTS: usize = 1024;

/// Evictions a second, and the most that can be saved up.
const EVICTIONS_PER_SECOND: u32 = 20;

/// Checkpoints are one a second in all.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How many instances are looked at for one that needs a checkpoint.
const CHECKPOINT_LOOKS: usize = 256;

/// An eviction that a floor holds back is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// First and longest pause after a failed write; it doubles in between.
/// Short, since a write that fails is given up after 5 s anyway and 16 are under way at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// The pause after a refusal: what we may not do to one object we may not do to any, and until somebody
/// grants it ten thousand objects should cost the API server no more than a hundred questions a second.
const REFUSED: Duration = Duration::from_secs(120);

/// How far the duties on one object are.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// What is under way.
    under_way: Option<UnderWay>,
    /// The generation whose columns were written and taken: once is enough, also where the API
    /// server drops them.
    shown: Option<i64>,
    /// What was told of its health.
    told: Option<Told>,
    failures: u32,
    not_before: Option<Moment>,
}

#[derive(Debug)]
enum UnderWay {
    Status {
        generation: i64,
        /// What will have been told of its health.
        told: Option<Told>,
    },
    Checkpoint,
    /// Why.
    Evict(Arc<str>),
}

impl Task {
    /// Why the object is being evicted, if it is.
    pub(super) fn epitaph(&self) -> Option<Arc<str>> {
        match &self.under_way {
            Some(UnderWay::Evict(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// A duty ended. Answers when the next may begin, if not at once.
    pub(super) fn attempted(&mut self, outcome: &Outcome, now: Moment) -> Option<Moment> {
        let ended = self.under_way.take();
        self.not_before = None;
        if *outcome == Outcome::Done {
            if let Some(UnderWay::Status { generation, told }) = ended {
                self.shown = Some(generation);
                self.told = told;
            }
            self.failures = 0;
            return None;
        }
        if *outcome == Outcome::Refused {
            self.not_before = Some(now.after(REFUSED));
            return self.not_before;
        }
        let (first, longest) = RETRY;
        let pause = longest.min(first * 2u32.saturating_pow(self.failures.min(16)));
        self.failures += 1;
        self.not_before = Some(now.after(pause));
        self.not_before
    }

    /// Whether the stored status needs no write.
    fn is_settled(&self, instance: &Instance, phase: Phase, zone: &str) -> bool {
        status::is_current(instance, phase)
            && (self.shown == Some(instance.generation) || status::shows(instance, zone))
    }

    fn is_idle(&self, now: Moment) -> bool {
        self.under_way.is_none() && self.not_before.is_none_or(|at| at <= now)
    }
}

/// Places that an empty queue keeps.
const PLACES: usize = 256;

/// Instances to look at, and announcements to make.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Whether this replica leads. While it does not, nothing is kept: whoever leads knows it too.
    open: bool,
    queue: VecDeque<InstanceKey>,
    queued: HashSet<InstanceKey>,
    evictions: VecDeque<InstanceKey>,
    announcements: VecDeque<Duty>,
    /// Every incarnation once, in the order in which checkpoints are considered; those that are
    /// gone are dropped when their turn comes.
    rotation: VecDeque<Weak<Slot>>,
    eviction_credit: Duration,
    credited: Moment,
    checkpointed: Moment,
}

impl Outbox {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Forgets everything but the budgets.
    pub(super) fn close(&mut self) {
        let (eviction_credit, credited) = (self.eviction_credit, self.credited);
        let checkpointed = self.checkpointed;
        *self = Self { eviction_credit, credited, checkpointed, ..Self::default() };
    }

    /// Has an instance looked at: its status may have to be written.
    pub(super) fn consider(&mut self, key: InstanceKey) {
        if self.open && self.queued.insert(key.clone()) {
            self.queue.push_back(key);
        }
    }

    /// Has an expired object deleted, as far as it still is what it was.
    pub(super) fn evict(&mut self, key: InstanceKey) {
        if self.open {
            self.evictions.push_back(key);
        }
    }

    pub(super) fn announce(&mut self, duty: Duty) {
        if !self.open {
            return;
        }
        if self.announcements.len() == MAX_ANNOUNCEMENTS {
            self.announcements.pop_front();
        }
        self.announcements.push_back(duty);
    }

    /// Gives a new incarnation its turn among the checkpoints.
    pub(super) fn rotate(&mut self, slot: &Arc<Slot>) {
        if self.open {
            self.rotation.push_back(Arc::downgrade(slot));
        }
    }

    fn next(&mut self) -> Option<InstanceKey> {
        let key = self.queue.pop_front()?;
        self.queued.remove(&key);
        if self.queue.is_empty() {
            // After a start all are looked at: their places are not kept for that.
            self.queue.shrink_to(PLACES);
            self.queued.shrink_to(PLACES);
        }
        Some(key)
    }

    /// Whether one more eviction is within the budget now.
    fn may_evict(&mut self, now: Moment) -> bool {
        let cost = Duration::from_secs(1) / EVICTIONS_PER_SECOND;
        let earned = Duration::from_millis(millis(now.since(self.credited)));
        self.eviction_credit = Duration::from_secs(1).min(self.eviction_credit + earned);
        self.credited = now;
        let enough = self.eviction_credit >= cost;
        if enough {
            self.eviction_credit -= cost;
        }
        enough
    }
}

impl Catalog {
    /// Fills `duties` with at most `room` duties on objects.
    pub(super) fn collect(&mut self, now: Now, room: usize, duties: &mut Vec<Duty>) {
        let end = duties.len() + room;
        while duties.len() < end {
            let Some(key) = self.outbox.next() else { break };
            duties.extend(self.status_duty(&key, now));
        }
        while duties.len() < end && !self.outbox.evictions.is_empty() {
            if !self.outbox.may_evict(now.moment) {
                break;
            }
            let Some(key) = self.outbox.evictions.pop_front() else { break };
            duties.extend(self.eviction_duty(&key, now));
        }
        while duties.len() < end {
            let Some(duty) = self.outbox.announcements.pop_front() else { break };
            duties.push(duty);
        }
        while duties.len() < end && self.outbox.is_open() {
            let peers = self.ledgers.as_mut().map(|ledgers| &mut ledgers.peers);
            let Some((replica, version)) = peers.and_then(|peers| peers.sweep(now.moment)) else {
                break;
            };
            duties.push(Duty::Sweep { replica, version });
        }
        if duties.len() < end {
            duties.extend(self.checkpoint_duty(now));
        }
    }

    fn status_duty(&mut self, key: &InstanceKey, now: Now) -> Option<Duty> {
        let entry = self.entries.get_mut(key)?;
        let (instance, phase) = (entry.instance().clone(), entry.member.phase);
        if !entry.task.is_idle(now.moment)
            || entry.task.is_settled(&instance, phase, &self.settings.zone)
        {
            return None;
        }
        let beat = instance.lease.is_leased().then(|| entry.slot().last_heard(&instance, now));
        let shown = beat.map(self.settings.show).unwrap_or_default();
        let desired = status::desired(&instance, phase, beat, &shown, &self.settings.zone);
        let (announce, told) = announce::choose(&instance, phase, entry.task.told, now.moment);
        let generation = instance.generation;
        entry.task.under_way = Some(UnderWay::Status { generation, told });
        Some(Duty::WriteStatus { on: Version::of(&instance), desired, announce })
    }

    /// Sets the eviction timer of an object that is stored as expired, and clears it otherwise.
    pub(super) fn consider_eviction(&mut self, key: &InstanceKey, now: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if !may_be_evicted(entry) {
            entry.slot().set_evict_at(None);
        } else if entry.slot().evict_at().is_none() {
            let at = now.after(entry.instance().lease.evict_after);
            entry.slot().set_evict_at(Some(at));
            self.timers.set(at, Alarm::Evict, key.clone());
        }
    }

    /// The eviction timer of an object went off at `at`.
    pub(super) fn evict_one(&mut self, at: Moment, key: &InstanceKey) {
        if self.entries.get(key).is_some_and(|entry| entry.slot().evict_at() == Some(at)) {
            self.outbox.evict(key.clone());
        }
    }

    /// Everything is asked again here: in a long queue an object may have come back, expired anew
    /// and begun another wait, and a gap may have become known.
    fn eviction_duty(&mut self, key: &InstanceKey, now: Now) -> Option<Duty> {
        let entry = self.entries.get_mut(key)?;
        if entry.slot().evict_at().is_none_or(|at| at > now.moment) || !may_be_evicted(entry) {
            return None;
        }
        let floor = self.floors.floor(entry.instance().lease.duration);
        let version = entry.instance().resource_version;
        let service = entry.instance().service_key();
        let held = self.guard.stops_evictions(&service);
        let unseen = self.ledgers.as_ref().is_some_and(|ledgers| !ledgers.have_seen(version));
        if self.reach <= floor || unseen || held || !entry.task.is_idle(now.moment) {
            let again = now.moment.after(LOOK_AGAIN);
            entry.slot().set_evict_at(Some(again));
            self.timers.set(again, Alarm::Evict, key.clone());
            return None;
        }
        let reason = epitaph(entry.instance().lease);
        entry.task.under_way = Some(UnderWay::Evict(reason.clone()));
        // Should the delete fail, the object is looked at again after another such pause.
        let again = now.moment.after(RETRY.1);
        entry.slot().set_evict_at(Some(again));
        self.timers.set(again, Alarm::Evict, key.clone());
        Some(Duty::Evict { on: Version::of(entry.instance()), reason })
    }

    /// The next instance in turn whose checkpoint is older than a third of its lease.
    fn checkpoint_duty(&mut self, now: Now) -> Option<Duty> {
        if now.moment.since(self.outbox.checkpointed) < CHECKPOINT_EVERY {
            return None;
        }
        self.outbox.checkpointed = now.moment;
        for _ in 0..CHECKPOINT_LOOKS.min(self.outbox.rotation.len()) {
            let Some(slot) = self.outbox.rotation.pop_front()?.upgrade() else { continue };
            let entry = self.entries.get_mut(&slot.record().key);
            let Some(entry) = entry.filter(|entry| Arc::ptr_eq(entry.slot(), &slot)) else {
                continue;
            };
            self.outbox.rotation.push_back(Arc::downgrade(&slot));
            let instance = entry.instance();
            let lease = instance.lease;
            let beat = entry.slot().last_heard(instance, now);
            let stored = instance.stored.last_heartbeat.map_or(0, |stored| stored.0);
            // Either way: a wall clock that went back must not keep a future time for hours.
            let behind = beat.0.abs_diff(stored) > millis(lease.renew_after());
            let settled = lease.is_leased() && instance.stored.phase.is_some();
            if settled && behind && !entry.slot().is_dead() && entry.task.is_idle(now.moment) {
                let on = Version::of(instance);
                entry.task.under_way = Some(UnderWay::Checkpoint);
                return Some(Duty::Checkpoint { on, last_heartbeat: beat });
            }
        }
        None
    }
}

/// Why an object was evicted.
fn epitaph(lease: Lease) -> Arc<str> {
    let after = match lease.evict_after.as_secs() {
        0 => String::new(),
        seconds => format!(", nor in the {seconds} s after its end"),
    };
    format!("no heartbeat for a whole lease of {} s{after}", lease.duration.as_secs()).into()
}

/// Whether an object is expired, in store as in truth, and nobody wants it kept.
fn may_be_evicted(entry: &Entry) -> bool {
    let instance = entry.instance();
    instance.lease.on_expiry == OnExpiry::Evict
        && instance.state == State::Up
        && instance.is_stored_expired()
        && entry.slot().is_dead()
}
