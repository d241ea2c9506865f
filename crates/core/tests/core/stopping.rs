//! Instances that say that they are leaving.

use rollcall_core::{directory::Heartbeat, fact::Announcement};
use rollcall_model::instance::{Health, HealthReport, Instance, Phase, State};

use crate::rig::{Rig, evictions, instance};

fn leaving(name: &str) -> Instance {
    instance(name).with(|facts| facts.stopping = true)
}

fn reports(rig: &Rig, report: HealthReport) -> Heartbeat {
    rig.directory.heartbeat("shop", "a", None, Some(report), rig.now().moment)
}

#[test]
fn the_leaving_stands_before_the_health_and_behind_what_the_operator_says() {
    let mut rig = Rig::new();
    for (state, health, phase) in [
        (State::Up, Health::Passing, Phase::Stopping),
        (State::Up, Health::Critical, Phase::Stopping),
        (State::Draining, Health::Passing, Phase::Draining),
        (State::OutOfService, Health::Warning, Phase::OutOfService),
    ] {
        rig.put(leaving("a").with(|facts| (facts.state, facts.health) = (state, health)));
        assert_eq!(rig.phase("a"), Some(phase));
        assert_eq!(rig.view().discoverable().count(), 0);
    }
}

#[test]
fn an_empty_heartbeat_keeps_the_leaving_and_other_words_are_to_be_written() {
    let mut rig = Rig::new();
    rig.put(leaving("a"));
    assert!(matches!(rig.beat("a"), Heartbeat::Renewed(_)));
    assert!(matches!(reports(&rig, HealthReport::Stopping), Heartbeat::Renewed(_)));
    assert!(matches!(reports(&rig, HealthReport::Passing), Heartbeat::Write(_)));
    assert!(matches!(reports(&rig, HealthReport::Critical), Heartbeat::Write(_)));
    rig.put(leaving("a").with(|facts| facts.health = Health::Critical));
    assert!(matches!(reports(&rig, HealthReport::Critical), Heartbeat::Renewed(_)));
    rig.put(instance("a"));
    assert!(matches!(reports(&rig, HealthReport::Passing), Heartbeat::Renewed(_)));
    assert!(matches!(reports(&rig, HealthReport::Stopping), Heartbeat::Write(_)));
}

#[test]
fn its_status_says_so_with_the_reason() {
    let mut rig = Rig::new();
    rig.put(leaving("a"));
    assert_eq!(rig.live(1.0), []);
    let stored = rig.record("a").stored;
    assert_eq!((stored.phase, stored.reason()), (Some(Phase::Stopping), Some("Stopping")));
    assert_eq!(&*stored.conditions[0].status, "False");
}

#[test]
fn an_instance_that_is_leaving_goes_with_its_lease_and_is_never_held() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(leaving(name));
    }
    rig.put(instance("c"));
    // All fall silent together.
    let duties = rig.live(10.5);
    assert_eq!(evictions(&duties), []);
    let expired = Some(Phase::Expired);
    assert_eq!([rig.phase("a"), rig.phase("b"), rig.phase("c")], [expired, expired, expired]);
    assert_eq!(rig.catalog.counts().holds, 0);
    assert_eq!(evictions(&rig.live(11.0)).len(), 3);
}

#[test]
fn instances_that_are_leaving_do_not_count_where_most_of_the_cluster_falls_silent() {
    let mut rig = Rig::new();
    let of = |at: usize, object: Instance| {
        object.with(|facts| facts.service = format!("s{}", at % 20).into())
    };
    for at in 0..20 {
        let name = format!("i{at}");
        rig.put(of(at, if at < 15 { leaving(&name) } else { instance(&name) }));
    }
    rig.live(20.0);
    assert_eq!(rig.catalog.counts().holds, 0, "five are fewer than the guard looks at");
}

#[test]
fn an_instance_that_is_held_is_so_no_longer_when_it_says_that_it_is_leaving() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(instance(name));
    }
    let duties = rig.live(11.0);
    let is_held = |it: &rollcall_core::fact::Duty| {
        use rollcall_core::fact::Duty;
        matches!(it, Duty::Announce { what: Announcement::Held { .. }, .. })
    };
    assert!(duties.iter().any(is_held));
    let mut a = rig.record("a");
    a.stopping = true;
    rig.put(a);
    rig.pass(0.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired), "its lease has ended");
    assert_eq!(rig.phase("b"), Some(Phase::Ready));
}
