//! Duties: one at a time for each object, retried after a pause, and within their budgets.

use std::{collections::BTreeMap, sync::Arc};

use rollcall_core::fact::{Announcement, Duty, Fact, WriteOutcome};

use crate::rig::{Rig, instance, object_version};

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
fn no_duty_before_the_first_list() {
    let mut rig = Rig::unlisted();
    rig.apply(Fact::Upserted(Arc::new(instance("a"))));
    assert!(rig.advance(60.0).is_empty());
    assert!(!rig.directory.is_synced());
}

#[test]
fn one_duty_at_a_time_per_object() {
    let mut rig = Rig::new();
    rig.store(instance("a"));
    let first = rig.advance(0.1);
    assert_eq!(statuses(&first), 1);
    for weight in 0..10 {
        let mut next = rig.record("a");
        (next.weight, next.generation) = (weight, i64::from(weight) + 2);
        rig.put(next);
        assert_eq!(statuses(&rig.advance(0.5)), 0);
    }
    rig.attempted(object_version(&first[0]).unwrap(), WriteOutcome::Conflict);
    let again = rig.advance(1.0);
    assert_eq!(statuses(&again), 1);
    assert_eq!(
        object_version(&again[0]).unwrap().resource_version,
        rig.record("a").resource_version
    );
}

#[test]
fn failed_write_is_retried_with_growing_pauses() {
    let mut rig = Rig::new();
    rig.store(instance("a"));
    let mut pauses = Vec::new();
    let mut duties = rig.advance(0.1);
    for _ in 0..8 {
        rig.attempted(object_version(&duties[0]).unwrap(), WriteOutcome::Failed);
        let failed = rig.time;
        let mut last = Vec::new();
        while last.is_empty() {
            last = rig.advance(0.05);
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
fn refused_write_is_retried_after_minutes() {
    let mut rig = Rig::new();
    rig.store(instance("a"));
    let duties = rig.advance(0.1);
    rig.attempted(object_version(&duties[0]).unwrap(), WriteOutcome::Refused);
    let is_status =
        |duties: &[Duty]| duties.iter().any(|duty| matches!(duty, Duty::WriteStatus { .. }));
    for _ in 0..230 {
        let duties = rig.advance(0.5);
        assert!(!is_status(&duties), "after {} ms", rig.time);
    }
    assert!((0..20).any(|_| is_status(&rig.advance(0.5))));
}

#[test]
fn correct_status_is_not_rewritten() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(1.0);
    for _ in 0..100 {
        let _ = rig.heartbeat("a");
        rig.annotate("a");
        assert_eq!(statuses(&rig.advance(1.0)), 0);
    }
}

#[test]
fn expiry_and_revival_are_announced_once() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(1.0);
    let mut announced = Vec::new();
    for seconds in [12.0, 3.0] {
        for _ in 0..(seconds * 10.0) as u64 {
            let duties = rig.advance(0.1);
            announced.extend(duties.iter().filter_map(|duty| match duty {
                Duty::WriteStatus { announce: Some(what), .. } => Some(what.clone()),
                _ => None,
            }));
            rig.carry_out(duties);
        }
        rig.annotate("a");
    }
    assert!(
        matches!(announced[..], [Announcement::Expired { .. }, Announcement::Revived { .. }]),
        "{announced:?}"
    );
}

#[test]
fn unknown_health_is_announced_once_per_value() {
    let mut rig = Rig::new();
    let mut announced = 0;
    for health in ["Fine", "Fine", "Good"] {
        let mut a = instance("a");
        a.unknown_health = Some(health.into());
        rig.store(a);
        let duties = rig.advance(0.1);
        announced += duties.iter().filter(|duty| matches!(duty, Duty::Announce { .. })).count();
    }
    assert_eq!(announced, 2);
}

#[test]
fn checkpoints_are_limited_to_one_a_second_and_one_per_object_in_ten_minutes() {
    let mut rig = Rig::new();
    for i in 0..10 {
        rig.store(instance(&format!("i{i}")));
    }
    rig.run(1.0);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..1_860 {
        for i in 0..10 {
            let _ = rig.heartbeat(&format!("i{i}"));
        }
        let due = rig.advance(1.0);
        let names = checkpoints(&due);
        assert!(names.len() <= 2, "{names:?}");
        for duty in &due {
            if let Duty::Checkpoint { on, last_heartbeat } = duty {
                let mut next = rig.record(&on.key.name);
                next.stored.last_heartbeat = Some(*last_heartbeat);
                rig.put(next);
                rig.attempted(on, WriteOutcome::Done);
            }
        }
        names.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    }
    assert!(counts.len() == 10 && counts.values().all(|count| *count == 3), "{counts:?}");
}

#[test]
fn wall_clock_moved_back_does_not_delay_checkpoints() {
    let mut rig = Rig::new();
    rig.wall_shift = 86_400_000;
    rig.put(instance("a"));
    rig.run(1.0);
    rig.wall_shift = 0;
    let _ = rig.heartbeat("a");
    assert_eq!(checkpoints(&rig.advance(3.0)).len(), 1);
}

#[test]
fn duties_are_limited_to_the_free_capacity() {
    let mut rig = Rig::new();
    rig.capacity = 5;
    for i in 0..20 {
        rig.store(instance(&format!("i{i}")));
    }
    let mut all = 0;
    for _ in 0..100 {
        let now = rig.now();
        let duties = rig.catalog.settle(now, rig.capacity);
        let on_objects = duties.iter().filter(|duty| object_version(duty).is_some()).count();
        assert!(on_objects <= 5);
        all += on_objects;
        rig.time += 1;
    }
    assert_eq!(all, 20);
}
