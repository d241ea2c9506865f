//! One replica: a real catalog and directory, and models of the engine, the controller and the self-beat of the
//! server, in virtual time. Its watches are in `watches`, its HTTP server in `server`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rollcall_core::{
    catalog::Settings,
    codec,
    directory::Directory,
    fact::{Duty, Fact, SelfBeat, StorePosition, Version, WriteOutcome},
    leadership::Leadership,
    ledger::Ledger,
    slot::Source,
};
use rollcall_model::{
    instance::InstanceKey,
    lease::{Lease, Moment, Now, Wall},
};

use crate::{
    Time, ZONE,
    api::{ApiError, ApiOperation, ApiResponse, HeartbeatChange},
    faults::{Fault, FaultKind},
    mutants::{BuildMachine, StateMachine},
    mutations::Mutation,
    promises::BoundedWrite,
    server::Continuation,
    watches::Watch,
    world::{Event, World},
};

/// As in `engine` and `controller`.
const DUTIES: usize = 64;
const CONCURRENT_DUTIES: usize = 16;

/// Deadlines of calls, as in `kubernetes::writer`.
pub const WRITE_TIMEOUT: Time = 5_000;
const SELF_BEAT_TIMEOUT: Time = 2_000;

/// The caller of the API server.
#[derive(Clone, Debug)]
pub enum Caller {
    Client { client: usize, generation: u64 },
    HttpServer { request: usize },
    Duty { replica: usize, boot: u64, on: Version, reason: Option<Arc<str>> },
    SelfBeat { replica: usize, boot: u64, value: Arc<str> },
    Flush { replica: usize, boot: u64, sequence: u64, leaving: bool },
    Detached,
}

/// A fact on its way to the engine, and the request that waits for it.
type WaitingFact = (Fact, Option<(usize, Continuation)>);

pub struct Replica {
    pub own: InstanceKey,
    pub boot: u64,
    pub up: bool,
    pub frozen: u32,
    pub catalog: Box<dyn StateMachine>,
    pub directory: Arc<Directory>,
    pub watches: [Watch; 2],
    /// How many faults keep its requests from the API server.
    pub cut_off: u32,
    /// When the process started, plus the time that its first lists take without faults.
    pub started: Time,
    /// Until when it leads, by its own clock.
    pub tenure: Moment,
    /// Boot and stamp of the newest ledger of each other replica that it has observed.
    pub observed_ledgers: BTreeMap<Arc<str>, (Arc<str>, Moment)>,
    /// The offset of the replica's clock from the clock of the world.
    offset: u64,
    /// By how many millionths its clock is faster.
    pub ppm: i64,
    wall_shift: i64,
    facts: Vec<WaitingFact>,
    /// Events that arrived while the process was frozen.
    deferred: Vec<Event>,
    duties: VecDeque<Duty>,
    busy: usize,
    wake: Option<Time>,
}

/// The ledger as another replica decodes it.
fn encode_and_decode(ledger: Ledger) -> Ledger {
    let segments = codec::decode(&codec::encode(&ledger.segments)).unwrap();
    Ledger { segments, ..ledger }
}

fn fresh_catalog(
    own: &InstanceKey,
    boot: u64,
    single_replica: bool,
    make: BuildMachine,
) -> (Box<dyn StateMachine>, Arc<Directory>) {
    let directory = Arc::new(Directory::default());
    let boot = format!("b{boot}");
    let (zone, ledger) = (ZONE.to_owned(), (!single_replica).then(|| own.name.clone()));
    let settings = Settings { own: own.clone(), boot, zone, ledger };
    let mut catalog = make(settings, directory.clone());
    if !single_replica {
        return (catalog, directory);
    }
    // A single replica leads without an election.
    let leadership = Leadership {
        leader: Some(own.name.clone()),
        since: None,
        tenure: Moment(u64::MAX),
        ..Leadership::default()
    };
    catalog.apply(Fact::Leadership(leadership), Now::default());
    (catalog, directory)
}

impl Replica {
    /// A second process with the identity of replica `index`.
    pub fn duplicate(index: usize, rng: &mut fastrand::Rng, ppm: i64) -> Self {
        // The boots of both processes differ.
        Self { boot: 1_000, ..Self::new(index, rng, ppm) }
    }

    pub fn new(index: usize, rng: &mut fastrand::Rng, ppm: i64) -> Self {
        let own = InstanceKey::new("rollcall-system", &format!("r{index}"));
        let (catalog, directory) = fresh_catalog(&own, 0, true, Mutation::None.state_machine());
        Self {
            own,
            boot: 0,
            up: false,
            frozen: 0,
            catalog,
            directory,
            watches: [Watch::default(), Watch::default()],
            cut_off: 0,
            started: 0,
            tenure: Moment::default(),
            observed_ledgers: BTreeMap::new(),
            offset: rng.u64(1_000_000..1_000_000_000),
            ppm,
            wall_shift: 0,
            facts: Vec::new(),
            deferred: Vec::new(),
            duties: VecDeque::new(),
            busy: 0,
            wake: None,
        }
    }

    /// The replica's clocks at the time `time` of the world.
    pub fn now(&self, time: Time, mutation: Mutation) -> Now {
        let wall = 1_700_000_000_000 + i64::try_from(time).unwrap() + self.wall_shift;
        let moment = match mutation {
            Mutation::WallClockDecides => u64::try_from(wall).unwrap(),
            _ => (time + self.offset).saturating_add_signed(time as i64 * self.ppm / 1_000_000),
        };
        Now { moment: Moment(moment), wall: Wall(wall) }
    }

    fn record_ledgers(&mut self, fact: &Fact) {
        let ledgers = match fact {
            Fact::LedgerUpserted(ledger) => std::slice::from_ref(ledger),
            Fact::LedgersListed(ledgers) => ledgers,
            _ => return,
        };
        for ledger in ledgers {
            self.observed_ledgers
                .insert(ledger.replica.clone(), (ledger.boot.clone(), ledger.stamp));
        }
    }

    fn pause(now: Now, moment: Moment) -> Time {
        moment.0.saturating_sub(now.moment.0).max(1)
    }
}

impl World {
    /// Starts a process without any state, which lists everything.
    pub fn start(&mut self, replica: usize) {
        let process = &mut self.replicas[replica];
        process.up = true;
        process.boot += 1;
        let (single_replica, make) = (self.single_replica, self.mutation.state_machine());
        (process.catalog, process.directory) =
            fresh_catalog(&process.own, process.boot, single_replica, make);
        (process.busy, process.wake, process.tenure) = (0, None, Moment::default());
        process.started = self.now + 300;
        process.observed_ledgers.clear();
        process.facts.clear();
        process.deferred.clear();
        process.duties.clear();
        self.reset_watches(replica);
        self.expect_first_list(replica);
        self.wake(replica, self.now + 1);
    }

    pub fn apply_replica_fault(&mut self, fault: Fault, begins: bool) {
        let replica = fault.replica;
        match (fault.kind, begins) {
            (FaultKind::Freeze, true) => self.replicas[replica].frozen += 1,
            (FaultKind::Freeze, false) => self.unfreeze(replica),
            (FaultKind::Crash, true) => self.replicas[replica].up = false,
            (FaultKind::Crash, false) => {
                if !self.replicas[replica].up {
                    self.start(replica);
                }
            }
            (FaultKind::Leave, true) => self.send_fact(replica, Fact::Leaving, None),
            (FaultKind::Leave, false) => {
                self.replicas[replica].up = false;
                self.start(replica);
            }
            (FaultKind::CutOff, true) => self.replicas[replica].cut_off += 1,
            (FaultKind::CutOff, false) => self.replicas[replica].cut_off -= 1,
            (FaultKind::DeleteLedger, true) => {
                let key = self.replicas[replica].own.clone();
                self.call(
                    ApiOperation::DeleteLedger { key, version: None },
                    Caller::Detached,
                    WRITE_TIMEOUT,
                );
            }
            (FaultKind::DeleteLedger, false) => {}
            (FaultKind::Duplicate, begins) => self.duplicate(replica, begins),
            (FaultKind::MassExpiry | FaultKind::HeartbeatStorm, begins) => {
                self.apply_client_fault(fault, begins);
            }
            (FaultKind::WallClockJump, _) => {
                self.replicas[replica].wall_shift = self.rng.i64(-100_000..100_000);
            }
            _ => self.apply_watch_fault(fault, begins),
        }
    }

    /// A second process of the same identity starts, or is killed.
    fn duplicate(&mut self, replica: usize, begins: bool) {
        let duplicate = self.duplicate_of(replica);
        match begins {
            true if !self.replicas[duplicate].up => self.start(duplicate),
            true => {}
            false => self.replicas[duplicate].up = false,
        }
    }

    fn unfreeze(&mut self, replica: usize) {
        let process = &mut self.replicas[replica];
        process.frozen -= 1;
        if process.frozen > 0 {
            return;
        }
        // All deferred events arrive at about the same time, in any order.
        process.wake = None;
        for event in std::mem::take(&mut process.deferred) {
            let delay = self.rng.u64(0..20);
            if !matches!(event, Event::Engine { .. }) {
                self.push_in(delay, event);
            }
        }
        let soon = self.now + self.rng.u64(0..20);
        self.wake(replica, soon);
    }

    /// Defers an event if the process is frozen. Returns whether it did.
    pub fn defer_if_frozen(&mut self, replica: usize, event: &Event) -> bool {
        let process = &mut self.replicas[replica];
        let frozen = process.frozen > 0 && process.up;
        if frozen {
            process.deferred.push(event.clone());
        }
        frozen
    }

    /// Sends a fact to the engine.
    pub fn send_fact(
        &mut self,
        replica: usize,
        fact: Fact,
        continuation: Option<(usize, Continuation)>,
    ) {
        self.replicas[replica].facts.push((fact, continuation));
        let soon = self.now + self.rng.u64(0..=2);
        self.wake(replica, soon);
    }

    fn wake(&mut self, replica: usize, at: Time) {
        let process = &mut self.replicas[replica];
        if process.wake.is_none_or(|wake| at < wake) {
            process.wake = Some(at);
            self.push(at, Event::Engine { replica });
        }
    }

    /// One round of the engine.
    pub fn engine(&mut self, replica: usize) {
        let process = &mut self.replicas[replica];
        if !process.up || process.wake != Some(self.now) {
            return;
        }
        if process.frozen > 0 {
            return self.settle_while_frozen(replica);
        }
        process.wake = None;
        let now = process.now(self.now, self.mutation);
        let facts = std::mem::take(&mut process.facts);
        let before = process.catalog.counts().step_backs;
        let mut waiting = Vec::new();
        for (fact, continuation) in facts {
            process.record_ledgers(&fact);
            process.catalog.apply(fact, now);
            waiting.extend(continuation);
        }
        let duties = process.catalog.settle(now, DUTIES - process.duties.len());
        let next = process.catalog.next_settle(now.moment);
        let pause = Replica::pause(now, next);
        let has_detected = process.catalog.counts().step_backs > before;
        let report = process.directory.report();
        if let Some(step) = report.step_back.as_ref().filter(|_| has_detected) {
            self.log(None, || format!("r{replica}: epoch {}: {}", report.epoch, step.reason));
        }
        self.wake(replica, self.now + pause);
        self.check_replica(replica);
        for (request, continuation) in waiting {
            self.continue_request(request, continuation);
        }
        for duty in duties {
            self.start_duty(replica, duty);
        }
        self.start_queued_duties(replica);
    }

    /// Under a mutation, a frozen process continues to settle without input, so that it never detects its
    /// stall.
    fn settle_while_frozen(&mut self, replica: usize) {
        if self.mutation != Mutation::SettlesWhileFrozen {
            return;
        }
        let process = &mut self.replicas[replica];
        process.wake = None;
        let now = process.now(self.now, self.mutation);
        if !process.catalog.settle(now, 0).is_empty() {
            process.catalog.apply(Fact::SelfBeatWritten { answer: Ok(u64::MAX) }, now);
        }
        self.wake(replica, self.now + 250);
    }

    fn start_duty(&mut self, replica: usize, duty: Duty) {
        let (value, reads) = match duty {
            Duty::SelfBeat(SelfBeat { value, reads }) => (value, reads),
            Duty::WriteLedger(ledger) => return self.flush(replica, ledger),
            Duty::Relist => return self.relist(replica),
            other => return self.replicas[replica].duties.push_back(other),
        };
        self.check_write_rate(replica, BoundedWrite::SelfBeat);
        let (own, boot) = (self.replicas[replica].own.clone(), self.replicas[replica].boot);
        let value: Arc<str> = value.into();
        self.log(None, || format!("r{replica}: self-beat {value}"));
        let from = Caller::SelfBeat { replica, boot, value };
        if reads {
            return self.call(ApiOperation::Get { key: own }, from, SELF_BEAT_TIMEOUT);
        }
        self.write_self_beat(own, from);
    }

    fn write_self_beat(&mut self, own: InstanceKey, from: Caller) {
        let Caller::SelfBeat { value, .. } = &from else { return };
        let change = HeartbeatChange { value: value.clone(), health: None, duration: None };
        self.call(ApiOperation::Beat { key: own, uid: None, change }, from, SELF_BEAT_TIMEOUT);
    }

    /// Writes the own ledger.
    fn flush(&mut self, replica: usize, ledger: Ledger) {
        self.check_write_rate(replica, BoundedWrite::Ledger);
        let ledger = encode_and_decode(ledger);
        let (key, boot) = (self.replicas[replica].own.clone(), self.replicas[replica].boot);
        let (sequence, leaving) = (ledger.sequence, ledger.leaving);
        self.log(None, || {
            let (stamp, ask, index) = (ledger.stamp.0, ledger.ask, ledger.index);
            format!("r{replica}: ledger {sequence} at {stamp}, ask {ask}, index {index}")
        });
        if self.mutation == Mutation::HeaderFirst {
            let mut header = ledger.clone();
            header.segments.last_mut().unwrap().beats.clear();
            let op = ApiOperation::Flush { key: key.clone(), ledger: Arc::new(header) };
            self.call(op, Caller::Detached, SELF_BEAT_TIMEOUT);
        }
        let op = ApiOperation::Flush { key, ledger: Arc::new(ledger) };
        let from = Caller::Flush { replica, boot, sequence, leaving };
        self.call(op, from, SELF_BEAT_TIMEOUT);
    }

    fn ledger_answered(
        &mut self,
        replica: usize,
        (sequence, leaving): (u64, bool),
        (answer, version): (&ApiResponse, u64),
    ) {
        let answer = answer.as_ref().map(|_| version).map_err(|_| "failed".into());
        if leaving && answer.is_ok() {
            self.log(None, || format!("r{replica}: has ended"));
            self.replicas[replica].up = false;
            if self.rng.bool() {
                let key = self.replicas[replica].own.clone();
                self.call(
                    ApiOperation::DeleteLedger { key, version: None },
                    Caller::Detached,
                    WRITE_TIMEOUT,
                );
            }
            return;
        }
        self.send_fact(replica, Fact::LedgerWritten { sequence, answer }, None);
    }

    fn start_queued_duties(&mut self, replica: usize) {
        while self.replicas[replica].busy < CONCURRENT_DUTIES {
            let Some(duty) = self.replicas[replica].duties.pop_front() else { return };
            if !self.leads(replica) {
                self.replicas[replica].duties.clear();
                return;
            }
            let (on, op, reason) = match duty {
                Duty::WriteStatus { on, desired, .. } => {
                    let phase = desired.phase;
                    self.log_key(&on.key, |_| format!("r{replica}: status {phase}"));
                    (on.clone(), ApiOperation::Status { on, desired }, None)
                }
                Duty::Checkpoint { on, last_heartbeat } => {
                    self.check_write_rate(replica, BoundedWrite::Checkpoint);
                    let beats = self.mutation == Mutation::CheckpointCountsAsHeartbeat;
                    (on.clone(), ApiOperation::Checkpoint { on, beat: last_heartbeat, beats }, None)
                }
                Duty::Evict { on, reason } => {
                    let exact = self.mutation != Mutation::EvictsWithoutVersion;
                    let version = exact.then_some(on.resource_version);
                    let (key, uid) = (on.key.clone(), Some(on.uid.clone()));
                    self.log_key(&key, |_| format!("r{replica}: evict {}", on.resource_version));
                    (on, ApiOperation::Delete { key, uid, version, evicts: true }, Some(reason))
                }
                Duty::DeleteLedger { replica: gone, version } => {
                    self.log(None, || format!("r{replica}: deletes the ledger of {gone}"));
                    let key = InstanceKey { name: gone, ..self.replicas[replica].own.clone() };
                    let op = ApiOperation::DeleteLedger { key, version: Some(version) };
                    self.call(op, Caller::Detached, WRITE_TIMEOUT);
                    continue;
                }
                Duty::Announce { .. } | Duty::SelfBeat(_) | Duty::Relist | Duty::WriteLedger(_) => {
                    continue;
                }
            };
            self.replicas[replica].busy += 1;
            let boot = self.replicas[replica].boot;
            self.call(op, Caller::Duty { replica, boot, on, reason }, WRITE_TIMEOUT);
        }
    }

    /// Whether the replica leads. Checked again before every write.
    fn leads(&self, replica: usize) -> bool {
        let process = &self.replicas[replica];
        self.single_replica || process.now(self.now, self.mutation).moment < process.tenure
    }

    /// A call was answered, with the store at `version` then.
    pub fn duty_answered(
        &mut self,
        from: &Caller,
        op: &ApiOperation,
        answer: &ApiResponse,
        version: u64,
    ) {
        match from {
            Caller::SelfBeat { replica, boot, value } if self.is_running(*replica, *boot) => {
                self.self_beat_answered(*replica, value, op, answer);
            }
            Caller::Flush { replica, boot, sequence, leaving }
                if self.is_running(*replica, *boot) =>
            {
                self.ledger_answered(*replica, (*sequence, *leaving), (answer, version));
            }
            Caller::Duty { replica, boot, on, reason } if self.is_running(*replica, *boot) => {
                self.replicas[*replica].busy -= 1;
                self.duty_finished(*replica, on, reason.clone(), answer);
                self.start_queued_duties(*replica);
            }
            _ => {}
        }
    }

    pub fn is_running(&self, replica: usize, boot: u64) -> bool {
        self.replicas[replica].up && self.replicas[replica].boot == boot
    }

    fn duty_finished(
        &mut self,
        replica: usize,
        on: &Version,
        reason: Option<Arc<str>>,
        answer: &ApiResponse,
    ) {
        let outcome = match (answer, reason) {
            (Ok(_), Some(_)) => WriteOutcome::Evicted,
            (Ok(written), None) => {
                if let Some(instance) = written {
                    self.send_fact(
                        replica,
                        Fact::Written {
                            instance: instance.clone(),
                            by: Source::Annotation,
                            sent: StorePosition::default(),
                        },
                        None,
                    );
                }
                WriteOutcome::Done
            }
            (Err(ApiError::Unavailable), _) => WriteOutcome::Failed,
            (Err(_), _) => WriteOutcome::Conflict,
        };
        let (key, uid) = (on.key.clone(), on.uid.clone());
        self.send_fact(replica, Fact::Attempted { key, uid, outcome }, None);
    }

    fn self_beat_answered(
        &mut self,
        replica: usize,
        value: &Arc<str>,
        op: &ApiOperation,
        answer: &ApiResponse,
    ) {
        if let (ApiOperation::Get { key }, Ok(_) | Err(ApiError::NotFound)) = (op, answer) {
            let version = answer.as_ref().ok().and_then(Option::as_ref);
            let version = version.map(|own| own.resource_version);
            self.send_fact(replica, Fact::OwnRead { version }, None);
            let boot = self.replicas[replica].boot;
            let from = Caller::SelfBeat { replica, boot, value: value.clone() };
            return self.write_self_beat(key.clone(), from);
        }
        if *answer == Err(ApiError::NotFound) && matches!(op, ApiOperation::Beat { .. }) {
            let (key, boot) = (self.replicas[replica].own.clone(), self.replicas[replica].boot);
            let (service, beat) = ("rollcall".into(), value.clone());
            let op = ApiOperation::Register { key, service, lease: Lease::default(), beat };
            let from = Caller::SelfBeat { replica, boot, value: value.clone() };
            return self.call(op, from, WRITE_TIMEOUT);
        }
        if let (Mutation::SelfBeatObservedByResponse, Ok(Some(instance))) = (self.mutation, answer)
        {
            self.send_fact(replica, Fact::Upserted(instance.clone()), None);
        }
        let answer = match answer {
            Ok(stored) => Ok(stored.as_ref().map_or(0, |own| own.resource_version)),
            Err(_) => Err("failed".into()),
        };
        self.send_fact(replica, Fact::SelfBeatWritten { answer }, None);
    }
}
