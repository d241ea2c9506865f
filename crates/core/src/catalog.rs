//! The catalog: the state machine that turns facts into views and duties.
//!
//! ```text
//! apply(fact, now)*  →  settle(now, room) → duties         (and views, published on the way)
//! ```
//!
//! It consists of parts; each owns its state, and none calls another:
//!
//! | part | owns |
//! |---|---|
//! | `table` | every known instance, as stored and as readers see it |
//! | `publication` | views, and what else readers see |
//! | `leases` | when leases end, and which have ended |
//! | `guard` | which instances are held past their lease |
//! | `evictions` | which expired objects are deleted, and when |
//! | `outbox` | which statuses are written, and what is announced |
//! | `horizon`, `ledgers` | the horizon of this replica |
//! | `history` | whether the store has gone back |
//!
//! The first six parts contain instances; `instances` applies the effects of a change in one of them to
//! the others.
//!
//! Owns: the order of the steps of a round, the position of the watch, and this replica's tenure as
//! leader. Does not own: time (an argument), the delivery of facts, and the execution of duties (the
//! server).
//!
//! The rules and their numbers are in docs/leases.md. Cost: the time for a change is proportional to the
//! size of its service; a heartbeat costs nothing here.

mod replicas;
mod store;

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    instance::{InstanceKey, ServiceKey},
    lease::{Moment, Now},
};

use crate::{
    directory::Directory,
    fact::{Announcement, Duty, Fact, SelfBeat, Version},
    history::History,
    horizon::Horizon,
    identity::Author,
    instances::Instances,
    leadership::Leadership,
    ledgers::Ledgers,
    outbox::StatusWriter,
    peers::Arrival,
    publication::Figures,
    report::{Cause, Report, Standstill},
    rules::{AllRules, Rules},
    unreadable::Unreadable,
};

/// If [`Catalog::settle`] was not called for this long, the process was stalled and heartbeats may have been
/// missed.
const STALL: Duration = Duration::from_secs(1);

/// The longest pause between two calls of [`Catalog::settle`], well below the pause that counts as a stall.
pub const TICK: Duration = Duration::from_millis(250);

/// The pause before the next [`Catalog::settle`] while a verdict waits for the horizon.
const WAITING_TICK: Duration = Duration::from_millis(25);

/// The identity of this replica.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The key of the `ServiceInstance` that represents this replica.
    pub own: InstanceKey,
    /// Distinguishes this process from an earlier one of the same name.
    pub boot: String,
    /// The DNS zone, for the DNS names in status.
    pub zone: String,
    /// The name of this replica's ledger. `None` for a single replica, which neither writes nor reads
    /// ledgers.
    pub ledger: Option<Arc<str>>,
}

/// Counters for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub expired: u64,
    pub revived: u64,
    /// Heartbeats by annotation.
    pub annotation_heartbeats: u64,
    /// How many times all instances were given grace because heartbeats may have been missed.
    pub gaps: u64,
    /// Objects that were evicted.
    pub evicted: u64,
    /// Mass expiries whose instances were held.
    pub holds: u64,
    /// Publications that changed what readers see.
    pub changes: u64,
    pub step_backs: u64,
}

/// The position of the instance watch.
#[derive(Debug, Default)]
struct Progress {
    /// The highest resourceVersion that the watch has delivered, and whether a first list was applied.
    /// Both are published after the views that they describe.
    index: u64,
    /// The highest resourceVersion in an answer to a write of this replica.
    newest: u64,
    synced: bool,
    /// The error of the watch, while it is interrupted.
    interrupted: Option<Arc<str>>,
}

/// The state machine of one replica.
#[derive(Debug)]
pub struct Catalog<R: Rules = AllRules> {
    /// The key of the instance that represents this replica.
    own: InstanceKey,
    /// The DNS zone, for the DNS names in status.
    zone: String,
    instances: Instances<R>,
    unreadable: Unreadable,
    leadership: Leadership,
    progress: Progress,
    history: History<R>,
    /// The horizon of the instance watch.
    self_beats: Horizon<R>,
    /// `None` for a single replica.
    ledgers: Option<Ledgers<R>>,
    /// The combined horizon, up to which leases are judged.
    horizon: Moment,
    boot: Arc<str>,
    started: Option<Moment>,
    settled: Option<Moment>,
}

impl<R: Rules> Catalog<R> {
    /// An empty catalog that publishes into `directory`.
    #[must_use]
    pub fn new(settings: Settings, directory: Arc<Directory>) -> Self {
        let Settings { own, boot, zone, ledger } = settings;
        let boot: Arc<str> = boot.into();
        if ledger.is_some() {
            directory.start_ledger::<R>();
        }
        Self {
            zone,
            instances: Instances::new(own.clone(), directory, ledger.is_some()),
            unreadable: Unreadable::default(),
            leadership: Leadership::default(),
            progress: Progress::default(),
            history: History::default(),
            self_beats: Horizon::new(&boot),
            ledgers: ledger.map(|name| Ledgers::new(name, boot.clone())),
            horizon: Moment::default(),
            own,
            boot,
            started: None,
            settled: None,
        }
    }

    /// Counters for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            expired: self.instances.leases.expired(),
            revived: self.instances.revived,
            annotation_heartbeats: self.instances.annotation_heartbeats,
            gaps: self.instances.leases.gaps(),
            evicted: self.instances.evictions.evicted(),
            holds: self.instances.guard.begun(),
            changes: self.instances.publication.changes(),
            step_backs: self.history.steps(),
        }
    }

    /// How many services have changed and will be published by the next [`Catalog::settle`].
    #[must_use]
    pub fn unpublished(&self) -> usize {
        self.instances.publication.unpublished()
    }

    /// The services whose revision the last [`Catalog::settle`] changed, including services that appeared or
    /// vanished. Readers already see their new views. A heartbeat changes none.
    #[must_use]
    pub fn take_revised(&mut self) -> Vec<ServiceKey> {
        self.instances.publication.take_revised()
    }

    #[must_use]
    pub fn directory(&self) -> &Directory {
        self.instances.publication.directory()
    }

    /// Applies a fact. [`Catalog::settle`] judges and publishes.
    pub fn apply(&mut self, fact: Fact, now: Now) {
        match fact {
            Fact::Listed { instances, index } => self.relist(&instances, index, now),
            Fact::Upserted(instance) => self.watched(&instance, now),
            Fact::Removed { key, uid, index } => {
                self.instances.table.forget_deleted(&uid);
                self.instances.remove(&key, &uid, now);
                self.unreadable.remove(&key);
                self.advance(index);
            }
            Fact::Progress { index } => self.advance(index),
            Fact::Written { instance, by, sent } => self.written(&instance, by, sent, now),
            Fact::Deleted { key, uid } => self.instances.mark_deleted(&key, uid, now),
            Fact::RecordedHere { key, uid, at } => {
                self.instances.apply_unstored_heartbeat(&key, &uid, at, now);
            }
            Fact::Unreadable { on, reason } => {
                self.advance(on.resource_version);
                self.instances.remove(&on.key, &on.uid, now);
                if let Some(what) = self.unreadable.insert(&on, reason) {
                    self.instances.outbox.announce(on, what);
                }
            }
            Fact::Interrupted { reason } => self.progress.interrupted = Some(reason),
            Fact::LedgerUpserted(ledger) => self.apply_ledger(&ledger, Arrival::Watch, now),
            Fact::LedgersListed(ledgers) => self.apply_ledger_list(&ledgers, now),
            Fact::LedgerRemoved { replica, version } => {
                if let Some(ledgers) = &mut self.ledgers {
                    ledgers.deleted(&replica, version, now.moment);
                }
                self.update_silence(now.moment);
            }
            Fact::LedgerWritten { sequence, answer } => self.ledger_written(sequence, &answer, now),
            Fact::Leaving => self.start_leaving(),
            Fact::SelfBeatWritten { answer } => {
                let proof = self.history.self_beat_answered(&answer);
                self.self_beats.written(answer.err(), now.moment);
                self.apply_proof(proof, now);
            }
            Fact::OwnRead { version } => self.apply_proof(self.history.own_read(version), now),
            Fact::Leadership(leadership) => {
                if let Some(own) = &leadership.installation {
                    self.instances.set_installation(own, now.moment);
                }
                self.leadership = leadership;
            }
            Fact::Attempted { key, uid, outcome } => {
                self.instances.record_outcome(&key, uid, &outcome, now);
            }
        }
    }

    /// Judges leases, publishes changes, and returns the duties. Returns at most `room` duties on objects;
    /// the others wait.
    pub fn settle(&mut self, now: Now, room: usize) -> Vec<Duty> {
        if let Some(settled) = self.settled.replace(now.moment) {
            let stalled = now.moment.since(settled);
            if stalled >= STALL {
                self.give_back(now.moment, Some(stalled));
                self.history.stalled(stalled);
            }
        }
        self.started.get_or_insert(now.moment);
        self.end_expired_tenure(now.moment);
        self.update_horizon(now.moment);
        for key in self.instances.guard.take_due_checks(now.moment, self.instances.table.len()) {
            self.instances.release_if_renewed(&key);
        }
        self.instances.judge(now.moment, self.horizon);
        self.instances.update_installations(now.moment);
        self.instances.evictions.queue_due(
            &self.instances.table,
            now.moment,
            self.instances.outbox.is_open(),
        );
        self.instances.outbox.queue_due_retries(now.moment);
        self.instances.guard.end(self.horizon);
        self.instances.evictions.drop_old(self.instances.publication.directory(), now.moment);
        self.publish(now);
        self.duties(now, room)
    }

    /// When to call [`Catalog::settle`] next if no fact arrives before then.
    #[must_use]
    pub fn next_settle(&self, now: Moment) -> Moment {
        let ledgers = self.ledgers.as_ref();
        let urgent =
            self.instances.leases.due().is_some() || ledgers.is_some_and(Ledgers::is_urgent);
        let latest = now.after(if urgent { WAITING_TICK } else { TICK });
        let timers = [
            self.instances.leases.next(),
            self.instances.evictions.next(),
            self.instances.outbox.next(),
        ];
        let next = timers.into_iter().flatten().fold(latest, Moment::min);
        next.max(Moment(now.0 + 1))
    }
}

impl<R: Rules> Catalog<R> {
    /// Ends an expired tenure even if the election has not reported it: the election may be stuck, or this
    /// process may have been stopped.
    fn end_expired_tenure(&mut self, now: Moment) {
        let leads = self.leadership.is_own(now) && !self.yields();
        if leads && !self.instances.outbox.is_open() {
            self.begin_tenure(now);
        } else if !leads && self.instances.outbox.is_open() {
            self.instances.outbox.close();
            self.instances.evictions.clear_queue();
        }
    }

    /// A new leader checks every instance once, because the former leader may not have finished its
    /// duties.
    fn begin_tenure(&mut self, now: Moment) {
        self.instances.outbox.open();
        // Sorted, so that the same facts always lead to the same duties.
        let mut entries: Vec<_> = self.instances.table.entries().collect();
        entries.sort_unstable_by(|a, b| a.instance().key.cmp(&b.instance().key));
        for entry in entries {
            let instance = entry.instance();
            self.instances.outbox.consider(instance.key.clone());
            self.instances.outbox.rotate(entry.slot());
            self.instances.evictions.queue_if_due(entry, now);
            if let Some(word) =
                instance.unknown_health.clone().filter(|_| entry.author() != Author::Older)
            {
                self.instances
                    .outbox
                    .announce(Version::of(instance), Announcement::UnknownHealth { word });
            }
        }
        for (on, what) in self.unreadable.announcements() {
            self.instances.outbox.announce(on, what);
        }
        self.instances.announce_overlap();
    }

    /// Publishes what changed: views first, then the figures that describe them.
    fn publish(&mut self, now: Now) {
        let synced = self.progress.synced;
        self.instances.publication.publish(now.wall, synced);
        let leadership = self.published_leadership();
        let (report, removed) = (self.report(now.moment), self.instances.table.take_removed());
        self.instances.publication.publish_figures(Figures {
            leadership: &leadership,
            report,
            index: self.history.position(self.progress.index),
            newest: self.progress.newest,
            removed,
            horizon: self.horizon,
            synced,
        });
    }

    /// The leadership to publish. It names no leader if the leader's process is known to have been
    /// replaced: a restarted replica does not lead just because its former process won the election.
    fn published_leadership(&self) -> Leadership {
        let mut shown = self.leadership.clone();
        let (Some(leader), Some(won)) = (&shown.leader, &shown.boot) else { return shown };
        let own = (*self.own.name == **leader).then(|| self.boot.clone());
        let boot = own.or_else(|| self.ledgers.as_ref()?.boot_of(leader));
        if boot.is_some_and(|boot| boot != *won) {
            (shown.leader, shown.boot, shown.since) = (None, None, None);
        }
        shown
    }

    fn report(&self, now: Moment) -> Report {
        let (interrupted, ledgers) = (&self.progress.interrupted, self.ledgers.as_ref());
        let standstill = if self.progress.synced {
            let from_self_beats = self.self_beats.standstill(now, interrupted);
            from_self_beats.or_else(|| ledgers?.standstill(now))
        } else {
            let cause = Cause::NotListed(interrupted.clone());
            self.started.map(|since| Standstill { since, cause })
        };
        Report {
            boot: self.boot.clone(),
            started: self.started,
            standstill,
            due: self.instances.leases.waiting(),
            gaps: self.instances.leases.gaps(),
            last_gap: self.instances.leases.last_gap(),
            replicas: ledgers.map(Ledgers::report).unwrap_or_default(),
            held: self.instances.guard.report(),
            unreadable: self.unreadable.len(),
            epoch: self.history.epoch(),
            step_back: self.history.last(),
            duplicates: ledgers.map(|ledgers| ledgers.duplicates(now)).unwrap_or_default(),
            yields: self.yields(),
            overlap: self.instances.installations.report(),
        }
    }

    fn duties(&mut self, now: Now, room: usize) -> Vec<Duty> {
        if !self.progress.synced {
            return Vec::new();
        }
        let self_beat = self.self_beats.moment();
        let opening = self.ledgers.as_ref().and_then(|ledgers| ledgers.pending_opening(self_beat));
        let due = self.instances.leases.due();
        let mut duties = Vec::new();
        if self.history.wants_list(now.moment) {
            duties.push(Duty::Relist);
        }
        let wanted =
            (!self.yields()).then(|| self.self_beats.next_self_beat(now, due.max(opening)));
        if let Some(value) = wanted.flatten() {
            let reads = self.history.request_self_beat(self.progress.index);
            duties.push(Duty::SelfBeat(SelfBeat { value, reads }));
        }
        if let Some(ledgers) = &mut self.ledgers {
            let unreported = &self.instances.publication.directory().unreported;
            let index = if self.history.is_renewing() { 0 } else { self.progress.index };
            let shortest = self.instances.table.shortest_lease();
            let ledger =
                ledgers.next_ledger(unreported, now.moment, shortest, due, index, self.horizon);
            duties.extend(ledger.map(Duty::WriteLedger));
        }
        if self.history.is_renewing() {
            return duties;
        }
        let end = duties.len() + room;
        while duties.len() < end {
            let Some(duty) = self.next_duty(now) else { break };
            duties.push(duty);
        }
        duties
    }

    /// The most urgent duty on an object.
    fn next_duty(&mut self, now: Now) -> Option<Duty> {
        let instances = &mut self.instances;
        let writer = StatusWriter {
            zone: &self.zone,
            directory: instances.publication.directory(),
            identity: instances.installations.identity(),
            others_are_live: instances.installations.has_live_replica(&instances.table),
        };
        if let Some(duty) = instances.outbox.status(&mut instances.table, now, &writer) {
            return Some(duty);
        }
        if let Some(duty) = self.next_eviction(now.moment) {
            return Some(duty);
        }
        if let Some(duty) = self.instances.outbox.announcement() {
            return Some(duty);
        }
        let ledgers = self.ledgers.as_mut().filter(|_| self.instances.outbox.is_open());
        if let Some((replica, version)) = ledgers.and_then(|it| it.sweep(now.moment)) {
            return Some(Duty::DeleteLedger { replica, version });
        }
        self.instances.outbox.checkpoint(&mut self.instances.table, now, R::CHECKPOINT_AGE)
    }

    /// The next eviction that is due, if it is within the budget and not blocked.
    fn next_eviction(&mut self, now: Moment) -> Option<Duty> {
        let others_are_live = self.instances.installations.has_live_replica(&self.instances.table);
        while let Some(key) = self.instances.evictions.pop(now) {
            let Some(entry) = self.instances.table.get_mut(&key) else { continue };
            let instance = entry.instance();
            let behind =
                self.horizon <= self.instances.leases.grace().not_before(instance.lease.duration);
            let unacknowledged = |it: &Ledgers<R>| !it.have_acknowledged(instance.resource_version);
            let is_stopped = behind
                || self.history.is_in_doubt()
                || others_are_live
                || self.ledgers.as_ref().is_some_and(unacknowledged)
                || self.instances.guard.stops_evictions(&instance.service_key());
            let duty = self.instances.evictions.duty(entry, now, is_stopped);
            if duty.is_some() {
                return duty;
            }
        }
        None
    }
}
