//! The seeded simulation: the real registry, in virtual time, against a model API server whose
//! network and replicas misbehave. Nothing here sleeps, and a seed always gives the same run.
//!
//! `ROLLCALL_SEEDS` says how many seeds are run and `ROLLCALL_FROM` which is the first; `ROLLCALL_SEED` runs
//! one and prints its timeline, without what `ROLLCALL_WITHOUT` names.

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
mod check;
mod clients;
mod election;
mod faults;
mod guard;
#[path = "../common/machine.rs"]
#[allow(dead_code, reason = "the model asks more of it")]
mod machine;
mod replica;
mod sabotage;
mod server;
mod shrink;
mod watch;
mod world;

use std::{
    env,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::{
    check::{Stats, Violation},
    sabotage::Sabotage,
    shrink::{Without, shrink},
    world::World,
};

/// Milliseconds since the beginning of a run.
type Time = u64;

/// The DNS zone in statuses.
const ZONE: &str = "rollcall.internal";

/// Seeds of one `cargo test`.
const SEEDS: u64 = 10_000;

fn run(seed: u64, sabotage: Sabotage) -> Result<(Stats, u64), Violation> {
    let mut world = World::new(seed, sabotage, false);
    world.run()?;
    Ok((world.check.stats, world.trace))
}

/// Runs seeds on all cores; what happened in all, and what broke, by seed.
fn run_all(seeds: Range<u64>, sabotage: Sabotage) -> (Stats, Vec<(u64, Violation)>) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let (mut sum, mut broken) = (Stats::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (sum, broken);
            }
            match run(seed, sabotage) {
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

/// What happened to the client in question, and how to see it again.
fn report(seed: u64, violation: Violation) -> String {
    let (without, violation) = shrink(seed, Sabotage::None, violation);
    let mut world = World::with(seed, Sabotage::None, true, &without);
    let _ = world.run();
    let at = violation.at as f64 / 1000.0;
    format!(
        "seed {seed}, at {at:.3} s: {}\n{}\nfaults: {:#?}\nclient: {:?}\n\nagain: ROLLCALL_SEED={seed} \
         ROLLCALL_WITHOUT={without} cargo test --test sim -- --nocapture promises\n",
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
fn the_promises_hold_for_every_seed() {
    if let Some(seed) = number("ROLLCALL_SEED") {
        let mut world = World::with(seed, Sabotage::None, true, &Without::of_environment());
        let end = world.run();
        println!("{}", world.timeline(None, usize::MAX));
        return assert!(end.is_ok(), "seed {seed}: {end:?}");
    }
    let from = number("ROLLCALL_FROM").unwrap_or(0);
    let seeds = number("ROLLCALL_SEEDS").unwrap_or(SEEDS);
    let (sum, broken) = run_all(from..from + seeds, Sabotage::None);
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
    assert!(sum.lapses > seeds && sum.evictions > seeds / 4, "too little happened: {sum:?}");
}

/// Seeds of faults around a store that goes back.
const RESTORES: u64 = 4_000;

#[test]
fn promises_hold_when_the_store_goes_back() {
    let seeds = number("ROLLCALL_SEEDS").unwrap_or(RESTORES);
    let from = number("ROLLCALL_FROM").unwrap_or(0);
    let (sum, broken) = run_all(from..from + seeds, Sabotage::OnlyRestores);
    println!("{seeds} seeds: {sum:?}");
    let broken: Vec<_> = broken.iter().map(|(seed, v)| format!("{seed} {}", v.what)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..60 {
        assert_eq!(run(seed, Sabotage::None).unwrap(), run(seed, Sabotage::None).unwrap());
    }
}

/// Runs seeds until one is caught, and answers by what; none when none is.
fn caught(sabotage: Sabotage, within: u64) -> Option<String> {
    const AT_ONCE: u64 = 50;
    for from in (0..within).step_by(AT_ONCE as usize) {
        let (_, broken) = run_all(from..within.min(from + AT_ONCE), sabotage);
        if let Some((seed, violation)) = broken.first() {
            println!("{sabotage:?}: caught by seed {seed}: {}", violation.what);
            return Some(violation.what.clone());
        }
    }
    println!("{sabotage:?}: not caught in {within} seeds");
    None
}

#[test]
fn every_clause_is_there_for_a_reason() {
    let uncaught: Vec<_> = sabotage::ALL
        .iter()
        .filter(|(sabotage, promise, within)| {
            !caught(*sabotage, *within).is_some_and(|what| what.starts_with(promise))
        })
        .collect();
    assert!(uncaught.is_empty(), "not caught, or not by this promise: {uncaught:?}");
}
