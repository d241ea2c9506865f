//! Two installations that look after the same objects: one writes, neither evicts, and both say it.

use std::sync::Arc;

use rollcall_core::{
    directory::Heartbeat,
    fact::{Announcement, Duty, Fact, Outcome},
    leadership::Leadership,
    status::Desired,
};
use rollcall_model::{
    condition::Condition,
    installation::Installation,
    instance::{Instance, Phase},
    lease::{Moment, Wall},
};

use crate::rig::{Rig, evictions, instance, lease, on};

fn installation(created: i64) -> Installation {
    Installation::new(Wall(created), "6f1c9a0e-0000-4000-8000-000000000001").unwrap()
}

fn older() -> Installation {
    installation(1_000)
}

fn younger() -> Installation {
    installation(2_000)
}

fn learn(rig: &mut Rig, own: Installation) {
    let (tenure, installation) = (Moment(u64::MAX), Some(own));
    let leadership = Leadership { tenure, installation, ..Leadership::default() };
    rig.apply(Fact::Leadership(leadership));
    rig.settle();
}

/// A leader of this installation.
fn leader_of(own: Installation) -> Rig {
    let mut rig = Rig::new();
    learn(&mut rig, own);
    rig
}

/// As an installation has stored it.
fn stored(name: &str, phase: Phase, by: Installation) -> Instance {
    let mut instance = instance(name);
    instance.stored.phase = Some(phase);
    instance.stored.conditions = Arc::new([Condition {
        type_: "Ready".into(),
        status: "True".into(),
        reason: "LeaseRenewed".into(),
        message: "".into(),
        transition: "t".into(),
        observed_generation: Some(instance.generation),
    }]);
    instance.stored.observed_generation = instance.generation;
    instance.stored.observed_heartbeat = instance.heartbeat.clone();
    instance.stored.installation = Some(by);
    instance
}

/// A replica of an installation, as it stands for itself.
fn replica_of(other: Installation) -> Instance {
    let mut replica = instance("other-0");
    replica.service = "rollcall".into();
    replica.installation = Some(other);
    replica.lease = lease(30);
    replica
}

fn statuses(duties: &[Duty]) -> Vec<(Phase, Option<Announcement>)> {
    let status = |duty: &Duty| match duty {
        Duty::WriteStatus { on, desired: Desired { phase, .. }, announce }
            if *on.key.namespace == *"shop" =>
        {
            Some((*phase, announce.clone()))
        }
        _ => None,
    };
    duties.iter().filter_map(status).collect()
}

fn told(duties: &[Duty]) -> usize {
    let is_it = |duty: &&Duty| {
        matches!(duty, Duty::Announce { what: Announcement::OtherInstallation { .. }, .. })
    };
    duties.iter().filter(is_it).count()
}

#[test]
fn an_installation_that_is_alone_marks_its_statuses_and_writes_none_for_that() {
    let mut rig = leader_of(older());
    rig.put(instance("a"));
    let duties = rig.pass(1.0);
    let [Duty::WriteStatus { desired, .. }] = &duties[..] else { panic!("{duties:?}") };
    assert_eq!(desired.installation, Some(older()));
    rig.obey(duties);
    // As one that knew no installations has stored it.
    let mut unmarked = rig.record("a");
    unmarked.stored.installation = None;
    rig.put(unmarked);
    assert_eq!(statuses(&rig.pass(5.0)), []);
    assert_eq!(rig.directory.report().overlap, None);
}

#[test]
fn the_younger_leaves_a_status_alone_until_it_has_been_wrong_for_five_minutes() {
    let mut rig = leader_of(younger());
    rig.put(stored("a", Phase::Ready, older()));
    assert_eq!(statuses(&rig.live(309.0)), [], "expired here since 10 s");
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    let duties = rig.pass(2.0);
    let [(Phase::Expired, Some(Announcement::Expired { .. }))] = statuses(&duties)[..] else {
        panic!("{duties:?}")
    };
}

#[test]
fn what_was_wrong_for_a_while_and_is_right_again_begins_anew() {
    let mut rig = leader_of(younger());
    rig.put(stored("a", Phase::Critical, older()));
    for _ in 0..3 {
        for _ in 0..40 {
            assert_eq!(statuses(&rig.live(5.0)), []);
            let _ = rig.beat("a");
        }
        let is = rig.record("a").stored.phase;
        let next = if is == Some(Phase::Critical) { Phase::Ready } else { Phase::Critical };
        rig.put(stored("a", next, older()));
    }
}

#[test]
fn the_older_writes_at_once_and_does_not_tell_of_a_revival() {
    let mut rig = leader_of(older());
    rig.put(stored("a", Phase::Expired, younger()));
    let duties = rig.pass(0.5);
    assert_eq!(statuses(&duties), [(Phase::Ready, None)]);
    rig.obey(duties);
    assert_eq!(rig.record("a").stored.installation, Some(older()));
}

#[test]
fn expired_as_another_has_found_is_no_verdict_here() {
    for is_known in [true, false] {
        let mut rig = Rig::unlisted();
        if is_known {
            learn(&mut rig, younger());
        }
        rig.list(vec![stored("a", Phase::Expired, older())]);
        learn(&mut rig, younger());
        assert_eq!(rig.phase("a"), Some(Phase::Ready), "it has a lease from here on");
        for _ in 0..20 {
            assert!(matches!(rig.beat("a"), Heartbeat::Renewed(_)), "no revival is written");
            assert_eq!(statuses(&rig.live(5.0)), []);
        }
        assert_eq!(rig.phase("a"), Some(Phase::Ready));
    }
}

#[test]
fn what_another_has_found_expired_is_not_evicted_before_it_was_found_here_and_long_stood() {
    let mut rig = leader_of(younger());
    rig.list(vec![stored("a", Phase::Expired, older())]);
    let mut duties = Vec::new();
    for _ in 0..24 {
        duties.extend(rig.live(50.0));
    }
    assert_eq!(rig.record("a").stored.installation, Some(older()));
    duties.extend(rig.live(20.0));
    assert_eq!(rig.record("a").stored.installation, Some(younger()), "claimed after 20 minutes");
    duties.extend(rig.live(1_180.0));
    assert!(evictions(&duties).is_empty(), "respected for as long again");
    assert_eq!(evictions(&rig.live(30.0)).len(), 1);
}

#[test]
fn what_a_younger_one_has_found_expired_is_respected_by_the_older_one_for_twenty_minutes() {
    let mut rig = leader_of(older());
    rig.list(vec![stored("a", Phase::Expired, younger())]);
    let duties = rig.live(1_195.0);
    assert_eq!(rig.record("a").stored.installation, Some(older()));
    assert_eq!(rig.record("a").stored.phase, Some(Phase::Expired), "found here, too");
    assert!(evictions(&duties).is_empty(), "{duties:?}");
    assert_eq!(evictions(&rig.live(30.0)).len(), 1);
}

#[test]
fn nothing_is_evicted_while_a_replica_of_another_installation_is_alive() {
    let mut rig = leader_of(older());
    rig.put(instance("a"));
    let mut duties = Vec::new();
    for at in 0..60 {
        let mut replica = replica_of(younger());
        replica.heartbeat = Some(format!("beat {at}").into());
        rig.put(replica);
        duties.extend(rig.live(5.0));
    }
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert!(evictions(&duties).is_empty());
    assert_eq!(told(&duties), 1, "said once");
    let overlap = rig.directory.report().overlap.clone().unwrap();
    assert_eq!((overlap.own.clone(), &overlap.others[..]), (older(), &[younger()][..]));
    assert!(overlap.sentence().contains("this one is the oldest"));
    let duties = rig.live(60.0);
    assert_eq!(evictions(&duties).iter().filter(|on| *on.key.name == *"a").count(), 1);
    rig.live(1_200.0);
    assert_eq!(rig.directory.report().overlap, None, "it is forgotten");
}

#[test]
fn marks_from_before_the_start_are_no_sign_of_life_and_a_new_one_is() {
    let mut rig = Rig::unlisted();
    learn(&mut rig, younger());
    rig.list(vec![stored("a", Phase::Ready, older())]);
    rig.pass(1.0);
    assert_eq!(rig.directory.report().overlap, None);
    rig.put(stored("a", Phase::Critical, older()));
    let duties = rig.pass(1.0);
    assert!(rig.directory.report().overlap.is_some());
    assert_eq!(told(&duties), 1);
}

#[test]
fn a_lease_that_somebody_deleted_makes_no_other_installation_of_this_one() {
    let mut rig = leader_of(older());
    rig.put(stored("a", Phase::Expired, older()));
    learn(&mut rig, younger());
    let record = rig.record("a");
    assert!(rig.directory.installation().is_stored_expired(&record));
    assert_eq!(rig.directory.report().overlap, None);
}

#[test]
fn writes_of_one_status_have_a_pace_also_when_they_succeed() {
    let mut rig = leader_of(older());
    rig.put(instance("a"));
    let mut writes = 0;
    for _ in 0..1_200 {
        let _ = rig.beat("a");
        let duties = rig.pass(0.1);
        writes += statuses(&duties).len();
        for duty in rig.obey(duties) {
            rig.attempted(on(&duty).unwrap(), Outcome::Done);
        }
        // Another one that does not know the rules writes against it.
        rig.put(stored("a", Phase::Expired, younger()));
    }
    assert!((15..=23).contains(&writes), "{writes} in 120 s: ten at once, then one each 10 s");
}
