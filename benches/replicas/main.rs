//! What three replicas promise each other and what it costs: `cargo bench --bench replicas`.
//!
//! Runs `rollcall dev --replicas 3` (a real control plane) anew for each number of instances and length
//! of lease, and prints tables: how soon the dead leave every answer, how soon a registration and a beat
//! are known elsewhere, what DNS answers while the leader is killed, and what all of that costs beside
//! the naive way, a patch a beat. `-- 1000x3` does one of the runs (instances x seconds), `-- --quick` a
//! short one.

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
mod crowd;
mod eyes;
mod failover;
mod figures;
mod fleet;
mod meter;
mod naive;
mod register;
mod report;
mod scrape;
mod stages;
mod told;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use fleet::{PER_SERVICE, REPLICAS};

/// Instances and seconds of lease. 10,000 with 3 s would be a whole run more to show ledgers at their
/// largest only, which is a question of octets alone: that of 10,000 with 30 s, ten times as often.
const RUNS: [(usize, u64); 3] = [(1_000, 3), (1_000, 30), (10_000, 30)];

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// How many.
    pub instances: usize,
    /// Seconds.
    pub lease: u64,
    /// Who will stop beating: every second one of the first services.
    pub victims: usize,
    /// Who is registered, one by one.
    pub registered: usize,
    /// How long each phase lasts that has no end of its own.
    pub span: Duration,
}

impl Run {
    /// Between two beats.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.lease) / 3
    }

    /// The number of a victim.
    pub fn victim(&self, victim: usize) -> usize {
        2 * victim
    }

    /// Which victim an instance is, if it is one.
    pub fn victim_of(&self, i: usize) -> Option<usize> {
        (i.is_multiple_of(2) && i < 2 * self.victims).then_some(i / 2)
    }

    /// Whether it will stop beating.
    pub fn is_victim(&self, i: usize) -> bool {
        self.victim_of(i).is_some()
    }

    /// How many services have victims; half of each are.
    pub fn services(&self) -> usize {
        2 * self.victims / PER_SERVICE
    }

    /// Whom a service has.
    pub fn members(&self, service: usize) -> Range<usize> {
        service * PER_SERVICE..(service + 1) * PER_SERVICE
    }

    /// All others.
    pub fn crowd(&self) -> Vec<usize> {
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
        // Ledgers and self-beats go every 5 s.
        span: Duration::from_secs(if quick { 5 } else { 10 }),
    };
    let began = Instant::now();
    let outcomes: Vec<_> = runs.into_iter().map(|it| stages::run(run(it))).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("# rollcall {} on {cores} cores, {REPLICAS} replicas", env!("CARGO_PKG_VERSION"));
    report::print(&outcomes);
    println!("\nIt took {:.0} s.", began.elapsed().as_secs_f64());
}
