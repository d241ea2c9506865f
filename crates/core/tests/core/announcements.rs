//! What the catalog reports to users: its report, and announcements, which become Events.

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

/// Lets time pass, writes the statuses, and returns the announcements.
fn announced(rig: &mut Rig, seconds: f64) -> Vec<Announcement> {
    let mut announced = Vec::new();
    for _ in 0..(seconds * 10.0) as u64 {
        let duties = rig.advance(0.1);
        announced.extend(duties.iter().filter_map(|duty| match duty {
            Duty::WriteStatus { announce, .. } => announce.clone(),
            Duty::Announce { what, .. } => Some(what.clone()),
            _ => None,
        }));
        rig.carry_out(duties);
    }
    announced
}

fn report_health(rig: &mut Rig, health: Health) -> Vec<Announcement> {
    let mut next = rig.record("a");
    next.health = health;
    next.heartbeat = Some(format!("beat {}", rig.version).into());
    rig.put(next);
    announced(rig, 1.0)
}

#[test]
fn flapping_health_is_announced_once_a_minute() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(announced(&mut rig, 1.0).is_empty());
    let mut all = Vec::new();
    for _ in 0..30 {
        all.extend(report_health(&mut rig, Health::Critical));
        all.extend(report_health(&mut rig, Health::Passing));
    }
    assert_eq!(all, [Announcement::Critical, Announcement::Recovered]);
    for _ in 0..10 {
        all.extend(report_health(&mut rig, Health::Critical));
        assert!(
            report_health(&mut rig, Health::Critical).is_empty(),
            "it reports the same health again"
        );
        all.extend(report_health(&mut rig, Health::Passing));
    }
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn revival_announces_the_actual_phase() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(matches!(announced(&mut rig, 12.0)[..], [Announcement::Expired { .. }]));
    let announced = report_health(&mut rig, Health::Critical);
    let phase = Phase::Critical;
    assert!(matches!(&announced[..], [Announcement::Revived { phase: p, .. }] if *p == phase));
}

#[test]
fn unreadable_object_leaves_the_view_and_is_announced_once_per_reason() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    let mut all = announced(&mut rig, 1.0);
    for (version, reason) in [(200, "one"), (201, "one"), (202, "another"), (203, "another")] {
        rig.version = version;
        let on = Version { resource_version: version, ..Version::of(&a) };
        rig.apply(Fact::Unreadable { on, reason: reason.into() });
        all.extend(announced(&mut rig, 1.0));
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
    assert!(rig.phase("a").is_some(), "the object is readable again");
    assert_eq!(rig.directory.report().unreadable, 0);
}

#[test]
fn report_names_the_cause_of_a_standstill_until_the_horizon_moves() {
    let mut rig = Rig::unlisted();
    let start = rig.time;
    rig.apply(Fact::Interrupted { reason: "refused with 403".into() });
    rig.advance(1.0);
    let report = rig.directory.report();
    assert_eq!(&*report.boot, "b");
    assert!(report.started.is_some_and(|at| at.0 - start <= 250), "{report:?}");
    let cause = Cause::NotListed(Some("refused with 403".into()));
    assert_eq!(report.standstill.as_ref().map(|standstill| &standstill.cause), Some(&cause));
    rig.list(vec![instance("a")]);
    rig.advance(1.0);
    assert_eq!(rig.directory.report().standstill, None);
    rig.api_is_up = false;
    rig.advance(30.0);
    let report = rig.directory.report();
    let Some(Standstill { since, cause }) = &report.standstill else { panic!("{report:?}") };
    assert_eq!(cause, &Cause::Unwritten("away".into()));
    assert!(*since > rig.directory.horizon() && rig.time - since.0 >= 24_000, "{report:?}");
    assert_eq!((report.due, report.gaps), (2, 0), "a and the replica's own instance");
    rig.api_is_up = true;
    rig.advance(6.0);
    let report = rig.directory.report();
    assert_eq!((&report.standstill, report.due, report.gaps), (&None, 0, 1));
    assert!(
        report.last_gap.and_then(|gap| gap.lost) >= Some(Duration::from_secs(25)),
        "{report:?}"
    );
}

#[test]
fn start_is_not_stored_as_a_heartbeat() {
    let mut a = instance("a");
    a.stored.last_heartbeat = Some(Wall(7));
    let mut rig = Rig::unlisted();
    rig.list(vec![a]);
    let duties = rig.advance(15.0);
    let written = |duty: &Duty| match duty {
        Duty::WriteStatus { desired, .. } => desired.last_heartbeat,
        Duty::Checkpoint { last_heartbeat, .. } => Some(*last_heartbeat),
        _ => None,
    };
    let written: Vec<_> = duties.iter().filter_map(written).collect();
    assert!(!written.is_empty() && written.iter().all(|at| *at == Wall(7)), "{written:?}");
    let record = Arc::new(rig.record("a"));
    let slot = rig.directory.slot("shop", "a").unwrap();
    assert_eq!(slot.last_heartbeat_time(&record, rig.now()), Wall(7));
}
