//! Evictions: of what was seen stored as expired, on that version, in time, within the budget.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    directory::Heartbeat,
    fact::{Duty, Fact, Outcome},
};
use rollcall_model::{
    instance::{Phase, State},
    lease::{Moment, OnExpiry},
};

use crate::rig::{Rig, evictions, instance, ready};

/// Why `a` is evicted.
const REASON: &str = "no heartbeat for a whole lease of 10 s, nor in the 10 s after its end";

/// A replica where `a` has expired, and that has been stored.
fn expired() -> Rig {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(evictions(&rig.live(11.0)).is_empty());
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    rig
}

#[test]
fn an_expired_object_is_deleted_evict_after_later_on_the_version_seen() {
    let mut rig = expired();
    assert!(evictions(&rig.live(9.0)).is_empty());
    let evicted = evictions(&rig.live(2.0));
    assert_eq!(evicted.len(), 1, "{evicted:?}");
    assert_eq!(evicted[0].resource_version, rig.record("a").resource_version);
    assert_eq!(evicted[0].uid, rig.record("a").uid);
}

#[test]
fn nothing_is_deleted_before_expired_is_stored() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(evictions(&rig.pass(100.0)).is_empty(), "no status was ever written");
}

#[test]
fn what_is_retained_or_taken_out_of_service_is_never_deleted() {
    for change in [
        (|i| i.lease.on_expiry = OnExpiry::Retain) as fn(&mut rollcall_model::instance::Instance),
        |i| i.state = State::OutOfService,
    ] {
        let mut rig = expired();
        let mut a = rig.record("a");
        change(&mut a);
        rig.put(a);
        assert!(evictions(&rig.live(100.0)).is_empty());
    }
}

#[test]
fn what_is_drained_by_its_operator_is_deleted_once_it_has_expired() {
    let mut rig = expired();
    let mut a = rig.record("a");
    a.state = State::Draining;
    rig.put(a);
    assert_eq!(evictions(&rig.live(11.0)).len(), 1);
}

#[test]
fn a_stored_beat_stops_the_eviction_and_a_second_death_waits_its_whole_time() {
    let mut rig = expired();
    rig.live(9.0);
    rig.annotate("a");
    assert!(evictions(&rig.live(11.0)).is_empty());
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert!(evictions(&rig.live(8.5)).is_empty());
    assert_eq!(evictions(&rig.live(2.5)).len(), 1);
}

/// A noted beat stores nothing: the object stays stored as expired, and when it dies again no
/// write follows that would set the clock of its eviction.
#[test]
fn a_second_death_after_a_noted_beat_ends_in_an_eviction_too_and_not_early() {
    let mut rig = expired();
    rig.pass(5.0);
    let a = rig.record("a");
    rig.apply(Fact::Beat { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    let duties = rig.pass(11.0);
    assert!(evictions(&duties).is_empty());
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    // The status that says Ready could not be written.
    let on = duties.iter().find_map(|duty| match duty {
        Duty::WriteStatus { on, .. } => Some(on.clone()),
        _ => None,
    });
    rig.attempted(&on.unwrap(), Outcome::Failed);
    assert!(evictions(&rig.pass(8.0)).is_empty());
    assert_eq!(evictions(&rig.pass(3.0)).len(), 1);
}

#[test]
fn another_wait_begins_anew_when_its_length_is_changed() {
    let mut rig = expired();
    rig.live(9.0);
    let mut a = rig.record("a");
    a.lease.evict_after = Duration::from_secs(600);
    rig.put(a);
    assert!(evictions(&rig.live(500.0)).is_empty());
    assert_eq!(evictions(&rig.live(150.0)).len(), 1);
}

#[test]
fn an_eviction_that_failed_is_tried_again_and_one_that_was_done_leaves_a_grave() {
    let mut rig = expired();
    let evicted = evictions(&rig.live(11.0));
    rig.attempted(&evicted[0], Outcome::Failed);
    let evicted = evictions(&rig.live(60.0));
    assert!(!evicted.is_empty());
    rig.attempted(&evicted[0], Outcome::Evicted);
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    assert!(
        matches!(rig.beat("a"), Heartbeat::Gone(recent_eviction) if *recent_eviction.reason == *REASON)
    );
    rig.pass(599.0);
    assert!(matches!(rig.beat("a"), Heartbeat::Gone(_)));
    rig.pass(2.0);
    assert!(matches!(rig.beat("a"), Heartbeat::Unknown));
}

#[test]
fn a_new_incarnation_has_no_grave() {
    let mut rig = expired();
    let evicted = evictions(&rig.live(11.0));
    rig.attempted(&evicted[0], Outcome::Evicted);
    let mut next = instance("a");
    next.uid = "another".into();
    rig.put(next);
    assert!(matches!(rig.beat("a"), Heartbeat::Renewed(_)));
    assert!(rig.directory.recent_eviction("shop", "a").is_none());
}

/// Many expired objects, all due at once.
fn crowd(count: usize) -> Rig {
    let mut rig = Rig::new();
    rig.room = 10_000;
    for i in 0..count {
        let mut one = instance(&format!("i{i}"));
        one.stored.phase = Some(Phase::Expired);
        one.stored.observed_heartbeat.clone_from(&one.heartbeat);
        one.stored.conditions = [ready("False", "LeaseExpired")].into();
        one.stored.observed_generation = 1;
        one.stored.dns_name = Some(format!("i{i}.orders.shop.svc.{}", crate::rig::ZONE).into());
        one.stored.addresses = Some("10.0.0.7".into());
        one.stored.health = Some(one.health);
        rig.apply(Fact::Upserted(Arc::new(one)));
    }
    rig.settle();
    rig
}

#[test]
fn evictions_keep_to_twenty_a_second() {
    let mut rig = crowd(300);
    rig.pass(10.0);
    let mut all = 0;
    for _ in 0..12 {
        let evicted = evictions(&rig.pass(1.0)).len();
        assert!(evicted <= 41, "{evicted} in a second");
        all += evicted;
    }
    assert!((220..=300).contains(&all), "{all} in 12 s");
}

#[test]
fn whoever_came_back_while_queued_for_eviction_waits_its_whole_time_again() {
    let mut rig = crowd(400);
    rig.pass(11.0);
    // Deep in the queue, revived, dead again, and stored so.
    let left: Vec<_> = (0..400).map(|i| format!("i{i}")).collect();
    let last = left.iter().rev().find(|name| rig.phase(name).is_some()).unwrap().clone();
    let mut back = rig.annotate(&last);
    assert_eq!(rig.phase(&last), Some(Phase::Ready));
    back.lease.evict_after = Duration::from_secs(10);
    rig.pass(10.5);
    assert_eq!(rig.phase(&last), Some(Phase::Expired));
    let mut dead = rig.record(&last);
    dead.stored.observed_heartbeat.clone_from(&dead.heartbeat);
    rig.put(dead);
    let early = evictions(&rig.pass(9.0));
    assert!(early.iter().all(|on| *on.key.name != *last), "evicted before its time");
}

#[test]
fn a_gap_that_is_noticed_while_they_are_queued_holds_evictions_back() {
    let mut rig = crowd(400);
    rig.pass(11.0);
    rig.time += 20_000;
    rig.settle();
    let now = evictions(&rig.take());
    assert!(now.is_empty(), "{} deleted at the end of a pause", now.len());
    assert!(evictions(&rig.pass(9.0)).is_empty());
    // After a long pause everything is listed anew first, every 30 s at most.
    assert!(!evictions(&rig.pass(30.0)).is_empty());
}
