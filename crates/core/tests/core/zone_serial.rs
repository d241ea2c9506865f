//! The DNS serial of the published zone: only a change that readers can see moves it.

use rollcall_core::fact::Fact;
use rollcall_model::instance::Phase;

use crate::rig::{Rig, instance};

/// The rig's wall time in seconds.
fn second(rig: &Rig) -> u32 {
    u32::try_from(rig.now().wall.0 / 1000).unwrap()
}

#[test]
fn first_list_moves_the_serial_even_when_it_is_empty() {
    let mut rig = Rig::unlisted();
    rig.api_is_up = false;
    rig.settle();
    assert_eq!(rig.directory.serial(), 0);
    rig.list(Vec::new());
    assert_eq!(rig.directory.serial(), second(&rig));
    let before = rig.directory.serial();
    rig.time += 2000;
    rig.list(Vec::new());
    assert_eq!(rig.directory.serial(), before, "a list without changes");
}

#[test]
fn heartbeats_and_statuses_do_not_move_the_serial() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.run(1.0);
    let before = rig.directory.serial();
    for _ in 0..5 {
        rig.run(2.0);
        let _ = rig.heartbeat("a");
        rig.annotate("a");
        rig.put(rig.record("a"));
        // Changed and changed back before a reader could see it.
        let (now, mut other) = (rig.record("a"), rig.record("a"));
        other.weight = 7;
        rig.store(other);
        rig.put(now);
    }
    assert_eq!(rig.directory.serial(), before);
    assert!(rig.record("a").resource_version > a.resource_version);
}

#[test]
fn visible_change_moves_the_serial() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    let created = second(&rig);
    assert_eq!(rig.directory.serial(), created, "a new service");
    rig.time += 2000;
    let changed = rig.put(a.with(|facts| facts.weight = 7));
    assert_eq!(rig.directory.serial(), second(&rig), "another weight");
    rig.run(20.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    let expired = rig.directory.serial() - created;
    assert!((10..=12).contains(&expired), "a lease of 10 s has ended after {expired} s");
    rig.version += 1;
    rig.apply(Fact::Removed {
        key: changed.key.clone(),
        uid: changed.uid.clone(),
        index: rig.version,
    });
    rig.settle();
    assert_eq!(rig.directory.serial(), second(&rig), "a removed service");
}

#[test]
fn change_in_the_second_of_a_transfer_gets_its_own_serial() {
    let mut rig = Rig::new();
    let mut a = rig.put(instance("a"));
    let given = rig.directory.serial_for_transfer();
    assert_eq!(given, second(&rig));
    a.weight = 7;
    let a = rig.put(a);
    assert_eq!(rig.directory.serial(), given + 1);
    rig.put(a);
    assert_eq!(rig.directory.serial_for_transfer(), given + 1, "nothing has changed");
}
