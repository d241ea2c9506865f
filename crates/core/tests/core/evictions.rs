//! Evictions: only objects that were observed with the stored phase Expired, in that version, on time, and
//! within the budget.

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    directory::Heartbeat,
    fact::{Duty, Fact, WriteOutcome},
};
use rollcall_model::{
    instance::{Phase, State},
    lease::{Moment, OnExpiry},
};

use crate::rig::{Rig, evictions, instance, ready};

/// The eviction reason of `a`.
const REASON: &str = "no heartbeat for a whole lease of 10 s, nor in the 10 s after its end";

/// A replica where `a` has expired and the status says so.
fn expired() -> Rig {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(evictions(&rig.run(11.0)).is_empty());
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    rig
}

#[test]
fn expired_object_is_evicted_after_evict_after_in_the_observed_version() {
    let mut rig = expired();
    assert!(evictions(&rig.run(9.0)).is_empty());
    let evicted = evictions(&rig.run(2.0));
    assert_eq!(evicted.len(), 1, "{evicted:?}");
    assert_eq!(evicted[0].resource_version, rig.record("a").resource_version);
    assert_eq!(evicted[0].uid, rig.record("a").uid);
}

#[test]
fn no_eviction_before_expired_is_stored() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert!(evictions(&rig.advance(100.0)).is_empty(), "no status was ever written");
}

#[test]
fn retained_and_out_of_service_objects_are_never_evicted() {
    for change in [
        (|i| i.lease.on_expiry = OnExpiry::Retain) as fn(&mut rollcall_model::instance::Instance),
        |i| i.state = State::OutOfService,
    ] {
        let mut rig = expired();
        let mut a = rig.record("a");
        change(&mut a);
        rig.put(a);
        assert!(evictions(&rig.run(100.0)).is_empty());
    }
}

#[test]
fn drained_object_is_evicted_once_it_has_expired() {
    let mut rig = expired();
    let mut a = rig.record("a");
    a.state = State::Draining;
    rig.put(a);
    assert_eq!(evictions(&rig.run(11.0)).len(), 1);
}

#[test]
fn stored_heartbeat_cancels_eviction_and_the_next_expiry_waits_again() {
    let mut rig = expired();
    rig.run(9.0);
    rig.annotate("a");
    assert!(evictions(&rig.run(11.0)).is_empty());
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert!(evictions(&rig.run(8.5)).is_empty());
    assert_eq!(evictions(&rig.run(2.5)).len(), 1);
}

/// A recorded heartbeat is not stored: the object stays stored as Expired. When it expires again, no write
/// follows that would start the wait for its eviction.
#[test]
fn expiry_after_a_recorded_heartbeat_leads_to_eviction_after_the_full_wait() {
    let mut rig = expired();
    rig.advance(5.0);
    let a = rig.record("a");
    rig.apply(Fact::RecordedHere { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    let duties = rig.advance(11.0);
    assert!(evictions(&duties).is_empty());
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    // The status Ready could not be written.
    let on = duties.iter().find_map(|duty| match duty {
        Duty::WriteStatus { on, .. } => Some(on.clone()),
        _ => None,
    });
    rig.attempted(&on.unwrap(), WriteOutcome::Failed);
    assert!(evictions(&rig.advance(8.0)).is_empty());
    assert_eq!(evictions(&rig.advance(3.0)).len(), 1);
}

#[test]
fn changed_evict_after_restarts_the_wait() {
    let mut rig = expired();
    rig.run(9.0);
    let mut a = rig.record("a");
    a.lease.evict_after = Duration::from_secs(600);
    rig.put(a);
    assert!(evictions(&rig.run(500.0)).is_empty());
    assert_eq!(evictions(&rig.run(150.0)).len(), 1);
}

#[test]
fn failed_eviction_is_retried_and_a_done_one_is_answered_gone_for_ten_minutes() {
    let mut rig = expired();
    let evicted = evictions(&rig.run(11.0));
    rig.attempted(&evicted[0], WriteOutcome::Failed);
    let evicted = evictions(&rig.run(60.0));
    assert!(!evicted.is_empty());
    rig.attempted(&evicted[0], WriteOutcome::Evicted);
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    assert!(
        matches!(rig.heartbeat("a"), Heartbeat::Evicted(recent_eviction) if *recent_eviction.reason == *REASON)
    );
    rig.advance(599.0);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Evicted(_)));
    rig.advance(2.0);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Unknown));
}

#[test]
fn new_object_under_an_evicted_name_is_not_gone() {
    let mut rig = expired();
    let evicted = evictions(&rig.run(11.0));
    rig.attempted(&evicted[0], WriteOutcome::Evicted);
    let mut next = instance("a");
    next.uid = "another".into();
    rig.put(next);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)));
    assert!(rig.directory.recent_eviction("shop", "a").is_none());
}

/// A replica with many expired objects, all due for eviction at once.
fn many_expired(count: usize) -> Rig {
    let mut rig = Rig::new();
    rig.capacity = 10_000;
    for i in 0..count {
        let mut object = instance(&format!("i{i}"));
        object.stored.phase = Some(Phase::Expired);
        object.stored.observed_heartbeat.clone_from(&object.heartbeat);
        object.stored.conditions = [ready("False", "LeaseExpired")].into();
        object.stored.observed_generation = 1;
        object.stored.dns_name = Some(format!("i{i}.orders.shop.svc.{}", crate::rig::ZONE).into());
        object.stored.addresses = Some("10.0.0.7".into());
        object.stored.health = Some(object.health);
        rig.apply(Fact::Upserted(Arc::new(object)));
    }
    rig.settle();
    rig
}

#[test]
fn evictions_are_limited_to_twenty_a_second() {
    let mut rig = many_expired(300);
    rig.advance(10.0);
    let mut all = 0;
    for _ in 0..12 {
        let evicted = evictions(&rig.advance(1.0)).len();
        assert!(evicted <= 41, "{evicted} in a second");
        all += evicted;
    }
    assert!((220..=300).contains(&all), "{all} in 12 s");
}

#[test]
fn revival_while_queued_for_eviction_restarts_the_wait() {
    let mut rig = many_expired(400);
    rig.advance(11.0);
    // An object at the end of the queue is revived, expires again, and is stored as Expired.
    let names: Vec<_> = (0..400).map(|i| format!("i{i}")).collect();
    let last = names.iter().rev().find(|name| rig.phase(name).is_some()).unwrap().clone();
    let mut back = rig.annotate(&last);
    assert_eq!(rig.phase(&last), Some(Phase::Ready));
    back.lease.evict_after = Duration::from_secs(10);
    rig.advance(10.5);
    assert_eq!(rig.phase(&last), Some(Phase::Expired));
    let mut expired_again = rig.record(&last);
    expired_again.stored.observed_heartbeat.clone_from(&expired_again.heartbeat);
    rig.put(expired_again);
    let early = evictions(&rig.advance(9.0));
    assert!(early.iter().all(|on| *on.key.name != *last), "evicted before its time");
}

#[test]
fn gap_delays_queued_evictions() {
    let mut rig = many_expired(400);
    rig.advance(11.0);
    rig.time += 20_000;
    rig.settle();
    let now = evictions(&rig.take_duties());
    assert!(now.is_empty(), "{} deleted at the end of a pause", now.len());
    assert!(evictions(&rig.advance(9.0)).is_empty());
    // After a long pause everything is listed again first, at most every 30 s.
    assert!(!evictions(&rig.advance(30.0)).is_empty());
}
