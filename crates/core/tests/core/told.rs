//! What is told to people: reports, and which changes become Events.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    fact::{Announcement, Duty, Fact, Version},
    report::{Cause, Standstill},
};
use rollcall_model::{
    instance::{Health, Phase},
    lease::Wall,
};

use crate::rig::{Rig, instance};

/// Lets time pass with statuses written, and answers what was to be told with them.
fn told(rig: &mut Rig, seconds: f64) -> Vec<Announcement> {
    let mut told = Vec::new();
    for _ in 0..(seconds * 10.0) as u64 {
        let duties = rig.pass(0.1);
        told.extend(duties.iter().filter_map(|duty| match duty {
            Duty::WriteStatus { announce, .. } => announce.clone(),
            Duty::Announce { what, .. } => Some(what.clone()),
            _ => None,
        }));
        rig.obey(duties);
    }
    told
}

fn turn(rig: &mut Rig, health: Health) -> Vec<Announcement> {
    let mut next = rig.record("a");
    next.health = health;
    next.heartbeat = Some(format!("beat {}", rig.version).into());
    rig.put(next);
    told(rig, 1.0)
}

#[test]
fn an_instance_that_swings_between_healths_is_told_once_a_minute_with_its_end() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(told(&mut rig, 1.0).is_empty());
    let mut all = Vec::new();
    for _ in 0..30 {
        all.extend(turn(&mut rig, Health::Critical));
        all.extend(turn(&mut rig, Health::Passing));
    }
    assert_eq!(all, [Announcement::Critical, Announcement::Recovered]);
    for _ in 0..10 {
        all.extend(turn(&mut rig, Health::Critical));
        assert!(turn(&mut rig, Health::Critical).is_empty(), "it says the same again");
        all.extend(turn(&mut rig, Health::Passing));
    }
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn who_comes_back_in_another_phase_is_not_said_to_be_offered() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(matches!(told(&mut rig, 12.0)[..], [Announcement::Expired { .. }]));
    let told = turn(&mut rig, Health::Critical);
    let phase = Phase::Critical;
    assert!(matches!(&told[..], [Announcement::Revived { phase: p, .. }] if *p == phase));
}

#[test]
fn an_object_that_cannot_be_read_leaves_the_answers_and_is_told_once_for_each_reason() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    let mut all = told(&mut rig, 1.0);
    for (version, reason) in [(200, "one"), (201, "one"), (202, "another"), (203, "another")] {
        rig.version = version;
        let on = Version { resource_version: version, ..Version::of(&a) };
        rig.apply(Fact::Unreadable { on, reason: reason.into() });
        all.extend(told(&mut rig, 1.0));
        assert_eq!(rig.phase("a"), None);
        assert_eq!(rig.directory.report().unreadable, 1);
    }
    let reasons: Vec<_> = all
        .iter()
        .map(|what| match what {
            Announcement::Unreadable { reason } => reason.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons, ["one", "another"]);
    rig.put(a);
    assert!(rig.phase("a").is_some(), "it can be read again");
    assert_eq!(rig.directory.report().unreadable, 0);
}

#[test]
fn a_report_says_what_holds_the_horizon_back_until_it_moves_again() {
    let mut rig = Rig::unlisted();
    let start = rig.time;
    rig.apply(Fact::Interrupted { reason: "refused with 403".into() });
    rig.pass(1.0);
    let report = rig.directory.report();
    assert_eq!(&*report.boot, "b");
    assert!(report.started.is_some_and(|at| at.0 - start <= 250), "{report:?}");
    let cause = Cause::NotListed(Some("refused with 403".into()));
    assert_eq!(report.standstill.as_ref().map(|it| &it.cause), Some(&cause));
    rig.list(vec![instance("a")]);
    rig.pass(1.0);
    assert_eq!(rig.directory.report().standstill, None);
    rig.api_is_up = false;
    rig.pass(30.0);
    let report = rig.directory.report();
    let Some(Standstill { since, cause }) = &report.standstill else { panic!("{report:?}") };
    assert_eq!(cause, &Cause::Unwritten("away".into()));
    assert!(*since > rig.directory.horizon() && rig.time - since.0 >= 24_000, "{report:?}");
    assert_eq!((report.due, report.gaps), (2, 0), "the own one too");
    rig.api_is_up = true;
    rig.pass(6.0);
    let report = rig.directory.report();
    assert_eq!((&report.standstill, report.due, report.gaps), (&None, 0, 1));
    assert!(
        report.last_gap.and_then(|gap| gap.lost) >= Some(Duration::from_secs(25)),
        "{report:?}"
    );
}

#[test]
fn a_start_is_no_beat_in_what_is_stored() {
    let mut a = instance("a");
    a.stored.last_heartbeat = Some(Wall(7));
    let mut rig = Rig::unlisted();
    rig.list(vec![a]);
    let duties = rig.pass(15.0);
    let noted = |duty: &Duty| match duty {
        Duty::WriteStatus { desired, .. } => desired.last_heartbeat,
        Duty::Checkpoint { last_heartbeat, .. } => Some(*last_heartbeat),
        _ => None,
    };
    let noted: Vec<_> = duties.iter().filter_map(noted).collect();
    assert!(!noted.is_empty() && noted.iter().all(|at| *at == Wall(7)), "{noted:?}");
    let record = Arc::new(rig.record("a"));
    let slot = rig.directory.slot("shop", "a").unwrap();
    assert_eq!(slot.last_heard(&record, rig.now()), Wall(7));
}
