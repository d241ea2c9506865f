//! Candidates that compete for one record, in virtual time. Each has its own clock, which can run fast or slow.
//! Calls are late, or lost before or after their execution. Processes freeze, crash and resign. An operator
//! deletes the record.

use std::{sync::Arc, time::Duration};

use rollcall::kubernetes::candidate::{Candidate, ElectionStep, LEASE, RETRY, Record, StoreAnswer};
use rollcall_model::lease::Moment;

/// Milliseconds of true time in a tick.
const TICK: u64 = 20;
/// As in `election`.
const CALL: u64 = 3_000;
const PAUSE: u64 = 500;

/// A violation of the election's assumptions, to show that the checks detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// The store accepts a write even if the version that it is based on is outdated.
    NoCompare,
    /// A term is counted from the response instead of from the request.
    TermFromResponse,
    /// The clock of one process runs at twice the rate.
    FastClock,
}

/// Which faults happen.
#[derive(Clone, Copy, Debug)]
pub struct FaultKinds {
    pub restarts: bool,
    pub deletions: bool,
}

struct Process {
    candidate: Candidate,
    /// Local milliseconds at true time 0, and the rate of the clock in parts per thousand.
    offset: u64,
    rate: u64,
    frozen_until: u64,
    wake: u64,
    /// The call that it waits for.
    call: Option<Call>,
    boot: u32,
}

/// A call in flight: the step, when it was sent, its deadline, and the response with its time.
type Call = (ElectionStep, Moment, u64, Option<(u64, StoreAnswer)>);

/// A write or read on its way to the store.
struct CallInFlight {
    from: usize,
    boot: u32,
    step: ElectionStep,
    holder: Option<Arc<str>>,
    arrives: u64,
    /// When its response arrives; `None` if it is lost.
    answers: Option<u64>,
}

pub struct World {
    pub time: u64,
    rng: fastrand::Rng,
    mutation: Mutation,
    fault_kinds: FaultKinds,
    store: Option<Record>,
    version: u64,
    processes: Vec<Process>,
    calls_in_flight: Vec<CallInFlight>,
    pub changes: u32,
    last_leader: Option<usize>,
}

impl World {
    pub fn new(seed: u64, processes: usize, fault_kinds: FaultKinds, mutation: Mutation) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let processes = (0..processes)
            .map(|index| {
                let fast = mutation == Mutation::FastClock && index == 0;
                Process {
                    candidate: Candidate::new(format!("p{index}_0").into()),
                    offset: rng.u64(1_000..10_000_000),
                    rate: if fast { 2_000 } else { rng.u64(900..=1_100) },
                    frozen_until: 0,
                    wake: rng.u64(0..3_000),
                    call: None,
                    boot: 0,
                }
            })
            .collect();
        let store = None;
        Self {
            time: 0,
            rng,
            mutation,
            fault_kinds,
            store,
            version: 0,
            processes,
            calls_in_flight: Vec::new(),
            changes: 0,
            last_leader: None,
        }
    }

    /// The processes that lead by their own clock and knowledge, frozen or not.
    pub fn leaders(&self) -> Vec<usize> {
        let leads = |p: &Process| self.local(p) < p.candidate.tenure();
        let all = self.processes.iter().enumerate();
        all.filter(|(_, p)| leads(p)).map(|(index, _)| index).collect()
    }

    /// Runs for `span` milliseconds.
    ///
    /// # Errors
    /// Describes the violation: two processes lead at the same time.
    pub fn run(&mut self, span: u64, faults: bool) -> Result<(), String> {
        let end = self.time + span;
        while self.time < end {
            self.time += TICK;
            if faults {
                self.inject_faults();
            }
            self.arrive();
            for index in 0..self.processes.len() {
                self.step(index, faults);
            }
            let leaders = self.leaders();
            if leaders.len() > 1 {
                return Err(format!(
                    "at {} ms, processes {leaders:?} lead at the same time",
                    self.time
                ));
            }
            if let Some(&leader) = leaders.first()
                && self.last_leader != Some(leader)
            {
                self.last_leader = Some(leader);
                self.changes += 1;
            }
        }
        Ok(())
    }

    fn local(&self, process: &Process) -> Moment {
        Moment(process.offset + self.time * process.rate / 1_000)
    }

    fn inject_faults(&mut self) {
        let index = self.rng.usize(..self.processes.len());
        match self.rng.u32(..2_000) {
            0 => self.processes[index].frozen_until = self.time + self.rng.u64(100..40_000),
            1 if self.fault_kinds.restarts => self.restart(index),
            2 if self.fault_kinds.deletions => self.store = None,
            3 if self.fault_kinds.restarts => self.release(index),
            _ => {}
        }
    }

    fn restart(&mut self, index: usize) {
        let wake = self.time + self.rng.u64(100..5_000);
        let process = &mut self.processes[index];
        process.boot += 1;
        process.candidate = Candidate::new(format!("p{index}_{}", process.boot).into());
        process.call = None;
        process.wake = wake;
    }

    fn release(&mut self, index: usize) {
        let Some(record) = self.processes[index].candidate.resign() else { return };
        let step = ElectionStep::Hold {
            version: record.version,
            transitions: record.transitions,
            renews: true,
        };
        let arrives = self.time + self.rng.u64(1..20_000);
        let boot = self.processes[index].boot;
        self.calls_in_flight.push(CallInFlight {
            from: index,
            boot,
            step,
            holder: None,
            arrives,
            answers: None,
        });
        self.restart(index);
    }

    /// Calls in flight reach the store even when the process that sent them is frozen, has ended or has timed out.
    fn arrive(&mut self) {
        let due = |arriving: &CallInFlight| arriving.arrives <= self.time;
        let (mut due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.calls_in_flight).into_iter().partition(due);
        self.calls_in_flight = rest;
        due.sort_by_key(|arriving| arriving.arrives);
        for arriving in due {
            let answer = self.answer(&arriving.step, arriving.holder);
            let process = &mut self.processes[arriving.from];
            if process.boot == arriving.boot
                && let (Some(call), Some(at)) = (&mut process.call, arriving.answers)
                && call.0 == arriving.step
                && call.3.is_none()
            {
                call.3 = Some((at, answer));
            }
        }
    }

    fn answer(&mut self, step: &ElectionStep, holder: Option<Arc<str>>) -> StoreAnswer {
        let transitions = match step {
            ElectionStep::Read => {
                return self.store.clone().map_or(StoreAnswer::Absent, StoreAnswer::Stored);
            }
            ElectionStep::Create { transitions } => {
                if self.store.is_some() {
                    return StoreAnswer::Conflict;
                }
                *transitions
            }
            ElectionStep::Hold { version, transitions, .. } => {
                let Some(stored) = &self.store else { return StoreAnswer::Absent };
                if stored.version != *version && self.mutation != Mutation::NoCompare {
                    return StoreAnswer::Conflict;
                }
                *transitions
            }
        };
        self.version += 1;
        let version = self.version.to_string();
        let record = Record { holder, lease: LEASE, transitions, version };
        self.store = Some(record.clone());
        StoreAnswer::Stored(record)
    }

    fn step(&mut self, index: usize, faults: bool) {
        let now = self.local(&self.processes[index]);
        let time = self.time;
        let process = &mut self.processes[index];
        if process.frozen_until > time {
            return;
        }
        if let Some((step, sent, limit, answer)) = process.call.take() {
            let answer = match answer {
                Some((at, answer)) if at <= time => answer,
                _ if limit <= time => StoreAnswer::Failed,
                other => {
                    process.call = Some((step, sent, limit, other));
                    return;
                }
            };
            let stored = matches!(answer, StoreAnswer::Stored(_));
            let counted = if self.mutation == Mutation::TermFromResponse { now } else { sent };
            process.candidate.process_answer(&step, counted, now, answer);
            let pause = match (&step, stored) {
                (ElectionStep::Read, _) if process.candidate.next(now) != ElectionStep::Read => 0,
                (_, true) => millis(RETRY),
                _ => PAUSE,
            };
            process.wake = time + pause + self.rng.u64(0..=pause / 5);
        }
        if self.processes[index].wake <= time {
            self.call(index, now, faults);
        }
    }

    fn call(&mut self, index: usize, now: Moment, faults: bool) {
        let bad = faults && self.rng.u32(..10) == 0;
        let there = self.rng.u64(1..if bad { 20_000 } else { 60 });
        let back = self.rng.u64(1..if bad { 5_000 } else { 60 });
        let answered = !faults || self.rng.u32(..20) > 0;
        let process = &mut self.processes[index];
        let step = process.candidate.next(now);
        let holder = Some(process.candidate.name().into());
        let arrives = self.time + there;
        let answers = answered.then_some(arrives + back);
        process.call = Some((step.clone(), now, self.time + CALL, None));
        process.wake = u64::MAX;
        let boot = process.boot;
        self.calls_in_flight.push(CallInFlight {
            from: index,
            boot,
            step,
            holder,
            arrives,
            answers,
        });
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
