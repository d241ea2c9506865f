//! The election, played through: two to four candidates, thousands of seeds, no clock.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod world;

use world::{Sabotage, Weather, World};

/// Ten minutes of faults, then a minute and a half of peace.
const FAULTS: u64 = 600_000;
const PEACE: u64 = 90_000;

const RESTARTS: Weather = Weather { restarts: true, deletions: false };
const DELETIONS: Weather = Weather { restarts: true, deletions: true };

fn play(seed: u64, weather: Weather, sabotage: Sabotage) -> Result<u32, String> {
    let processes = 2 + usize::try_from(seed % 3).unwrap();
    let mut world = World::new(seed, processes, weather, sabotage);
    world.play(FAULTS, true)?;
    world.play(PEACE, false)?;
    match world.leaders().len() {
        1 => Ok(world.changes),
        _ => Err(format!("nobody leads {PEACE} ms after the last fault")),
    }
}

#[test]
fn never_two_lead_and_in_peace_one_does() {
    let mut changes = 0;
    for seed in 0..1_000 {
        changes += play(seed, RESTARTS, Sabotage::None)
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    // The faults do move the leadership about.
    assert!(changes > 3_000, "only {changes} changes");
}

#[test]
fn a_deleted_record_is_made_again_and_one_leads() {
    for seed in 0..200 {
        let mut world = World::new(seed, 3, DELETIONS, Sabotage::None);
        // While the record is deleted under their hands, two may lead for a moment.
        while world.time < FAULTS {
            let _ = world.play(1_000, true);
        }
        while world.time < FAULTS + PEACE {
            let _ = world.play(1_000, false);
        }
        assert_eq!(world.play(PEACE, false), Ok(()), "seed {seed}");
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
    }
}

#[test]
fn what_would_break_it_is_noticed() {
    for sabotage in [Sabotage::NoCompare, Sabotage::FromTheAnswer, Sabotage::FastClock] {
        let caught = (0..300).any(|seed| play(seed, RESTARTS, sabotage).is_err());
        assert!(caught, "{sabotage:?} was not noticed");
    }
}

#[test]
fn a_leader_is_followed_at_once_when_it_releases_and_after_a_lease_when_it_is_killed() {
    use rollcall::kubernetes::candidate::{Answer, Candidate, LEASE, Record, Step};
    use rollcall_model::lease::Moment;
    let held = |holder: Option<&str>, version: &str| {
        let holder = holder.map(Into::into);
        Answer::Stored(Record { holder, lease: LEASE, transitions: 3, version: version.into() })
    };
    let mut second = Candidate::new("b".into());
    let read = |second: &mut Candidate, at: u64, answer: Answer| {
        second.answered(&Step::Read, Moment(at), Moment(at), answer);
    };
    read(&mut second, 1_000, held(Some("a"), "7"));
    assert_eq!(second.next(Moment(15_999)), Step::Read);
    assert_eq!(second.leader(Moment(15_999)).map(|who| &**who), Some("a"));
    let grasp = Step::Hold { version: "7".into(), transitions: 4, renews: false };
    assert_eq!(second.next(Moment(16_001)), grasp);
    assert_eq!(second.leader(Moment(16_001)), None);
    // A renewal was seen: patience begins anew.
    read(&mut second, 16_002, held(Some("a"), "8"));
    assert_eq!(second.next(Moment(31_000)), Step::Read);
    read(&mut second, 31_001, held(None, "9"));
    assert!(matches!(second.next(Moment(31_001)), Step::Hold { .. }));
}
