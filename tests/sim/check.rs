//! The promises, checked at every step.
//!
//! P1: whoever's last beat was answered 200, or stored as an annotation in an unbroken chain, is
//! offered for its whole lease. P2: while all is well the dead are gone within lease + 2 s.
//! P3: nobody is evicted within the lease of an acknowledged beat. P4: after faults nothing
//! stands still. P5: time in which beats could not be heard is given back. Budget: API writes.

use std::{collections::VecDeque, sync::Arc};

use rollcall::registry::{
    instance::{Instance, Phase},
    lease::{Mode, OnExpiry},
    status,
};

use crate::{
    Time, ZONE,
    api::Op,
    faults::{Fault, Kind},
    world::World,
};

/// The dead are gone this long after their lease.
const LATE: Time = 2_000;

/// The same after a fault.
const LATE_AFTER_FAULT: Time = 10_000;

/// An API server that is away for less may be away between two self-beats (5 s apart while nothing
/// is due), so that nobody here can know of it.
const UNNOTICED: Time = 5_500;

/// For whoever needs no beats.
const FOR_EVER: Time = Time::MAX / 2;

/// What broke, and about whom.
#[derive(Debug)]
pub struct Violation {
    pub at: Time,
    pub client: Option<usize>,
    pub what: String,
}

/// What one client was promised, and what might keep it alive.
#[derive(Clone, Debug, Default)]
struct Promised {
    /// Offered until then.
    end: Time,
    /// Stored beats that the replica has not seen: from when it has, offered until then.
    pending: Vec<(u64, Time)>,
    /// The last thing that any replica may count as a beat.
    touched: Time,
    /// Whether it was being offered and beating when the one fault of this seed began.
    steady: bool,
    /// The incarnation that was evicted last.
    evicted: Option<Arc<str>>,
    offered: bool,
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
    self_beats: VecDeque<Time>,
    checkpoints: VecDeque<Time>,
    pub stats: Stats,
    pub violation: Option<Violation>,
}

impl Check {
    pub fn new(clients: usize) -> Self {
        Self {
            clients: vec![Promised::default(); clients],
            self_beats: VecDeque::new(),
            checkpoints: VecDeque::new(),
            stats: Stats::default(),
            violation: None,
        }
    }
}

impl World {
    fn violated(&mut self, client: Option<usize>, what: String) {
        let at = self.now;
        self.check.violation.get_or_insert(Violation { at, client, what });
    }

    /// An HTTP beat that arrived at `arrived` is answered 200.
    pub fn promise(&mut self, client: usize, arrived: Time, record: &Instance) {
        self.check.stats.promises += 1;
        let stored = self.api.objects.get(&record.key).filter(|stored| stored.uid == record.uid);
        let Some(stored) = stored else {
            if self.check.clients[client].evicted.as_ref() == Some(&record.uid) {
                self.violated(Some(client), "P3: answered 200, but it had been evicted".to_owned());
            }
            // Somebody else deleted it: the watch has not told yet.
            return;
        };
        let lease = stored.lease.duration.min(record.lease.duration);
        let end = arrived + lease.as_millis() as Time;
        let end = if stored.lease.mode == Mode::Permanent { FOR_EVER } else { end };
        let promised = &mut self.check.clients[client];
        promised.end = promised.end.max(end);
        (0..self.replicas.len()).for_each(|replica| self.check_replica(replica));
    }

    /// A beat that a client stored itself is acknowledged.
    pub fn promise_stored(&mut self, client: usize, applied: Time, stored: &Instance) {
        self.check.stats.promises += 1;
        let current = self.api.objects.get(&stored.key).filter(|now| now.uid == stored.uid);
        let Some(current) = current else { return };
        let lease = current.lease.duration.min(stored.lease.duration);
        let end = applied + lease.as_millis() as Time;
        let end = if current.lease.mode == Mode::Permanent { FOR_EVER } else { end };
        let promised = &mut self.check.clients[client];
        if applied <= promised.end {
            promised.end = promised.end.max(end);
        } else {
            promised.pending.push((stored.resource_version, end));
        }
    }

    /// Something happened that a replica may count as a beat.
    pub fn counted(&mut self, client: usize) {
        self.check.clients[client].touched = self.now;
    }

    /// Nothing is promised to whoever is being deleted on purpose.
    pub fn dismiss(&mut self, client: usize) {
        self.check.clients[client].end = 0;
        self.check.clients[client].pending.clear();
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
        let promised = &self.check.clients[client];
        let kept = promised.end >= now || promised.pending.iter().any(|(_, end)| *end >= now);
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
        let leased = stored.lease.mode == Mode::Heartbeat;
        let promised = &mut self.check.clients[client];
        // Whoever changes its lease while answers are late may believe in the wrong one.
        promised.steady &= !matches!(op, Op::Beat { change, .. } if change.duration.is_some());
        if leased {
            promised.end = promised.end.min(most);
            promised.pending.iter_mut().for_each(|(_, end)| *end = most.min(*end));
        }
    }

    /// What a replica shows now.
    pub fn check_replica(&mut self, replica: usize) {
        let directory = self.replicas[replica].directory.clone();
        if !self.replicas[replica].up || !directory.is_synced() {
            return;
        }
        for client in 0..self.clients.len() {
            let one = &self.clients[client];
            let view = directory.service(&one.key.namespace, &one.service);
            let member = view.as_ref().and_then(|view| view.by_label(&one.key.name));
            let offered = member.is_some_and(|member| member.phase.is_discoverable());
            let seen = member.map_or(0, |member| member.slot.record().resource_version);
            let now = self.now;
            let promised = &mut self.check.clients[client];
            let visible = promised.pending.iter().filter(|(version, _)| *version <= seen);
            let ends = visible.map(|(_, end)| *end).max().unwrap_or(0);
            promised.pending.retain(|(version, end)| *version > seen && *end >= now);
            promised.end = promised.end.max(ends);
            let was = std::mem::replace(&mut promised.offered, offered);
            if was != offered {
                self.check.stats.lapses += u64::from(was);
                self.check.stats.returns += u64::from(offered);
                self.mix(u64::from(offered) << 32 | client as u64);
                let word = if offered { "offered" } else { "not offered any more" };
                self.note(Some(client), || format!("r{replica}: {word}"));
            }
            match offered {
                true => self.check_dead(client),
                false => self.check_alive(client),
            }
        }
    }

    fn check_alive(&mut self, client: usize) {
        let (end, steady) = {
            let promised = &self.check.clients[client];
            (promised.end, promised.steady)
        };
        if end >= self.now {
            let left = (end - self.now) as f64 / 1000.0;
            return self
                .violated(Some(client), format!("P1: not offered, {left} s before the end"));
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

    fn check_dead(&mut self, client: usize) {
        let Some(stored) = self.api.objects.get(&self.clients[client].key) else { return };
        if stored.lease.mode == Mode::Permanent {
            return;
        }
        let lease = stored.lease.duration.as_millis() as Time;
        let touched = self.check.clients[client].touched;
        if self.faults.is_empty() && self.now > touched + lease + LATE {
            self.violated(Some(client), "P2: offered long after its lease".to_owned());
        } else if self.now > touched.max(self.mended) + lease + LATE_AFTER_FAULT {
            self.violated(
                Some(client),
                "P4: offered long after its lease and all faults".to_owned(),
            );
        }
    }

    /// The one fault of this seed begins: who is beating, and offered?
    pub fn remember_steady(&mut self, fault: Fault) {
        let away = matches!(fault.kind, Kind::Refuse | Kind::Hang | Kind::ReadOnly);
        let deaf = match fault.kind {
            // Each way takes seconds, or answers are lost: beats were heard late, or in vain.
            Kind::Slow | Kind::LoseAnswers => false,
            // Between two self-beats an API server may have been away unnoticed.
            _ => !away || fault.to - fault.from > UNNOTICED,
        };
        for (client, promised) in self.clients.iter().zip(&mut self.check.clients) {
            let steady = client.steady_since.is_some() && promised.end >= self.now;
            promised.steady = deaf && steady && promised.offered;
        }
    }

    /// Writes of a replica that grow with nothing: 2 self-beats a second and a burst of three,
    /// one checkpoint a second.
    pub fn check_pace(&mut self, replica: usize, self_beat: bool) {
        const WINDOW: Time = 10_000;
        let check = &mut self.check;
        let (sent, most, what) = match self_beat {
            true => (&mut check.self_beats, 24, "self-beats"),
            false => (&mut check.checkpoints, 12, "checkpoints"),
        };
        sent.push_back(self.now);
        while sent.front().is_some_and(|at| at + WINDOW < self.now) {
            sent.pop_front();
        }
        let crashes = self.faults.iter().any(|fault| fault.kind == Kind::Crash);
        let count = sent.len();
        if count > most && !crashes {
            let what = format!("budget: r{replica} sent {count} {what} in 10 s");
            self.violated(None, what);
        }
    }

    /// P4 at the very end: the view shows what is stored, and what is stored is right.
    pub fn finally(&mut self) {
        self.check.stats.milliseconds = self.now;
        self.check.stats.faults = self.faults.len() as u64;
        for replica in 0..self.replicas.len() {
            let directory = self.replicas[replica].directory.clone();
            let views = directory.all_services(None);
            let mut shown: Vec<_> =
                views.iter().flat_map(|view| view.members.iter().cloned()).collect();
            shown.sort_by(|a, b| a.instance.key.cmp(&b.instance.key));
            let stored: Vec<_> = self.api.objects.values().cloned().collect();
            let keys = shown.iter().map(|member| &member.instance.key);
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
        if !status::is_current(stored, shown) || !status::shows(stored, ZONE) {
            let what = format!("P4: shown as {shown}, stored as {:?}", stored.stored);
            self.violated(client, what);
        }
        if shown == Phase::Expired && stored.lease.on_expiry == OnExpiry::Evict {
            self.violated(client, "P4: expired long ago, and never evicted".to_owned());
        }
    }
}
