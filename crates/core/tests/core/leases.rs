//! Leases: when an instance expires, and what revives it.

use std::{sync::Arc, time::Duration};

use rollcall_core::{directory::Heartbeat, fact::Fact};
use rollcall_model::{
    instance::{HealthReport, Phase},
    lease::{LeaseMode, Moment},
};

use crate::rig::{Rig, instance, lease};

#[test]
fn instance_is_discoverable_for_its_whole_lease_and_expires_soon_after() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.advance(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn heartbeat_renews_the_lease_from_its_arrival() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.advance(9.0);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)));
    rig.advance(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn no_lease_ends_while_the_horizon_stalls() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.api_is_up = false;
    rig.advance(600.0);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    assert!(rig.directory.is_stale(rig.now().moment));
}

#[test]
fn outage_is_given_back_up_to_one_lease() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.api_is_up = false;
    rig.advance(60.0);
    rig.api_is_up = true;
    rig.advance(9.5);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(6.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn stall_is_given_back() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.advance(9.0);
    rig.time += 20_000;
    rig.settle();
    rig.advance(9.5);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(1.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn wall_clock_jump_moves_no_deadline() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    for shift in [-86_400_000, 86_400_000, 0] {
        rig.wall_shift = shift;
        rig.advance(3.2);
    }
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.wall_shift = -86_400_000;
    rig.advance(1.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn stored_expired_instance_stays_expired_until_a_new_heartbeat() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(12.0);
    let stored = rig.record("a");
    assert!(stored.is_stored_expired());

    let mut other = Rig::unlisted();
    other.version = 1000;
    other.list(vec![stored.clone()]);
    assert_eq!(
        other.phase("a"),
        Some(Phase::Expired),
        "a start gives no lease to an expired instance"
    );
    let mut touched = stored;
    touched.weight = 7;
    other.put(touched);
    assert_eq!(other.phase("a"), Some(Phase::Expired), "another change is not a heartbeat");
    let mut removed = other.record("a");
    removed.heartbeat = None;
    other.put(removed);
    assert_eq!(
        other.phase("a"),
        Some(Phase::Expired),
        "removing the annotation is not a heartbeat"
    );
    assert!(matches!(other.heartbeat("a"), Heartbeat::Write(_)), "a revival is written first");
    other.annotate("a");
    assert_eq!(other.phase("a"), Some(Phase::Ready));
}

#[test]
fn start_gives_every_other_instance_one_lease() {
    let mut rig = Rig::unlisted();
    rig.list(vec![instance("a")]);
    rig.advance(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn changed_duration_starts_a_whole_lease() {
    let mut rig = Rig::new();
    let mut a = rig.put(instance("a"));
    rig.advance(9.0);
    a.lease = lease(3);
    let mut a = rig.put(a);
    rig.advance(2.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    a.lease = lease(60);
    rig.put(a);
    rig.advance(59.0);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(2.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn longer_lease_does_not_revive_an_expired_instance() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(12.0);
    let mut a = rig.record("a");
    a.lease = lease(60);
    rig.put(a);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn mode_change_to_permanent_revives_and_mode_change_to_heartbeat_starts_a_lease() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(12.0);
    let mut a = rig.record("a");
    a.lease.mode = LeaseMode::Permanent;
    rig.put(a);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Permanent(_)));
    rig.run(1000.0);
    let mut a = rig.record("a");
    a.lease.mode = LeaseMode::Heartbeat;
    rig.put(a);
    rig.advance(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn heartbeat_later_than_one_lease_is_a_revival_before_the_verdict() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.api_is_up = false;
    rig.advance(11.0);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Write(_)));
}

/// A status write that timed out here can still be executed later, and only a stored heartbeat makes it fail.
/// After a heartbeat that could not be stored, the replica therefore answers none with 200 until one is stored.
#[test]
fn after_an_unstored_heartbeat_every_heartbeat_is_written_until_one_is_stored() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(12.0);
    let a = rig.record("a");
    rig.apply(Fact::RecordedHere { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    rig.settle();
    assert_eq!(
        rig.phase("a"),
        Some(Phase::Ready),
        "discoverable, because the instance sends heartbeats"
    );
    rig.time += 1000;
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Write(_)));
    rig.annotate("a");
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)));
}

#[test]
fn lease_after_a_recorded_heartbeat_ends_as_usual() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(12.0);
    let a = rig.record("a");
    rig.apply(Fact::RecordedHere { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    rig.advance(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.advance(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

/// The verdict of an earlier process can be stored after this process began to take heartbeats.
#[test]
fn heartbeat_for_a_stored_expired_object_is_written_although_it_is_live_here() {
    let mut rig = Rig::new();
    let mut late = rig.put(instance("a"));
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)));
    late.stored.phase = Some(Phase::Expired);
    late.stored.observed_heartbeat.clone_from(&late.heartbeat);
    rig.put(late);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Write(_)));
}

#[test]
fn only_a_changed_health_is_written() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let now = rig.now().moment;
    for (health, written) in [(HealthReport::Passing, false), (HealthReport::Warning, true)] {
        let beat = rig.directory.heartbeat("shop", "a", None, Some(health), now);
        assert_eq!(matches!(beat, Heartbeat::Write(_)), written);
    }
}

#[test]
fn self_beats_are_bounded_when_many_leases_end() {
    let mut rig = Rig::new();
    for i in 0..200 {
        let mut object = instance(&format!("i{i}"));
        object.lease.duration = Duration::from_millis(2000 + 50 * i);
        rig.apply(Fact::Upserted(Arc::new(object)));
    }
    rig.settle();
    let before = rig.version;
    // Instances that stop together are held for one more lease each.
    rig.advance(25.0);
    assert_eq!(rig.view().count(Phase::Expired), 200);
    let beats = rig.version - before;
    assert!(beats <= 2 * 25 + 3, "{beats} self-beats in 25 s");
}
