//! The stages of one run, in their order.

use std::time::{Duration, Instant};

use crate::{
    Run,
    crash::{self, Gone},
    crowd::{Account, Crowd, Singles},
    failover::{self, Failover},
    figures::Times,
    fleet::{Fleet, REPLICAS},
    meter::{Meter, Rates},
    naive::{self, Pace},
    register::{self, Registered},
    told,
};

/// All beat over HTTP.
pub const BEATING: &str = "all beat";

/// Nobody beats, for less than a turn: nobody dies of it.
const QUIET: &str = "all there, nobody beats";

/// All beat by patches, as far as the API server can take it.
pub const NAIVE: &str = "the naive way";

/// What the life of an instance may need. Events alike on one object are patched.
const LIFE: [&str; 5] = [
    "apply serviceinstances",
    "patch serviceinstances/status",
    "delete serviceinstances",
    "create events",
    "patch events",
];

/// All that came of one run.
pub struct Outcome {
    pub run: Run,
    pub phases: Vec<(&'static str, Rates)>,
    pub told: Times,
    pub gone: Gone,
    pub registered: Registered,
    pub pace: Pace,
    /// What one instance costs from its registration to its eviction, by verb and resource.
    pub life: Option<Vec<(String, f64)>>,
    pub failover: Failover,
    /// Leases that ended though everybody beat.
    pub expired: f64,
    /// Until the leader was killed, and from then on.
    pub accounts: [Account; 2],
}

/// Starts everything, goes through all stages, and ends it.
pub fn run(run: Run) -> Outcome {
    let fleet = Fleet::start(run);
    let mut stages = Stages { fleet: &fleet, phases: Vec::new(), began: Instant::now() };
    let (everybody, survivors) = (run.instances, run.instances - run.victims);
    std::thread::sleep(Duration::from_secs(3));
    stages.measure("idle, no instances", 0, |_| std::thread::sleep(run.span));

    stages.say("instances are made");
    let (crowd, mut singles) = (Crowd::start(&fleet), Singles::start(&fleet));
    fleet.fill();
    fleet.settle();
    std::thread::sleep(run.interval().max(Duration::from_secs(2)));
    crowd.account();
    let expired = fleet.expiries();
    stages.measure(BEATING, everybody, |_| std::thread::sleep(run.span));
    if run.lease >= 10 {
        singles.end(&fleet);
        stages.quiet();
        singles = Singles::start(&fleet);
        std::thread::sleep(run.interval().mul_f64(1.1));
    }

    stages.say("beats at one replica");
    singles.end(&fleet);
    let told = told::run(&fleet, run.span);
    singles = Singles::start(&fleet);
    std::thread::sleep(run.interval().mul_f64(1.1));

    let registering = "registering, and as many bare creates";
    let registered =
        stages.measure(registering, everybody, |fleet| register::run(fleet, run.registered));
    let pace = stages.naive();
    let expired = fleet.expiries() - expired;
    let lasts = singles.end(&fleet);
    stages.say("the victims beat no more");
    crash::wait(&fleet, &lasts);
    let gone = stages.measure("the victims die", survivors, |fleet| crash::run(fleet, &lasts));
    let life = (run.lease < 10).then(|| stages.life());
    let before = crowd.account();
    let failover = stages.failover(survivors);
    let accounts = [before, crowd.end()];
    stages.say("done");
    let phases = stages.phases;
    Outcome { run, phases, told, gone, registered, pace, life, failover, expired, accounts }
}

struct Stages<'a> {
    fleet: &'a Fleet,
    phases: Vec<(&'static str, Rates)>,
    began: Instant,
}

impl Stages<'_> {
    fn say(&self, what: &str) {
        let (run, since) = (self.fleet.run, self.began.elapsed().as_secs());
        eprintln!("{} × {} s, {since} s: {what}", run.instances, run.lease);
    }

    /// Beats a second of so many.
    fn beats(&self, who: usize) -> f64 {
        who as f64 / self.fleet.run.interval().as_secs_f64()
    }

    /// Measures a phase in which so many beat.
    fn measure<T>(&mut self, name: &'static str, who: usize, phase: impl FnOnce(&Fleet) -> T) -> T {
        self.say(name);
        let meter = Meter::start(self.fleet, (0..REPLICAS).collect());
        let done = phase(self.fleet);
        let rates = meter.end(self.beats(who));
        self.phases.push((name, rates));
        done
    }

    /// Nobody beats for most of a turn, so that nobody misses more than one.
    fn quiet(&mut self) {
        let run = self.fleet.run;
        self.beat_for(&run.crowd(), false);
        self.measure(QUIET, 0, |_| std::thread::sleep(run.interval().mul_f64(0.8)));
        self.beat_for(&run.crowd(), true);
    }

    fn beat_for(&self, who: &[usize], beats: bool) {
        who.iter().for_each(|i| self.fleet.beat_for(*i, beats));
    }

    /// Has as many of the crowd as the API server can take beat by patches.
    fn naive(&mut self) -> Pace {
        let run = self.fleet.run;
        self.say("as many patches as possible");
        let pace = naive::pace(self.fleet);
        let who = &run.crowd()[..pace.instances];
        self.beat_for(who, false);
        let patched = self.measure(NAIVE, run.instances, |fleet| naive::run(fleet, pace, run.span));
        self.beat_for(who, true);
        Pace { attained: patched as f64 / run.span.as_secs_f64(), ..pace }
    }

    /// What it costs to live once, by verb and resource. The checkpoints of all the others are left out, at
    /// the pace in which they were written while nothing else was.
    fn life(&mut self) -> Vec<(String, f64)> {
        let run = self.fleet.run;
        let name = "whole lives of 3 s";
        self.measure(name, run.instances - run.victims, |it| register::lives(it, run.registered));
        let of = |phase: &str| self.phases.iter().find(|(name, _)| *name == phase);
        let (Some((_, lived)), Some((_, beating))) = (of(name), of(BEATING)) else {
            return Vec::new();
        };
        let part = |what: &&str| {
            let besides = if what.ends_with("/status") { beating.of_all(what) } else { 0.0 };
            let count = (lived.of_all(what) - besides).max(0.0) * lived.span.as_secs_f64();
            ((*what).to_owned(), count / run.registered as f64)
        };
        LIFE.iter().map(part).collect()
    }

    /// Measures those that live on.
    fn failover(&mut self, who: usize) -> Failover {
        let name = "the leader is killed; the others";
        self.say(name);
        let meter = Meter::start(self.fleet, (1..REPLICAS).collect());
        let failover = failover::run(self.fleet);
        self.phases.push((name, meter.end(self.beats(who))));
        failover
    }
}
