//! The guard: who is held, for how long, what ends it, and what it stops meanwhile.

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

fn of(service: &str, name: &str) -> Instance {
    instance(name).with(|facts| facts.service = service.into())
}

/// Three of service `orders` with a lease of 10 s, who beat a second apart at 1, 2 and 3 s.
fn struck() -> Rig {
    let mut rig = Rig::new();
    ["a", "b", "c"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    for name in ["a", "b", "c"] {
        rig.pass(1.0);
        rig.beat(name);
    }
    rig
}

fn discoverable(rig: &Rig) -> usize {
    rig.view().discoverable().count()
}

fn held(rig: &Rig) -> usize {
    rig.directory.report().held.as_ref().map_or(0, |held| held.instances)
}

fn told(duties: &[Duty]) -> Vec<Announcement> {
    let what = |duty: &Duty| match duty {
        Duty::Announce { what, .. } => Some(what.clone()),
        _ => None,
    };
    duties.iter().filter_map(what).collect()
}

fn told_of(duties: &[Duty]) -> Vec<&str> {
    fn name(duty: &Duty) -> Option<&str> {
        let Duty::Announce { on, .. } = duty else { return None };
        Some(&on.key.name)
    }
    duties.iter().filter_map(name).collect()
}

#[test]
fn a_service_that_falls_silent_as_one_is_kept_for_one_more_lease_each() {
    let mut rig = struck();
    let before = rig.view().revision;
    let duties = rig.pass(8.5);
    assert_eq!((held(&rig), discoverable(&rig)), (1, 3), "a's lease ended half a second ago");
    assert_eq!(told(&duties), [Announcement::Held { service: "orders".into(), of: 3 }]);
    assert_ne!(rig.view().revision, before, "the answers say it");
    let duties = rig.pass(2.0);
    assert_eq!((held(&rig), discoverable(&rig)), (3, 3));
    assert_eq!(told_of(&duties), ["b", "c"], "once of each that is held: {duties:?}");
    let report = rig.directory.report();
    let (key, hold) = report.held.as_ref().unwrap().services[0].clone();
    assert_eq!((&*key.service, hold.silent, hold.of, hold.held), ("orders", 3, 3, 3));
    rig.pass(7.4);
    assert_eq!(discoverable(&rig), 3);
    rig.pass(0.3);
    assert_eq!((rig.phase("a"), discoverable(&rig)), (Some(Phase::Expired), 2));
    rig.pass(2.1);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 0), "one further lease at most");
    assert!(rig.directory.report().held.is_none());
    assert_eq!(rig.catalog.counts().holds, 1);
}

#[test]
fn one_that_dies_among_others_who_beat_is_not_held() {
    let mut rig = struck();
    for _ in 0..3 {
        rig.pass(3.0);
        rig.beat("b");
    }
    assert_eq!((rig.phase("a"), held(&rig)), (Some(Phase::Expired), 0));
}

#[test]
fn whoever_beats_twice_in_a_lease_vouches_for_the_service() {
    let mut rig = Rig::new();
    ["a", "b"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    for _ in 0..20 {
        rig.pass(4.9);
        rig.beat("b");
    }
    assert_eq!((rig.phase("a"), rig.catalog.counts().holds), (Some(Phase::Expired), 0));
}

#[test]
fn the_only_one_of_a_service_is_not_held_nor_one_beside_a_permanent_one() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let mut permanent = of("pair", "p");
    permanent.lease.mode = LeaseMode::Permanent;
    rig.put(permanent);
    rig.put(of("pair", "b"));
    rig.pass(10.5);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!((held(&rig), rig.catalog.counts().holds), (0, 0));
}

#[test]
fn those_who_are_not_offered_neither_vouch_nor_are_held() {
    let mut rig = Rig::new();
    ["a", "b"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    rig.put(instance("drained").with(|facts| facts.state = State::Draining));
    rig.put(instance("critical").with(|facts| facts.health = Health::Critical));
    rig.pass(5.0);
    rig.beat("critical");
    rig.pass(5.5);
    assert_eq!((held(&rig), discoverable(&rig)), (2, 2));
    assert_eq!(rig.phase("drained"), Some(Phase::Expired));
}

#[test]
fn a_beat_ends_it_for_its_instance_and_the_others_keep_their_time() {
    let mut rig = struck();
    rig.pass(11.0);
    assert_eq!(held(&rig), 3);
    rig.annotate("b");
    assert_eq!((held(&rig), discoverable(&rig)), (2, 3));
    assert!(rig.view().by_label("b").is_some_and(|b| !b.held && b.phase == Phase::Ready));
    rig.pass(3.0);
    assert_eq!(discoverable(&rig), 3, "who comes back next finds the others");
    rig.pass(6.5);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 1));
    assert_eq!(rig.phase("b"), Some(Phase::Ready));
}

#[test]
fn one_that_is_deleted_or_made_permanent_is_not_held_any_more() {
    let mut rig = struck();
    rig.pass(11.0);
    let mut a = rig.record("a");
    a.lease.mode = LeaseMode::Permanent;
    rig.put(a);
    let b = rig.record("b");
    rig.version += 1;
    let index = rig.version;
    rig.apply(rollcall_core::fact::Fact::Removed { key: b.key.clone(), uid: b.uid.clone(), index });
    rig.settle();
    assert_eq!((held(&rig), discoverable(&rig)), (1, 2));
    rig.pass(12.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 1));
}

#[test]
fn nothing_of_a_held_service_is_evicted_and_of_others_it_is() {
    let mut rig = Rig::new();
    let late = Lease { evict_after: Duration::from_secs(15), ..lease(10) };
    rig.put(instance("old").with(|facts| facts.lease = late));
    rig.put(of("other", "lone"));
    rig.live(2.0);
    ["a", "b"].into_iter().for_each(|name| drop(rig.put(instance(name))));
    for _ in 0..3 {
        rig.live(3.0);
        rig.annotate("a");
        rig.annotate("b");
    }
    rig.live(0.1);
    assert_eq!(rig.phase("old"), Some(Phase::Expired));
    // Both are silent from here on, and held from the tenth second to the twentieth.
    let names = |duties: &[Duty]| -> Vec<_> {
        evictions(duties).into_iter().map(|on| on.key.name.to_string()).collect()
    };
    let duties = rig.live(19.0);
    assert_eq!((held(&rig), names(&duties)), (2, vec!["lone".to_owned()]));
    let duties = rig.live(3.0);
    assert_eq!((held(&rig), names(&duties)), (0, vec!["old".to_owned()]));
}

/// Twelve services of one instance each, so that only the cluster as a whole can be guarded.
fn cluster(many: usize) -> Rig {
    let mut rig = Rig::new();
    (0..many).for_each(|at| drop(rig.put(of(&format!("s{at}"), &format!("i{at}")))));
    rig
}

fn alive(rig: &Rig, many: usize) -> usize {
    let phase = |at: usize| {
        let view = rig.directory.service("shop", &format!("s{at}")).unwrap();
        view.discoverable().count()
    };
    (0..many).map(phase).sum()
}

#[test]
fn the_greater_part_of_ten_or_more_is_kept_too_and_stops_every_eviction() {
    let mut rig = cluster(12);
    rig.put(of("short", "gone").with(|facts| facts.lease = lease(3)));
    rig.live(5.0);
    (0..5).for_each(|at| drop(rig.beat(&format!("i{at}"))));
    let duties = rig.live(6.0);
    let all = Announcement::HeldAll { silent: 7, of: 13 };
    assert_eq!((held(&rig), alive(&rig, 12)), (7, 12));
    assert_eq!(told(&duties), vec![all; 8], "of each that is held, and of the replica itself");
    let hold = rig.directory.report().held.as_ref().unwrap().everybody.unwrap();
    assert_eq!((hold.silent, hold.of, hold.held), (7, 13, 7), "the replica itself has a lease too");
    (0..5).for_each(|at| drop(rig.annotate(&format!("i{at}"))));
    assert!(evictions(&rig.live(8.5)).is_empty(), "not even the one that died alone");
    rig.live(1.0);
    assert_eq!((held(&rig), alive(&rig, 12)), (0, 5), "one further lease at most");
}

#[test]
fn half_of_the_cluster_is_not_its_greater_part_and_nine_are_no_cluster() {
    let mut rig = cluster(11);
    rig.live(5.5);
    (0..5).for_each(|at| drop(rig.beat(&format!("i{at}"))));
    rig.live(5.5);
    assert_eq!((held(&rig), alive(&rig, 11)), (0, 5), "six of twelve");
    let mut rig = cluster(8);
    rig.live(11.0);
    assert_eq!((held(&rig), alive(&rig, 8)), (0, 0), "eight of nine");
}

#[test]
fn while_nothing_can_be_heard_nobody_is_held_and_then_everybody_has_time_first() {
    let mut rig = struck();
    rig.api_is_up = false;
    rig.pass(30.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 3), "not judged, so not held");
    rig.api_is_up = true;
    rig.pass(9.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 3), "given back");
    rig.pass(3.0);
    assert_eq!((held(&rig), discoverable(&rig)), (3, 3));
    rig.pass(11.0);
    assert_eq!(discoverable(&rig), 0);
}

#[test]
fn whoever_comes_back_first_leaves_the_others_their_time_also_those_who_are_not_due_yet() {
    let mut rig = struck();
    rig.pass(8.5);
    assert_eq!(held(&rig), 1, "a alone is due");
    rig.annotate("a");
    rig.pass(2.0);
    assert_eq!((held(&rig), discoverable(&rig)), (2, 3), "b and c were of the same stroke");
}

#[test]
fn a_second_stroke_within_a_hold_is_counted_with_the_first() {
    let mut rig = struck();
    rig.pass(9.5);
    assert_eq!(held(&rig), 2, "a and b");
    rig.annotate("b");
    rig.pass(10.3);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    assert_eq!((held(&rig), discoverable(&rig)), (2, 2), "c, and b again");
    rig.pass(2.0);
    assert_eq!((held(&rig), discoverable(&rig)), (1, 1), "c has had its time, b has not");
    rig.pass(10.0);
    assert_eq!((held(&rig), discoverable(&rig)), (0, 0));
    assert!(rig.directory.report().held.is_none());
}

#[test]
fn a_process_that_stood_still_while_one_is_held_gives_time_and_takes_none() {
    let mut rig = struck();
    rig.pass(1.5);
    rig.beat("c");
    rig.pass(11.0);
    assert_eq!(held(&rig), 3, "c until 24.5 s");
    let back = |rig: &mut Rig| ["a", "b"].into_iter().for_each(|name| drop(rig.annotate(name)));
    back(&mut rig);
    // Somebody else comes due after all of the stroke have, so that the horizon goes on.
    rig.pass(0.7);
    rig.put(of("other", "d").with(|facts| facts.lease = lease(5)));
    rig.pass(5.3);
    back(&mut rig);
    // From 21.5 s on.
    rig.time += 1_000;
    rig.settle();
    assert_eq!(rig.catalog.counts().gaps, 1, "so nobody's lease ends before 23.5 s");
    // Somebody changes its object, so that it is looked at.
    let record = rig.record("c");
    rig.put(record.with(|facts| facts.weight = 7));
    rig.pass(1.9);
    assert_eq!(rig.phase("c"), Some(Phase::Ready), "{:?}", rig.now());
    rig.pass(0.5);
    assert_eq!(rig.phase("c"), Some(Phase::Expired), "{:?}", rig.now());
}

#[test]
fn where_a_floor_lies_behind_the_end_of_a_hold_it_lasts_until_then_and_no_longer() {
    let mut rig = struck();
    let mut duties = rig.pass(17.0);
    assert_eq!(held(&rig), 3, "until 21, 22 and 23 s");
    rig.time += 2_000;
    rig.settle();
    duties.extend(rig.pass(1.9));
    assert_eq!((held(&rig), discoverable(&rig)), (3, 3), "nobody before 24 s: {:?}", rig.now());
    duties.extend(rig.pass(0.3));
    assert_eq!((held(&rig), discoverable(&rig)), (0, 0), "{:?}", rig.now());
    assert_eq!(told_of(&duties), ["a", "b", "c"], "{duties:?}");
}

#[test]
fn a_beat_that_counts_since_a_floor_lies_ahead_ends_it_at_once() {
    let mut rig = struck();
    rig.pass(11.0);
    assert_eq!(held(&rig), 3);
    rig.time += 2_000;
    rig.settle();
    assert!(matches!(rig.beat("c"), Heartbeat::Renewed(_)), "a whole lease is given");
    rig.pass(0.3);
    assert_eq!((held(&rig), discoverable(&rig)), (2, 3));
}
