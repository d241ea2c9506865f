//! Leases: who is judged, when, and what brings somebody back.

use std::{sync::Arc, time::Duration};

use rollcall_core::{directory::Heartbeat, fact::Fact};
use rollcall_model::{
    instance::{HealthReport, Phase},
    lease::{LeaseMode, Moment},
};

use crate::rig::{Rig, instance, lease};

#[test]
fn an_instance_is_offered_for_its_whole_lease_and_gone_soon_after() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.pass(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn a_beat_renews_from_its_arrival() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.pass(9.0);
    assert!(matches!(rig.beat("a"), Heartbeat::Renewed(_)));
    rig.pass(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn nobody_is_judged_while_the_horizon_stands_still() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.api_is_up = false;
    rig.pass(600.0);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    assert!(rig.directory.is_stale(rig.now().moment));
}

#[test]
fn the_time_of_an_outage_is_given_back_and_no_more_than_one_lease() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.api_is_up = false;
    rig.pass(60.0);
    rig.api_is_up = true;
    rig.pass(9.5);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(6.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn a_process_that_was_stopped_gives_back_the_time() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.pass(9.0);
    rig.time += 20_000;
    rig.settle();
    rig.pass(9.5);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(1.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn wall_clocks_that_jump_move_nothing() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    for shift in [-86_400_000, 86_400_000, 0] {
        rig.wall_shift = shift;
        rig.pass(3.2);
    }
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.wall_shift = -86_400_000;
    rig.pass(1.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn what_is_stored_as_expired_stays_so_until_a_beat_that_differs() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(12.0);
    let stored = rig.record("a");
    assert!(stored.is_stored_expired());

    let mut other = Rig::unlisted();
    other.version = 1000;
    other.list(vec![stored.clone()]);
    assert_eq!(other.phase("a"), Some(Phase::Expired), "a start gives no lease to the expired");
    let mut touched = stored;
    touched.weight = 7;
    other.put(touched);
    assert_eq!(other.phase("a"), Some(Phase::Expired), "another change is no beat");
    let mut removed = other.record("a");
    removed.heartbeat = None;
    other.put(removed);
    assert_eq!(other.phase("a"), Some(Phase::Expired), "nor is a removal of the annotation");
    assert!(matches!(other.beat("a"), Heartbeat::Write(_)), "a revival is written first");
    other.annotate("a");
    assert_eq!(other.phase("a"), Some(Phase::Ready));
}

#[test]
fn a_start_gives_everybody_else_one_lease() {
    let mut rig = Rig::unlisted();
    rig.list(vec![instance("a")]);
    rig.pass(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn new_terms_begin_with_a_whole_lease() {
    let mut rig = Rig::new();
    let mut a = rig.put(instance("a"));
    rig.pass(9.0);
    a.lease = lease(3);
    let mut a = rig.put(a);
    rig.pass(2.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    a.lease = lease(60);
    rig.put(a);
    rig.pass(59.0);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(2.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn a_longer_lease_alone_brings_no_expired_instance_back() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(12.0);
    let mut a = rig.record("a");
    a.lease = lease(60);
    rig.put(a);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn an_instance_made_permanent_lives_and_one_made_leased_gets_its_first_lease() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(12.0);
    let mut a = rig.record("a");
    a.lease.mode = LeaseMode::Permanent;
    rig.put(a);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    assert!(matches!(rig.beat("a"), Heartbeat::Permanent(_)));
    rig.live(1000.0);
    let mut a = rig.record("a");
    a.lease.mode = LeaseMode::Heartbeat;
    rig.put(a);
    rig.pass(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

#[test]
fn a_beat_later_than_one_lease_is_a_revival_even_before_the_verdict() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.api_is_up = false;
    rig.pass(11.0);
    assert!(matches!(rig.beat("a"), Heartbeat::Write(_)));
}

/// A write that was decided before, and timed out here, may still land: only a stored beat makes
/// it fail. So after a beat that could only be noted nothing is promised until one is stored.
#[test]
fn after_a_beat_that_could_not_be_stored_every_beat_is_written_until_one_is() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(12.0);
    let a = rig.record("a");
    rig.apply(Fact::Beat { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    rig.settle();
    assert_eq!(rig.phase("a"), Some(Phase::Ready), "it is discoverable, since it beats");
    rig.time += 1000;
    assert!(matches!(rig.beat("a"), Heartbeat::Write(_)));
    rig.annotate("a");
    assert!(matches!(rig.beat("a"), Heartbeat::Renewed(_)));
}

#[test]
fn a_noted_beat_ends_like_any_other() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(12.0);
    let a = rig.record("a");
    rig.apply(Fact::Beat { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    rig.pass(9.9);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    rig.pass(1.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
}

/// The verdict of an earlier process may land after this one began to take beats.
#[test]
fn a_beat_for_what_is_stored_as_expired_is_written_though_it_lives_here() {
    let mut rig = Rig::new();
    let mut late = rig.put(instance("a"));
    assert!(matches!(rig.beat("a"), Heartbeat::Renewed(_)));
    late.stored.phase = Some(Phase::Expired);
    late.stored.observed_heartbeat.clone_from(&late.heartbeat);
    rig.put(late);
    assert_eq!(rig.phase("a"), Some(Phase::Ready));
    assert!(matches!(rig.beat("a"), Heartbeat::Write(_)));
}

#[test]
fn a_health_that_changes_is_written_and_an_unchanged_one_is_not() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let now = rig.now().moment;
    for (health, written) in [(HealthReport::Passing, false), (HealthReport::Warning, true)] {
        let beat = rig.directory.heartbeat("shop", "a", None, Some(health), now);
        assert_eq!(matches!(beat, Heartbeat::Write(_)), written);
    }
}

#[test]
fn many_leases_end_without_a_storm_of_self_beats() {
    let mut rig = Rig::new();
    for i in 0..200 {
        let mut one = instance(&format!("i{i}"));
        one.lease.duration = Duration::from_millis(2000 + 50 * i);
        rig.apply(Fact::Upserted(Arc::new(one)));
    }
    rig.settle();
    let before = rig.version;
    // Those who fall silent together are held for one more lease each.
    rig.pass(25.0);
    assert_eq!(rig.view().count(Phase::Expired), 200);
    let beats = rig.version - before;
    assert!(beats <= 2 * 25 + 3, "{beats} self-beats in 25 s");
}
