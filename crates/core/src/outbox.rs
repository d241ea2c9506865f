//! The outbox: which statuses and checkpoints the leader must write, when, and which Events wait.
//!
//! Owns: the queues of these duties, each bounded by the number of instances. A duty is decided when it is
//! handed out, on the newest known version. While a duty on an object is under way, no other one is handed
//! out for that object. Does not own: evictions (`evictions`), and the execution of duties (`controller`
//! in the server).

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
    conditions::ConditionInput,
    directory::Directory,
    duty_state::UnderWay,
    fact::{Announcement, Duty, Version},
    identity::{ACTIVE_FOR, Author, Identity},
    slot::Slot,
    status,
    table::{Entry, Table},
    timers::Timers,
};

/// Maximum number of waiting Events. The oldest are dropped first.
const MAX_ANNOUNCEMENTS: usize = 1024;

/// At most one checkpoint per second is written in total.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How many instances are checked at a time to find one that needs a checkpoint.
const CHECKPOINT_CHECKS: usize = 256;

/// If an older installation leaves a phase that this installation considers wrong, this installation
/// corrects it after this time.
const OVERRULE_AFTER: Duration = Duration::from_secs(300);

/// The capacity that an empty queue keeps.
const EMPTY_CAPACITY: usize = 256;

/// What the writes of statuses depend on.
pub(super) struct StatusWriter<'a> {
    /// The DNS zone.
    pub(super) zone: &'a str,
    /// For lookups of shared endpoints.
    pub(super) directory: &'a Directory,
    /// This installation.
    pub(super) identity: &'a Identity,
    /// Whether a replica of another installation is live.
    pub(super) others_are_live: bool,
}

/// Whether a write is needed.
enum WriteNeed {
    No,
    /// A write is needed, but not before this moment.
    At(Moment),
}

/// The queues of instances to check, and of Events.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Whether this replica leads. Nothing is queued while it does not, because the leader does the same
    /// work.
    open: bool,
    queue: VecDeque<InstanceKey>,
    queued: HashSet<InstanceKey>,
    announcements: VecDeque<Duty>,
    /// Every incarnation once, in the order in which checkpoints are considered. An incarnation that is
    /// gone is dropped when its turn comes.
    rotation: VecDeque<Weak<Slot>>,
    checkpointed: Moment,
    /// Failed duties that will be retried.
    retries: Timers,
}

impl Outbox {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Drops everything except the time of the last checkpoint and the retries, which outlast a tenure.
    pub(super) fn close(&mut self) {
        let (checkpointed, retries) = (self.checkpointed, std::mem::take(&mut self.retries));
        *self = Self { checkpointed, retries, ..Self::default() };
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.retries.peek()
    }

    /// Queues an instance for a check of its status.
    pub(super) fn consider(&mut self, key: InstanceKey) {
        if self.open && self.queued.insert(key.clone()) {
            self.queue.push_back(key);
        }
    }

    /// Queues an instance for another check `at` a moment.
    pub(super) fn retry(&mut self, key: InstanceKey, at: Moment) {
        self.retries.set(at, key);
    }

    pub(super) fn announce(&mut self, on: Version, announcement: Announcement) {
        if !self.open {
            return;
        }
        if self.announcements.len() == MAX_ANNOUNCEMENTS {
            self.announcements.pop_front();
        }
        self.announcements.push_back(Duty::Announce { on, what: announcement });
    }

    /// Like [`Self::announce`], but only if no waiting Event has to be dropped for it.
    pub(super) fn announce_if_room(&mut self, on: Version, announcement: Announcement) {
        if self.announcements.len() < MAX_ANNOUNCEMENTS {
            self.announce(on, announcement);
        }
    }

    /// Adds a new incarnation to the rotation of checkpoints.
    pub(super) fn rotate(&mut self, slot: &Arc<Slot>) {
        if self.open {
            self.rotation.push_back(Arc::downgrade(slot));
        }
    }

    pub(super) fn queue_due_retries(&mut self, now: Moment) {
        while let Some((_, key)) = self.retries.pop_due(now) {
            self.consider(key);
        }
    }

    pub(super) fn status(
        &mut self,
        table: &mut Table,
        now: Now,
        writer: &StatusWriter<'_>,
    ) -> Option<Duty> {
        loop {
            let key = self.pop()?;
            let Some(entry) = table.get_mut(&key) else { continue };
            match writer.write_need(entry, now.moment) {
                WriteNeed::No => {}
                WriteNeed::At(at) if at <= now.moment => return Some(writer.duty(entry, now)),
                WriteNeed::At(at) => {
                    if entry.duties.schedule_check(at) {
                        self.retry(key, at);
                    }
                }
            }
        }
    }

    pub(super) fn announcement(&mut self) -> Option<Duty> {
        self.announcements.pop_front()
    }

    /// The next instance in rotation whose checkpoint is older than `age`.
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
        for _ in 0..CHECKPOINT_CHECKS.min(self.rotation.len()) {
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
            // After a start all instances are queued once. The capacity for them is released.
            self.queue.shrink_to(EMPTY_CAPACITY);
            self.queued.shrink_to(EMPTY_CAPACITY);
        }
        Some(key)
    }
}

impl StatusWriter<'_> {
    fn write_need(&self, entry: &mut Entry, now: Moment) -> WriteNeed {
        let (instance, phase, author) =
            (entry.instance().clone(), entry.member.phase, entry.author());
        if !entry.duties.is_idle(now) {
            return WriteNeed::No;
        }
        let is_same_phase = instance.stored.phase == Some(phase);
        let wait = match author {
            // The status of the older installation is kept, unless its phase stays wrong for long.
            Author::Older if !is_same_phase => Some(OVERRULE_AFTER),
            // Both installations consider it expired. No other write will make the status this installation's
            // own, so without this one it would never be evicted.
            _ if author.is_foreign() && is_same_phase && self.may_claim(&instance, phase) => {
                Some(ACTIVE_FOR)
            }
            Author::Older => {
                entry.duties.clear_deferred();
                return WriteNeed::No;
            }
            Author::Own | Author::Younger => None,
        };
        if let Some(wait) = wait {
            let at = entry.duties.defer(now, wait);
            return WriteNeed::At(at.max(entry.duties.paced()));
        }
        entry.duties.clear_deferred();
        let shared = self.directory.shared_address(&instance.facts);
        let judged = ConditionInput { instance: &instance, phase, shared: shared.as_ref() };
        if entry.duties.is_settled(&judged, self.zone) {
            return WriteNeed::No;
        }
        WriteNeed::At(entry.duties.paced())
    }

    /// Whether this installation may take over the verdict of another one, which is only the case while no
    /// replica of another installation is live.
    fn may_claim(&self, instance: &Instance, phase: Phase) -> bool {
        phase == Phase::Expired
            && instance.lease.on_expiry == OnExpiry::Evict
            && !self.others_are_live
    }

    fn duty(&self, entry: &mut Entry, now: Now) -> Duty {
        let (instance, phase) = (entry.instance().clone(), entry.member.phase);
        let beat =
            instance.lease.is_leased().then(|| entry.slot().last_heartbeat_time(&instance, now));
        let own = self.identity.current();
        let shared = self.directory.shared_address(&instance.facts);
        let judged = ConditionInput { instance: &instance, phase, shared: shared.as_ref() };
        let desired = status::desired(&judged, beat, self.zone, own);
        // The verdict of another installation does not count here, so its end is not announced.
        let stored = instance.stored.phase.filter(|_| !entry.author().is_foreign());
        let announced = entry.duties.announced();
        let (announce, announced) =
            announce::choose(&instance, stored, phase, announced, now.moment);
        let (generation, health) = (instance.generation, instance.health);
        entry.duties.begin(UnderWay::Status { generation, health, announced });
        entry.duties.charge(now.moment);
        Duty::WriteStatus { on: Version::of(&instance), desired, announce }
    }
}

fn checkpoint_duty(entry: &mut Entry, now: Now, age: Duration) -> Option<Duty> {
    let instance = entry.instance();
    let lease = instance.lease;
    let beat = entry.slot().last_heartbeat_time(instance, now);
    let stored = instance.stored.last_heartbeat.map_or(0, |stored| stored.0);
    // The absolute difference: if the wall clock has gone back, a checkpoint in the future must not stay
    // for hours.
    let behind = beat.0.abs_diff(stored) >= millis(age.max(lease.renew_after()));
    let settled =
        lease.is_leased() && !instance.is_terminating() && instance.stored.phase.is_some();
    let is_anothers = entry.author() == Author::Older;
    if !settled
        || !behind
        || is_anothers
        || entry.slot().is_expired()
        || !entry.duties.is_idle(now.moment)
    {
        return None;
    }
    let on = Version::of(instance);
    entry.duties.begin(UnderWay::Checkpoint);
    Some(Duty::Checkpoint { on, last_heartbeat: beat })
}
