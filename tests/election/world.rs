//! Candidates around one record, in virtual time: each with a clock of its own, which may run fast
//! or slow; calls that are late, lost on the way there or on the way back; processes that freeze,
//! crash and resign; a person who deletes the record.

use std::{sync::Arc, time::Duration};

use rollcall::kubernetes::candidate::{Answer, Candidate, LEASE, RETRY, Record, Step};
use rollcall_model::lease::Moment;

/// Milliseconds of true time in a tick.
const TICK: u64 = 20;
/// As in `election`.
const CALL: u64 = 3_000;
const PAUSE: u64 = 500;

/// How the world is made worse than the rules allow for, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// The store takes any write, whatever version it was decided on.
    NoCompare,
    /// A tenure counts from the answer, not from the sending.
    FromTheAnswer,
    /// A rival's clock runs at twice the rate.
    FastClock,
}

/// Which faults happen.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub restarts: bool,
    pub deletions: bool,
}

struct Process {
    candidate: Candidate,
    /// Local milliseconds at true time 0, and how many parts in a thousand it runs.
    offset: u64,
    rate: u64,
    frozen_until: u64,
    wake: u64,
    /// The call that it waits for.
    call: Option<Call>,
    lives: u32,
}

/// A call under way: the step, when it was sent, the time limit, and the answer with its time.
type Call = (Step, Moment, u64, Option<(u64, Answer)>);

/// A write or read on its way to the store.
struct Flight {
    from: usize,
    life: u32,
    step: Step,
    holder: Option<Arc<str>>,
    arrives: u64,
    /// When its answer is there; never, if it is lost.
    answers: Option<u64>,
}

pub struct World {
    pub time: u64,
    rng: fastrand::Rng,
    sabotage: Sabotage,
    weather: Weather,
    store: Option<Record>,
    version: u64,
    processes: Vec<Process>,
    flights: Vec<Flight>,
    pub changes: u32,
    led: Option<usize>,
}

impl World {
    pub fn new(seed: u64, processes: usize, weather: Weather, sabotage: Sabotage) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let processes = (0..processes)
            .map(|index| {
                let fast = sabotage == Sabotage::FastClock && index == 0;
                Process {
                    candidate: Candidate::new(format!("p{index}_0").into()),
                    offset: rng.u64(1_000..10_000_000),
                    rate: if fast { 2_000 } else { rng.u64(900..=1_100) },
                    frozen_until: 0,
                    wake: rng.u64(0..3_000),
                    call: None,
                    lives: 0,
                }
            })
            .collect();
        let store = None;
        Self {
            time: 0,
            rng,
            sabotage,
            weather,
            store,
            version: 0,
            processes,
            flights: Vec::new(),
            changes: 0,
            led: None,
        }
    }

    /// Who leads by their own clock and knowledge, frozen or not.
    pub fn leaders(&self) -> Vec<usize> {
        let leads = |p: &Process| self.local(p) < p.candidate.tenure();
        let all = self.processes.iter().enumerate();
        all.filter(|(_, p)| leads(p)).map(|(index, _)| index).collect()
    }

    /// Plays `span` milliseconds.
    ///
    /// # Errors
    /// What happened that never may.
    pub fn play(&mut self, span: u64, faults: bool) -> Result<(), String> {
        let end = self.time + span;
        while self.time < end {
            self.time += TICK;
            if faults {
                self.mischief();
            }
            self.arrive();
            for index in 0..self.processes.len() {
                self.step(index, faults);
            }
            let leaders = self.leaders();
            if leaders.len() > 1 {
                return Err(format!("at {} ms {leaders:?} lead together", self.time));
            }
            if let Some(&leader) = leaders.first()
                && self.led != Some(leader)
            {
                self.led = Some(leader);
                self.changes += 1;
            }
        }
        Ok(())
    }

    fn local(&self, process: &Process) -> Moment {
        Moment(process.offset + self.time * process.rate / 1_000)
    }

    fn mischief(&mut self) {
        let index = self.rng.usize(..self.processes.len());
        match self.rng.u32(..2_000) {
            0 => self.processes[index].frozen_until = self.time + self.rng.u64(100..40_000),
            1 if self.weather.restarts => self.restart(index),
            2 if self.weather.deletions => self.store = None,
            3 if self.weather.restarts => self.release(index),
            _ => {}
        }
    }

    fn restart(&mut self, index: usize) {
        let wake = self.time + self.rng.u64(100..5_000);
        let process = &mut self.processes[index];
        process.lives += 1;
        process.candidate = Candidate::new(format!("p{index}_{}", process.lives).into());
        process.call = None;
        process.wake = wake;
    }

    fn release(&mut self, index: usize) {
        let Some(record) = self.processes[index].candidate.resign() else { return };
        let step =
            Step::Hold { version: record.version, transitions: record.transitions, renews: true };
        let arrives = self.time + self.rng.u64(1..20_000);
        let life = self.processes[index].lives;
        self.flights.push(Flight { from: index, life, step, holder: None, arrives, answers: None });
        self.restart(index);
    }

    /// What is on its way gets there, also when its sender is frozen, dead or has given up.
    fn arrive(&mut self) {
        let due = |flight: &Flight| flight.arrives <= self.time;
        let (mut due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(due);
        self.flights = rest;
        due.sort_by_key(|flight| flight.arrives);
        for flight in due {
            let answer = self.answer(&flight.step, flight.holder);
            let process = &mut self.processes[flight.from];
            if process.lives == flight.life
                && let (Some(call), Some(at)) = (&mut process.call, flight.answers)
                && call.0 == flight.step
                && call.3.is_none()
            {
                call.3 = Some((at, answer));
            }
        }
    }

    fn answer(&mut self, step: &Step, holder: Option<Arc<str>>) -> Answer {
        let transitions = match step {
            Step::Read => {
                return self.store.clone().map_or(Answer::Absent, Answer::Stored);
            }
            Step::Create { transitions } => {
                if self.store.is_some() {
                    return Answer::Conflict;
                }
                *transitions
            }
            Step::Hold { version, transitions, .. } => {
                let Some(stored) = &self.store else { return Answer::Absent };
                if stored.version != *version && self.sabotage != Sabotage::NoCompare {
                    return Answer::Conflict;
                }
                *transitions
            }
        };
        self.version += 1;
        let version = self.version.to_string();
        let record = Record { holder, lease: LEASE, transitions, version };
        self.store = Some(record.clone());
        Answer::Stored(record)
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
                _ if limit <= time => Answer::Failed,
                other => {
                    process.call = Some((step, sent, limit, other));
                    return;
                }
            };
            let stored = matches!(answer, Answer::Stored(_));
            let counted = if self.sabotage == Sabotage::FromTheAnswer { now } else { sent };
            process.candidate.answered(&step, counted, now, answer);
            let pause = match (&step, stored) {
                (Step::Read, _) if process.candidate.next(now) != Step::Read => 0,
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
        let holder = Some(process.candidate.me().into());
        let arrives = self.time + there;
        let answers = answered.then_some(arrives + back);
        process.call = Some((step.clone(), now, self.time + CALL, None));
        process.wake = u64::MAX;
        let life = process.lives;
        self.flights.push(Flight { from: index, life, step, holder, arrives, answers });
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
