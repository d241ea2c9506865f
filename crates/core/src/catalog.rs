//! The catalog: the state machine that turns facts into views and duties.
//!
//! ```text
//! apply(fact, now)*  →  settle(now, room) → duties         (and views, published on the way)
//! ```
//!
//! Owns: every known instance, its verdict, and who may still change it. Does not own: time (an
//! argument), delivery (`engine`), and carrying duties out (`controller`, `witness`).
//!
//! The rules, with their numbers, are those of docs/leases.md. Cost: a change costs time
//! proportional to its service; a beat costs nothing here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    directory::Directory,
    duties::Outbox,
    fact::{Announcement, Duty, Fact, Outcome, Version},
    floors::Floors,
    guard::{Guard, Held},
    hearing::Ledgers,
    horizon::Horizon,
    instance::{Instance, InstanceKey, Phase, ServiceKey},
    leadership::Leadership,
    lease::{Moment, Now, Wall},
    peers::Way,
    pulse::{Slot, Source},
    report::LastGap,
    rules::Rules,
    timers::{Alarm, Timers},
    unreadable::Unreadable,
    view::Member,
};

/// A catalog that was not asked for this long had been stopped, and could not hear anybody.
const STALL: Duration = Duration::from_secs(1);

/// The longest a catalog may be left alone; well below the time that counts as a stall.
pub const TICK: Duration = Duration::from_millis(250);

/// How soon it wants to be asked again while a verdict waits for the horizon.
const IMPATIENCE: Duration = Duration::from_millis(25);

/// Who and where this replica is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ServiceInstance` that this replica keeps of itself.
    pub own: InstanceKey,
    /// Tells this process from an earlier one of the same name.
    pub boot: String,
    /// The DNS zone, for the names in status.
    pub zone: String,
    /// Writes a wall time for people (RFC 3339).
    pub show: fn(Wall) -> String,
    /// The name of this replica's ledger. None: it is the only one, keeps no ledger and reads none.
    pub ledger: Option<Arc<str>>,
    /// The rules of the protocol.
    pub rules: Rules,
}

/// Where a member stands in its view.
type Place = (Arc<str>, Wall, Arc<str>);

#[derive(Debug)]
pub(super) struct Entry {
    /// As it is stored.
    instance: Arc<Instance>,
    /// What the directory shares of it with those who take heartbeats.
    slot: Arc<Slot>,
    /// As it is shown.
    pub(super) member: Arc<Member>,
    /// The lease timer that counts; others are left-overs.
    pub(super) armed: Option<Moment>,
    /// Whether it is kept past its lease.
    pub(super) held: Option<Held>,
    /// How far the duties on this object are.
    pub(super) task: super::duties::Task,
}

impl Entry {
    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    fn place(&self) -> Place {
        let instance = self.instance();
        (self.member.label.clone(), instance.created, instance.key.name.clone())
    }
}

/// Figures for metrics; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases that ended.
    pub expired: u64,
    /// Instances that a beat brought back.
    pub revived: u64,
    /// Beats by a changed annotation.
    pub annotation_beats: u64,
    /// Times that everybody was given back time in which beats could not be heard.
    pub gaps: u64,
    /// Evictions that were carried out.
    pub evicted: u64,
    /// Times that many came due at a stroke, and were kept.
    pub holds: u64,
    /// Publications by which readers see something else.
    pub changes: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Catalog {
    pub(super) settings: Settings,
    pub(super) directory: Arc<Directory>,
    /// In boxes: the table has room for more than there are.
    pub(super) entries: HashMap<InstanceKey, Box<Entry>>,
    pub(super) services: HashMap<ServiceKey, BTreeMap<Place, Arc<Member>>>,
    /// Services whose view no longer shows the truth.
    pub(super) changed: HashSet<ServiceKey>,
    /// Services that look different to readers since the last round.
    pub(super) revised: BTreeSet<ServiceKey>,
    /// Incarnations that we deleted and the watch has not yet taken away.
    buried: HashSet<Arc<str>>,
    pub(super) timers: Timers,
    pub(super) floors: Floors,
    pub(super) guard: Guard,
    /// Of the instance watch.
    pub(super) horizon: Horizon,
    /// None: this replica is the only one.
    pub(super) ledgers: Option<Ledgers>,
    /// How far this replica has seen in all: behind it leases end.
    pub(super) reach: Moment,
    pub(super) outbox: Outbox,
    pub(super) leadership: Leadership,
    pub(super) counts: Counts,
    /// For people; see [`Report`](super::report::Report).
    pub(super) boot: Arc<str>,
    pub(super) started: Option<Moment>,
    pub(super) interrupted: Option<Arc<str>>,
    pub(super) last_gap: Option<LastGap>,
    pub(super) unreadable: Unreadable,
    /// The highest resourceVersion applied, and whether a first list was among it; both are
    /// published only after the views that they speak of.
    pub(super) index: u64,
    pub(super) synced: bool,
    settled: Option<Moment>,
    /// Whose leases have ended before the horizon could pass them, and when their timers went off.
    pub(super) waiting: Vec<(Moment, InstanceKey)>,
    /// The latest deadline among them.
    pub(super) due: Option<Moment>,
    /// Who was evicted, oldest first, to forget them in time.
    pub(super) graves: VecDeque<(Moment, InstanceKey)>,
}

impl Catalog {
    /// An empty catalog that publishes into `directory`.
    #[must_use]
    pub fn new(settings: Settings, directory: Arc<Directory>) -> Self {
        if settings.ledger.is_some() {
            directory.keep_ledger(settings.rules);
        }
        Self {
            horizon: Horizon::new(&settings.boot, settings.rules.first_sending),
            ledgers: Ledgers::new(&settings),
            reach: Moment::default(),
            boot: settings.boot.as_str().into(),
            settings,
            directory,
            entries: HashMap::new(),
            services: HashMap::new(),
            changed: HashSet::new(),
            revised: BTreeSet::new(),
            buried: HashSet::new(),
            timers: Timers::default(),
            floors: Floors::default(),
            guard: Guard::default(),
            outbox: Outbox::default(),
            leadership: Leadership::default(),
            counts: Counts::default(),
            started: None,
            interrupted: None,
            last_gap: None,
            unreadable: Unreadable::default(),
            index: 0,
            synced: false,
            settled: None,
            waiting: Vec::new(),
            due: None,
            graves: VecDeque::new(),
        }
    }

    /// Figures for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many services have changed, and are to be published by the next [`Catalog::settle`].
    #[must_use]
    pub fn unpublished(&self) -> usize {
        self.changed.len()
    }

    /// Where readers look.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Takes a fact in. Nothing is judged and nothing published before [`Catalog::settle`].
    pub fn apply(&mut self, fact: Fact, now: Now) {
        match fact {
            Fact::Listed { instances, index } => self.relist(&instances, index, now),
            Fact::Upserted(instance) => self.watched(&instance, now),
            Fact::Removed { key, uid, index } => {
                self.buried.remove(&uid);
                self.remove(&key, &uid, now);
                self.unreadable.remove(&key);
                self.advance(index);
            }
            Fact::Progress { index } => self.advance(index),
            Fact::Written { instance, by } => self.written(&instance, by, now),
            Fact::Deleted { key, uid } => self.bury(&key, uid, now),
            Fact::Beat { key, uid, at } => self.beat(&key, &uid, at, now),
            Fact::Unreadable { on, reason } => {
                self.advance(on.resource_version);
                self.cannot_read(on, reason, now);
            }
            Fact::Interrupted { reason } => self.interrupted = Some(reason),
            Fact::LedgerSeen(ledger) => self.see_ledger(&ledger, Way::Watch, now),
            Fact::LedgersListed(ledgers) => self.see_ledgers(&ledgers, now),
            Fact::LedgerGone { replica, version } => {
                self.ledger_gone(&replica, version, now.moment);
            }
            Fact::LedgerWritten { sequence, failure } => {
                self.ledger_written(sequence, failure.is_none());
            }
            Fact::Leaving => self.leave(),
            Fact::SelfBeatWritten { failure } => self.horizon.written(failure, now.moment),
            Fact::Leadership(leadership) => self.leadership = leadership,
            Fact::Attempted { key, uid, outcome } => self.attempted(&key, uid, &outcome, now),
        }
    }

    /// Judges what can be judged, publishes what changed, and answers what is to be done: at most
    /// `room` duties on objects, the rest waits.
    pub fn settle(&mut self, now: Now, room: usize) -> Vec<Duty> {
        if let Some(settled) = self.settled.replace(now.moment) {
            let stalled = now.moment.since(settled);
            if stalled >= STALL {
                self.give_back(now.moment, Some(stalled));
            }
        }
        self.started.get_or_insert(now.moment);
        self.follow_tenure(now.moment);
        self.look(now.moment);
        self.release_heard(now.moment);
        self.judge(now);
        self.guard.end(self.reach);
        self.forget(now.moment);
        self.publish(now);
        self.duties(now, room)
    }

    /// When [`Catalog::settle`] should be called next, if no fact comes before.
    #[must_use]
    pub fn next_settle(&self, now: Moment) -> Moment {
        let ledgers = self.ledgers.as_ref();
        let urgent = self.due.is_some() || ledgers.is_some_and(|it| it.flush.is_urgent());
        let latest = now.after(if urgent { IMPATIENCE } else { TICK });
        self.timers.peek().unwrap_or(latest).min(latest).max(Moment(now.0 + 1))
    }

    fn relist(&mut self, instances: &[Arc<Instance>], index: u64, now: Now) {
        // A list is the truth, also about what we believe to have deleted.
        self.buried.clear();
        self.unreadable.clear();
        let listed: HashSet<Arc<str>> = instances.iter().map(|i| i.uid.clone()).collect();
        for instance in instances {
            self.watched(instance, now);
        }
        // What is newer than the list was written by us meanwhile: the watch will bring it.
        let missing = self.entries.values().map(|entry| entry.instance()).filter(|instance| {
            !listed.contains(&instance.uid) && instance.resource_version <= index
        });
        let missing: Vec<_> = missing.map(|i| (i.key.clone(), i.uid.clone())).collect();
        for (key, uid) in missing {
            self.remove(&key, &uid, now);
        }
        self.advance(index);
        self.synced = true;
    }

    fn watched(&mut self, instance: &Arc<Instance>, now: Now) {
        let value = instance.heartbeat.clone().filter(|_| instance.key == self.settings.own);
        let index = instance.resource_version;
        self.unreadable.remove(&instance.key);
        if !self.buried.contains(&instance.uid) {
            self.upsert(instance, Source::Annotation, now);
        }
        if let Some(lost) = value.and_then(|value| self.horizon.seen(&value, now.moment)) {
            self.give_back(now.moment, Some(lost));
        }
        self.advance(index);
    }

    /// The answer to a write: where the watch has gone past it already, the watch is right.
    fn written(&mut self, instance: &Arc<Instance>, by: Source, now: Now) {
        let known = self.entries.get(&instance.key);
        let same = known.filter(|entry| is_same_beat(entry.instance(), instance));
        if let Some(entry) = same {
            entry.slot().claim(by);
        }
        let overtaken = known.is_none() && instance.resource_version <= self.index;
        if !overtaken && !self.buried.contains(&instance.uid) {
            self.upsert(instance, by, now);
        }
    }

    /// `source` is the way by which a beat came, if this brings one.
    fn upsert(&mut self, instance: &Arc<Instance>, source: Source, now: Now) {
        match self.entries.get(&instance.key).map(|entry| entry.instance().clone()) {
            // The API server keeps the service of an object from changing; without that rule it is
            // as good as another object.
            Some(old) if old.uid == instance.uid && old.service == instance.service => {
                if instance.resource_version > old.resource_version {
                    self.update(&old, instance, source, now);
                }
            }
            Some(old) if old.resource_version > instance.resource_version => {}
            Some(old) => {
                self.remove(&old.key, &old.uid, now);
                self.insert(instance, source, now);
            }
            None => self.insert(instance, source, now),
        }
    }

    fn insert(&mut self, instance: &Arc<Instance>, source: Source, now: Now) {
        let dead = instance.is_stored_expired();
        let source = match source {
            _ if !self.synced => Source::Start,
            Source::Annotation => Source::Creation,
            own => own,
        };
        let slot = Arc::new(Slot::new(instance.clone(), (now.moment, source), dead));
        let phase = Phase::of(dead, instance.state, instance.health);
        let member = Arc::new(Member::new(instance.facts.clone(), slot.clone(), phase, false));
        let key = instance.key.clone();
        let entry = Entry {
            instance: instance.clone(),
            slot: slot.clone(),
            member,
            armed: None,
            held: None,
            task: Default::default(),
        };
        self.directory.graves.pin().remove(&key);
        self.directory.slots.pin().insert(key.clone(), slot.clone());
        if let Some(ledgers) = &mut self.ledgers {
            ledgers.enter(instance, slot.clone());
        }
        self.place(&entry);
        self.entries.insert(key, Box::new(entry));
        self.outbox.rotate(&slot);
        self.after_change(instance, None, now);
    }

    fn update(&mut self, old: &Instance, instance: &Arc<Instance>, source: Source, now: Now) {
        let Some(entry) = self.entries.get(&instance.key) else { return };
        let slot = entry.slot().clone();
        let instance = &Arc::new(Instance::clone(instance).sharing(old));
        slot.replace_record(instance.clone());
        if let Some(ledgers) = &mut self.ledgers {
            ledgers.replace(old, instance);
        }
        let beat = instance.heartbeat.is_some() && instance.heartbeat != old.heartbeat;
        if beat {
            let foreign = source == Source::Annotation && instance.key != self.settings.own;
            self.counts.annotation_beats += u64::from(foreign);
            self.counts.revived += u64::from(slot.is_dead());
            slot.revive(now.moment, source);
        } else if starts_anew(old, instance, &slot) {
            slot.revive(now.moment, Source::Terms);
        }
        self.show(instance.clone(), slot);
        self.after_change(instance, Some(old), now);
    }

    /// Replaces the member of an instance by what it shows now; a beat alone changes no view.
    pub(super) fn show(&mut self, instance: Arc<Instance>, slot: Arc<Slot>) {
        let Some(entry) = self.entries.get_mut(&instance.key) else { return };
        let phase = Phase::of(slot.is_dead(), instance.state, instance.health);
        let (facts, held) = (instance.facts.clone(), entry.held.is_some());
        entry.instance = instance;
        let shown = &entry.member;
        if Arc::ptr_eq(&shown.facts, &facts) && (shown.phase, shown.held) == (phase, held) {
            return;
        }
        let (key, place) = (facts.service_key(), entry.place());
        let member = Arc::new(Member::new(facts, slot, phase, held));
        entry.member = member.clone();
        if let Some(service) = self.services.get_mut(&key) {
            service.insert(place, member);
        }
        self.changed.insert(key);
    }

    fn place(&mut self, entry: &Entry) {
        let key = entry.instance().service_key();
        self.services.entry(key.clone()).or_default().insert(entry.place(), entry.member.clone());
        self.changed.insert(key);
    }

    fn after_change(&mut self, instance: &Arc<Instance>, old: Option<&Instance>, now: Now) {
        self.arm(&instance.key);
        let waits_anew = old.is_some_and(|old| old.lease.evict_after != instance.lease.evict_after);
        if let Some(entry) = self.entries.get_mut(&instance.key).filter(|_| waits_anew) {
            entry.slot().set_evict_at(None);
        }
        self.consider_eviction(&instance.key, now.moment);
        self.outbox.consider(instance.key.clone());
        let told = old.and_then(|old| old.unknown_health.clone());
        if let Some(word) =
            instance.unknown_health.clone().filter(|word| told.as_ref() != Some(word))
        {
            let what = Announcement::UnknownHealth { word };
            self.outbox.announce(Duty::Announce { on: Version::of(instance), what });
        }
    }

    pub(super) fn remove(&mut self, key: &InstanceKey, uid: &Arc<str>, now: Now) {
        if self.entries.get(key).is_none_or(|entry| entry.instance().uid != *uid) {
            return;
        }
        let Some(entry) = self.entries.remove(key) else { return };
        self.directory.slots.pin().remove(key);
        if let Some(ledgers) = &mut self.ledgers {
            ledgers.strike(entry.instance());
        }
        let service = entry.instance().service_key();
        if let Some(members) = self.services.get_mut(&service) {
            members.remove(&entry.place());
        }
        if let Some(held) = entry.held {
            self.guard.leave(&service, held);
        }
        self.changed.insert(service);
        if let Some(reason) = entry.task.epitaph() {
            self.dig(key, reason, now);
        }
    }

    fn bury(&mut self, key: &InstanceKey, uid: Arc<str>, now: Now) {
        if self.entries.get(key).is_some_and(|entry| entry.instance().uid == uid) {
            self.remove(key, &uid, now);
            self.buried.insert(uid);
        }
    }

    fn beat(&mut self, key: &InstanceKey, uid: &Arc<str>, at: Moment, now: Now) {
        let Some(entry) = self.entries.get(key).filter(|e| e.instance().uid == *uid) else {
            return;
        };
        let (slot, instance) = (entry.slot().clone(), entry.instance().clone());
        self.counts.revived += u64::from(slot.is_dead());
        slot.revive_unwritten(at);
        if self.ledgers.is_some() {
            self.directory.touched.note(&slot, at);
        }
        self.show(instance, slot);
        self.arm(key);
        self.consider_eviction(key, now.moment);
        self.outbox.consider(key.clone());
    }

    fn attempted(&mut self, key: &InstanceKey, uid: Arc<str>, outcome: &Outcome, now: Now) {
        if let Outcome::Evicted { reason } = outcome {
            self.counts.evicted += 1;
            self.bury(key, uid, now);
            return self.dig(key, reason.clone(), now);
        }
        let Some(entry) = self.entries.get_mut(key).filter(|e| e.instance().uid == uid) else {
            return;
        };
        if let Some(again) = entry.task.attempted(outcome, now.moment) {
            self.timers.set(again, Alarm::Retry, key.clone());
        }
        self.outbox.consider(key.clone());
    }

    /// The watch has come so far.
    fn advance(&mut self, index: u64) {
        self.interrupted = None;
        self.index = self.index.max(index);
    }

    fn duties(&mut self, now: Now, room: usize) -> Vec<Duty> {
        if !self.synced {
            return Vec::new();
        }
        let show = self.settings.show;
        let due = self.due.max(self.opening());
        let value = self.horizon.wanted(now, due, |now| show(now.wall));
        let mut duties: Vec<_> = value.map(|value| Duty::SelfBeat { value }).into_iter().collect();
        duties.extend(self.flush(now.moment));
        self.collect(now, room, &mut duties);
        duties
    }
}

/// Whether two versions of one incarnation carry the same heartbeat.
fn is_same_beat(a: &Instance, b: &Instance) -> bool {
    a.uid == b.uid && a.heartbeat.is_some() && a.heartbeat == b.heartbeat
}

/// Whether a change of its lease gives an instance a first beat: new terms begin with a whole
/// lease, and a permanent instance is never dead.
fn starts_anew(old: &Instance, new: &Instance, slot: &Slot) -> bool {
    let terms = |instance: &Instance| (instance.lease.mode, instance.lease.duration);
    !new.lease.is_leased() || (!slot.is_dead() && terms(old) != terms(new))
}
