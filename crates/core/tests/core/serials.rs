//! The serial of what is published: moved by what readers see, and by nothing else.

use rollcall_core::fact::Fact;
use rollcall_model::instance::Phase;

use crate::rig::{Rig, instance};

/// The second of wall time that a rig is in.
fn second(rig: &Rig) -> u32 {
    u32::try_from(rig.now().wall.0 / 1000).unwrap()
}

#[test]
fn the_first_list_moves_the_serial_also_when_there_is_nobody() {
    let mut rig = Rig::unlisted();
    rig.api_is_up = false;
    rig.settle();
    assert_eq!(rig.directory.serial(), 0);
    rig.list(Vec::new());
    assert_eq!(rig.directory.serial(), second(&rig));
    let before = rig.directory.serial();
    rig.time += 2000;
    rig.list(Vec::new());
    assert_eq!(rig.directory.serial(), before, "a relist that brings nothing new");
}

#[test]
fn beats_self_beats_statuses_and_new_versions_move_no_serial() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.live(1.0);
    let before = rig.directory.serial();
    for _ in 0..5 {
        rig.live(2.0);
        let _ = rig.beat("a");
        rig.annotate("a");
        rig.put(rig.record("a"));
        // Changed and changed back before anybody could see it.
        let (now, mut other) = (rig.record("a"), rig.record("a"));
        other.weight = 7;
        rig.store(other);
        rig.put(now);
    }
    assert_eq!(rig.directory.serial(), before);
    assert!(rig.record("a").resource_version > a.resource_version);
}

#[test]
fn whatever_readers_see_moves_the_serial() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    let born = second(&rig);
    assert_eq!(rig.directory.serial(), born, "a service has come");
    rig.time += 2000;
    let changed = rig.put(a.with(|facts| facts.weight = 7));
    assert_eq!(rig.directory.serial(), second(&rig), "another weight");
    rig.live(20.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    let expired = rig.directory.serial() - born;
    assert!((10..=12).contains(&expired), "a lease of 10 s has ended after {expired} s");
    rig.version += 1;
    rig.apply(Fact::Removed {
        key: changed.key.clone(),
        uid: changed.uid.clone(),
        index: rig.version,
    });
    rig.settle();
    assert_eq!(rig.directory.serial(), second(&rig), "a service is gone");
}

#[test]
fn a_change_in_the_second_of_a_transfer_has_a_serial_of_its_own() {
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
