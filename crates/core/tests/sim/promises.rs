//! The promises, checked at every step.
//!
//! P1: an instance with an unbroken chain of heartbeats that were answered 200 or stored as an annotation is
//! discoverable on every replica for its whole lease. After a break, this holds on a replica from when it knows
//! of the heartbeat. P2: without faults, an expired instance is gone within lease + 2 s. P3: no instance is
//! evicted within the lease of an acknowledged heartbeat. P4: after faults nothing stalls (see also
//! `end_of_run`). P5: time in which heartbeats may have been missed is given back. P6: see `guard_promise`.
//! Budget: the rate of API writes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rollcall_model::{
    instance::Instance,
    lease::{LeaseMode, Moment},
    view::Member,
};

use crate::{
    Time,
    api::ApiOperation,
    faults::{Fault, FaultKind},
    world::World,
};

/// Expired instances are no longer discoverable this long after the end of their lease.
const LATE: Time = 2_000;

/// The bound after a fault: the other replicas wait for a process that was replaced until it is fenced, 10 s
/// after its last stamp.
const LATE_AFTER_FAULT: Time = 10_000 + LATE;

/// Replicas list again after an outage, but at most once in this time, and give one lease to each instance in
/// a list.
const LIST_INTERVAL: Time = 30_000;

/// The time until all replicas know which of two duplicate processes is older, and no grace for the younger
/// one is left: two ledgers of the older process, a grace of 10 s beyond the last stamp of the younger one, and
/// a lease (20 s at most).
const DUPLICATES_DETECTED_AFTER: Time = 10_000 + 10_000 + 20_000;

/// A shorter outage of the API server can fall between two self-beats (5 s apart while no lease is due), so
/// that no replica can detect it.
const UNDETECTED_OUTAGE: Time = 5_500;

/// Without faults, all other replicas learn of a heartbeat within this time: the longest pause between two
/// ledgers, and the network delays.
const REPORTED_WITHIN: Time = 6_500;

/// The end of a promise to an instance that needs no heartbeats.
const NO_END: Time = Time::MAX / 2;

/// A broken promise.
#[derive(Debug)]
pub struct Violation {
    pub at: Time,
    pub client: Option<usize>,
    pub what: String,
}

/// From when on a replica must keep a promise.
#[derive(Clone, Debug)]
enum AppliesFrom {
    /// From when it has observed this version of the object.
    Version(u64),
    /// From when it has observed this ledger with the heartbeat, and the instance is discoverable.
    Ledger { replica: Arc<str>, boot: Arc<str>, stamp: Moment, uid: Arc<str> },
    /// From its first list on, unless the object is stored as Expired.
    Start,
}

/// A promise that a replica does not know of yet.
#[derive(Clone, Debug)]
struct PendingPromise {
    applies_from: AppliesFrom,
    since: Time,
    end: Time,
}

/// What one replica must publish about a client.
#[derive(Clone, Debug, Default)]
struct ReplicaPromise {
    /// The instance must be discoverable until then.
    end: Time,
    pending: Vec<PendingPromise>,
    discoverable: bool,
    held: bool,
}

/// What one client was promised, and what may have renewed its lease.
#[derive(Clone, Debug, Default)]
struct ClientPromises {
    /// The object must not be deleted until then.
    acknowledged: Time,
    /// By replica.
    by_replica: Vec<ReplicaPromise>,
    /// The time of the last event that any replica may count as a heartbeat.
    last_possible_heartbeat: Time,
    /// Whether it was discoverable and sent heartbeats when the only fault of this seed began.
    steady: bool,
    /// The uid of the object that was evicted last.
    evicted: Option<Arc<str>>,
}

impl ClientPromises {
    fn is_discoverable(&self) -> bool {
        self.by_replica.iter().any(|promise| promise.discoverable)
    }

    fn longest(&self) -> Time {
        self.by_replica.iter().map(|promise| promise.end).max().unwrap_or(0)
    }

    /// Shortens all promises to end at `most` at the latest.
    fn shorten(&mut self, most: Time) {
        self.acknowledged = self.acknowledged.min(most);
        for promise in &mut self.by_replica {
            promise.end = promise.end.min(most);
            promise.pending.iter_mut().for_each(|pending| pending.end = pending.end.min(most));
        }
    }
}

/// Writes of a replica whose rate is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundedWrite {
    SelfBeat,
    Ledger,
    Checkpoint,
}

/// Counts of what happened, to detect runs in which too little happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub milliseconds: u64,
    pub faults: u64,
    pub promises: u64,
    pub expiries: u64,
    pub returns: u64,
    pub evictions: u64,
    pub status_writes: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Self) {
        self.milliseconds += other.milliseconds;
        self.faults += other.faults;
        self.promises += other.promises;
        self.expiries += other.expiries;
        self.returns += other.returns;
        self.evictions += other.evictions;
        self.status_writes += other.status_writes;
    }
}

pub struct Checker {
    clients: Vec<ClientPromises>,
    /// By replica and kind.
    write_times: Vec<[VecDeque<Time>; 3]>,
    pub stats: Stats,
    pub violation: Option<Violation>,
}

impl Checker {
    pub fn new(clients: usize, replicas: usize) -> Self {
        let by_replica = vec![ReplicaPromise::default(); replicas];
        Self {
            clients: vec![ClientPromises { by_replica, ..ClientPromises::default() }; clients],
            write_times: vec![Default::default(); replicas],
            stats: Stats::default(),
            violation: None,
        }
    }
}

impl World {
    /// The time of the last event that any replica may have counted as a heartbeat of this client.
    pub fn last_possible_heartbeat(&self, client: usize) -> Time {
        self.checker.clients[client].last_possible_heartbeat
    }

    pub fn record_violation(&mut self, client: Option<usize>, what: String) {
        let at = self.now;
        self.checker.violation.get_or_insert(Violation { at, client, what });
    }

    /// The shortest duration of a lease by the clock of the world: a replica's clock can run faster.
    fn shortest_lease(&self, lease: Duration) -> Time {
        let lease = lease.as_millis() as Time;
        let ppm = self.replicas.iter().map(|replica| replica.ppm.unsigned_abs()).max().unwrap_or(0);
        lease - if ppm > 0 { lease * ppm / 1_000_000 + 2 } else { 0 }
    }

    fn lease_end(&self, from: Time, (stored, record): (&Instance, &Instance)) -> Time {
        match stored.lease.mode {
            LeaseMode::Permanent => NO_END,
            LeaseMode::Heartbeat => {
                from + self.shortest_lease(stored.lease.duration.min(record.lease.duration))
            }
        }
    }

    /// The replica `answered_by` answers 200 to an HTTP heartbeat that arrived at `arrived`. `stored` says
    /// whether it wrote the heartbeat.
    pub fn promise(
        &mut self,
        client: usize,
        arrived: Time,
        record: &Instance,
        (answered_by, stored): (usize, bool),
    ) {
        self.checker.stats.promises += 1;
        let object = self.api.objects.get(&record.key).filter(|stored| stored.uid == record.uid);
        let Some(object) = object else {
            if self.checker.clients[client].evicted.as_ref() == Some(&record.uid) {
                self.record_violation(
                    Some(client),
                    "P3: answered 200, but it had been evicted".to_owned(),
                );
            }
            // The object was deleted by another client, and the watch has not reported it yet.
            return;
        };
        let end = self.lease_end(arrived, (object, record));
        let process = &self.replicas[answered_by];
        let applies_from = match stored {
            true => AppliesFrom::Version(record.resource_version),
            false => AppliesFrom::Ledger {
                replica: process.own.name.clone(),
                boot: format!("b{}", process.boot).into(),
                stamp: process.now(arrived, self.mutation).moment,
                uid: record.uid.clone(),
            },
        };
        // A heartbeat that had to be stored is reported in time only if it was stored in time.
        let (now, single_replica) = (self.now, self.single_replica);
        let known = if stored { now } else { arrived };
        let promises = &mut self.checker.clients[client];
        promises.acknowledged = promises.acknowledged.max(end);
        for (replica, promise) in promises.by_replica.iter_mut().enumerate() {
            if single_replica || replica == answered_by || known <= promise.end {
                promise.end = promise.end.max(end);
            } else {
                promise.pending.push(PendingPromise {
                    applies_from: applies_from.clone(),
                    since: now,
                    end,
                });
            }
        }
        (0..self.replicas.len()).for_each(|replica| self.check_replica(replica));
    }

    /// A heartbeat that a client stored itself is acknowledged.
    pub fn promise_stored(&mut self, client: usize, applied: Time, stored: &Instance) {
        self.checker.stats.promises += 1;
        let current = self.api.objects.get(&stored.key).filter(|now| now.uid == stored.uid);
        let Some(current) = current else { return };
        let (end, since) = (self.lease_end(applied, (current, stored)), self.now);
        let promises = &mut self.checker.clients[client];
        promises.acknowledged = promises.acknowledged.max(end);
        for promise in &mut promises.by_replica {
            if applied <= promise.end {
                promise.end = promise.end.max(end);
            } else {
                let applies_from = AppliesFrom::Version(stored.resource_version);
                promise.pending.push(PendingPromise { applies_from, since, end });
            }
        }
    }

    /// A process starts: it learns of every promise by its first list.
    pub fn expect_first_list(&mut self, replica: usize) {
        if self.single_replica {
            return;
        }
        let since = self.now;
        for promises in &mut self.checker.clients {
            let end = promises.longest();
            let pending = vec![PendingPromise { applies_from: AppliesFrom::Start, since, end }];
            promises.by_replica[replica] =
                ReplicaPromise { end: 0, pending, discoverable: false, held: false };
        }
    }

    /// Records an event that a replica may count as a heartbeat.
    pub fn record_possible_heartbeat(&mut self, client: usize) {
        self.checker.clients[client].last_possible_heartbeat = self.now;
    }

    /// Drops the promises to a client whose object is deleted by a client or an operator.
    pub fn drop_promises(&mut self, client: usize) {
        let promises = &mut self.checker.clients[client];
        promises.acknowledged = 0;
        for promise in &mut promises.by_replica {
            promise.end = 0;
            promise.pending.clear();
        }
    }

    /// The store has stepped back. Registrations and revivals that were stored since the backup are not
    /// promised, and a restored object may be discoverable for one lease.
    pub fn adjust_to_restore(&mut self, client: usize, before: Option<&Arc<Instance>>) {
        self.record_possible_heartbeat(client);
        let stored = self.api.objects.get(&self.clients[client].key).cloned();
        let same = stored.filter(|stored| before.is_some_and(|before| before.uid == stored.uid));
        let Some(stored) = same.filter(|stored| !stored.is_stored_expired()) else {
            return self.drop_promises(client);
        };
        let most = self.now + stored.lease.duration.as_millis() as Time;
        let promises = &mut self.checker.clients[client];
        if stored.lease.mode == LeaseMode::Heartbeat {
            promises.shorten(most);
        }
        for promise in &mut promises.by_replica {
            promise
                .pending
                .retain(|pending| !matches!(pending.applies_from, AppliesFrom::Version(_)));
        }
    }

    /// Called before a write is executed.
    pub fn before_write(&mut self, op: &ApiOperation) {
        let Some(client) = self.client_of(op.key()) else { return };
        let Some(stored) = self.api.objects.get(op.key()) else { return };
        let ApiOperation::Delete { uid, version, evicts, .. } = op else { return };
        let stale = uid.as_ref().is_some_and(|uid| *uid != stored.uid)
            || version.is_some_and(|version| version != stored.resource_version);
        if stale {
            return;
        }
        let (uid, now) = (stored.uid.clone(), self.now);
        let kept = self.checker.clients[client].acknowledged >= now;
        if *evicts {
            self.checker.stats.evictions += 1;
            self.checker.clients[client].evicted = Some(uid);
            if kept {
                self.record_violation(Some(client), "P3: evicted within its lease".to_owned());
            }
        }
        self.drop_promises(client);
    }

    /// Called after a write that changed something.
    pub fn after_write(&mut self, op: &ApiOperation) {
        self.checker.stats.status_writes += u64::from(matches!(op, ApiOperation::Status { .. }));
        let Some(client) = self.client_of(op.key()) else { return };
        if !matches!(op, ApiOperation::Register { .. } | ApiOperation::Beat { .. }) {
            return;
        }
        self.record_possible_heartbeat(client);
        // The lease may have become shorter: from now on no more than its new duration is promised.
        let Some(stored) = self.api.objects.get(op.key()) else { return };
        let most = self.now + stored.lease.duration.as_millis() as Time;
        let leased = stored.lease.mode == LeaseMode::Heartbeat;
        let promises = &mut self.checker.clients[client];
        // A client that changes its lease while responses are late can use the wrong duration.
        promises.steady &=
            !matches!(op, ApiOperation::Beat { change, .. } if change.duration.is_some());
        if leased {
            promises.shorten(most);
        }
    }

    /// Checks what a replica publishes now.
    pub fn check_replica(&mut self, replica: usize) {
        let directory = self.replicas[replica].directory.clone();
        // A replica that yields to another process of its identity is not ready: nothing is promised for it.
        if !self.replicas[replica].up || !directory.is_synced() || directory.report().yields {
            return;
        }
        for client in 0..self.clients.len() {
            let state = &self.clients[client];
            let view = directory.service(&state.key.namespace, &state.service);
            let member = view.as_ref().and_then(|view| view.by_label(&state.key.name));
            let discoverable = member.is_some_and(|member| member.phase.is_discoverable());
            let held = member.is_some_and(|member| member.held);
            let of = |member: &Arc<Member>| {
                let slot = directory.slot(&state.key.namespace, &state.key.name)?;
                Some(slot.record()).filter(|record| record.uid == member.facts.uid)
            };
            let record = member.and_then(of);
            self.activate_pending(replica, client, record.as_deref(), discoverable);
            let promise = &mut self.checker.clients[client].by_replica[replica];
            let was = std::mem::replace(&mut promise.discoverable, discoverable);
            let was_held = std::mem::replace(&mut promise.held, held);
            if let Some(view) = &view {
                match (was_held, held, was, discoverable) {
                    (false, true, ..) => self.check_held(replica, client, view),
                    (_, _, true, false) => self.check_expired(replica, client, view),
                    _ => {}
                }
            }
            if was != discoverable {
                self.checker.stats.expiries += u64::from(was);
                self.checker.stats.returns += u64::from(discoverable);
                self.mix(u64::from(discoverable) << 32 | client as u64);
                let state_name =
                    if discoverable { "discoverable" } else { "no longer discoverable" };
                self.log(Some(client), || format!("r{replica}: {state_name}"));
            }
            match discoverable {
                true => self.check_discoverable(replica, client, held),
                false => self.check_undiscoverable(replica, client),
            }
        }
    }

    /// Activates the pending promises that this replica knows of by now.
    fn activate_pending(
        &mut self,
        replica: usize,
        client: usize,
        record: Option<&Instance>,
        discoverable: bool,
    ) {
        let now = self.now;
        let observed = record.filter(|record| self.api.has_stored(record));
        let observed = observed.map_or(0, |record| record.resource_version);
        let excused = record.is_some_and(Instance::is_stored_expired);
        let observed_ledgers = &self.replicas[replica].observed_ledgers;
        let promise = &mut self.checker.clients[client].by_replica[replica];
        let mut late = false;
        promise.pending.retain(|pending| {
            let known = match &pending.applies_from {
                AppliesFrom::Version(version) => *version <= observed,
                AppliesFrom::Start => true,
                AppliesFrom::Ledger { replica, boot, stamp, uid } => {
                    let (of, up_to) = observed_ledgers.get(replica).cloned().unwrap_or_default();
                    let same = record.is_some_and(|record| record.uid == *uid);
                    discoverable && same && of == *boot && up_to >= *stamp
                }
            };
            if known && !(excused && matches!(pending.applies_from, AppliesFrom::Start)) {
                promise.end = promise.end.max(pending.end);
            }
            late |= !known && now > pending.since + REPORTED_WITHIN && pending.end > now;
            !known && pending.end >= now
        });
        if late && self.faults.is_empty() {
            self.record_violation(
                Some(client),
                format!("P1: r{replica} did not learn of a heartbeat in time"),
            );
        }
    }

    fn check_undiscoverable(&mut self, replica: usize, client: usize) {
        let (end, steady) = {
            let promises = &self.checker.clients[client];
            (promises.by_replica[replica].end, promises.steady)
        };
        if end >= self.now {
            let left = (end - self.now) as f64 / 1000.0;
            return self.record_violation(
                Some(client),
                format!("P1: not discoverable by r{replica}, {left} s before the end"),
            );
        }
        let Some(fault) = self.faults.first().filter(|_| self.faults.len() == 1) else { return };
        let state = &self.clients[client];
        let third = state.lease.duration.as_millis() as Time / 3;
        let heartbeats_arrive_by = fault.to + third + 1_200;
        let beating = state.steady_since.is_some_and(|since| since < fault.from);
        if steady && beating && self.now > fault.from && self.now < heartbeats_arrive_by {
            let what = format!(
                "P5: expired by {:?}, although its heartbeats could not arrive",
                fault.kind
            );
            self.record_violation(Some(client), what);
        }
    }

    fn check_discoverable(&mut self, replica: usize, client: usize, held: bool) {
        let Some(stored) = self.api.objects.get(&self.clients[client].key) else { return };
        if stored.lease.mode == LeaseMode::Permanent {
            return;
        }
        // A hold lasts at most one more lease.
        let leases = if held { 2 } else { 1 };
        let lease = stored.lease.duration.as_millis() as Time * leases;
        // A start gives every instance one lease.
        let started = self.replicas[replica].started;
        let last_possible_heartbeat =
            self.checker.clients[client].last_possible_heartbeat.max(started);
        self.check_with_duplicates(client, last_possible_heartbeat + lease);
        if self.faults.is_empty() && self.now > last_possible_heartbeat + lease + LATE {
            self.record_violation(Some(client), "P2: discoverable long after its lease".to_owned());
        } else if self.now
            > last_possible_heartbeat.max(self.faults_end) + lease + self.bound_after_fault()
        {
            self.record_violation(
                Some(client),
                "P4: discoverable long after its lease and all faults".to_owned(),
            );
        }
    }

    /// Two processes of one identity keep no expired instance once it is known which one is older.
    fn check_with_duplicates(&mut self, client: usize, end: Time) {
        let duplicate = self
            .faults
            .first()
            .filter(|it| self.faults.len() == 1 && it.kind == FaultKind::Duplicate);
        let Some(duplicate) = duplicate else { return };
        let detected = duplicate.from + DUPLICATES_DETECTED_AFTER;
        if self.now < duplicate.to && self.now > end.max(detected) + LATE_AFTER_FAULT {
            self.record_violation(
                Some(client),
                "P4: discoverable long after its lease, with duplicate processes".to_owned(),
            );
        }
    }

    fn bound_after_fault(&self) -> Time {
        let restored = self.faults.iter().any(|fault| fault.kind.is_restore());
        LATE_AFTER_FAULT + if restored { LIST_INTERVAL } else { 0 }
    }

    /// The only fault of this seed begins: records which clients send heartbeats and are discoverable.
    pub fn record_steady_clients(&mut self, fault: Fault) {
        let away = matches!(fault.kind, FaultKind::Refuse | FaultKind::Hang | FaultKind::ReadOnly);
        let loses_heartbeats = match fault.kind {
            // Requests take seconds or responses are lost: heartbeats arrive late, or are not confirmed.
            FaultKind::Slow | FaultKind::LoseResponses => false,
            // What was stored since the backup is lost.
            kind if kind.is_restore() => false,
            // An outage between two self-beats may go undetected.
            _ if away => fault.to - fault.from > UNDETECTED_OUTAGE,
            // Other replicas continue while one is stopped or has a stalled watch.
            _ => self.single_replica,
        };
        for (client, promises) in self.clients.iter().zip(&mut self.checker.clients) {
            let steady = client.steady_since.is_some() && promises.longest() >= self.now;
            promises.steady = loses_heartbeats && steady && promises.is_discoverable();
        }
    }

    /// Bounds the writes of a replica that do not grow with load: 2 self-beats and 2 ledgers a second plus a
    /// burst of three, and one checkpoint a second.
    pub fn check_write_rate(&mut self, replica: usize, write: BoundedWrite) {
        const WINDOW: Time = 10_000;
        let most = if write == BoundedWrite::Checkpoint { 12 } else { 24 };
        let sent = &mut self.checker.write_times[replica][write as usize];
        sent.push_back(self.now);
        while sent.front().is_some_and(|at| at + WINDOW < self.now) {
            sent.pop_front();
        }
        let restarts = self
            .faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Crash | FaultKind::Leave));
        let count = sent.len();
        if count > most && !restarts {
            let what = format!("budget: r{replica} sent {count} {write:?} in 10 s");
            self.record_violation(None, what);
        }
    }
}
