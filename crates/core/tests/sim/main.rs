//! The seeded simulation: the real state machine in virtual time, against a model of the API server, with
//! faults in its network and in the replicas. Nothing sleeps, and a seed always gives the same run.
//!
//! `ROLLCALL_SEEDS` is the number of seeds and `ROLLCALL_FROM` the first one. `ROLLCALL_SEED` runs a single
//! seed and prints its timeline; `ROLLCALL_WITHOUT` names the faults and clients to leave out of it.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod api;
mod clients;
mod election;
mod end_of_run;
mod faults;
mod guard_promise;
#[path = "../common/mutants.rs"]
#[allow(dead_code, reason = "the model uses more of it")]
mod mutants;
mod mutations;
mod promises;
mod replica;
mod server;
mod shrink;
mod watches;
mod world;

use std::{
    env,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::{
    mutations::Mutation,
    promises::{Stats, Violation},
    shrink::{Exclusions, shrink},
    world::World,
};

/// Milliseconds since the beginning of a run.
type Time = u64;

/// The DNS zone in statuses.
const ZONE: &str = "rollcall.internal";

/// Number of seeds in one `cargo test`.
const SEEDS: u64 = 10_000;

fn run(seed: u64, mutation: Mutation) -> Result<(Stats, u64), Violation> {
    let mut world = World::new(seed, mutation, false);
    world.run()?;
    Ok((world.checker.stats, world.digest))
}

/// Runs seeds on all cores. Returns the sum of their statistics, and the violations by seed.
fn run_all(seeds: Range<u64>, mutation: Mutation) -> (Stats, Vec<(u64, Violation)>) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let (mut sum, mut broken) = (Stats::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (sum, broken);
            }
            match run(seed, mutation) {
                Ok((stats, _)) => sum.add(&stats),
                Err(violation) => broken.push((seed, violation)),
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, Into::into);
    let (mut sum, mut broken) = (Stats::default(), Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (stats, violations) = worker.join().unwrap();
            sum.add(&stats);
            broken.extend(violations);
        }
    });
    broken.sort_by_key(|(seed, _)| *seed);
    (sum, broken)
}

/// The report of a violation: its timeline, and the command that runs it again.
fn report(seed: u64, violation: Violation) -> String {
    let (without, violation) = shrink(seed, Mutation::None, violation);
    let mut world = World::with(seed, Mutation::None, true, &without);
    let _ = world.run();
    let at = violation.at as f64 / 1000.0;
    format!(
        "seed {seed}, at {at:.3} s: {}\n{}\nfaults: {:#?}\nclient: {:?}\n\nagain: ROLLCALL_SEED={seed} \
         ROLLCALL_WITHOUT={without} cargo test --test sim -- --nocapture every_promise\n",
        violation.what,
        world.timeline(violation.client, 60),
        world.faults,
        violation.client.map(|client| &world.clients[client]),
    )
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[test]
fn every_promise_holds_for_every_seed() {
    if let Some(seed) = number("ROLLCALL_SEED") {
        let mut world = World::with(seed, Mutation::None, true, &Exclusions::from_environment());
        let end = world.run();
        println!("{}", world.timeline(None, usize::MAX));
        return assert!(end.is_ok(), "seed {seed}: {end:?}");
    }
    let from = number("ROLLCALL_FROM").unwrap_or(0);
    let seeds = number("ROLLCALL_SEEDS").unwrap_or(SEEDS);
    let (sum, broken) = run_all(from..from + seeds, Mutation::None);
    println!("{seeds} seeds: {sum:?}");
    let others: Vec<_> = broken.iter().map(|(seed, v)| format!("{seed} {}", v.what)).collect();
    if let Some((seed, violation)) = broken.into_iter().next() {
        panic!(
            "{}{} broken: {:#?}",
            report(seed, violation),
            others.len(),
            &others[..others.len().min(40)]
        );
    }
    assert!(sum.expiries > seeds && sum.evictions > seeds / 4, "too little happened: {sum:?}");
}

/// Number of seeds with faults around a store that steps back.
const RESTORES: u64 = 4_000;

#[test]
fn promises_hold_when_the_store_steps_back() {
    let seeds = number("ROLLCALL_SEEDS").unwrap_or(RESTORES);
    let from = number("ROLLCALL_FROM").unwrap_or(0);
    let (sum, broken) = run_all(from..from + seeds, Mutation::OnlyRestoreFaults);
    println!("{seeds} seeds: {sum:?}");
    let broken: Vec<_> = broken.iter().map(|(seed, v)| format!("{seed} {}", v.what)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 1..60 {
        assert_eq!(run(seed, Mutation::None).unwrap(), run(seed, Mutation::None).unwrap());
    }
}

/// Runs seeds until one breaks a promise. Returns the violation, or `None` when all seeds pass.
fn broken_promise(mutation: Mutation, within: u64) -> Option<String> {
    const BATCH: u64 = 50;
    for from in (0..within).step_by(BATCH as usize) {
        let (_, broken) = run_all(from..within.min(from + BATCH), mutation);
        if let Some((seed, violation)) = broken.first() {
            println!("{mutation:?}: caught by seed {seed}: {}", violation.what);
            return Some(violation.what.clone());
        }
    }
    println!("{mutation:?}: not caught in {within} seeds");
    None
}

#[test]
fn every_mutation_breaks_a_promise() {
    let uncaught: Vec<_> = mutations::ALL
        .iter()
        .filter(|(mutation, promise, within)| {
            !broken_promise(*mutation, *within).is_some_and(|what| what.starts_with(promise))
        })
        .collect();
    assert!(
        uncaught.is_empty(),
        "these mutations break no promise, or not the expected one: {uncaught:?}"
    );
}
