//! Leadership: everybody judges, one writes, and its time is bounded.

use rollcall_core::{
    fact::{Announcement, Duty, Fact},
    leadership::Leadership,
};
use rollcall_model::{instance::Phase, lease::Moment};

use crate::rig::{Rig, evictions, instance};

fn tell(rig: &mut Rig, tenure: u64) {
    let leadership = Leadership {
        leader: Some("other".into()),
        since: None,
        tenure: Moment(tenure),
        ..Leadership::default()
    };
    rig.apply(Fact::Leadership(leadership));
    rig.settle();
}

/// A replica that has listed nobody and does not lead.
fn follower() -> Rig {
    let mut rig = Rig::new();
    tell(&mut rig, 0);
    rig.take();
    rig
}

#[test]
fn a_follower_judges_and_asks_for_no_write() {
    let mut rig = follower();
    rig.put(instance("a"));
    assert_eq!(rig.pass(30.0), []);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!(rig.directory.leadership().leader.as_deref(), Some("other"));
    assert!(!rig.directory.leadership().is_own(Moment(rig.time)));
}

#[test]
fn a_new_leader_does_what_the_one_before_left_undone() {
    let mut rig = follower();
    rig.put(instance("left"));
    let mut strange = instance("strange");
    strange.unknown_health = Some("Fine".into());
    rig.put(strange);
    let mut dead = instance("dead");
    dead.stored.phase = Some(Phase::Expired);
    dead.stored.observed_heartbeat = dead.heartbeat.clone();
    rig.put(dead);
    assert_eq!(rig.pass(60.0), []);
    tell(&mut rig, u64::MAX);
    let duties = rig.pass(0.1);
    let status = |name: &str| {
        let written =
            |duty: &&Duty| matches!(duty, Duty::WriteStatus { on, .. } if *on.key.name == *name);
        duties.iter().filter(written).count()
    };
    assert_eq!((status("left"), status("strange")), (1, 1), "{duties:?}");
    let told = |duty: &Duty| {
        matches!(duty, Duty::Announce { what: Announcement::UnknownHealth { .. }, .. })
    };
    assert_eq!(duties.iter().filter(|duty| told(duty)).count(), 1);
    // After its status, which was not as it should be.
    rig.obey(duties);
    assert_eq!(evictions(&rig.live(1.0)).len(), 1, "its time was over already");
}

#[test]
fn a_tenure_ends_by_itself_also_while_the_process_stood_still() {
    let mut rig = follower();
    let end = rig.time + 5_000;
    tell(&mut rig, end);
    rig.put(instance("a"));
    assert_eq!(rig.take().len(), 1, "its first status");
    // Stopped, and let go after the end: nothing of what became due is written.
    rig.time = end;
    rig.put(instance("b"));
    assert_eq!(rig.pass(60.0), []);
}

#[test]
fn a_leader_that_is_renewed_goes_on_and_repeats_nothing() {
    let mut rig = follower();
    rig.put(instance("a"));
    let mut statuses = 0;
    for _ in 0..20 {
        let end = rig.time + 10_000;
        tell(&mut rig, end);
        let before = rig.version;
        let others = rig.live(2.0);
        assert!(evictions(&others).is_empty());
        rig.beat("a");
        statuses += rig.version - before;
    }
    // One status, and the self-beats of 40 s.
    assert!(statuses < 60, "{statuses} writes");
}

#[test]
fn a_follower_keeps_nothing_that_grows() {
    let mut rig = follower();
    for round in 0..500 {
        let mut next = instance("a");
        next.uid = format!("uid-{round}").into();
        rig.put(next);
        rig.pass(0.05);
    }
    tell(&mut rig, u64::MAX);
    assert_eq!(rig.pass(0.2).len(), 1, "the one status of the one that is left");
}

#[test]
fn a_name_that_has_come_back_with_another_process_does_not_lead_by_what_the_one_before_won() {
    let mut rig = Rig::new();
    let mut leads = |boot: Option<&str>| {
        let (leader, boot) = (Some("r0".into()), boot.map(Into::into));
        let leadership = Leadership { leader, boot, ..Leadership::default() };
        rig.apply(Fact::Leadership(leadership));
        rig.settle();
        rig.directory.leadership().leader.as_deref().map(str::to_owned)
    };
    assert_eq!(leads(Some("before")), None);
    assert_eq!(leads(Some("b")).as_deref(), Some("r0"));
    assert_eq!(leads(None).as_deref(), Some("r0"), "not known of a former version");
}
