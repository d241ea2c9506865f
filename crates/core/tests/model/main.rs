//! The model: every interleaving of a small world that contains the real state machine.
//!
//! The simulation (tests/sim) tries random interleavings. Here a model checker (stateright) explores all of
//! them, for two replicas, two instances and a few steps of time, in scenes that begin shortly before an
//! interesting moment. With all rules, every scene is explored completely. Without the clause that a scene
//! tests, it is explored until a promise breaks, and the path to that state is printed as a list of actions.
//!
//! `ROLLCALL_DEPTH=n` makes every scene longer, except the one in which every order is possible: by n steps of
//! time, and by n heartbeats where there are several. Each step multiplies the number of states by about five.
//!
//! Not modelled here, and left to the simulation: a third replica, clocks that drift apart, stale lists,
//! ledgers in parts, deleted ledgers, changes of leases and leaders, deregistrations.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../sim/api.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod api;
mod calls;
mod describe;
mod digest;
mod explore;
#[path = "../common/mutants.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod mutants;
mod promises;
mod replica;
mod scene;
mod scenes;
mod watches;
mod world;

use std::env;

use rollcall_core::rules::{AllRules, Rules};

use crate::{
    explore::{Exploration, SceneModel},
    mutants::build,
    scene::Scene,
};

/// Milliseconds since the beginning of a world.
type Time = u64;

fn deeper() -> u8 {
    env::var("ROLLCALL_DEPTH").ok().map_or(0, |value| value.parse().unwrap())
}

/// Explores a scene completely, with all rules.
fn assert_holds(scene: &'static Scene) {
    let model = SceneModel { scene, make: build::<AllRules>, deeper: deeper() };
    let Exploration { states, steps, depth, broken, expected_events, seconds } = model.run();
    println!(
        "{}: {states} states by {steps} steps, {depth} deep, {seconds:.1} s, {expected_events:?}",
        scene.name
    );
    if let Some((promise, path)) = broken {
        panic!("{}: {promise} is broken\n{}", scene.name, model.describe_path(&path));
    }
    for event in scene.expected_events {
        assert!(expected_events.contains(event), "{}: {event} was not observed", scene.name);
    }
}

/// Explores a scene without one clause, until a promise breaks.
fn assert_breaks<R: Rules>(scene: &'static Scene, promise: &str) {
    let model = SceneModel { scene, make: build::<R>, deeper: 0 };
    let Exploration { states, broken, seconds, .. } = model.run();
    let Some((what, path)) = broken else {
        panic!("{}: no promise was broken in {states} states", scene.name);
    };
    println!(
        "{}: {what} is broken after {states} states, {seconds:.1} s\n{}\n",
        scene.name,
        model.describe_path(&path)
    );
    assert_eq!(what, promise);
}

#[test]
fn late_ledger_does_not_cost_a_lease() {
    assert_holds(&scenes::LATE_LEDGERS);
}

#[test]
fn without_two_bounds_the_horizon_runs_ahead() {
    assert_breaks::<mutants::SingleClockBound>(&scenes::LATE_LEDGERS, "P1");
}

#[test]
fn new_replica_is_waited_for() {
    assert_holds(&scenes::NEW_REPLICA);
}

#[test]
fn without_the_own_ledger_a_new_replica_is_missed() {
    assert_breaks::<mutants::OwnLedgerIgnored>(&scenes::NEW_REPLICA, "P1");
}

#[test]
fn restart_loses_no_heartbeat() {
    assert_holds(&scenes::RESTART);
}

#[test]
fn without_the_boot_a_restart_loses_heartbeats() {
    assert_breaks::<mutants::ChangedBootIgnored>(&scenes::RESTART, "P1");
}

#[test]
fn silent_replica_breaks_no_promise() {
    assert_holds(&scenes::SILENCE);
}

#[test]
fn without_the_fence_a_silent_replica_keeps_promising() {
    assert_breaks::<mutants::NoFence>(&scenes::SILENCE, "P1");
}

#[test]
fn without_grace_for_silent_replicas_their_last_heartbeats_are_lost() {
    assert_breaks::<mutants::SilentReplicaIgnored>(&scenes::SILENCE, "P1");
}

#[test]
fn own_ledger_that_comes_back_late_opens_no_fence() {
    assert_holds(&scenes::OWN_LEDGER_LATE);
}

#[test]
fn without_the_stamp_a_late_ledger_opens_the_fence() {
    assert_breaks::<mutants::FenceByObservation>(&scenes::OWN_LEDGER_LATE, "P1");
}

#[test]
fn returned_replica_observes_verdicts_before_it_promises() {
    assert_holds(&scenes::RETURNED);
}

#[test]
fn without_waiting_for_instances_a_returned_replica_confirms_an_evicted_instance() {
    assert_breaks::<mutants::FenceIgnoresInstances>(&scenes::RETURNED, "P3");
}

#[test]
fn no_eviction_before_every_replica_has_observed_the_expiry() {
    assert_holds(&scenes::INSTANCES_LATE);
}

#[test]
fn without_acknowledgement_a_confirmed_instance_is_evicted() {
    assert_breaks::<mutants::EvictsWithoutAcknowledgement>(&scenes::INSTANCES_LATE, "P3");
}

#[test]
fn late_self_beat_does_not_move_the_horizon_too_far() {
    assert_holds(&scenes::SELF_BEATS_LATE);
}

#[test]
fn without_the_first_sending_an_older_self_beat_counts_as_newer() {
    assert_breaks::<mutants::SelfBeatByLatestAttempt>(&scenes::SELF_BEATS_LATE, "P1");
}

#[test]
fn late_heartbeat_is_written_before_it_is_answered() {
    assert_holds(&scenes::GRACE);
}

#[test]
fn without_revivals_a_late_heartbeat_is_confirmed_by_one_replica_only() {
    assert_breaks::<mutants::LateHeartbeatRenews>(&scenes::GRACE, "Late");
}

#[test]
fn missed_ledger_ends_no_lease_early() {
    assert_holds(&scenes::LEDGERS_MISSED);
}

#[test]
fn without_gaps_heartbeats_of_a_missed_ledger_are_lost() {
    assert_breaks::<mutants::MissingSegmentsIgnored>(&scenes::LEDGERS_MISSED, "P1");
}

#[test]
fn expired_instances_leave_in_time() {
    assert_holds(&scenes::ALL_WELL);
}

#[test]
fn without_ask_one_replica_waits_for_the_other() {
    assert_breaks::<mutants::LedgerNeverAsks>(&scenes::ALL_WELL, "P2");
}

#[test]
fn heartbeats_of_an_unconfirmed_ledger_are_reported_again() {
    assert_holds(&scenes::RESPONSES_LOST);
}

#[test]
fn no_promise_breaks_when_every_order_is_possible() {
    assert_holds(&scenes::EVERY_ORDER);
}
