//! The stages of one run, in order.

use std::time::{Duration, Instant};

use crate::{
    Run,
    crash::{self, CrashResult},
    failover::{self, Failover},
    figures::Times,
    fleet::{Fleet, REPLICAS},
    load::{BatchLoad, HeartbeatCounts, SingleLoad},
    meter::{Meter, Rates},
    naive::{self, Pace},
    propagation,
    register::{self, RegistrationTimes},
};

/// The phase in which all instances send heartbeats over HTTP.
pub const WITH_HEARTBEATS: &str = "all send heartbeats";

/// The phase in which no instance sends heartbeats. It is shorter than an interval, so that no lease ends.
const WITHOUT_HEARTBEATS: &str = "all registered, no heartbeats";

/// The phase with heartbeats by patches, for as many instances as the API server can handle.
pub const WITH_PATCHES: &str = "heartbeats by patches";

/// The API calls that the lifecycle of an instance can need. When an Event repeats for an object, it is patched.
const LIFECYCLE_CALLS: [&str; 5] = [
    "apply serviceinstances",
    "patch serviceinstances/status",
    "delete serviceinstances",
    "create events",
    "patch events",
];

/// The results of one run.
pub struct RunResult {
    pub run: Run,
    pub phases: Vec<(&'static str, Rates)>,
    pub propagation: Times,
    pub crash: CrashResult,
    pub registrations: RegistrationTimes,
    pub pace: Pace,
    /// The API calls of one instance from its registration to its eviction, by verb and resource.
    pub lifecycle: Option<Vec<(String, f64)>>,
    pub failover: Failover,
    /// The number of leases that ended although all instances sent heartbeats.
    pub expired: f64,
    /// The heartbeats in batches before and after the kill of the leader.
    pub counts: [HeartbeatCounts; 2],
}

/// Starts the fleet, runs all stages, and stops the fleet.
pub fn run(run: Run) -> RunResult {
    let fleet = Fleet::start(run);
    let mut stages = Stages { fleet: &fleet, phases: Vec::new(), began: Instant::now() };
    let (all, survivors) = (run.instances, run.instances - run.victims);
    std::thread::sleep(Duration::from_secs(3));
    stages.measure("idle, no instances", 0, |_| std::thread::sleep(run.span));

    stages.log("creating the instances");
    let (batches, mut singles) = (BatchLoad::start(&fleet), SingleLoad::start(&fleet));
    fleet.fill();
    fleet.settle();
    std::thread::sleep(run.interval().max(Duration::from_secs(2)));
    batches.take_counts();
    let expired = fleet.expiries();
    stages.measure(WITH_HEARTBEATS, all, |_| std::thread::sleep(run.span));
    if run.lease >= 10 {
        singles.end(&fleet);
        stages.quiet();
        singles = SingleLoad::start(&fleet);
        std::thread::sleep(run.interval().mul_f64(1.1));
    }

    stages.log("heartbeats at one replica");
    singles.end(&fleet);
    let propagation = propagation::run(&fleet, run.span);
    singles = SingleLoad::start(&fleet);
    std::thread::sleep(run.interval().mul_f64(1.1));

    let registering = "registrations, and as many bare creates";
    let registrations =
        stages.measure(registering, all, |fleet| register::run(fleet, run.registered));
    let pace = stages.naive();
    let expired = fleet.expiries() - expired;
    let lasts = singles.end(&fleet);
    stages.log("the victims send no more heartbeats");
    crash::wait(&fleet, &lasts);
    let crash = stages.measure("the victims expire", survivors, |fleet| crash::run(fleet, &lasts));
    let lifecycle = (run.lease < 10).then(|| stages.lifecycle());
    let before = batches.take_counts();
    let failover = stages.failover(survivors);
    let counts = [before, batches.end()];
    stages.log("done");
    let phases = stages.phases;
    RunResult {
        run,
        phases,
        propagation,
        crash,
        registrations,
        pace,
        lifecycle,
        failover,
        expired,
        counts,
    }
}

struct Stages<'a> {
    fleet: &'a Fleet,
    phases: Vec<(&'static str, Rates)>,
    began: Instant,
}

impl Stages<'_> {
    fn log(&self, message: &str) {
        let (run, since) = (self.fleet.run, self.began.elapsed().as_secs());
        eprintln!("{} × {} s, {since} s: {message}", run.instances, run.lease);
    }

    /// The heartbeats a second of this many instances.
    fn heartbeat_rate(&self, instances: usize) -> f64 {
        instances as f64 / self.fleet.run.interval().as_secs_f64()
    }

    /// Measures a phase in which this many instances send heartbeats.
    fn measure<T>(
        &mut self,
        name: &'static str,
        instances: usize,
        phase: impl FnOnce(&Fleet) -> T,
    ) -> T {
        self.log(name);
        let meter = Meter::start(self.fleet, (0..REPLICAS).collect());
        let result = phase(self.fleet);
        let rates = meter.end(self.heartbeat_rate(instances));
        self.phases.push((name, rates));
        result
    }

    /// Pauses all heartbeats for less than an interval, so that no instance misses more than one.
    fn quiet(&mut self) {
        let run = self.fleet.run;
        self.enable(&run.survivors(), false);
        self.measure(WITHOUT_HEARTBEATS, 0, |_| std::thread::sleep(run.interval().mul_f64(0.8)));
        self.enable(&run.survivors(), true);
    }

    fn enable(&self, instances: &[usize], is_enabled: bool) {
        instances.iter().for_each(|i| self.fleet.enable(*i, is_enabled));
    }

    /// Sends heartbeats by patches, for as many instances as the API server can handle.
    fn naive(&mut self) -> Pace {
        let run = self.fleet.run;
        self.log("as many patches as possible");
        let pace = naive::measure_pace(self.fleet);
        let instances = &run.survivors()[..pace.instances];
        self.enable(instances, false);
        let patched =
            self.measure(WITH_PATCHES, run.instances, |fleet| naive::run(fleet, pace, run.span));
        self.enable(instances, true);
        Pace { attained: patched as f64 / run.span.as_secs_f64(), ..pace }
    }

    /// The API calls of one lifecycle, by verb and resource. The checkpoints of all other instances are subtracted, at
    /// the rate that was measured during [`WITH_HEARTBEATS`].
    fn lifecycle(&mut self) -> Vec<(String, f64)> {
        let run = self.fleet.run;
        let name = "whole lifecycles with leases of 3 s";
        let survivors = run.instances - run.victims;
        self.measure(name, survivors, |fleet| register::lifecycles(fleet, run.registered));
        let find = |phase: &str| self.phases.iter().find(|(name, _)| *name == phase);
        let (Some((_, rates)), Some((_, beating))) = (find(name), find(WITH_HEARTBEATS)) else {
            return Vec::new();
        };
        let per_instance = |call: &&str| {
            let others = if call.ends_with("/status") { beating.writes_of(call) } else { 0.0 };
            let count = (rates.writes_of(call) - others).max(0.0) * rates.span.as_secs_f64();
            ((*call).to_owned(), count / run.registered as f64)
        };
        LIFECYCLE_CALLS.iter().map(per_instance).collect()
    }

    /// Measures the replicas that are not killed.
    fn failover(&mut self, instances: usize) -> Failover {
        let name = "the leader is killed; the others";
        self.log(name);
        let meter = Meter::start(self.fleet, (1..REPLICAS).collect());
        let failover = failover::run(self.fleet);
        self.phases.push((name, meter.end(self.heartbeat_rate(instances))));
        failover
    }
}
