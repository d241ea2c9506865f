//! The model: every interleaving of a small world, with the real registry in it.
//!
//! The simulation (tests/sim) tries many ways by luck; here a checker (stateright) walks all of them, for
//! two replicas, two instances and a few steps of time, in scenes that begin shortly before something
//! interesting. Every scene is walked with all rules in force, to its end; and, without the clause for which
//! it is there, until a promise is broken: the way there is printed as a list of actions.
//!
//! `ROLLCALL_DEPTH=n` makes every scene but the one where everything is free longer, by n steps of time, and by n
//! beats where there are several. Each step makes it about five times as many states.
//!
//! Not in this world, and left to the simulation: a third replica, clocks that run apart, lists that are not of
//! now, ledgers in parts, ledgers that are deleted, leases and leaders that change, farewells.

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
#[allow(dead_code, reason = "the simulation asks more of it")]
mod api;
mod calls;
mod digest;
mod explore;
#[path = "../common/machine.rs"]
#[allow(dead_code, reason = "the simulation asks more of it")]
mod machine;
mod promise;
mod replica;
mod scene;
mod scenes;
mod watches;
mod words;
mod world;

use std::env;

use rollcall_core::rules::{AllRules, Rules};

use crate::{
    explore::{Outcome, Play},
    machine::machine,
    scene::Scene,
};

/// Milliseconds since the beginning of a world.
type Time = u64;

fn deeper() -> u8 {
    env::var("ROLLCALL_DEPTH").ok().map_or(0, |value| value.parse().unwrap())
}

/// Walks a scene with all rules in force.
fn holds(scene: &'static Scene) {
    let play = Play { scene, make: machine::<AllRules>, deeper: deeper() };
    let Outcome { states, steps, depth, broken, signs, seconds } = play.run();
    println!(
        "{}: {states} states by {steps} steps, {depth} deep, {seconds:.1} s, {signs:?}",
        scene.name
    );
    if let Some((promise, way)) = broken {
        panic!("{}: {promise} is broken\n{}", scene.name, play.tell(&way));
    }
    for sign in scene.signs {
        assert!(signs.contains(sign), "{}: {sign} was not seen", scene.name);
    }
}

/// Walks a scene with a clause taken out, until a promise is broken.
fn breaks<R: Rules>(scene: &'static Scene, promise: &str) {
    let play = Play { scene, make: machine::<R>, deeper: 0 };
    let Outcome { states, broken, seconds, .. } = play.run();
    let Some((what, way)) = broken else {
        panic!("{}: nothing was broken in {states} states", scene.name);
    };
    println!(
        "{}: {what} is broken after {states} states, {seconds:.1} s\n{}\n",
        scene.name,
        play.tell(&way)
    );
    assert_eq!(what, promise);
}

#[test]
fn late_ledgers_are_waited_for() {
    holds(&scenes::LATE_LEDGERS);
}

#[test]
fn without_two_bounds_the_horizon_runs_ahead() {
    breaks::<machine::OneBound>(&scenes::LATE_LEDGERS, "P1");
}

#[test]
fn a_newcomer_is_waited_for() {
    holds(&scenes::NEWCOMER);
}

#[test]
fn without_the_own_ledger_a_newcomer_is_overlooked() {
    breaks::<machine::OwnLedgerUnseen>(&scenes::NEWCOMER, "P1");
}

#[test]
fn a_restart_loses_nothing() {
    holds(&scenes::RESTART);
}

#[test]
fn without_the_boot_a_restart_loses_beats() {
    breaks::<machine::ChangedBootUnnoticed>(&scenes::RESTART, "P1");
}

#[test]
fn whoever_falls_silent_has_promised_nothing_that_is_broken() {
    holds(&scenes::SILENCE);
}

#[test]
fn without_a_fence_a_silent_replica_goes_on_promising() {
    breaks::<machine::NoFence>(&scenes::SILENCE, "P1");
}

#[test]
fn without_floors_of_the_silent_their_last_beats_are_lost() {
    breaks::<machine::SilenceUnnoticed>(&scenes::SILENCE, "P1");
}

#[test]
fn an_own_ledger_seen_late_promises_nothing() {
    holds(&scenes::OWN_LATE);
}

#[test]
fn without_the_stamp_a_late_ledger_opens_the_fence() {
    breaks::<machine::FenceBySight>(&scenes::OWN_LATE, "P1");
}

#[test]
fn whoever_comes_back_learns_first_what_was_decided() {
    holds(&scenes::RETURN);
}

#[test]
fn without_waiting_for_instances_whoever_comes_back_promises_what_is_being_evicted() {
    breaks::<machine::FenceForgetsInstances>(&scenes::RETURN, "P3");
}

#[test]
fn nobody_is_evicted_before_all_have_seen_it_expired() {
    holds(&scenes::BLIND);
}

#[test]
fn without_acknowledgement_somebody_is_evicted_who_was_answered_200() {
    breaks::<machine::EvictsUnacknowledged>(&scenes::BLIND, "P3");
}

#[test]
fn self_beats_seen_late_are_no_newer() {
    holds(&scenes::ATTEMPTS);
}

#[test]
fn without_the_first_sending_an_older_self_beat_is_credited_a_newer_time() {
    breaks::<machine::LatestAttempt>(&scenes::ATTEMPTS, "P1");
}

#[test]
fn a_late_beat_is_written_before_it_is_answered() {
    holds(&scenes::FLOORS);
}

#[test]
fn without_revivals_a_late_beat_is_answered_that_others_do_not_show() {
    breaks::<machine::LateBeatCounts>(&scenes::FLOORS, "Late");
}

#[test]
fn missed_ledgers_cost_nobody_a_lease() {
    holds(&scenes::MISSED);
}

#[test]
fn without_gaps_what_a_missed_ledger_told_is_lost() {
    breaks::<machine::MissingUnnoticed>(&scenes::MISSED, "P1");
}

#[test]
fn the_dead_leave_in_time() {
    holds(&scenes::WELL);
}

#[test]
fn without_ask_one_waits_for_the_other() {
    breaks::<machine::NobodyAsks>(&scenes::WELL, "P2");
}

#[test]
fn what_a_lost_answer_told_is_told_again() {
    holds(&scenes::LOST);
}

#[test]
fn nothing_breaks_where_everything_is_free() {
    holds(&scenes::FREE);
}
