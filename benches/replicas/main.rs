//! How well three replicas work together, and at what cost: `cargo bench --bench replicas`.
//!
//! Runs `rollcall dev --replicas 3` (a real control plane) for each number of instances and length of lease, and prints
//! tables: how soon expired instances leave every response, how soon other replicas know a registration and a
//! heartbeat, what DNS answers while the leader is killed, and the cost of all this compared with the naive solution,
//! one patch for each heartbeat. `-- 1000x3` does one of the runs (instances x seconds), `-- --quick` a short one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a benchmark fails by panicking, measures real time and prints"
)]

#[path = "../common/mod.rs"]
mod common;
mod connection;
mod crash;
mod failover;
mod figures;
mod fleet;
mod load;
mod meter;
mod naive;
mod observe;
mod propagation;
mod register;
mod report;
mod scrape;
mod stages;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use fleet::{PER_SERVICE, REPLICAS};

/// The number of instances, and the lease in seconds. 10,000 instances with 3 s would show nothing new: only ledgers as
/// large as those of 10,000 instances with 30 s, ten times as often.
const RUNS: [(usize, u64); 3] = [(1_000, 3), (1_000, 30), (10_000, 30)];

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The number of instances.
    pub instances: usize,
    /// The lease in seconds.
    pub lease: u64,
    /// The number of victims, instances whose heartbeats will stop: every second instance of the first services.
    pub victims: usize,
    /// The number of instances that are registered one by one.
    pub registered: usize,
    /// The duration of each phase that does not end by itself.
    pub span: Duration,
}

impl Run {
    /// The heartbeat interval.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.lease) / 3
    }

    /// The instance number of a victim.
    pub fn victim(&self, victim: usize) -> usize {
        2 * victim
    }

    /// The victim number of an instance, if it is a victim.
    pub fn victim_of(&self, i: usize) -> Option<usize> {
        (i.is_multiple_of(2) && i < 2 * self.victims).then_some(i / 2)
    }

    /// Whether the heartbeats of an instance will stop.
    pub fn is_victim(&self, i: usize) -> bool {
        self.victim_of(i).is_some()
    }

    /// The number of services with victims. Half of the instances of such a service are victims.
    pub fn services(&self) -> usize {
        2 * self.victims / PER_SERVICE
    }

    /// The instances of a service.
    pub fn members(&self, service: usize) -> Range<usize> {
        service * PER_SERVICE..(service + 1) * PER_SERVICE
    }

    /// The instances that are not victims.
    pub fn survivors(&self) -> Vec<usize> {
        (0..self.instances).filter(|i| !self.is_victim(*i)).collect()
    }
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let named: Vec<_> = args.iter().filter_map(|arg| arg.split_once('x')).collect();
    let named = named.iter().map(|(n, s)| (n.parse().unwrap(), s.parse().unwrap())).collect();
    let runs = match (named, quick) {
        (named, _) if !Vec::is_empty(&named) => named,
        (_, true) => vec![(400, 3)],
        _ => RUNS.to_vec(),
    };
    let run = |(instances, lease)| Run {
        instances,
        lease,
        victims: if quick { 60 } else { 200 },
        registered: if quick { 60 } else { 200 },
        // Ledgers and self-beats are written every 5 s.
        span: Duration::from_secs(if quick { 5 } else { 10 }),
    };
    let began = Instant::now();
    let results: Vec<_> = runs.into_iter().map(|it| stages::run(run(it))).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("# rollcall {} on {cores} cores, {REPLICAS} replicas", env!("CARGO_PKG_VERSION"));
    report::print(&results);
    println!("\nThe benchmark took {:.0} s.", began.elapsed().as_secs_f64());
}
