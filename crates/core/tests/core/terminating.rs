//! Objects that are being deleted while finalizers hold them.

use rollcall_core::{
    directory::Heartbeat,
    fact::{Announcement, Duty, Fact, Outcome, Version},
};
use rollcall_model::{
    instance::{Instance, Phase, State},
    lease::{Lease, Moment},
};

use crate::rig::{Rig, evictions, instance};

/// The watch tells that the object is being deleted, and that a finalizer holds it.
fn delete(rig: &mut Rig, name: &str) -> Instance {
    let mut held = rig.record(name);
    held.terminating = Some(["example.com/held".into()].into());
    held.generation += 1;
    rig.put(held)
}

/// The watch tells that an object is gone.
fn gone(rig: &mut Rig, object: &Instance) {
    rig.version += 1;
    let (key, uid, index) = (object.key.clone(), object.uid.clone(), rig.version);
    rig.apply(Fact::Removed { key, uid, index });
    rig.settle();
}

fn announced(duties: &[Duty]) -> Vec<Announcement> {
    let what = |duty: &Duty| match duty {
        Duty::Announce { what, .. } | Duty::WriteStatus { announce: Some(what), .. } => {
            Some(what.clone())
        }
        _ => None,
    };
    duties.iter().filter_map(what).collect()
}

/// Lets time pass until an object is to be deleted: which.
fn until_evicted(rig: &mut Rig) -> Version {
    loop {
        if let Some(on) = evictions(&rig.live(1.0)).first() {
            return on.clone();
        }
    }
}

#[test]
fn an_object_that_is_being_deleted_is_not_discoverable_and_says_what_holds_it() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.live(1.0);
    delete(&mut rig, "a");
    assert_eq!((rig.phase("a"), rig.view().discoverable().count()), (Some(Phase::Terminating), 0));
    assert!(matches!(rig.beat("a"), Heartbeat::Terminating(_)));
    let others = rig.live(1.0);
    assert_eq!(others, [], "nothing but its status is written");
    let stored = rig.record("a").stored;
    assert_eq!((stored.phase, stored.reason()), (Some(Phase::Terminating), Some("Terminating")));
    assert!(stored.conditions[0].message.contains("(example.com/held)"), "{stored:?}");
}

#[test]
fn nothing_changes_the_phase_of_an_object_that_is_being_deleted() {
    let mut rig = Rig::new();
    rig.put(instance("a").with(|facts| facts.state = State::OutOfService));
    rig.live(1.0);
    delete(&mut rig, "a");
    // Its lease ends, and a heartbeat comes by each way.
    assert_eq!(rig.live(60.0), []);
    assert_eq!(rig.catalog.counts().expired, 0);
    rig.annotate("a");
    let a = rig.record("a");
    rig.apply(Fact::Beat { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    assert_eq!(rig.live(60.0), []);
    assert_eq!(rig.phase("a"), Some(Phase::Terminating));
    assert_eq!(rig.catalog.counts().revived, 0);
    gone(&mut rig, &a);
    assert_eq!((rig.phase("a"), announced(&rig.take())), (None, vec![]));
}

#[test]
fn an_expired_object_that_is_being_deleted_is_not_revived() {
    let mut rig = Rig::new();
    let lease =
        Lease { on_expiry: rollcall_model::lease::OnExpiry::Retain, ..crate::rig::lease(10) };
    rig.put(instance("a").with(|facts| facts.lease = lease));
    rig.live(12.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    delete(&mut rig, "a");
    rig.annotate("a");
    assert_eq!(rig.live(1.0), []);
    assert_eq!((rig.phase("a"), rig.catalog.counts().revived), (Some(Phase::Terminating), 0));
}

#[test]
fn an_eviction_that_a_finalizer_holds_is_asked_for_once_and_told_when_the_object_is_gone() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let on = until_evicted(&mut rig);
    rig.attempted(&on, Outcome::Deleting);
    // However late the watch is.
    assert!(evictions(&rig.live(30.0)).is_empty());
    let held = delete(&mut rig, "a");
    let others = rig.live(60.0);
    assert_eq!((evictions(&others), announced(&others)), (vec![], vec![]));
    assert_eq!(rig.catalog.counts().evicted, 0);
    gone(&mut rig, &held);
    let told = announced(&rig.take());
    assert!(matches!(told[..], [Announcement::Evicted { .. }]), "{told:?}");
    assert_eq!(rig.catalog.counts().evicted, 1);
    assert!(matches!(rig.beat("a"), Heartbeat::Gone(_)));
}

#[test]
fn an_eviction_is_told_once_whether_its_answer_or_the_watch_comes_first() {
    for watch_first in [true, false] {
        let mut rig = Rig::new();
        rig.put(instance("a"));
        let on = until_evicted(&mut rig);
        let a = rig.record("a");
        if watch_first {
            gone(&mut rig, &a);
        }
        rig.attempted(&on, Outcome::Evicted);
        rig.settle();
        if !watch_first {
            gone(&mut rig, &a);
        }
        let told = announced(&rig.take());
        assert!(matches!(told[..], [Announcement::Evicted { .. }]), "{watch_first}: {told:?}");
        assert_eq!(rig.catalog.counts().evicted, 1);
    }
}

#[test]
fn an_object_that_is_being_deleted_is_no_part_of_a_mass_expiry() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.put(instance(name));
    }
    rig.live(1.0);
    // Two of three are going; the third falls silent alone.
    delete(&mut rig, "a");
    delete(&mut rig, "b");
    rig.live(12.0);
    assert_eq!(rig.phase("c"), Some(Phase::Expired));
    assert_eq!(rig.catalog.counts().holds, 0);
}

#[test]
fn an_instance_that_is_held_is_so_no_longer_when_its_object_is_deleted() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(instance(name));
    }
    rig.live(11.0);
    let held = |rig: &Rig| rig.directory.report().held.as_ref().map_or(0, |held| held.instances);
    assert_eq!(held(&rig), 2);
    delete(&mut rig, "a");
    assert_eq!(held(&rig), 1);
}
