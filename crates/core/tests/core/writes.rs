//! Duties: one at a time on an object, tried again with a pause, and within their budgets.

use std::{collections::BTreeMap, sync::Arc};

use rollcall_core::fact::{Announcement, Duty, Fact, Outcome};

use crate::rig::{Rig, instance, on};

fn statuses(duties: &[Duty]) -> usize {
    duties.iter().filter(|duty| matches!(duty, Duty::WriteStatus { .. })).count()
}

fn checkpoints(duties: &[Duty]) -> Vec<String> {
    let checkpoint = |duty: &Duty| match duty {
        Duty::Checkpoint { on, .. } => Some(on.key.name.to_string()),
        _ => None,
    };
    duties.iter().filter_map(checkpoint).collect()
}

#[test]
fn nothing_is_asked_for_before_the_first_list() {
    let mut rig = Rig::unlisted();
    rig.apply(Fact::Upserted(Arc::new(instance("a"))));
    assert!(rig.pass(60.0).is_empty());
    assert!(!rig.directory.is_synced());
}

#[test]
fn one_duty_at_a_time_on_an_object_however_often_it_changes() {
    let mut rig = Rig::new();
    rig.store(instance("a"));
    let first = rig.pass(0.1);
    assert_eq!(statuses(&first), 1);
    for weight in 0..10 {
        let mut next = rig.record("a");
        (next.weight, next.generation) = (weight, i64::from(weight) + 2);
        rig.put(next);
        assert_eq!(statuses(&rig.pass(0.5)), 0);
    }
    rig.attempted(on(&first[0]).unwrap(), Outcome::Conflict);
    let again = rig.pass(1.0);
    assert_eq!(statuses(&again), 1);
    assert_eq!(on(&again[0]).unwrap().resource_version, rig.record("a").resource_version);
}

#[test]
fn a_failed_write_is_tried_again_after_pauses_that_grow() {
    let mut rig = Rig::new();
    rig.store(instance("a"));
    let mut pauses = Vec::new();
    let mut duties = rig.pass(0.1);
    for _ in 0..8 {
        rig.attempted(on(&duties[0]).unwrap(), Outcome::Failed);
        let failed = rig.time;
        let mut last = Vec::new();
        while last.is_empty() {
            last = rig.pass(0.05);
            last.retain(|duty| matches!(duty, Duty::WriteStatus { .. }));
        }
        pauses.push(rig.time - failed);
        duties = last;
    }
    assert!((450..=600).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] + 100 >= pair[0]), "{pauses:?}");
    assert!(*pauses.last().unwrap() <= 30_100, "{pauses:?}");
}

#[test]
fn what_is_refused_is_left_alone_for_minutes_and_then_tried_again() {
    let mut rig = Rig::new();
    rig.store(instance("a"));
    let duties = rig.pass(0.1);
    rig.attempted(on(&duties[0]).unwrap(), Outcome::Refused);
    let of = |duties: &[Duty]| duties.iter().any(|duty| matches!(duty, Duty::WriteStatus { .. }));
    for _ in 0..230 {
        let duties = rig.pass(0.5);
        assert!(!of(&duties), "after {} ms", rig.time);
    }
    assert!((0..20).any(|_| of(&rig.pass(0.5))));
}

#[test]
fn a_status_that_says_what_it_should_is_not_written_again() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(1.0);
    for _ in 0..100 {
        let _ = rig.beat("a");
        rig.annotate("a");
        assert_eq!(statuses(&rig.pass(1.0)), 0);
    }
}

#[test]
fn expiry_and_revival_are_said_once() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(1.0);
    let mut said = Vec::new();
    for seconds in [12.0, 3.0] {
        for _ in 0..(seconds * 10.0) as u64 {
            let duties = rig.pass(0.1);
            said.extend(duties.iter().filter_map(|duty| match duty {
                Duty::WriteStatus { announce: Some(what), .. } => Some(what.clone()),
                _ => None,
            }));
            rig.obey(duties);
        }
        rig.annotate("a");
    }
    assert!(
        matches!(said[..], [Announcement::Expired { .. }, Announcement::Revived { .. }]),
        "{said:?}"
    );
}

#[test]
fn an_unknown_health_is_said_once_for_each_word() {
    let mut rig = Rig::new();
    let mut said = 0;
    for word in ["Fine", "Fine", "Good"] {
        let mut a = instance("a");
        a.unknown_health = Some(word.into());
        rig.store(a);
        let duties = rig.pass(0.1);
        said += duties.iter().filter(|duty| matches!(duty, Duty::Announce { .. })).count();
    }
    assert_eq!(said, 2);
}

#[test]
fn checkpoints_are_one_a_second_in_all_and_one_in_ten_minutes_an_object() {
    let mut rig = Rig::new();
    for i in 0..10 {
        rig.store(instance(&format!("i{i}")));
    }
    rig.live(1.0);
    let mut turns: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..1_860 {
        for i in 0..10 {
            let _ = rig.beat(&format!("i{i}"));
        }
        let due = rig.pass(1.0);
        let names = checkpoints(&due);
        assert!(names.len() <= 2, "{names:?}");
        for duty in &due {
            if let Duty::Checkpoint { on, last_heartbeat } = duty {
                let mut next = rig.record(&on.key.name);
                next.stored.last_heartbeat = Some(*last_heartbeat);
                rig.put(next);
                rig.attempted(on, Outcome::Done);
            }
        }
        names.into_iter().for_each(|name| *turns.entry(name).or_default() += 1);
    }
    assert!(turns.len() == 10 && turns.values().all(|turns| *turns == 3), "{turns:?}");
}

#[test]
fn a_wall_clock_that_went_back_does_not_keep_a_checkpoint_in_the_future() {
    let mut rig = Rig::new();
    rig.wall_shift = 86_400_000;
    rig.put(instance("a"));
    rig.live(1.0);
    rig.wall_shift = 0;
    let _ = rig.beat("a");
    assert_eq!(checkpoints(&rig.pass(3.0)).len(), 1);
}

#[test]
fn no_more_duties_are_handed_out_than_there_is_room_for() {
    let mut rig = Rig::new();
    rig.room = 5;
    for i in 0..20 {
        rig.store(instance(&format!("i{i}")));
    }
    let mut all = 0;
    for _ in 0..100 {
        let now = rig.now();
        let duties = rig.catalog.settle(now, rig.room);
        let on_objects = duties.iter().filter(|duty| on(duty).is_some()).count();
        assert!(on_objects <= 5);
        all += on_objects;
        rig.time += 1;
    }
    assert_eq!(all, 20);
}
