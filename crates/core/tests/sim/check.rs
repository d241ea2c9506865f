//! The promises, checked at every step.
//!
//! P1: whoever's last beat was answered 200, or stored as an annotation, in an unbroken chain, is
//! discoverable for its whole lease by every replica; after a break from when the replica has been told. P2: while all is well the dead are gone within lease + 2 s.
//! P3: nobody is evicted within the lease of an acknowledged beat. P4: after faults nothing
//! stands still. P5: time in which beats could not be heard is given back. P6: see `guard`. Budget: API writes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rollcall_core::{conditions::Judged, status};
use rollcall_model::{
    instance::{Instance, Phase},
    lease::{LeaseMode, Moment, OnExpiry},
    view::Member,
};

use crate::{
    Time, ZONE,
    api::Op,
    faults::{Fault, Kind},
    world::World,
};

/// The dead are gone this long after their lease.
const LATE: Time = 2_000;

/// The same after a fault: a process that was replaced is waited for until it is fenced, 10 s after its last stamp.
const LATE_AFTER_FAULT: Time = 10_000 + LATE;

/// Replicas list anew after an outage, but not more often than this; and give a lease for what that brings.
const LIST_EVERY: Time = 30_000;

/// Two ledgers of the older process, a grace of 10 s beyond the last stamp of the younger, and a lease (20 s at most).
const TOLD_APART: Time = 10_000 + 10_000 + 20_000;

/// An API server that is away for less may be away between two self-beats (5 s apart while nothing
/// is due), so that nobody here can know of it.
const UNNOTICED: Time = 5_500;

/// While all is well a beat is told to all others within this: the longest pause between two ledgers
/// and the ways.
const TOLD_WITHIN: Time = 6_500;

/// For whoever needs no beats.
const FOR_EVER: Time = Time::MAX / 2;

/// What broke, and about whom.
#[derive(Debug)]
pub struct Violation {
    pub at: Time,
    pub client: Option<usize>,
    pub what: String,
}

/// From when on a replica has to keep to a promise.
#[derive(Clone, Debug)]
enum Told {
    /// From when it has seen this version of the object.
    Version(u64),
    /// From when it has heard of the beat by this ledger, and shows it.
    Ledger { replica: Arc<str>, boot: Arc<str>, stamp: Moment, uid: Arc<str> },
    /// From its first list on, unless the object is stored as expired.
    Start,
}

/// A promise that a replica does not know of yet.
#[derive(Clone, Debug)]
struct Pending {
    told: Told,
    since: Time,
    end: Time,
}

/// What one replica has to show of a client.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// Offered until then.
    end: Time,
    pending: Vec<Pending>,
    discoverable: bool,
    held: bool,
}

/// What one client was promised, and what might keep it alive.
#[derive(Clone, Debug, Default)]
struct Promised {
    /// Not deleted until then.
    acknowledged: Time,
    /// By replica.
    shown: Vec<Shown>,
    /// The last thing that any replica may count as a beat.
    touched: Time,
    /// Whether it was being discoverable and beating when the one fault of this seed began.
    steady: bool,
    /// The incarnation that was evicted last.
    evicted: Option<Arc<str>>,
}

impl Promised {
    fn is_discoverable(&self) -> bool {
        self.shown.iter().any(|shown| shown.discoverable)
    }

    fn longest(&self) -> Time {
        self.shown.iter().map(|shown| shown.end).max().unwrap_or(0)
    }

    /// No more is promised than until `most`.
    fn shorten(&mut self, most: Time) {
        self.acknowledged = self.acknowledged.min(most);
        for shown in &mut self.shown {
            shown.end = shown.end.min(most);
            shown.pending.iter_mut().for_each(|pending| pending.end = pending.end.min(most));
        }
    }
}

/// What a replica writes for its own sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    SelfBeat,
    Ledger,
    Checkpoint,
}

/// What happened, to know that a run was worth something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub milliseconds: u64,
    pub faults: u64,
    pub promises: u64,
    pub lapses: u64,
    pub returns: u64,
    pub evictions: u64,
    pub status_writes: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Self) {
        self.milliseconds += other.milliseconds;
        self.faults += other.faults;
        self.promises += other.promises;
        self.lapses += other.lapses;
        self.returns += other.returns;
        self.evictions += other.evictions;
        self.status_writes += other.status_writes;
    }
}

pub struct Check {
    clients: Vec<Promised>,
    /// By replica and kind.
    paces: Vec<[VecDeque<Time>; 3]>,
    pub stats: Stats,
    pub violation: Option<Violation>,
}

impl Check {
    pub fn new(clients: usize, replicas: usize) -> Self {
        let shown = vec![Shown::default(); replicas];
        Self {
            clients: vec![Promised { shown, ..Promised::default() }; clients],
            paces: vec![Default::default(); replicas],
            stats: Stats::default(),
            violation: None,
        }
    }
}

impl World {
    /// The last thing that any replica may have counted as a beat of this client.
    pub fn touched(&self, client: usize) -> Time {
        self.check.clients[client].touched
    }

    pub fn violated(&mut self, client: Option<usize>, what: String) {
        let at = self.now;
        self.check.violation.get_or_insert(Violation { at, client, what });
    }

    /// How long a lease is at least, by a clock of the world: a replica's may be faster.
    fn lasting(&self, lease: Duration) -> Time {
        let lease = lease.as_millis() as Time;
        let ppm = self.replicas.iter().map(|one| one.ppm.unsigned_abs()).max().unwrap_or(0);
        lease - if ppm > 0 { lease * ppm / 1_000_000 + 2 } else { 0 }
    }

    fn end_of(&self, from: Time, (stored, record): (&Instance, &Instance)) -> Time {
        match stored.lease.mode {
            LeaseMode::Permanent => FOR_EVER,
            LeaseMode::Heartbeat => {
                from + self.lasting(stored.lease.duration.min(record.lease.duration))
            }
        }
    }

    /// An HTTP beat that arrived at `arrived` is answered 200 by `witness`, and is `stored` or not.
    pub fn promise(
        &mut self,
        client: usize,
        arrived: Time,
        record: &Instance,
        (witness, stored): (usize, bool),
    ) {
        self.check.stats.promises += 1;
        let object = self.api.objects.get(&record.key).filter(|stored| stored.uid == record.uid);
        let Some(object) = object else {
            if self.check.clients[client].evicted.as_ref() == Some(&record.uid) {
                self.violated(Some(client), "P3: answered 200, but it had been evicted".to_owned());
            }
            // Somebody else deleted it: the watch has not told yet.
            return;
        };
        let end = self.end_of(arrived, (object, record));
        let one = &self.replicas[witness];
        let told = match stored {
            true => Told::Version(record.resource_version),
            false => Told::Ledger {
                replica: one.own.name.clone(),
                boot: format!("b{}", one.boot).into(),
                stamp: one.now(arrived, self.sabotage).moment,
                uid: record.uid.clone(),
            },
        };
        // One that had to be stored is told in time only if it was stored in time.
        let (now, alone) = (self.now, self.alone);
        let known = if stored { now } else { arrived };
        let promised = &mut self.check.clients[client];
        promised.acknowledged = promised.acknowledged.max(end);
        for (replica, shown) in promised.shown.iter_mut().enumerate() {
            if alone || replica == witness || known <= shown.end {
                shown.end = shown.end.max(end);
            } else {
                shown.pending.push(Pending { told: told.clone(), since: now, end });
            }
        }
        (0..self.replicas.len()).for_each(|replica| self.check_replica(replica));
    }

    /// A beat that a client stored itself is acknowledged.
    pub fn promise_stored(&mut self, client: usize, applied: Time, stored: &Instance) {
        self.check.stats.promises += 1;
        let current = self.api.objects.get(&stored.key).filter(|now| now.uid == stored.uid);
        let Some(current) = current else { return };
        let (end, since) = (self.end_of(applied, (current, stored)), self.now);
        let promised = &mut self.check.clients[client];
        promised.acknowledged = promised.acknowledged.max(end);
        for shown in &mut promised.shown {
            if applied <= shown.end {
                shown.end = shown.end.max(end);
            } else {
                let told = Told::Version(stored.resource_version);
                shown.pending.push(Pending { told, since, end });
            }
        }
    }

    /// A process starts: it learns of everything by its first list.
    pub fn check_begins(&mut self, replica: usize) {
        if self.alone {
            return;
        }
        let since = self.now;
        for promised in &mut self.check.clients {
            let end = promised.longest();
            let pending = vec![Pending { told: Told::Start, since, end }];
            promised.shown[replica] = Shown { end: 0, pending, discoverable: false, held: false };
        }
    }

    /// Something happened that a replica may count as a beat.
    pub fn counted(&mut self, client: usize) {
        self.check.clients[client].touched = self.now;
    }

    /// Nothing is promised to whoever is being deleted on purpose.
    pub fn dismiss(&mut self, client: usize) {
        let promised = &mut self.check.clients[client];
        promised.acknowledged = 0;
        for shown in &mut promised.shown {
            shown.end = 0;
            shown.pending.clear();
        }
    }

    /// The store has gone back. What was stored since the backup is not promised: registrations and revivals; and an
    /// object that is back may be shown for one lease.
    pub fn check_restored(&mut self, client: usize, before: Option<&Arc<Instance>>) {
        self.counted(client);
        let stored = self.api.objects.get(&self.clients[client].key).cloned();
        let same = stored.filter(|stored| before.is_some_and(|before| before.uid == stored.uid));
        let Some(stored) = same.filter(|stored| !stored.is_stored_expired()) else {
            return self.dismiss(client);
        };
        let most = self.now + stored.lease.duration.as_millis() as Time;
        let promised = &mut self.check.clients[client];
        if stored.lease.mode == LeaseMode::Heartbeat {
            promised.shorten(most);
        }
        for shown in &mut promised.shown {
            shown.pending.retain(|pending| !matches!(pending.told, Told::Version(_)));
        }
    }

    /// A write is about to be carried out.
    pub fn before(&mut self, op: &Op) {
        let Some(client) = self.client_of(op.key()) else { return };
        let Some(stored) = self.api.objects.get(op.key()) else { return };
        let Op::Delete { uid, version, evicts, .. } = op else { return };
        let stale = uid.as_ref().is_some_and(|uid| *uid != stored.uid)
            || version.is_some_and(|version| version != stored.resource_version);
        if stale {
            return;
        }
        let (uid, now) = (stored.uid.clone(), self.now);
        let kept = self.check.clients[client].acknowledged >= now;
        if *evicts {
            self.check.stats.evictions += 1;
            self.check.clients[client].evicted = Some(uid);
            if kept {
                self.violated(Some(client), "P3: evicted within its lease".to_owned());
            }
        }
        self.dismiss(client);
    }

    /// A write was carried out and changed something.
    pub fn committed(&mut self, op: &Op) {
        self.check.stats.status_writes += u64::from(matches!(op, Op::Status { .. }));
        let Some(client) = self.client_of(op.key()) else { return };
        if !matches!(op, Op::Register { .. } | Op::Beat { .. }) {
            return;
        }
        self.counted(client);
        // A lease may have become shorter: from now on no more is promised.
        let Some(stored) = self.api.objects.get(op.key()) else { return };
        let most = self.now + stored.lease.duration.as_millis() as Time;
        let leased = stored.lease.mode == LeaseMode::Heartbeat;
        let promised = &mut self.check.clients[client];
        // Whoever changes its lease while answers are late may believe in the wrong one.
        promised.steady &= !matches!(op, Op::Beat { change, .. } if change.duration.is_some());
        if leased {
            promised.shorten(most);
        }
    }

    /// What a replica shows now.
    pub fn check_replica(&mut self, replica: usize) {
        let directory = self.replicas[replica].directory.clone();
        // One that yields to another process of its name is not ready: nothing is asked of it.
        if !self.replicas[replica].up || !directory.is_synced() || directory.report().yields {
            return;
        }
        for client in 0..self.clients.len() {
            let one = &self.clients[client];
            let view = directory.service(&one.key.namespace, &one.service);
            let member = view.as_ref().and_then(|view| view.by_label(&one.key.name));
            let discoverable = member.is_some_and(|member| member.phase.is_discoverable());
            let held = member.is_some_and(|member| member.held);
            let of = |member: &Arc<Member>| {
                let slot = directory.slot(&one.key.namespace, &one.key.name)?;
                Some(slot.record()).filter(|record| record.uid == member.facts.uid)
            };
            let record = member.and_then(of);
            self.learn(replica, client, record.as_deref(), discoverable);
            let shown = &mut self.check.clients[client].shown[replica];
            let was = std::mem::replace(&mut shown.discoverable, discoverable);
            let was_held = std::mem::replace(&mut shown.held, held);
            if let Some(view) = &view {
                match (was_held, held, was, discoverable) {
                    (false, true, ..) => self.check_held(replica, client, view),
                    (_, _, true, false) => self.check_given_up(replica, client, view),
                    _ => {}
                }
            }
            if was != discoverable {
                self.check.stats.lapses += u64::from(was);
                self.check.stats.returns += u64::from(discoverable);
                self.mix(u64::from(discoverable) << 32 | client as u64);
                let word = if discoverable { "discoverable" } else { "not discoverable any more" };
                self.note(Some(client), || format!("r{replica}: {word}"));
            }
            match discoverable {
                true => self.check_dead(replica, client, held),
                false => self.check_alive(replica, client),
            }
        }
    }

    /// Which promises this replica knows of by now.
    fn learn(
        &mut self,
        replica: usize,
        client: usize,
        record: Option<&Instance>,
        discoverable: bool,
    ) {
        let now = self.now;
        let seen = record.filter(|record| self.api.has_stored(record));
        let seen = seen.map_or(0, |record| record.resource_version);
        let excused = record.is_some_and(Instance::is_stored_expired);
        let heard = &self.replicas[replica].heard;
        let shown = &mut self.check.clients[client].shown[replica];
        let mut late = false;
        shown.pending.retain(|pending| {
            let known = match &pending.told {
                Told::Version(version) => *version <= seen,
                Told::Start => true,
                Told::Ledger { replica, boot, stamp, uid } => {
                    let (of, upto) = heard.get(replica).cloned().unwrap_or_default();
                    let same = record.is_some_and(|record| record.uid == *uid);
                    discoverable && same && of == *boot && upto >= *stamp
                }
            };
            if known && !(excused && matches!(pending.told, Told::Start)) {
                shown.end = shown.end.max(pending.end);
            }
            late |= !known && now > pending.since + TOLD_WITHIN && pending.end > now;
            !known && pending.end >= now
        });
        if late && self.faults.is_empty() {
            self.violated(Some(client), format!("P1: r{replica} was never told"));
        }
    }

    fn check_alive(&mut self, replica: usize, client: usize) {
        let (end, steady) = {
            let promised = &self.check.clients[client];
            (promised.shown[replica].end, promised.steady)
        };
        if end >= self.now {
            let left = (end - self.now) as f64 / 1000.0;
            return self.violated(
                Some(client),
                format!("P1: not discoverable by r{replica}, {left} s before the end"),
            );
        }
        let Some(fault) = self.faults.first().filter(|_| self.faults.len() == 1) else { return };
        let one = &self.clients[client];
        let third = one.lease.duration.as_millis() as Time / 3;
        let heard_by = fault.to + third + 1_200;
        let beating = one.steady_since.is_some_and(|since| since < fault.from);
        if steady && beating && self.now > fault.from && self.now < heard_by {
            let what = format!("P5: lost to {:?}, though it could not be heard", fault.kind);
            self.violated(Some(client), what);
        }
    }

    fn check_dead(&mut self, replica: usize, client: usize, held: bool) {
        let Some(stored) = self.api.objects.get(&self.clients[client].key) else { return };
        if stored.lease.mode == LeaseMode::Permanent {
            return;
        }
        // One further lease at most.
        let leases = if held { 2 } else { 1 };
        let lease = stored.lease.duration.as_millis() as Time * leases;
        // A start gives everybody a lease.
        let started = self.replicas[replica].started;
        let touched = self.check.clients[client].touched.max(started);
        self.check_beside_duplicates(client, touched + lease);
        if self.faults.is_empty() && self.now > touched + lease + LATE {
            self.violated(Some(client), "P2: discoverable long after its lease".to_owned());
        } else if self.now > touched.max(self.mended) + lease + self.late_after_fault() {
            self.violated(
                Some(client),
                "P4: discoverable long after its lease and all faults".to_owned(),
            );
        }
    }

    /// Two processes of one name keep nothing that is dead, once they are told apart.
    fn check_beside_duplicates(&mut self, client: usize, end: Time) {
        let duplicate =
            self.faults.first().filter(|it| self.faults.len() == 1 && it.kind == Kind::Duplicate);
        let Some(duplicate) = duplicate else { return };
        let told_apart = duplicate.from + TOLD_APART;
        if self.now < duplicate.to && self.now > end.max(told_apart) + LATE_AFTER_FAULT {
            self.violated(
                Some(client),
                "P4: discoverable long after its lease, beside duplicates".to_owned(),
            );
        }
    }

    fn late_after_fault(&self) -> Time {
        let restored = self.faults.iter().any(|fault| fault.kind.is_restore());
        LATE_AFTER_FAULT + if restored { LIST_EVERY } else { 0 }
    }

    /// The one fault of this seed begins: who is beating, and discoverable?
    pub fn remember_steady(&mut self, fault: Fault) {
        let away = matches!(fault.kind, Kind::Refuse | Kind::Hang | Kind::ReadOnly);
        let deaf = match fault.kind {
            // Each way takes seconds, or answers are lost: beats were heard late, or in vain.
            Kind::Slow | Kind::LoseAnswers => false,
            // What was stored since is lost with it.
            kind if kind.is_restore() => false,
            // Between two self-beats an API server may have been away unnoticed.
            _ if away => fault.to - fault.from > UNNOTICED,
            // Others may go on while one is stopped, or deaf.
            _ => self.alone,
        };
        for (client, promised) in self.clients.iter().zip(&mut self.check.clients) {
            let steady = client.steady_since.is_some() && promised.longest() >= self.now;
            promised.steady = deaf && steady && promised.is_discoverable();
        }
    }

    /// Writes of a replica that grow with nothing: 2 self-beats and 2 ledgers a second and a burst of
    /// three, one checkpoint a second.
    pub fn check_pace(&mut self, replica: usize, pace: Pace) {
        const WINDOW: Time = 10_000;
        let most = if pace == Pace::Checkpoint { 12 } else { 24 };
        let sent = &mut self.check.paces[replica][pace as usize];
        sent.push_back(self.now);
        while sent.front().is_some_and(|at| at + WINDOW < self.now) {
            sent.pop_front();
        }
        let restarts =
            self.faults.iter().any(|fault| matches!(fault.kind, Kind::Crash | Kind::Leave));
        let count = sent.len();
        if count > most && !restarts {
            let what = format!("budget: r{replica} sent {count} {pace:?} in 10 s");
            self.violated(None, what);
        }
    }

    /// P4 at the very end: the view shows what is stored, and what is stored is right.
    pub fn finally(&mut self) {
        self.check.stats.milliseconds = self.now;
        self.check.stats.faults = self.faults.len() as u64;
        let mut revisions = BTreeMap::new();
        for replica in 0..self.replicas.len() - self.duplicates.len() {
            if !self.replicas[replica].up {
                return self.violated(None, format!("P4: r{replica} is not there"));
            }
            let restores =
                self.faults.iter().filter(|fault| fault.kind.is_restore()).count() as u64;
            let steps = self.replicas[replica].catalog.counts().step_backs;
            // One that learns of it in the middle of its start may notice the same restore twice.
            if steps > 2 * restores {
                let what = format!("P4: r{replica} noticed {steps} steps back of {restores}");
                return self.violated(None, what);
            }
            let directory = self.replicas[replica].directory.clone();
            let views = directory.all_services(None);
            for view in &views {
                let before = revisions.entry(view.key.to_string()).or_insert(view.revision);
                if *before != view.revision {
                    let what = format!("P4: r{replica} shows {} in another revision", view.key);
                    return self.violated(None, what);
                }
            }
            let mut shown: Vec<_> =
                views.iter().flat_map(|view| view.members.iter().cloned()).collect();
            shown.sort_by(|a, b| a.facts.key.cmp(&b.facts.key));
            let stored: Vec<_> = self.api.objects.values().cloned().collect();
            let keys = shown.iter().map(|member| &member.facts.key);
            if !keys.eq(stored.iter().map(|stored| &stored.key)) {
                let what = format!("P4: r{replica} shows {} of {}", shown.len(), stored.len());
                self.violated(None, what);
                return;
            }
            for (member, stored) in shown.iter().zip(&stored) {
                self.check_stored(member.phase, stored);
            }
        }
    }

    fn check_stored(&mut self, shown: Phase, stored: &Instance) {
        let client = self.client_of(&stored.key);
        // None of them has a port to share.
        let judged = Judged { instance: stored, phase: shown, shared: None };
        if !status::is_current(&judged) || !status::shows(stored, ZONE) {
            let what = format!("P4: shown as {shown}, stored as {:?}", stored.stored);
            self.violated(client, what);
        }
        if shown == Phase::Expired && stored.lease.on_expiry == OnExpiry::Evict {
            self.violated(client, "P4: expired long ago, and never evicted".to_owned());
        }
    }
}
