//! The world: virtual time, the queue of events, and calls on their way to the API server and back. Owns: the
//! order of events. Does not own: the behaviour of replicas, clients and watches (their modules).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use rollcall_model::instance::InstanceKey;

use crate::{
    Time,
    api::{Api, ApiError, ApiOperation, ApiResponse},
    clients::Client,
    election::Term,
    faults::{Fault, FaultKind, plan, plan_single_replica},
    mutations::Mutation,
    promises::{Checker, Violation},
    replica::{Caller, Replica},
    server::{Reply, Request},
    shrink::Exclusions,
    watches::Resource,
};

/// An event in the queue.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call reaches the API server.
    CallArrives(usize),
    /// The response to a call reaches the caller.
    CallAnswered(usize, ApiResponse),
    /// The deadline of the caller passes.
    CallTimeout(usize),
    Watch {
        replica: usize,
        resource: Resource,
        epoch: u64,
    },
    Engine {
        replica: usize,
    },
    Client {
        client: usize,
        generation: u64,
    },
    /// An HTTP request reaches its replica.
    Request(usize),
    /// The response reaches the client.
    Response(usize, Reply),
    Election,
    Join(usize),
    Fault(usize),
    FaultEnd(usize),
}

/// A call to the API server.
#[derive(Debug)]
pub struct Call {
    pub op: ApiOperation,
    pub from: Caller,
    done: bool,
    /// When it was executed, and the version of the store then.
    pub applied: Time,
    version: u64,
}

struct QueuedEvent {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for QueuedEvent {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for QueuedEvent {}
impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for QueuedEvent {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// How many faults of each kind of the API server are active.
#[derive(Debug, Default)]
pub struct ApiFaults {
    pub refusing: u32,
    pub hanging: u32,
    pub read_only: u32,
    pub slow: u32,
    pub losing: u32,
    /// When a stopped API server continues.
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
    pub api_faults: ApiFaults,
    /// By replica, the index of its duplicate, which has the same identity.
    pub duplicates: BTreeMap<usize, usize>,
    pub checker: Checker,
    pub mutation: Mutation,
    /// A single replica without a ledger.
    pub single_replica: bool,
    latency: Time,
    pub term: Term,
    /// When the last fault is over, and when clients stop changing.
    pub faults_end: Time,
    pub changes_end: Time,
    pub end: Time,
    calls: Vec<Call>,
    queue: BinaryHeap<Reverse<QueuedEvent>>,
    order: u64,
    /// A hash of everything that happened.
    pub digest: u64,
    journal: Option<Vec<(Time, Option<usize>, String)>>,
}

impl World {
    pub fn new(seed: u64, mutation: Mutation, keep_journal: bool) -> Self {
        Self::with(seed, mutation, keep_journal, &Exclusions::default())
    }

    /// The world of a seed, without the given faults and clients.
    pub fn with(seed: u64, mutation: Mutation, keep_journal: bool, without: &Exclusions) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // A quarter of the seeds has no fault, a quarter has one, the others have several.
        let count = match seed % 4 {
            // A mutation about a store that steps back always needs a fault.
            0 if !mutation.is_about_restores() => 0,
            1 => 1,
            2 => rng.usize(2..8),
            _ => rng.usize(4..12),
        };
        let replicas = [0, 1, 2, 2, 3, 3, 4][rng.usize(..7)];
        let (single_replica, replicas) = (replicas == 0, replicas.max(1));
        // Clocks without drift, with usual drift, or with the largest allowed drift.
        let drift = [0, 200, 490][rng.usize(..3)];
        let faults = match single_replica {
            true => plan_single_replica(&mut rng, count),
            false => plan(&mut rng, count, replicas, mutation.theme()),
        };
        let duplicates: Vec<_> =
            faults.iter().filter(|fault| fault.kind == FaultKind::Duplicate).collect();
        let duplicates: BTreeSet<_> = duplicates.into_iter().map(|fault| fault.replica).collect();
        // The network delay to the API server, each way.
        let latency = [0, 0, 50, 90][rng.usize(..4)];
        let faults_end = faults.iter().map(|fault| fault.to).max().unwrap_or(0);
        let changes_end = faults_end.max(50_000) + 5_000;
        let many = rng.usize(3..10);
        let clients: Vec<_> = (0..many).map(|i| Client::new(i, &mut rng, replicas)).collect();
        let mut world = Self {
            now: 0,
            api: Api::from(0),
            replicas: (0..replicas)
                .map(|i| {
                    let ppm = if single_replica { 0 } else { rng.i64(-drift..=drift) };
                    Replica::new(i, &mut rng, ppm)
                })
                .collect(),
            checker: Checker::new(clients.len(), replicas + duplicates.len()),
            duplicates: duplicates.iter().copied().zip(replicas..).collect(),
            single_replica,
            latency,
            term: Term::default(),
            clients,
            requests: Vec::new(),
            api_faults: ApiFaults::default(),
            mutation,
            faults_end,
            changes_end,
            end: changes_end + 125_000,
            calls: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            digest: seed,
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

    fn begin(&mut self, without: &Exclusions) {
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
            // The first replica starts at once; others may join later.
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
            self.handle_event(next.event);
            if let Some(violation) = self.checker.violation.take() {
                return Err(violation);
            }
        }
        self.now = self.end;
        self.check_end();
        self.checker.violation.take().map_or(Ok(()), Err)
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::CallArrives(call) => self.arrive(call),
            Event::CallAnswered(call, answer) => self.answered(call, answer),
            Event::CallTimeout(call) => {
                if !self.calls[call].done {
                    self.deliver(&Event::CallTimeout(call), call, &Err(ApiError::Unavailable));
                }
            }
            Event::Watch { replica, resource, epoch } => self.watch_event(replica, resource, epoch),
            Event::Election => self.election(),
            Event::Join(replica) => {
                if !self.replicas[replica].up {
                    self.start(replica);
                }
            }
            Event::Engine { replica } => self.engine(replica),
            Event::Client { client, generation } => self.client_timer(client, generation),
            Event::Request(request) => self.request_arrived(request),
            Event::Response(request, reply) => self.response_arrived(request, &reply),
            Event::Fault(fault) => self.apply_fault(self.faults[fault], true),
            Event::FaultEnd(fault) => self.apply_fault(self.faults[fault], false),
        }
    }

    pub fn push(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(QueuedEvent { at, order: self.order, event }));
    }

    pub fn push_in(&mut self, delay: Time, event: Event) {
        self.push(self.now + delay, event);
    }

    /// The delay of one request or response of the API server.
    pub fn network_delay(&mut self) -> Time {
        let slow = self.api_faults.slow > 0;
        self.latency + if slow { self.rng.u64(50..4000) } else { self.rng.u64(1..=60) }
    }

    /// The shortest delay of a watch event.
    pub fn shortest_watch_delay(&self) -> Time {
        self.latency
    }

    /// Calls the API server. The caller waits for `timeout`.
    pub fn call(&mut self, op: ApiOperation, from: Caller, timeout: Time) {
        let id = self.calls.len();
        self.calls.push(Call { op, from, done: false, applied: 0, version: 0 });
        let network_delay = self.network_delay();
        self.push_in(network_delay, Event::CallArrives(id));
        self.push_in(timeout, Event::CallTimeout(id));
    }

    /// The replica that made a call, if one did.
    fn caller(&self, from: &Caller) -> Option<usize> {
        match from {
            Caller::Client { .. } | Caller::Detached => None,
            Caller::HttpServer { request } => Some(self.requests[*request].replica),
            Caller::Duty { replica, .. }
            | Caller::SelfBeat { replica, .. }
            | Caller::Flush { replica, .. } => Some(*replica),
        }
    }

    fn arrive(&mut self, id: usize) {
        let caller = self.caller(&self.calls[id].from);
        if caller.is_some_and(|replica| self.replicas[replica].cut_off > 0) {
            return;
        }
        if self.api_faults.hanging > 0 {
            let again = self.api_faults.hangs_until + self.rng.u64(1..300);
            return self.push(again.max(self.now + 1), Event::CallArrives(id));
        }
        let op = self.calls[id].op.clone();
        let refused =
            self.api_faults.refusing > 0 || (self.api_faults.read_only > 0 && op.is_write());
        let answer = if refused {
            Err(ApiError::Unavailable)
        } else {
            self.before_write(&op);
            let before = self.api.version;
            let answer = self.api.execute(&op, self.now);
            (self.calls[id].applied, self.calls[id].version) = (self.now, self.api.version);
            self.log_key(op.key(), |w| {
                format!("server: {} → {}", op.name(), outcome(&answer, w.api.version))
            });
            if self.api.version != before {
                self.after_write(&op);
                self.schedule_watches();
            }
            answer
        };
        self.mix(self.api.version);
        let lost = self.api_faults.losing > 0 && self.rng.f64() < 0.4;
        if !lost {
            let network_delay = self.network_delay();
            self.push_in(network_delay, Event::CallAnswered(id, answer));
        }
    }

    fn answered(&mut self, id: usize, answer: ApiResponse) {
        if self.api_faults.hanging > 0 {
            let again = self.api_faults.hangs_until + self.rng.u64(1..300);
            return self.push(again.max(self.now + 1), Event::CallAnswered(id, answer));
        }
        if !self.calls[id].done {
            self.deliver(&Event::CallAnswered(id, answer.clone()), id, &answer);
        }
    }

    /// Delivers a response to the caller, or defers it while the process of the caller is frozen.
    fn deliver(&mut self, event: &Event, id: usize, answer: &ApiResponse) {
        let from = self.calls[id].from.clone();
        let replica = self.caller(&from);
        if replica.is_some_and(|replica| self.defer_if_frozen(replica, event)) {
            return;
        }
        self.calls[id].done = true;
        let Call { op, applied, version, .. } = &self.calls[id];
        let (op, applied, version) = (op.clone(), *applied, *version);
        match from {
            Caller::Client { client, generation } => {
                self.client_call_answered((client, generation), &op, answer, applied);
            }
            Caller::HttpServer { request } => self.http_call_answered(request, &op, answer.clone()),
            other => self.duty_answered(&other, &op, answer, version),
        }
    }

    fn apply_fault(&mut self, fault: Fault, begins: bool) {
        self.log(None, || format!("{:?} {}", fault.kind, if begins { "begins" } else { "ends" }));
        if begins && self.faults.len() == 1 {
            self.record_steady_clients(fault);
        }
        let api_faults = &mut self.api_faults;
        let counter = match fault.kind {
            FaultKind::Refuse
            | FaultKind::Restore
            | FaultKind::RestoreThenWrites
            | FaultKind::RestoreWithRevisionBump => &mut api_faults.refusing,
            FaultKind::Hang => &mut api_faults.hanging,
            FaultKind::ReadOnly => &mut api_faults.read_only,
            FaultKind::Slow => &mut api_faults.slow,
            FaultKind::LoseResponses => &mut api_faults.losing,
            _ => return self.apply_replica_fault(fault, begins),
        };
        *counter = if begins { *counter + 1 } else { *counter - 1 };
        if begins && fault.kind == FaultKind::Hang {
            api_faults.hangs_until = api_faults.hangs_until.max(fault.to);
        }
        if fault.kind.is_restore() && !begins {
            self.restore(fault.kind);
        }
        if fault.kind.is_restore() || matches!(fault.kind, FaultKind::Refuse | FaultKind::Hang) {
            for replica in 0..self.replicas.len() {
                self.block_watches(replica, begins);
            }
        }
    }

    /// The API server comes back with an older store.
    fn restore(&mut self, kind: FaultKind) {
        let back = self.rng.u64(1..80).min(self.api.version);
        let leap = match kind {
            FaultKind::RestoreThenWrites => back + self.rng.u64(0..200),
            FaultKind::RestoreWithRevisionBump => 1_000_000,
            _ => 0,
        };
        let before = self.api.clone();
        self.api.restore(back, leap);
        self.restore_watches(&before, kind == FaultKind::RestoreWithRevisionBump);
        self.log(None, || {
            format!("the store steps back by {back} versions, and continues {leap} above that")
        });
        for client in 0..self.clients.len() {
            self.adjust_to_restore(client, before.objects.get(&self.clients[client].key));
        }
    }

    /// The index of the second process of a replica's identity.
    pub fn duplicate_of(&self, replica: usize) -> usize {
        self.duplicates.get(&replica).copied().unwrap_or(replica)
    }

    /// The client that the key belongs to; `None` for the own instance of a replica.
    pub fn client_of(&self, key: &InstanceKey) -> Option<usize> {
        key.name.strip_prefix('c').and_then(|number| number.parse().ok())
    }

    pub fn mix(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    pub fn log(&mut self, client: Option<usize>, text: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push((self.now, client, text()));
        }
    }

    pub fn log_key(&mut self, key: &InstanceKey, text: impl FnOnce(&Self) -> String) {
        if self.journal.is_some() {
            let (client, text) = (self.client_of(key), text(self));
            self.log(client, || text);
        }
    }

    /// The last lines of the timeline that concern one client, or all.
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

fn outcome(answer: &ApiResponse, version: u64) -> String {
    match answer {
        Ok(Some(object)) => format!("version {}", object.resource_version),
        Ok(None) => format!("gone at version {version}"),
        Err(fail) => format!("{fail:?}"),
    }
}
