//! The leader election in simulation: two to four candidates, thousands of seeds, virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod world;

use world::{FaultKinds, Mutation, World};

/// Ten minutes with faults, then a minute and a half without.
const FAULTS: u64 = 600_000;
const QUIET: u64 = 90_000;

const RESTARTS: FaultKinds = FaultKinds { restarts: true, deletions: false };
const DELETIONS: FaultKinds = FaultKinds { restarts: true, deletions: true };

fn simulate(seed: u64, fault_kinds: FaultKinds, mutation: Mutation) -> Result<u32, String> {
    let processes = 2 + usize::try_from(seed % 3).unwrap();
    let mut world = World::new(seed, processes, fault_kinds, mutation);
    world.run(FAULTS, true)?;
    world.run(QUIET, false)?;
    match world.leaders().len() {
        1 => Ok(world.changes),
        _ => Err(format!("no process leads {QUIET} ms after the last fault")),
    }
}

#[test]
fn at_most_one_process_leads_and_one_leads_without_faults() {
    let mut changes = 0;
    for seed in 0..1_000 {
        changes += simulate(seed, RESTARTS, Mutation::None)
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    // The faults must cause changes of the leader.
    assert!(changes > 3_000, "only {changes} changes");
}

#[test]
fn deleted_record_is_recreated_and_one_process_leads() {
    for seed in 0..200 {
        let mut world = World::new(seed, 3, DELETIONS, Mutation::None);
        // While an operator deletes the record repeatedly, two processes can lead for a moment.
        while world.time < FAULTS {
            let _ = world.run(1_000, true);
        }
        while world.time < FAULTS + QUIET {
            let _ = world.run(1_000, false);
        }
        assert_eq!(world.run(QUIET, false), Ok(()), "seed {seed}");
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
    }
}

#[test]
fn every_mutation_is_detected() {
    for mutation in [Mutation::NoCompare, Mutation::TermFromResponse, Mutation::FastClock] {
        let caught = (0..300).any(|seed| simulate(seed, RESTARTS, mutation).is_err());
        assert!(caught, "{mutation:?} was not detected");
    }
}

#[test]
fn candidate_takes_over_at_once_after_a_release_and_after_a_lease_without_renewals() {
    use rollcall::kubernetes::candidate::{Candidate, ElectionStep, LEASE, Record, StoreAnswer};
    use rollcall_model::lease::Moment;
    let held = |holder: Option<&str>, version: &str| {
        let holder = holder.map(Into::into);
        StoreAnswer::Stored(Record {
            holder,
            lease: LEASE,
            transitions: 3,
            version: version.into(),
        })
    };
    let mut candidate = Candidate::new("b".into());
    let read = |candidate: &mut Candidate, at: u64, answer: StoreAnswer| {
        candidate.process_answer(&ElectionStep::Read, Moment(at), Moment(at), answer);
    };
    read(&mut candidate, 1_000, held(Some("a"), "7"));
    assert_eq!(candidate.next(Moment(15_999)), ElectionStep::Read);
    assert_eq!(candidate.leader(Moment(15_999)).map(|leader| &**leader), Some("a"));
    let take = ElectionStep::Hold { version: "7".into(), transitions: 4, renews: false };
    assert_eq!(candidate.next(Moment(16_001)), take);
    assert_eq!(candidate.leader(Moment(16_001)), None);
    // A renewal was observed: the candidate waits for a whole lease again.
    read(&mut candidate, 16_002, held(Some("a"), "8"));
    assert_eq!(candidate.next(Moment(31_000)), ElectionStep::Read);
    read(&mut candidate, 31_001, held(None, "9"));
    assert!(matches!(candidate.next(Moment(31_001)), ElectionStep::Hold { .. }));
}
