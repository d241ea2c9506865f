//! The guard: which instances are held, for how long, what ends a hold, and what a hold prevents.

use std::time::Duration;

use rollcall_core::{
    directory::Heartbeat,
    fact::{Announcement, Duty},
};
use rollcall_model::{
    instance::{Health, Instance, Phase, State},
    lease::{Lease, LeaseMode},
};

use crate::rig::{Rig, evictions, instance, lease};

fn instance_of(service: &str, name: &str) -> Instance {
    instance(name).with(|facts| facts.service = service.into())
}

/// Three instances of service `orders` with a lease of 10 s. Their last heartbeats come at 1, 2 and 3 s.
fn silent_service() -> Rig {
    let mut rig = Rig::new();
    ["a", "b", "c"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    for name in ["a", "b", "c"] {
        rig.advance(1.0);
        rig.heartbeat(name);
    }
    rig
}

fn discoverable(rig: &Rig) -> usize {
    rig.view().discoverable().count()
}

fn held(rig: &Rig) -> usize {
    rig.directory.report().held.as_ref().map_or(0, |held| held.instances)
}

fn announcements(duties: &[Duty]) -> Vec<Announcement> {
    let what = |duty: &Duty| match duty {
        Duty::Announce { what, .. } => Some(what.clone()),
        _ => None,
    };
    duties.iter().filter_map(what).collect()
}

fn announced_names(duties: &[Duty]) -> Vec<&str> {
    fn name(duty: &Duty) -> Option<&str> {
        let Duty::Announce { on, .. } = duty else { return None };
        Some(&on.key.name)
    }
    duties.iter().filter_map(name).collect()
}

#[test]
fn mass_expiry_of_a_service_holds_each_instance_for_one_more_lease() {
    let mut rig = silent_service();
    let before = rig.view().revision;
    let duties = rig.advance(8.5);
    assert_eq!((held(&rig), discoverable(&rig)), (1, 3), "a's lease ended half a second ago");
    assert_eq!(announcements(&duties), [Announcement::Held { service: "orders".into(), of: 3 }]);
    assert_ne!(rig.view().revision, before, "the view shows the hold");
    let duties = rig.advance(2.0);
    assert_eq!((held(&rig), discoverable(&rig)), (3, 3));
    assert_eq!(
        announced_names(&duties),
        ["b", "c"],
        "one Event for each held instance: {duties:?}"
    );
    let report = rig.directory.report();
    let (key, hold) = report.held.as_ref().unwrap().services[0].clone();
    assert_eq!((&*key.service, hold.silent, hold.of, hold.held), ("orders", 3, 3, 3));
    rig.advance(7.4);
    assert_eq!(discoverable(&rig), 3);
    rig.advance(0.3);
    assert_eq!((rig.phase("a"), discoverable(&rig)), (Some(Phase::Expired), 2));
    rig.advance(2.1);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 0), "one more lease at most");
    assert!(rig.directory.report().held.is_none());
    assert_eq!(rig.catalog.counts().holds, 1);
}

#[test]
fn instance_that_expires_alone_is_not_held() {
    let mut rig = silent_service();
    for _ in 0..3 {
        rig.advance(3.0);
        rig.heartbeat("b");
    }
    assert_eq!((rig.phase("a"), held(&rig)), (Some(Phase::Expired), 0));
}

#[test]
fn instance_with_two_heartbeats_in_a_lease_prevents_a_hold() {
    let mut rig = Rig::new();
    ["a", "b"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    for _ in 0..20 {
        rig.advance(4.9);
        rig.heartbeat("b");
    }
    assert_eq!((rig.phase("a"), rig.catalog.counts().holds), (Some(Phase::Expired), 0));
}

#[test]
fn single_instance_and_instance_next_to_a_permanent_one_are_not_held() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let mut permanent = instance_of("pair", "p");
    permanent.lease.mode = LeaseMode::Permanent;
    rig.put(permanent);
    rig.put(instance_of("pair", "b"));
    rig.advance(10.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!((held(&rig), rig.catalog.counts().holds), (0, 0));
}

#[test]
fn undiscoverable_instances_neither_prevent_a_hold_nor_are_held() {
    let mut rig = Rig::new();
    ["a", "b"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    rig.put(instance("drained").with(|facts| facts.state = State::Draining));
    rig.put(instance("critical").with(|facts| facts.health = Health::Critical));
    rig.advance(5.0);
    rig.heartbeat("critical");
    rig.advance(5.5);
    assert_eq!((held(&rig), discoverable(&rig)), (2, 2));
    assert_eq!(rig.phase("drained"), Some(Phase::Expired));
}

#[test]
fn heartbeat_ends_the_hold_of_its_instance_only() {
    let mut rig = silent_service();
    rig.advance(11.0);
    assert_eq!(held(&rig), 3);
    rig.annotate("b");
    assert_eq!((held(&rig), discoverable(&rig)), (2, 3));
    assert!(rig.view().by_label("b").is_some_and(|b| !b.held && b.phase == Phase::Ready));
    rig.advance(3.0);
    assert_eq!(discoverable(&rig), 3, "the revived instance keeps the others discoverable");
    rig.advance(6.5);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 1));
    assert_eq!(rig.phase("b"), Some(Phase::Ready));
}

#[test]
fn deleted_or_permanent_instance_is_no_longer_held() {
    let mut rig = silent_service();
    rig.advance(11.0);
    let mut a = rig.record("a");
    a.lease.mode = LeaseMode::Permanent;
    rig.put(a);
    let b = rig.record("b");
    rig.version += 1;
    let index = rig.version;
    rig.apply(rollcall_core::fact::Fact::Removed { key: b.key.clone(), uid: b.uid.clone(), index });
    rig.settle();
    assert_eq!((held(&rig), discoverable(&rig)), (1, 2));
    rig.advance(12.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 1));
}

#[test]
fn hold_blocks_evictions_of_its_service_only() {
    let mut rig = Rig::new();
    let late = Lease { evict_after: Duration::from_secs(15), ..lease(10) };
    rig.put(instance("old").with(|facts| facts.lease = late));
    rig.put(instance_of("other", "lone"));
    rig.run(2.0);
    ["a", "b"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    for _ in 0..3 {
        rig.run(3.0);
        rig.annotate("a");
        rig.annotate("b");
    }
    rig.run(0.1);
    assert_eq!(rig.phase("old"), Some(Phase::Expired));
    // Neither sends another heartbeat. They are held from the tenth second to the twentieth.
    let names = |duties: &[Duty]| -> Vec<_> {
        evictions(duties).into_iter().map(|on| on.key.name.to_string()).collect()
    };
    let duties = rig.run(19.0);
    assert_eq!((held(&rig), names(&duties)), (2, vec!["lone".to_owned()]));
    let duties = rig.run(3.0);
    assert_eq!((held(&rig), names(&duties)), (0, vec!["old".to_owned()]));
}

/// Services with one instance each, so that only the hold for the whole cluster can apply.
fn cluster(many: usize) -> Rig {
    let mut rig = Rig::new();
    (0..many).for_each(|at| drop(rig.put(instance_of(&format!("s{at}"), &format!("i{at}")))));
    rig
}

fn cluster_discoverable(rig: &Rig, many: usize) -> usize {
    let phase = |at: usize| {
        let view = rig.directory.service("shop", &format!("s{at}")).unwrap();
        view.discoverable().count()
    };
    (0..many).map(phase).sum()
}

#[test]
fn mass_expiry_of_the_cluster_is_held_and_blocks_all_evictions() {
    let mut rig = cluster(12);
    rig.put(instance_of("short", "gone").with(|facts| facts.lease = lease(3)));
    rig.run(5.0);
    (0..5).for_each(|at| drop(rig.heartbeat(&format!("i{at}"))));
    let duties = rig.run(6.0);
    let all = Announcement::HeldAll { silent: 7, of: 13 };
    assert_eq!((held(&rig), cluster_discoverable(&rig, 12)), (7, 12));
    assert_eq!(
        announcements(&duties),
        vec![all; 8],
        "one Event for each held instance and one for the replica itself"
    );
    let hold = rig.directory.report().held.as_ref().unwrap().cluster.unwrap();
    assert_eq!((hold.silent, hold.of, hold.held), (7, 13, 7), "the replica itself has a lease too");
    (0..5).for_each(|at| drop(rig.annotate(&format!("i{at}"))));
    assert!(
        evictions(&rig.run(8.5)).is_empty(),
        "the hold blocks the eviction of the instance that expired alone, too"
    );
    rig.run(1.0);
    assert_eq!((held(&rig), cluster_discoverable(&rig, 12)), (0, 5), "one more lease at most");
}

#[test]
fn cluster_hold_needs_ten_instances_and_more_than_half_silent() {
    let mut rig = cluster(11);
    rig.run(5.5);
    (0..5).for_each(|at| drop(rig.heartbeat(&format!("i{at}"))));
    rig.run(5.5);
    assert_eq!((held(&rig), cluster_discoverable(&rig, 11)), (0, 5), "six of twelve");
    let mut rig = cluster(8);
    rig.run(11.0);
    assert_eq!((held(&rig), cluster_discoverable(&rig, 8)), (0, 0), "eight of nine");
}

#[test]
fn outage_starts_no_hold_and_gives_time_back_first() {
    let mut rig = silent_service();
    rig.api_is_up = false;
    rig.advance(30.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 3), "not judged, so not held");
    rig.api_is_up = true;
    rig.advance(9.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 3), "given back");
    rig.advance(3.0);
    assert_eq!((held(&rig), discoverable(&rig)), (3, 3));
    rig.advance(11.0);
    assert_eq!(discoverable(&rig), 0);
}

#[test]
fn revival_keeps_the_hold_for_instances_that_are_not_due_yet() {
    let mut rig = silent_service();
    rig.advance(8.5);
    assert_eq!(held(&rig), 1, "a alone is due");
    rig.annotate("a");
    rig.advance(2.0);
    assert_eq!((held(&rig), discoverable(&rig)), (2, 3), "b and c belong to the same mass expiry");
}

#[test]
fn second_mass_expiry_joins_the_current_hold() {
    let mut rig = silent_service();
    rig.advance(9.5);
    assert_eq!(held(&rig), 2, "a and b");
    rig.annotate("b");
    rig.advance(10.3);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!((held(&rig), discoverable(&rig)), (2, 2), "c, and b again");
    rig.advance(2.0);
    assert_eq!((held(&rig), discoverable(&rig)), (1, 1), "c has had its time, b has not");
    rig.advance(10.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 0));
    assert!(rig.directory.report().held.is_none());
}

#[test]
fn stall_during_a_hold_never_shortens_it() {
    let mut rig = silent_service();
    rig.advance(1.5);
    rig.heartbeat("c");
    rig.advance(11.0);
    assert_eq!(held(&rig), 3, "c until 24.5 s");
    let renew_a_and_b =
        |rig: &mut Rig| ["a", "b"].into_iter().for_each(|name| drop(rig.annotate(name)));
    renew_a_and_b(&mut rig);
    // Another instance becomes due after all three, so that the horizon moves.
    rig.advance(0.7);
    rig.put(instance_of("other", "d").with(|facts| facts.lease = lease(5)));
    rig.advance(5.3);
    renew_a_and_b(&mut rig);
    // The process is stalled from 21.5 s on.
    rig.time += 1_000;
    rig.settle();
    assert_eq!(rig.catalog.counts().gaps, 1, "the gap moves every lease end to 23.5 s or later");
    // A change of the object makes the catalog check it.
    let record = rig.record("c");
    rig.put(record.with(|facts| facts.weight = 7));
    rig.advance(1.9);
    assert_eq!(rig.phase("c"), Some(Phase::Ready), "{:?}", rig.now());
    rig.advance(0.5);
    assert_eq!(rig.phase("c"), Some(Phase::Expired), "{:?}", rig.now());
}

#[test]
fn grace_extends_a_hold_to_its_end_and_no_further() {
    let mut rig = silent_service();
    let mut duties = rig.advance(17.0);
    assert_eq!(held(&rig), 3, "the instances are held until 21, 22 and 23 s");
    rig.time += 2_000;
    rig.settle();
    duties.extend(rig.advance(1.9));
    assert_eq!(
        (held(&rig), discoverable(&rig)),
        (3, 3),
        "no lease ends before 24 s: {:?}",
        rig.now()
    );
    duties.extend(rig.advance(0.3));
    assert_eq!((held(&rig), discoverable(&rig)), (0, 0), "{:?}", rig.now());
    assert_eq!(announced_names(&duties), ["a", "b", "c"], "{duties:?}");
}

#[test]
fn heartbeat_within_grace_ends_a_hold_at_once() {
    let mut rig = silent_service();
    rig.advance(11.0);
    assert_eq!(held(&rig), 3);
    rig.time += 2_000;
    rig.settle();
    assert!(matches!(rig.heartbeat("c"), Heartbeat::Renewed(_)), "a whole lease is given");
    rig.advance(0.3);
    assert_eq!((held(&rig), discoverable(&rig)), (2, 3));
}
