//! Which objects need a write of the leader, and when: status and checkpoints; and what is announced.
//!
//! Owns: the queues of these duties, each bounded by the number of instances. A duty is decided at the moment it is handed
//! out, on the newest version known; while one is under way on an object, no other is handed out for it. Does not own:
//! evictions (`evictions`), and carrying out (the controller of the server).

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use rollcall_model::{
    instance::{Instance, InstanceKey, Phase},
    lease::{Moment, Now, OnExpiry, millis},
};

use crate::{
    announce,
    conditions::Judged,
    directory::Directory,
    fact::{Announcement, Duty, Version},
    identity::{Identity, Mark, RESPECT},
    slot::Slot,
    status,
    table::{Entry, Table},
    task::UnderWay,
    timers::Timers,
};

/// Announcements that wait for room; older ones are dropped first.
const MAX_ANNOUNCEMENTS: usize = 1024;

/// Checkpoints are one a second in all.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How many instances are looked at for one that needs a checkpoint.
const CHECKPOINT_LOOKS: usize = 256;

/// For how long another, older installation may leave a phase that is wrong in our eyes.
const DISSENT: Duration = Duration::from_secs(300);

/// Places that an empty queue keeps.
const PLACES: usize = 256;

/// The installation that writes statuses, and what its writes depend on.
pub(super) struct StatusWriter<'a> {
    /// That of DNS.
    pub(super) zone: &'a str,
    /// Where addresses are looked up that others offer, too.
    pub(super) directory: &'a Directory,
    /// This installation.
    pub(super) identity: &'a Identity,
    /// Whether a replica of another one is alive.
    pub(super) sees_others: bool,
}

/// Whether a write is wanted.
enum Wanted {
    No,
    /// Not before that moment.
    At(Moment),
}

/// Instances to look at, and announcements to make.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Whether this replica leads. While it does not, nothing is kept: the leader knows it too.
    open: bool,
    queue: VecDeque<InstanceKey>,
    queued: HashSet<InstanceKey>,
    announcements: VecDeque<Duty>,
    /// Every incarnation once, in the order in which checkpoints are considered; those that are
    /// gone are dropped when their turn comes.
    rotation: VecDeque<Weak<Slot>>,
    checkpointed: Moment,
    /// Failed duties that may be tried again.
    retries: Timers,
}

impl Outbox {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Forgets everything but when the last checkpoint was, and when failed duties may be tried again: that outlasts a
    /// tenure.
    pub(super) fn close(&mut self) {
        let (checkpointed, retries) = (self.checkpointed, std::mem::take(&mut self.retries));
        *self = Self { checkpointed, retries, ..Self::default() };
    }

    /// When the next failed duty may be tried again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.retries.peek()
    }

    /// Has an instance looked at: its status may have to be written.
    pub(super) fn consider(&mut self, key: InstanceKey) {
        if self.open && self.queued.insert(key.clone()) {
            self.queue.push_back(key);
        }
    }

    /// Has an instance looked at again `at` that moment.
    pub(super) fn retry(&mut self, key: InstanceKey, at: Moment) {
        self.retries.set(at, key);
    }

    pub(super) fn announce(&mut self, on: Version, what: Announcement) {
        if !self.open {
            return;
        }
        if self.announcements.len() == MAX_ANNOUNCEMENTS {
            self.announcements.pop_front();
        }
        self.announcements.push_back(Duty::Announce { on, what });
    }

    /// The same, where none that waits has to make room for it.
    pub(super) fn announce_if_room(&mut self, on: Version, what: Announcement) {
        if self.announcements.len() < MAX_ANNOUNCEMENTS {
            self.announce(on, what);
        }
    }

    /// Gives a new incarnation its turn among the checkpoints.
    pub(super) fn rotate(&mut self, slot: &Arc<Slot>) {
        if self.open {
            self.rotation.push_back(Arc::downgrade(slot));
        }
    }

    /// Considers the instances whose failed duties may be tried again.
    pub(super) fn follow_retries(&mut self, now: Moment) {
        while let Some((_, key)) = self.retries.pop_due(now) {
            self.consider(key);
        }
    }

    /// The next status that needs a write.
    pub(super) fn status(
        &mut self,
        table: &mut Table,
        now: Now,
        writer: &StatusWriter<'_>,
    ) -> Option<Duty> {
        loop {
            let key = self.pop()?;
            let Some(entry) = table.get_mut(&key) else { continue };
            match writer.wanted(entry, now.moment) {
                Wanted::No => {}
                Wanted::At(at) if at <= now.moment => return Some(writer.duty(entry, now)),
                Wanted::At(at) => {
                    if entry.task.look_at(at) {
                        self.retry(key, at);
                    }
                }
            }
        }
    }

    pub(super) fn announcement(&mut self) -> Option<Duty> {
        self.announcements.pop_front()
    }

    /// The next instance in turn whose checkpoint is older than `age`.
    pub(super) fn checkpoint(
        &mut self,
        table: &mut Table,
        now: Now,
        age: Duration,
    ) -> Option<Duty> {
        if now.moment.since(self.checkpointed) < CHECKPOINT_EVERY {
            return None;
        }
        self.checkpointed = now.moment;
        for _ in 0..CHECKPOINT_LOOKS.min(self.rotation.len()) {
            let Some(slot) = self.rotation.pop_front()?.upgrade() else { continue };
            let entry = table.get_mut(&slot.record().key);
            let Some(entry) = entry.filter(|entry| Arc::ptr_eq(entry.slot(), &slot)) else {
                continue;
            };
            self.rotation.push_back(Arc::downgrade(&slot));
            if let Some(duty) = checkpoint_duty(entry, now, age) {
                return Some(duty);
            }
        }
        None
    }

    fn pop(&mut self) -> Option<InstanceKey> {
        let key = self.queue.pop_front()?;
        self.queued.remove(&key);
        if self.queue.is_empty() {
            // After a start all are looked at: their places are not kept for that.
            self.queue.shrink_to(PLACES);
            self.queued.shrink_to(PLACES);
        }
        Some(key)
    }
}

impl StatusWriter<'_> {
    /// Whether the status of an object needs a write, and when.
    fn wanted(&self, entry: &mut Entry, now: Moment) -> Wanted {
        let (instance, phase, mark) = (entry.instance().clone(), entry.member.phase, entry.mark());
        if !entry.task.is_idle(now) {
            return Wanted::No;
        }
        let is_same_phase = instance.stored.phase == Some(phase);
        let wait = match mark {
            // The older one's word stands, but for a phase that it leaves wrong for long.
            Mark::Older if !is_same_phase => Some(DISSENT),
            // Found to be expired by both: as nothing else writes it, it would never be evicted.
            _ if mark.is_foreign() && is_same_phase && self.may_claim(&instance, phase) => {
                Some(RESPECT)
            }
            Mark::Older => {
                entry.task.assent();
                return Wanted::No;
            }
            Mark::Own | Mark::Younger => None,
        };
        if let Some(wait) = wait {
            let at = entry.task.dissent(now, wait);
            return Wanted::At(at.max(entry.task.paced()));
        }
        entry.task.assent();
        let shared = self.directory.shared_address(&instance.facts);
        let judged = Judged { instance: &instance, phase, shared: shared.as_ref() };
        if entry.task.is_settled(&judged, self.zone) {
            return Wanted::No;
        }
        Wanted::At(entry.task.paced())
    }

    /// Whether this installation may make another's verdict its own: where no replica of another one is alive.
    fn may_claim(&self, instance: &Instance, phase: Phase) -> bool {
        phase == Phase::Expired && instance.lease.on_expiry == OnExpiry::Evict && !self.sees_others
    }

    fn duty(&self, entry: &mut Entry, now: Now) -> Duty {
        let (instance, phase) = (entry.instance().clone(), entry.member.phase);
        let beat = instance.lease.is_leased().then(|| entry.slot().last_heard(&instance, now));
        let own = self.identity.current();
        let shared = self.directory.shared_address(&instance.facts);
        let judged = Judged { instance: &instance, phase, shared: shared.as_ref() };
        let desired = status::desired(&judged, beat, self.zone, own);
        // What another installation has found is no verdict here, and its end no news.
        let stored = instance.stored.phase.filter(|_| !entry.mark().is_foreign());
        let told = entry.task.told();
        let (announce, told) = announce::choose(&instance, stored, phase, told, now.moment);
        let (generation, health) = (instance.generation, instance.health);
        entry.task.begin(UnderWay::Status { generation, health, told });
        entry.task.pay(now.moment);
        Duty::WriteStatus { on: Version::of(&instance), desired, announce }
    }
}

fn checkpoint_duty(entry: &mut Entry, now: Now, age: Duration) -> Option<Duty> {
    let instance = entry.instance();
    let lease = instance.lease;
    let beat = entry.slot().last_heard(instance, now);
    let stored = instance.stored.last_heartbeat.map_or(0, |stored| stored.0);
    // Either way: a wall clock that went back must not keep a future time for hours.
    let behind = beat.0.abs_diff(stored) >= millis(age.max(lease.renew_after()));
    let settled =
        lease.is_leased() && !instance.is_terminating() && instance.stored.phase.is_some();
    let is_anothers = entry.mark() == Mark::Older;
    if !settled
        || !behind
        || is_anothers
        || entry.slot().is_expired()
        || !entry.task.is_idle(now.moment)
    {
        return None;
    }
    let on = Version::of(instance);
    entry.task.begin(UnderWay::Checkpoint);
    Some(Duty::Checkpoint { on, last_heartbeat: beat })
}
