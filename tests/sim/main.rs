//! The seeded simulation: the real registry, in virtual time, against a model API server whose
//! network and replicas misbehave. Nothing here sleeps, and a seed always gives the same run.
//!
//! `ROLLCALL_SEEDS` says how many seeds are run, `ROLLCALL_SEED` runs one and prints its timeline.

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
mod door;
mod faults;
mod replica;
mod watch;
mod world;

use std::env;

use crate::{
    check::{Stats, Violation},
    world::World,
};

/// Milliseconds since the beginning of a run.
type Time = u64;

/// The DNS zone in statuses.
const ZONE: &str = "rollcall.internal";

/// Seeds of one `cargo test`.
const SEEDS: u64 = 5_000;

/// What is broken on purpose, to show that the checks can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    /// A self-beat counts as seen when its write is answered: the horizon runs ahead of the watch.
    AnswerIsSeen,
    /// What a replica says of itself overtakes other changes in the watch.
    Unordered,
    /// A checkpoint counts as a beat.
    CheckpointBeats,
    /// Evictions carry no resourceVersion.
    EvictsAnyVersion,
    /// Leases are judged by the wall clock.
    WallDecides,
    /// A revival is answered 200 before it is written.
    AnswersFirst,
    /// A frozen process goes on judging, so that it never notices that it was deaf.
    SettlesWhileFrozen,
}

fn run(seed: u64, sabotage: Sabotage) -> Result<(Stats, u64), Violation> {
    let mut world = World::new(seed, sabotage, false);
    world.run()?;
    Ok((world.check.stats, world.trace))
}

/// What happened to the client in question, and how to see it again.
fn report(seed: u64, violation: &Violation) -> String {
    let mut world = World::new(seed, Sabotage::None, true);
    let _ = world.run();
    let at = violation.at as f64 / 1000.0;
    format!(
        "seed {seed}, at {at:.3} s: {}\n{}\nfaults: {:#?}\nclient: {:?}\n\nagain: \
         ROLLCALL_SEED={seed} cargo test --test sim -- --nocapture promises\n",
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
        if let Err(violation) = run(seed, Sabotage::None) {
            panic!("{}", report(seed, &violation));
        }
        let mut world = World::new(seed, Sabotage::None, true);
        let _ = world.run();
        println!("{}", world.timeline(None, usize::MAX));
        return;
    }
    let seeds = number("ROLLCALL_SEEDS").unwrap_or(SEEDS);
    let mut sum = Stats::default();
    let mut broken = Vec::new();
    for seed in 0..seeds {
        match run(seed, Sabotage::None) {
            Ok((stats, _)) => sum.add(&stats),
            Err(violation) => broken.push((seed, violation)),
        }
    }
    println!("{seeds} seeds: {sum:?}");
    if let Some((seed, violation)) = broken.first() {
        let others: Vec<_> = broken.iter().map(|(seed, v)| format!("{seed} {}", v.what)).collect();
        panic!(
            "{}{} broken: {:#?}",
            report(*seed, violation),
            broken.len(),
            &others[..others.len().min(40)]
        );
    }
    assert!(sum.lapses > seeds && sum.evictions > seeds / 4, "too little happened: {sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 7, 42] {
        assert_eq!(run(seed, Sabotage::None).unwrap(), run(seed, Sabotage::None).unwrap());
    }
}

/// Runs seeds until one is caught, and answers by what.
fn caught(sabotage: Sabotage, within: u64) -> String {
    let found = (0..within).find_map(|seed| run(seed, sabotage).err().map(|v| (seed, v.what)));
    let (seed, what) =
        found.unwrap_or_else(|| panic!("{sabotage:?}: not caught in {within} seeds"));
    println!("{sabotage:?}: caught by seed {seed}: {what}");
    what
}

#[test]
fn a_horizon_that_runs_ahead_of_the_watch_is_caught() {
    assert!(caught(Sabotage::AnswerIsSeen, 300).starts_with("P1"));
}

#[test]
fn a_watch_out_of_order_is_caught() {
    assert!(caught(Sabotage::Unordered, 300).starts_with("P1"));
}

#[test]
fn a_checkpoint_that_counts_as_a_beat_is_caught() {
    caught(Sabotage::CheckpointBeats, 100);
}

#[test]
fn an_eviction_without_a_version_is_caught() {
    assert!(caught(Sabotage::EvictsAnyVersion, 2000).starts_with("P3"));
}

#[test]
fn a_wall_clock_that_decides_is_caught() {
    caught(Sabotage::WallDecides, 300);
}

#[test]
fn a_revival_answered_before_it_is_written_is_caught() {
    caught(Sabotage::AnswersFirst, 5000);
}

#[test]
fn a_frozen_process_that_gives_no_time_back_is_caught() {
    assert!(caught(Sabotage::SettlesWhileFrozen, 2000).starts_with("P5"));
}
