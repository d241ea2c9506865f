//! Two installations that manage the same objects: one writes statuses, neither evicts, and both report it.

use std::sync::Arc;

use rollcall_core::{
    directory::Heartbeat,
    fact::{Announcement, Duty, Fact, WriteOutcome},
    leadership::Leadership,
    status::DesiredStatus,
};
use rollcall_model::{
    condition::Condition,
    installation::Installation,
    instance::{Instance, Phase},
    lease::{Moment, Wall},
};

use crate::rig::{Rig, evictions, instance, lease, object_version};

fn installation(created: i64) -> Installation {
    Installation::new(Wall(created), "6f1c9a0e-0000-4000-8000-000000000001").unwrap()
}

fn older() -> Installation {
    installation(1_000)
}

fn younger() -> Installation {
    installation(2_000)
}

fn set_installation(rig: &mut Rig, own: Installation) {
    let (tenure, installation) = (Moment(u64::MAX), Some(own));
    let leadership = Leadership { tenure, installation, ..Leadership::default() };
    rig.apply(Fact::Leadership(leadership));
    rig.settle();
}

/// A leader of this installation.
fn leader_of(own: Installation) -> Rig {
    let mut rig = Rig::new();
    set_installation(&mut rig, own);
    rig
}

/// An instance whose status the given installation has stored.
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

/// The instance with which a replica of another installation represents itself.
fn replica_of(other: Installation) -> Instance {
    let mut replica = instance("other-0");
    replica.service = "rollcall".into();
    replica.installation = Some(other);
    replica.lease = lease(30);
    replica
}

fn statuses(duties: &[Duty]) -> Vec<(Phase, Option<Announcement>)> {
    let status = |duty: &Duty| match duty {
        Duty::WriteStatus { on, desired: DesiredStatus { phase, .. }, announce }
            if *on.key.namespace == *"shop" =>
        {
            Some((*phase, announce.clone()))
        }
        _ => None,
    };
    duties.iter().filter_map(status).collect()
}

fn overlap_announcements(duties: &[Duty]) -> usize {
    let is_overlap = |duty: &&Duty| {
        matches!(duty, Duty::Announce { what: Announcement::OtherInstallation { .. }, .. })
    };
    duties.iter().filter(is_overlap).count()
}

#[test]
fn single_installation_marks_statuses_without_extra_writes() {
    let mut rig = leader_of(older());
    rig.put(instance("a"));
    let duties = rig.advance(1.0);
    let [Duty::WriteStatus { desired, .. }] = &duties[..] else { panic!("{duties:?}") };
    assert_eq!(desired.installation, Some(older()));
    rig.carry_out(duties);
    // A version of rollcall without installation marks has stored this status.
    let mut unmarked = rig.record("a");
    unmarked.stored.installation = None;
    rig.put(unmarked);
    assert_eq!(statuses(&rig.advance(5.0)), []);
    assert_eq!(rig.directory.report().overlap, None);
}

#[test]
fn younger_installation_corrects_a_status_after_five_minutes() {
    let mut rig = leader_of(younger());
    rig.put(stored("a", Phase::Ready, older()));
    assert_eq!(statuses(&rig.run(309.0)), [], "expired here after 10 s");
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    let duties = rig.advance(2.0);
    let [(Phase::Expired, Some(Announcement::Expired { .. }))] = statuses(&duties)[..] else {
        panic!("{duties:?}")
    };
}

#[test]
fn correct_status_restarts_the_five_minutes() {
    let mut rig = leader_of(younger());
    rig.put(stored("a", Phase::Critical, older()));
    for _ in 0..3 {
        for _ in 0..40 {
            assert_eq!(statuses(&rig.run(5.0)), []);
            let _ = rig.heartbeat("a");
        }
        let is = rig.record("a").stored.phase;
        let next = if is == Some(Phase::Critical) { Phase::Ready } else { Phase::Critical };
        rig.put(stored("a", next, older()));
    }
}

#[test]
fn older_installation_writes_at_once_and_announces_no_revival() {
    let mut rig = leader_of(older());
    rig.put(stored("a", Phase::Expired, younger()));
    let duties = rig.advance(0.5);
    assert_eq!(statuses(&duties), [(Phase::Ready, None)]);
    rig.carry_out(duties);
    assert_eq!(rig.record("a").stored.installation, Some(older()));
}

#[test]
fn expiry_stored_by_another_installation_is_not_a_verdict() {
    for is_known in [true, false] {
        let mut rig = Rig::unlisted();
        if is_known {
            set_installation(&mut rig, younger());
        }
        rig.list(vec![stored("a", Phase::Expired, older())]);
        set_installation(&mut rig, younger());
        assert_eq!(rig.phase("a"), Some(Phase::Ready), "the instance has one lease from now on");
        for _ in 0..20 {
            assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)), "no revival is written");
            assert_eq!(statuses(&rig.run(5.0)), []);
        }
        assert_eq!(rig.phase("a"), Some(Phase::Ready));
    }
}

#[test]
fn expiry_of_an_older_installation_is_not_evicted_for_forty_minutes() {
    let mut rig = leader_of(younger());
    rig.list(vec![stored("a", Phase::Expired, older())]);
    let mut duties = Vec::new();
    for _ in 0..24 {
        duties.extend(rig.run(50.0));
    }
    assert_eq!(rig.record("a").stored.installation, Some(older()));
    duties.extend(rig.run(20.0));
    assert_eq!(rig.record("a").stored.installation, Some(younger()), "taken over after 20 minutes");
    duties.extend(rig.run(1_180.0));
    assert!(evictions(&duties).is_empty(), "not evicted for another 20 minutes");
    assert_eq!(evictions(&rig.run(30.0)).len(), 1);
}

#[test]
fn expiry_of_a_younger_installation_is_not_evicted_for_twenty_minutes() {
    let mut rig = leader_of(older());
    rig.list(vec![stored("a", Phase::Expired, younger())]);
    let duties = rig.run(1_195.0);
    assert_eq!(rig.record("a").stored.installation, Some(older()));
    assert_eq!(rig.record("a").stored.phase, Some(Phase::Expired), "expired here, too");
    assert!(evictions(&duties).is_empty(), "{duties:?}");
    assert_eq!(evictions(&rig.run(30.0)).len(), 1);
}

#[test]
fn no_eviction_while_another_installation_is_live() {
    let mut rig = leader_of(older());
    rig.put(instance("a"));
    let mut duties = Vec::new();
    for at in 0..60 {
        let mut replica = replica_of(younger());
        replica.heartbeat = Some(format!("beat {at}").into());
        rig.put(replica);
        duties.extend(rig.run(5.0));
    }
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert!(evictions(&duties).is_empty());
    assert_eq!(overlap_announcements(&duties), 1, "announced once");
    let overlap = rig.directory.report().overlap.clone().unwrap();
    assert_eq!((overlap.own.clone(), &overlap.others[..]), (older(), &[younger()][..]));
    assert!(overlap.sentence().contains("this one is the oldest"));
    let duties = rig.run(60.0);
    assert_eq!(evictions(&duties).iter().filter(|on| *on.key.name == *"a").count(), 1);
    rig.run(1_200.0);
    assert_eq!(
        rig.directory.report().overlap,
        None,
        "the other installation is no longer reported"
    );
}

#[test]
fn only_a_new_mark_shows_that_another_installation_is_live() {
    let mut rig = Rig::unlisted();
    set_installation(&mut rig, younger());
    rig.list(vec![stored("a", Phase::Ready, older())]);
    rig.advance(1.0);
    assert_eq!(rig.directory.report().overlap, None);
    rig.put(stored("a", Phase::Critical, older()));
    let duties = rig.advance(1.0);
    assert!(rig.directory.report().overlap.is_some());
    assert_eq!(overlap_announcements(&duties), 1);
}

#[test]
fn deleted_leader_lease_does_not_create_another_installation() {
    let mut rig = leader_of(older());
    rig.put(stored("a", Phase::Expired, older()));
    set_installation(&mut rig, younger());
    let record = rig.record("a");
    assert!(rig.directory.installation().is_stored_expired(&record));
    assert_eq!(rig.directory.report().overlap, None);
}

#[test]
fn status_writes_of_one_object_are_rate_limited() {
    let mut rig = leader_of(older());
    rig.put(instance("a"));
    let mut writes = 0;
    for _ in 0..1_200 {
        let _ = rig.heartbeat("a");
        let duties = rig.advance(0.1);
        writes += statuses(&duties).len();
        for duty in rig.carry_out(duties) {
            rig.attempted(object_version(&duty).unwrap(), WriteOutcome::Done);
        }
        // Another installation that ignores the rules writes against this one.
        rig.put(stored("a", Phase::Expired, younger()));
    }
    assert!(
        (15..=23).contains(&writes),
        "{writes} writes in 120 s: ten at once, then one every 10 s"
    );
}
