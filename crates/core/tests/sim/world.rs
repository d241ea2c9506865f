//! The world: virtual time, the queue of what happens next, and calls on their way to the API
//! server and back. Owns the order of things; each thing's own behaviour is in its module.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use rollcall_model::instance::InstanceKey;

use crate::{
    Time,
    api::{Answer, Api, Fail, Op},
    check::{Check, Violation},
    clients::Client,
    election::Office,
    faults::{Fault, Kind, plan, plan_alone},
    replica::{Caller, Replica},
    sabotage::Sabotage,
    server::{Reply, Request},
    shrink::Without,
    watch::Feed,
};

/// What happens next.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call reaches the API server.
    Arrive(usize),
    /// Its answer reaches the caller.
    Answered(usize, Answer),
    /// The caller waits no longer.
    GiveUp(usize),
    Watch {
        replica: usize,
        feed: Feed,
        epoch: u64,
    },
    Engine {
        replica: usize,
    },
    Client {
        client: usize,
        generation: u64,
    },
    /// An HTTP request reaches its door.
    Request(usize),
    /// The answer reaches the client.
    Response(usize, Reply),
    Election,
    Join(usize),
    Fault(usize),
    FaultEnd(usize),
}

/// A call to the API server.
#[derive(Debug)]
pub struct Call {
    pub op: Op,
    pub from: Caller,
    done: bool,
    /// When it was carried out, and the version of the store then.
    pub applied: Time,
    version: u64,
}

struct Next {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Next {}
impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// How many faults of each kind are going on.
#[derive(Debug, Default)]
pub struct Weather {
    pub refusing: u32,
    pub hanging: u32,
    pub read_only: u32,
    pub slow: u32,
    pub losing: u32,
    /// When the API server goes on.
    hangs_until: Time,
}

pub struct World {
    pub now: Time,
    pub rng: fastrand::Rng,
    pub api: Api,
    pub replicas: Vec<Replica>,
    pub clients: Vec<Client>,
    pub requests: Vec<Request>,
    pub faults: Vec<Fault>,
    pub weather: Weather,
    /// By replica, its duplicate: both have one name.
    pub duplicates: BTreeMap<usize, usize>,
    pub check: Check,
    pub sabotage: Sabotage,
    /// One replica that keeps no ledger.
    pub alone: bool,
    distance: Time,
    pub office: Office,
    /// When the last fault is over, and when clients stop changing their minds.
    pub mended: Time,
    pub calm: Time,
    pub end: Time,
    calls: Vec<Call>,
    queue: BinaryHeap<Reverse<Next>>,
    order: u64,
    /// A hash of everything that happened.
    pub trace: u64,
    journal: Option<Vec<(Time, Option<usize>, String)>>,
}

impl World {
    pub fn new(seed: u64, sabotage: Sabotage, keep_journal: bool) -> Self {
        Self::with(seed, sabotage, keep_journal, &Without::default())
    }

    /// The same, but for what is left out.
    pub fn with(seed: u64, sabotage: Sabotage, keep_journal: bool, without: &Without) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // A quarter without faults, a quarter with one, the others with several.
        let count = match seed % 4 {
            // About a store that goes back there is always something wrong.
            0 if !sabotage.is_about_restores() => 0,
            1 => 1,
            2 => rng.usize(2..8),
            _ => rng.usize(4..12),
        };
        let replicas = [0, 1, 2, 2, 3, 3, 4][rng.usize(..7)];
        let (alone, replicas) = (replicas == 0, replicas.max(1));
        // Clocks that run as they should, as they do, or as badly as is allowed for.
        let drift = [0, 200, 490][rng.usize(..3)];
        let faults = match alone {
            true => plan_alone(&mut rng, count),
            false => plan(&mut rng, count, replicas, sabotage.theme()),
        };
        // How far the API server is away, each way.
        let duplicates: Vec<_> = faults.iter().filter(|it| it.kind == Kind::Duplicate).collect();
        let duplicates: BTreeSet<_> = duplicates.into_iter().map(|it| it.replica).collect();
        let distance = [0, 0, 50, 90][rng.usize(..4)];
        let mended = faults.iter().map(|fault| fault.to).max().unwrap_or(0);
        let calm = mended.max(50_000) + 5_000;
        let many = rng.usize(3..10);
        let clients: Vec<_> = (0..many).map(|i| Client::new(i, &mut rng, replicas)).collect();
        let mut world = Self {
            now: 0,
            api: Api::from(0),
            replicas: (0..replicas)
                .map(|i| {
                    let ppm = if alone { 0 } else { rng.i64(-drift..=drift) };
                    Replica::new(i, &mut rng, ppm)
                })
                .collect(),
            check: Check::new(clients.len(), replicas + duplicates.len()),
            duplicates: duplicates
                .iter()
                .enumerate()
                .map(|(at, of)| (*of, replicas + at))
                .collect(),
            alone,
            distance,
            office: Office::default(),
            clients,
            requests: Vec::new(),
            weather: Weather::default(),
            sabotage,
            mended,
            calm,
            end: calm + 125_000,
            calls: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            trace: seed,
            journal: keep_journal.then(Vec::new),
            rng,
            faults,
        };
        for of in duplicates {
            let ppm = world.rng.i64(-drift..=drift);
            world.replicas.push(Replica::duplicate(of, &mut world.rng, ppm));
        }
        let mut number = 0..;
        world.faults.retain(|_| number.next().is_none_or(|it| !without.faults.contains(&it)));
        world.begin(without);
        world
    }

    fn begin(&mut self, without: &Without) {
        for i in 0..self.faults.len() {
            self.push(self.faults[i].from, Event::Fault(i));
            self.push(self.faults[i].to, Event::FaultEnd(i));
        }
        for client in 0..self.clients.len() {
            let at = self.rng.u64(0..20_000);
            if !without.clients.contains(&client) {
                self.push(at, Event::Client { client, generation: 0 });
            }
        }
        for replica in 0..self.replicas.len() - self.duplicates.len() {
            // The first is there; others may join.
            let joins = replica > 0 && self.rng.bool();
            let at = if joins { self.rng.u64(0..30_000) } else { 0 };
            self.push(at, Event::Join(replica));
        }
        self.push(500, Event::Election);
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > self.end {
                break;
            }
            self.now = next.at;
            self.mix(next.at);
            self.happen(next.event);
            if let Some(violation) = self.check.violation.take() {
                return Err(violation);
            }
        }
        self.now = self.end;
        self.finally();
        self.check.violation.take().map_or(Ok(()), Err)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(call) => self.arrive(call),
            Event::Answered(call, answer) => self.answered(call, answer),
            Event::GiveUp(call) => {
                if !self.calls[call].done {
                    self.deliver(&Event::GiveUp(call), call, &Err(Fail::Away));
                }
            }
            Event::Watch { replica, feed, epoch } => self.watch(replica, feed, epoch),
            Event::Election => self.election(),
            Event::Join(replica) => {
                if !self.replicas[replica].up {
                    self.start(replica);
                }
            }
            Event::Engine { replica } => self.engine(replica),
            Event::Client { client, generation } => self.client(client, generation),
            Event::Request(request) => self.request(request),
            Event::Response(request, reply) => self.replied(request, &reply),
            Event::Fault(fault) => self.fault(self.faults[fault], true),
            Event::FaultEnd(fault) => self.fault(self.faults[fault], false),
        }
    }

    pub fn push(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Next { at, order: self.order, event }));
    }

    pub fn push_in(&mut self, delay: Time, event: Event) {
        self.push(self.now + delay, event);
    }

    /// How long one way to or from the API server takes.
    pub fn way(&mut self) -> Time {
        let slow = self.weather.slow > 0;
        self.distance + if slow { self.rng.u64(50..4000) } else { self.rng.u64(1..=60) }
    }

    /// The same for what a watch tells, at least.
    pub fn way_back(&self) -> Time {
        self.distance
    }

    /// Calls the API server; the caller waits for `patience`.
    pub fn call(&mut self, op: Op, from: Caller, patience: Time) {
        let id = self.calls.len();
        self.calls.push(Call { op, from, done: false, applied: 0, version: 0 });
        let way = self.way();
        self.push_in(way, Event::Arrive(id));
        self.push_in(patience, Event::GiveUp(id));
    }

    /// Who made a call, if it was a replica.
    fn caller(&self, from: &Caller) -> Option<usize> {
        match from {
            Caller::Client { .. } | Caller::Nobody => None,
            Caller::Door { request } => Some(self.requests[*request].replica),
            Caller::Duty { replica, .. }
            | Caller::SelfBeat { replica, .. }
            | Caller::Flush { replica, .. } => Some(*replica),
        }
    }

    fn arrive(&mut self, id: usize) {
        let caller = self.caller(&self.calls[id].from);
        if caller.is_some_and(|replica| self.replicas[replica].muted > 0) {
            return;
        }
        if self.weather.hanging > 0 {
            let again = self.weather.hangs_until + self.rng.u64(1..300);
            return self.push(again.max(self.now + 1), Event::Arrive(id));
        }
        let op = self.calls[id].op.clone();
        let refused = self.weather.refusing > 0 || (self.weather.read_only > 0 && op.is_write());
        let answer = if refused {
            Err(Fail::Away)
        } else {
            self.before(&op);
            let before = self.api.version;
            let answer = self.api.execute(&op, self.now);
            (self.calls[id].applied, self.calls[id].version) = (self.now, self.api.version);
            self.note_key(op.key(), |w| {
                format!("server: {} → {}", op.name(), outcome(&answer, w.api.version))
            });
            if self.api.version != before {
                self.committed(&op);
                self.kick_watches();
            }
            answer
        };
        self.mix(self.api.version);
        let lost = self.weather.losing > 0 && self.rng.f64() < 0.4;
        if !lost {
            let way = self.way();
            self.push_in(way, Event::Answered(id, answer));
        }
    }

    fn answered(&mut self, id: usize, answer: Answer) {
        if self.weather.hanging > 0 {
            let again = self.weather.hangs_until + self.rng.u64(1..300);
            return self.push(again.max(self.now + 1), Event::Answered(id, answer));
        }
        if !self.calls[id].done {
            self.deliver(&Event::Answered(id, answer.clone()), id, &answer);
        }
    }

    /// Hands an answer to the caller, or parks it while that one is frozen.
    fn deliver(&mut self, event: &Event, id: usize, answer: &Answer) {
        let from = self.calls[id].from.clone();
        let replica = self.caller(&from);
        if replica.is_some_and(|replica| self.park(replica, event)) {
            return;
        }
        self.calls[id].done = true;
        let Call { op, applied, version, .. } = &self.calls[id];
        let (op, applied, version) = (op.clone(), *applied, *version);
        match from {
            Caller::Client { client, generation } => {
                self.api_answered((client, generation), &op, answer, applied);
            }
            Caller::Door { request } => self.door_answered(request, &op, answer.clone()),
            other => self.duty_answered(&other, &op, answer, version),
        }
    }

    fn fault(&mut self, fault: Fault, begins: bool) {
        self.note(None, || format!("{:?} {}", fault.kind, if begins { "begins" } else { "ends" }));
        if begins && self.faults.len() == 1 {
            self.remember_steady(fault);
        }
        let weather = &mut self.weather;
        let counter = match fault.kind {
            Kind::Refuse | Kind::GoesBack | Kind::GoesBackAndOn | Kind::Leaps => {
                &mut weather.refusing
            }
            Kind::Hang => &mut weather.hanging,
            Kind::ReadOnly => &mut weather.read_only,
            Kind::Slow => &mut weather.slow,
            Kind::LoseAnswers => &mut weather.losing,
            _ => return self.replica_fault(fault, begins),
        };
        *counter = if begins { *counter + 1 } else { *counter - 1 };
        if begins && fault.kind == Kind::Hang {
            weather.hangs_until = weather.hangs_until.max(fault.to);
        }
        if fault.kind.is_restore() && !begins {
            self.restore(fault.kind);
        }
        if fault.kind.is_restore() || matches!(fault.kind, Kind::Refuse | Kind::Hang) {
            for replica in 0..self.replicas.len() {
                self.block_watches(replica, begins);
            }
        }
    }

    /// The API server is back, with an older store.
    fn restore(&mut self, kind: Kind) {
        let back = self.rng.u64(1..80).min(self.api.version);
        let leap = match kind {
            Kind::GoesBackAndOn => back + self.rng.u64(0..200),
            Kind::Leaps => 1_000_000,
            _ => 0,
        };
        let before = self.api.clone();
        self.api.restore(back, leap);
        self.restore_watches(&before, kind == Kind::Leaps);
        self.note(None, || format!("the store goes back by {back}, and on by {leap}"));
        for client in 0..self.clients.len() {
            self.check_restored(client, before.objects.get(&self.clients[client].key));
        }
    }

    /// The place of the second process of a replica's name.
    pub fn duplicate_of(&self, replica: usize) -> usize {
        self.duplicates.get(&replica).copied().unwrap_or(replica)
    }

    /// Which client a key belongs to; none for a replica's own.
    pub fn client_of(&self, key: &InstanceKey) -> Option<usize> {
        key.name.strip_prefix('c').and_then(|number| number.parse().ok())
    }

    pub fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    pub fn note(&mut self, client: Option<usize>, text: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push((self.now, client, text()));
        }
    }

    pub fn note_key(&mut self, key: &InstanceKey, text: impl FnOnce(&Self) -> String) {
        if self.journal.is_some() {
            let (client, text) = (self.client_of(key), text(self));
            self.note(client, || text);
        }
    }

    /// The last of what concerned one client, or everybody.
    pub fn timeline(&self, client: Option<usize>, lines: usize) -> String {
        let journal = self.journal.iter().flatten();
        let concerning: Vec<_> = journal
            .filter(|(_, about, _)| about.is_none() || client.is_none() || *about == client)
            .map(|(at, about, text)| {
                let about = about.map_or_else(|| "   ".to_owned(), |about| format!("c{about:<2}"));
                format!("{:>9.3} {about} {text}\n", *at as f64 / 1000.0)
            })
            .collect();
        concerning[concerning.len().saturating_sub(lines)..].concat()
    }
}

fn outcome(answer: &Answer, version: u64) -> String {
    match answer {
        Ok(Some(object)) => format!("version {}", object.resource_version),
        Ok(None) => format!("gone at version {version}"),
        Err(fail) => format!("{fail:?}"),
    }
}
