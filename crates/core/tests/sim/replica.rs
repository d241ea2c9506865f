//! One replica: a real catalog and directory, and around them what the engine, the controller and
//! the self-beat do in the program, in virtual time. Its watch is in `watch`, its HTTP door in
//! `door`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rollcall_core::{
    catalog::Settings,
    codec,
    directory::Directory,
    fact::{Duty, Fact, Outcome, SelfBeat, Sent, Version},
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
    api::{Answer, Change, Fail, Op},
    check::Pace,
    faults::{Fault, Kind},
    machine::{Machine, Make},
    sabotage::Sabotage,
    server::Then,
    watch::Watch,
    world::{Event, World},
};

/// As in `engine` and `controller`.
const DUTIES: usize = 64;
const AT_ONCE: usize = 16;

/// Deadlines of calls, as in `cluster::writer`.
pub const WRITE_TIMEOUT: Time = 5_000;
const SELF_BEAT_TIMEOUT: Time = 2_000;

/// Who called the API server.
#[derive(Clone, Debug)]
pub enum Caller {
    Client { client: usize, generation: u64 },
    Door { request: usize },
    Duty { replica: usize, boot: u64, on: Version, reason: Option<Arc<str>> },
    SelfBeat { replica: usize, boot: u64, value: Arc<str> },
    Flush { replica: usize, boot: u64, sequence: u64, leaving: bool },
    Nobody,
}

/// A fact on its way to the engine, and which request waits for it.
type Waiting = (Fact, Option<(usize, Then)>);

pub struct Replica {
    pub own: InstanceKey,
    pub boot: u64,
    pub up: bool,
    pub frozen: u32,
    pub catalog: Box<dyn Machine>,
    pub directory: Arc<Directory>,
    pub watches: [Watch; 2],
    /// How many faults keep it from being heard.
    pub muted: u32,
    /// When it began, and had listed everything while all was well.
    pub started: Time,
    /// Up to when it leads, by its own clock.
    pub tenure: Moment,
    /// The newest ledger of each other replica that it has taken in: boot and stamp.
    pub heard: BTreeMap<Arc<str>, (Arc<str>, Moment)>,
    /// The replica's clock is the world's, moved by this.
    offset: u64,
    /// And faster by so many millionths.
    pub ppm: i64,
    wall_shift: i64,
    facts: Vec<Waiting>,
    /// What came while the process was frozen.
    parked: Vec<Event>,
    duties: VecDeque<Duty>,
    busy: usize,
    wake: Option<Time>,
}

/// As it is read at the other end.
fn over_the_wire(ledger: Ledger) -> Ledger {
    let segments = codec::decode(&codec::encode(&ledger.segments)).unwrap();
    Ledger { segments, ..ledger }
}

fn fresh_catalog(
    own: &InstanceKey,
    boot: u64,
    alone: bool,
    make: Make,
) -> (Box<dyn Machine>, Arc<Directory>) {
    let directory = Arc::new(Directory::default());
    let boot = format!("b{boot}");
    let (zone, ledger) = (ZONE.to_owned(), (!alone).then(|| own.name.clone()));
    let settings = Settings { own: own.clone(), boot, zone, ledger };
    let mut catalog = make(settings, directory.clone());
    if !alone {
        return (catalog, directory);
    }
    // The only replica: nobody contests it.
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
    /// A second process of the name of replica `index`.
    pub fn duplicate(index: usize, rng: &mut fastrand::Rng, ppm: i64) -> Self {
        // Boots of both processes differ.
        Self { boot: 1_000, ..Self::new(index, rng, ppm) }
    }

    pub fn new(index: usize, rng: &mut fastrand::Rng, ppm: i64) -> Self {
        let own = InstanceKey::new("rollcall-system", &format!("r{index}"));
        let (catalog, directory) = fresh_catalog(&own, 0, true, Sabotage::None.machine());
        Self {
            own,
            boot: 0,
            up: false,
            frozen: 0,
            catalog,
            directory,
            watches: [Watch::default(), Watch::default()],
            muted: 0,
            started: 0,
            tenure: Moment::default(),
            heard: BTreeMap::new(),
            offset: rng.u64(1_000_000..1_000_000_000),
            ppm,
            wall_shift: 0,
            facts: Vec::new(),
            parked: Vec::new(),
            duties: VecDeque::new(),
            busy: 0,
            wake: None,
        }
    }

    /// The replica's clocks.
    pub fn now(&self, time: Time, sabotage: Sabotage) -> Now {
        let wall = 1_700_000_000_000 + i64::try_from(time).unwrap() + self.wall_shift;
        let moment = match sabotage {
            Sabotage::WallDecides => u64::try_from(wall).unwrap(),
            _ => (time + self.offset).saturating_add_signed(time as i64 * self.ppm / 1_000_000),
        };
        Now { moment: Moment(moment), wall: Wall(wall) }
    }

    fn hear(&mut self, fact: &Fact) {
        let seen = match fact {
            Fact::LedgerSeen(ledger) => std::slice::from_ref(ledger),
            Fact::LedgersListed(ledgers) => ledgers,
            _ => return,
        };
        for ledger in seen {
            self.heard.insert(ledger.replica.clone(), (ledger.boot.clone(), ledger.stamp));
        }
    }

    fn pause(now: Now, moment: Moment) -> Time {
        moment.0.saturating_sub(now.moment.0).max(1)
    }
}

impl World {
    /// Starts a process: nothing known, everything to be listed.
    pub fn start(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        one.up = true;
        one.boot += 1;
        let (alone, make) = (self.alone, self.sabotage.machine());
        (one.catalog, one.directory) = fresh_catalog(&one.own, one.boot, alone, make);
        (one.busy, one.wake, one.tenure) = (0, None, Moment::default());
        one.started = self.now + 300;
        one.heard.clear();
        one.facts.clear();
        one.parked.clear();
        one.duties.clear();
        self.forget_watches(replica);
        self.check_begins(replica);
        self.wake(replica, self.now + 1);
    }

    pub fn replica_fault(&mut self, fault: Fault, begins: bool) {
        let replica = fault.replica;
        match (fault.kind, begins) {
            (Kind::Freeze, true) => self.replicas[replica].frozen += 1,
            (Kind::Freeze, false) => self.thaw(replica),
            (Kind::Crash, true) => self.replicas[replica].up = false,
            (Kind::Crash, false) => {
                if !self.replicas[replica].up {
                    self.start(replica);
                }
            }
            (Kind::Leave, true) => self.tell(replica, Fact::Leaving, None),
            (Kind::Leave, false) => {
                self.replicas[replica].up = false;
                self.start(replica);
            }
            (Kind::Mute, true) => self.replicas[replica].muted += 1,
            (Kind::Mute, false) => self.replicas[replica].muted -= 1,
            (Kind::DeleteLedger, true) => {
                let key = self.replicas[replica].own.clone();
                self.call(Op::DeleteLedger { key, version: None }, Caller::Nobody, WRITE_TIMEOUT);
            }
            (Kind::DeleteLedger, false) => {}
            (Kind::Duplicate, begins) => self.duplicate(replica, begins),
            (Kind::MassDeath | Kind::Storm, begins) => self.client_fault(fault, begins),
            (Kind::WallJump, _) => {
                self.replicas[replica].wall_shift = self.rng.i64(-100_000..100_000);
            }
            _ => self.watch_fault(fault, begins),
        }
    }

    /// A second process of the same name begins, or is killed.
    fn duplicate(&mut self, replica: usize, begins: bool) {
        let duplicate = self.duplicate_of(replica);
        match begins {
            true if !self.replicas[duplicate].up => self.start(duplicate),
            true => {}
            false => self.replicas[duplicate].up = false,
        }
    }

    fn thaw(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        one.frozen -= 1;
        if one.frozen > 0 {
            return;
        }
        // Everything that waits is found at about the same time, in any order.
        one.wake = None;
        for event in std::mem::take(&mut one.parked) {
            let delay = self.rng.u64(0..20);
            if !matches!(event, Event::Engine { .. }) {
                self.push_in(delay, event);
            }
        }
        let soon = self.now + self.rng.u64(0..20);
        self.wake(replica, soon);
    }

    /// Keeps an event for later when the process is frozen.
    pub fn park(&mut self, replica: usize, event: &Event) -> bool {
        let one = &mut self.replicas[replica];
        let frozen = one.frozen > 0 && one.up;
        if frozen {
            one.parked.push(event.clone());
        }
        frozen
    }

    /// Gives the engine a fact.
    pub fn tell(&mut self, replica: usize, fact: Fact, then: Option<(usize, Then)>) {
        self.replicas[replica].facts.push((fact, then));
        let soon = self.now + self.rng.u64(0..=2);
        self.wake(replica, soon);
    }

    fn wake(&mut self, replica: usize, at: Time) {
        let one = &mut self.replicas[replica];
        if one.wake.is_none_or(|wake| at < wake) {
            one.wake = Some(at);
            self.push(at, Event::Engine { replica });
        }
    }

    /// One round of the engine.
    pub fn engine(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        if !one.up || one.wake != Some(self.now) {
            return;
        }
        if one.frozen > 0 {
            return self.pretend(replica);
        }
        one.wake = None;
        let now = one.now(self.now, self.sabotage);
        let facts = std::mem::take(&mut one.facts);
        let before = one.catalog.counts().step_backs;
        let mut waiting = Vec::new();
        for (fact, then) in facts {
            one.hear(&fact);
            one.catalog.apply(fact, now);
            waiting.extend(then);
        }
        let duties = one.catalog.settle(now, DUTIES - one.duties.len());
        let next = one.catalog.next_settle(now.moment);
        let pause = Replica::pause(now, next);
        let has_noticed = one.catalog.counts().step_backs > before;
        let report = one.directory.report();
        if let Some(step) = report.step_back.as_ref().filter(|_| has_noticed) {
            self.note(None, || format!("r{replica}: epoch {}: {}", report.epoch, step.reason));
        }
        self.wake(replica, self.now + pause);
        self.check_replica(replica);
        for (request, then) in waiting {
            self.shown(request, then);
        }
        for duty in duties {
            self.hand_on(replica, duty);
        }
        self.work(replica);
    }

    /// Sabotage: a frozen process judges on, deaf, so that it never notices.
    fn pretend(&mut self, replica: usize) {
        if self.sabotage != Sabotage::SettlesWhileFrozen {
            return;
        }
        let one = &mut self.replicas[replica];
        one.wake = None;
        let now = one.now(self.now, self.sabotage);
        if !one.catalog.settle(now, 0).is_empty() {
            one.catalog.apply(Fact::SelfBeatWritten { answer: Ok(u64::MAX) }, now);
        }
        self.wake(replica, self.now + 250);
    }

    fn hand_on(&mut self, replica: usize, duty: Duty) {
        let (value, reads) = match duty {
            Duty::SelfBeat(SelfBeat { value, reads }) => (value, reads),
            Duty::Flush(ledger) => return self.flush(replica, ledger),
            Duty::Relist => return self.relist(replica),
            other => return self.replicas[replica].duties.push_back(other),
        };
        self.check_pace(replica, Pace::SelfBeat);
        let (own, boot) = (self.replicas[replica].own.clone(), self.replicas[replica].boot);
        let value: Arc<str> = value.into();
        self.note(None, || format!("r{replica}: self-beat {value}"));
        let from = Caller::SelfBeat { replica, boot, value };
        if reads {
            return self.call(Op::Get { key: own }, from, SELF_BEAT_TIMEOUT);
        }
        self.write_self_beat(own, from);
    }

    fn write_self_beat(&mut self, own: InstanceKey, from: Caller) {
        let Caller::SelfBeat { value, .. } = &from else { return };
        let change = Change { value: value.clone(), health: None, duration: None };
        self.call(Op::Beat { key: own, uid: None, change }, from, SELF_BEAT_TIMEOUT);
    }

    /// Writes the own ledger.
    fn flush(&mut self, replica: usize, ledger: Ledger) {
        self.check_pace(replica, Pace::Ledger);
        let ledger = over_the_wire(ledger);
        let (key, boot) = (self.replicas[replica].own.clone(), self.replicas[replica].boot);
        let (sequence, leaving) = (ledger.sequence, ledger.leaving);
        self.note(None, || {
            let (stamp, ask, index) = (ledger.stamp.0, ledger.ask, ledger.index);
            format!("r{replica}: ledger {sequence} at {stamp}, ask {ask}, index {index}")
        });
        if self.sabotage == Sabotage::HeaderFirst {
            let mut header = ledger.clone();
            header.segments.last_mut().unwrap().beats.clear();
            let op = Op::Flush { key: key.clone(), ledger: Arc::new(header) };
            self.call(op, Caller::Nobody, SELF_BEAT_TIMEOUT);
        }
        let op = Op::Flush { key, ledger: Arc::new(ledger) };
        let from = Caller::Flush { replica, boot, sequence, leaving };
        self.call(op, from, SELF_BEAT_TIMEOUT);
    }

    fn flushed(
        &mut self,
        replica: usize,
        (sequence, leaving): (u64, bool),
        (answer, version): (&Answer, u64),
    ) {
        let answer = answer.as_ref().map(|_| version).map_err(|_| "failed".into());
        if leaving && answer.is_ok() {
            self.note(None, || format!("r{replica}: has left"));
            self.replicas[replica].up = false;
            if self.rng.bool() {
                let key = self.replicas[replica].own.clone();
                self.call(Op::DeleteLedger { key, version: None }, Caller::Nobody, WRITE_TIMEOUT);
            }
            return;
        }
        self.tell(replica, Fact::LedgerWritten { sequence, answer }, None);
    }

    fn work(&mut self, replica: usize) {
        while self.replicas[replica].busy < AT_ONCE {
            let Some(duty) = self.replicas[replica].duties.pop_front() else { return };
            if !self.leads(replica) {
                self.replicas[replica].duties.clear();
                return;
            }
            let (on, op, reason) = match duty {
                Duty::WriteStatus { on, desired, .. } => {
                    let phase = desired.phase;
                    self.note_key(&on.key, |_| format!("r{replica}: status {phase}"));
                    (on.clone(), Op::Status { on, desired }, None)
                }
                Duty::Checkpoint { on, last_heartbeat } => {
                    self.check_pace(replica, Pace::Checkpoint);
                    let beats = self.sabotage == Sabotage::CheckpointBeats;
                    (on.clone(), Op::Checkpoint { on, beat: last_heartbeat, beats }, None)
                }
                Duty::Evict { on, reason } => {
                    let exact = self.sabotage != Sabotage::EvictsAnyVersion;
                    let version = exact.then_some(on.resource_version);
                    let (key, uid) = (on.key.clone(), Some(on.uid.clone()));
                    self.note_key(&key, |_| format!("r{replica}: evict {}", on.resource_version));
                    (on, Op::Delete { key, uid, version, evicts: true }, Some(reason))
                }
                Duty::Sweep { replica: gone, version } => {
                    self.note(None, || format!("r{replica}: deletes the ledger of {gone}"));
                    let key = InstanceKey { name: gone, ..self.replicas[replica].own.clone() };
                    let op = Op::DeleteLedger { key, version: Some(version) };
                    self.call(op, Caller::Nobody, WRITE_TIMEOUT);
                    continue;
                }
                Duty::Announce { .. } | Duty::SelfBeat(_) | Duty::Relist | Duty::Flush(_) => {
                    continue;
                }
            };
            self.replicas[replica].busy += 1;
            let boot = self.replicas[replica].boot;
            self.call(op, Caller::Duty { replica, boot, on, reason }, WRITE_TIMEOUT);
        }
    }

    /// Asked again before anything is sent.
    fn leads(&self, replica: usize) -> bool {
        let one = &self.replicas[replica];
        self.alone || one.now(self.now, self.sabotage).moment < one.tenure
    }

    /// A call was answered, and left the store at `version`.
    pub fn duty_answered(&mut self, from: &Caller, op: &Op, answer: &Answer, version: u64) {
        match from {
            Caller::SelfBeat { replica, boot, value } if self.is_running(*replica, *boot) => {
                self.self_beaten(*replica, value, op, answer);
            }
            Caller::Flush { replica, boot, sequence, leaving }
                if self.is_running(*replica, *boot) =>
            {
                self.flushed(*replica, (*sequence, *leaving), (answer, version));
            }
            Caller::Duty { replica, boot, on, reason } if self.is_running(*replica, *boot) => {
                self.replicas[*replica].busy -= 1;
                self.attempted(*replica, on, reason.clone(), answer);
                self.work(*replica);
            }
            _ => {}
        }
    }

    pub fn is_running(&self, replica: usize, boot: u64) -> bool {
        self.replicas[replica].up && self.replicas[replica].boot == boot
    }

    fn attempted(
        &mut self,
        replica: usize,
        on: &Version,
        reason: Option<Arc<str>>,
        answer: &Answer,
    ) {
        let outcome = match (answer, reason) {
            (Ok(_), Some(_)) => Outcome::Evicted,
            (Ok(written), None) => {
                if let Some(instance) = written {
                    self.tell(
                        replica,
                        Fact::Written {
                            instance: instance.clone(),
                            by: Source::Annotation,
                            sent: Sent::default(),
                        },
                        None,
                    );
                }
                Outcome::Done
            }
            (Err(Fail::Away), _) => Outcome::Failed,
            (Err(_), _) => Outcome::Conflict,
        };
        let (key, uid) = (on.key.clone(), on.uid.clone());
        self.tell(replica, Fact::Attempted { key, uid, outcome }, None);
    }

    fn self_beaten(&mut self, replica: usize, value: &Arc<str>, op: &Op, answer: &Answer) {
        if let (Op::Get { key }, Ok(_) | Err(Fail::NotFound)) = (op, answer) {
            let version = answer.as_ref().ok().and_then(Option::as_ref);
            let version = version.map(|own| own.resource_version);
            self.tell(replica, Fact::OwnRead { version }, None);
            let boot = self.replicas[replica].boot;
            let from = Caller::SelfBeat { replica, boot, value: value.clone() };
            return self.write_self_beat(key.clone(), from);
        }
        if *answer == Err(Fail::NotFound) && matches!(op, Op::Beat { .. }) {
            let (key, boot) = (self.replicas[replica].own.clone(), self.replicas[replica].boot);
            let (service, beat) = ("rollcall".into(), value.clone());
            let op = Op::Register { key, service, lease: Lease::default(), beat };
            let from = Caller::SelfBeat { replica, boot, value: value.clone() };
            return self.call(op, from, WRITE_TIMEOUT);
        }
        if let (Sabotage::AnswerIsSeen, Ok(Some(instance))) = (self.sabotage, answer) {
            self.tell(replica, Fact::Upserted(instance.clone()), None);
        }
        let answer = match answer {
            Ok(stored) => Ok(stored.as_ref().map_or(0, |own| own.resource_version)),
            Err(_) => Err("failed".into()),
        };
        self.tell(replica, Fact::SelfBeatWritten { answer }, None);
    }
}
