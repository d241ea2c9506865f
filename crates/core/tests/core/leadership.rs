//! Leadership: every replica judges leases, only the leader writes, and its term is bounded.

use rollcall_core::{
    fact::{Announcement, Duty, Fact},
    leadership::Leadership,
};
use rollcall_model::{instance::Phase, lease::Moment};

use crate::rig::{Rig, evictions, instance};

fn set_term(rig: &mut Rig, tenure: u64) {
    let leadership = Leadership {
        leader: Some("other".into()),
        since: None,
        tenure: Moment(tenure),
        ..Leadership::default()
    };
    rig.apply(Fact::Leadership(leadership));
    rig.settle();
}

/// A replica that does not lead. Its first list had no instances.
fn follower() -> Rig {
    let mut rig = Rig::new();
    set_term(&mut rig, 0);
    rig.take_duties();
    rig
}

#[test]
fn follower_ends_leases_and_asks_for_no_write() {
    let mut rig = follower();
    rig.put(instance("a"));
    assert_eq!(rig.advance(30.0), []);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!(rig.directory.leadership().leader.as_deref(), Some("other"));
    assert!(!rig.directory.leadership().is_own(Moment(rig.time)));
}

#[test]
fn new_leader_completes_pending_duties() {
    let mut rig = follower();
    rig.put(instance("left"));
    let mut unknown = instance("unknown");
    unknown.unknown_health = Some("Fine".into());
    rig.put(unknown);
    let mut expired = instance("expired");
    expired.stored.phase = Some(Phase::Expired);
    expired.stored.observed_heartbeat = expired.heartbeat.clone();
    rig.put(expired);
    assert_eq!(rig.advance(60.0), []);
    set_term(&mut rig, u64::MAX);
    let duties = rig.advance(0.1);
    let status = |name: &str| {
        let written =
            |duty: &&Duty| matches!(duty, Duty::WriteStatus { on, .. } if *on.key.name == *name);
        duties.iter().filter(written).count()
    };
    assert_eq!((status("left"), status("unknown")), (1, 1), "{duties:?}");
    let is_unknown_health = |duty: &Duty| {
        matches!(duty, Duty::Announce { what: Announcement::UnknownHealth { .. }, .. })
    };
    assert_eq!(duties.iter().filter(|duty| is_unknown_health(duty)).count(), 1);
    // The eviction follows the status write, because the stored status was incomplete.
    rig.carry_out(duties);
    assert_eq!(evictions(&rig.run(1.0)).len(), 1, "the wait for the eviction was already over");
}

#[test]
fn term_ends_by_itself_even_while_the_process_is_stopped() {
    let mut rig = follower();
    let end = rig.time + 5_000;
    set_term(&mut rig, end);
    rig.put(instance("a"));
    assert_eq!(rig.take_duties().len(), 1, "the first status of the instance");
    // The process is stopped until after the end of its term: nothing that became due is written.
    rig.time = end;
    rig.put(instance("b"));
    assert_eq!(rig.advance(60.0), []);
}

#[test]
fn renewed_leader_repeats_no_write() {
    let mut rig = follower();
    rig.put(instance("a"));
    let mut statuses = 0;
    for _ in 0..20 {
        let end = rig.time + 10_000;
        set_term(&mut rig, end);
        let before = rig.version;
        let others = rig.run(2.0);
        assert!(evictions(&others).is_empty());
        rig.heartbeat("a");
        statuses += rig.version - before;
    }
    // One status write, and the self-beats of 40 s.
    assert!(statuses < 60, "{statuses} writes");
}

#[test]
fn follower_memory_is_bounded() {
    let mut rig = follower();
    for round in 0..500 {
        let mut next = instance("a");
        next.uid = format!("uid-{round}").into();
        rig.put(next);
        rig.advance(0.05);
    }
    set_term(&mut rig, u64::MAX);
    assert_eq!(rig.advance(0.2).len(), 1, "one status, of the last object");
}

#[test]
fn restarted_replica_does_not_inherit_leadership() {
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
    assert_eq!(leads(None).as_deref(), Some("r0"), "an earlier version reports no boot");
}
