//! Instances that report that they are stopping.

use rollcall_core::{directory::Heartbeat, fact::Announcement};
use rollcall_model::instance::{Health, HealthReport, Instance, Phase, State};

use crate::rig::{Rig, evictions, instance};

fn stopping(name: &str) -> Instance {
    instance(name).with(|facts| facts.stopping = true)
}

fn heartbeat_with(rig: &Rig, report: HealthReport) -> Heartbeat {
    rig.directory.heartbeat("shop", "a", None, Some(report), rig.now().moment)
}

#[test]
fn stopping_precedes_health_and_follows_operator_state() {
    let mut rig = Rig::new();
    for (state, health, phase) in [
        (State::Up, Health::Passing, Phase::Stopping),
        (State::Up, Health::Critical, Phase::Stopping),
        (State::Draining, Health::Passing, Phase::Draining),
        (State::OutOfService, Health::Warning, Phase::OutOfService),
    ] {
        rig.put(stopping("a").with(|facts| (facts.state, facts.health) = (state, health)));
        assert_eq!(rig.phase("a"), Some(phase));
        assert_eq!(rig.view().discoverable().count(), 0);
    }
}

#[test]
fn heartbeat_without_health_keeps_stopping_and_a_changed_health_is_written() {
    let mut rig = Rig::new();
    rig.put(stopping("a"));
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Renewed(_)));
    assert!(matches!(heartbeat_with(&rig, HealthReport::Stopping), Heartbeat::Renewed(_)));
    assert!(matches!(heartbeat_with(&rig, HealthReport::Passing), Heartbeat::Write(_)));
    assert!(matches!(heartbeat_with(&rig, HealthReport::Critical), Heartbeat::Write(_)));
    rig.put(stopping("a").with(|facts| facts.health = Health::Critical));
    assert!(matches!(heartbeat_with(&rig, HealthReport::Critical), Heartbeat::Renewed(_)));
    rig.put(instance("a"));
    assert!(matches!(heartbeat_with(&rig, HealthReport::Passing), Heartbeat::Renewed(_)));
    assert!(matches!(heartbeat_with(&rig, HealthReport::Stopping), Heartbeat::Write(_)));
}

#[test]
fn status_has_phase_and_reason_stopping() {
    let mut rig = Rig::new();
    rig.put(stopping("a"));
    assert_eq!(rig.run(1.0), []);
    let stored = rig.record("a").stored;
    assert_eq!((stored.phase, stored.reason()), (Some(Phase::Stopping), Some("Stopping")));
    assert_eq!(&*stored.conditions[0].status, "False");
}

#[test]
fn stopping_instance_expires_with_its_lease_and_is_never_held() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(stopping(name));
    }
    rig.put(instance("c"));
    // All three stop sending heartbeats at the same time.
    let duties = rig.run(10.5);
    assert_eq!(evictions(&duties), []);
    let expired = Some(Phase::Expired);
    assert_eq!([rig.phase("a"), rig.phase("b"), rig.phase("c")], [expired, expired, expired]);
    assert_eq!(rig.catalog.counts().holds, 0);
    assert_eq!(evictions(&rig.run(11.0)).len(), 3);
}

#[test]
fn stopping_instances_do_not_count_for_the_cluster_hold() {
    let mut rig = Rig::new();
    let in_service = |at: usize, object: Instance| {
        object.with(|facts| facts.service = format!("s{}", at % 20).into())
    };
    for at in 0..20 {
        let name = format!("i{at}");
        rig.put(in_service(at, if at < 15 { stopping(&name) } else { instance(&name) }));
    }
    rig.run(20.0);
    assert_eq!(
        rig.catalog.counts().holds,
        0,
        "the guard needs at least ten leased instances, and only five count"
    );
}

#[test]
fn report_of_stopping_ends_a_hold() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(instance(name));
    }
    let duties = rig.run(11.0);
    let is_held = |duty: &rollcall_core::fact::Duty| {
        use rollcall_core::fact::Duty;
        matches!(duty, Duty::Announce { what: Announcement::Held { .. }, .. })
    };
    assert!(duties.iter().any(is_held));
    let mut a = rig.record("a");
    a.stopping = true;
    rig.put(a);
    rig.advance(0.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired), "the lease has ended");
    assert_eq!(rig.phase("b"), Some(Phase::Ready));
}
