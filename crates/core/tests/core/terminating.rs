//! Objects that are being deleted and that a finalizer keeps.

use rollcall_core::{
    directory::Heartbeat,
    fact::{Announcement, Duty, Fact, Version, WriteOutcome},
};
use rollcall_model::{
    instance::{Instance, Phase, State},
    lease::{Lease, Moment},
};

use crate::rig::{Rig, evictions, instance};

/// The watch reports that the object is being deleted, and that a finalizer keeps it.
fn delete(rig: &mut Rig, name: &str) -> Instance {
    let mut held = rig.record(name);
    held.terminating = Some(["example.com/held".into()].into());
    held.generation += 1;
    rig.put(held)
}

/// The watch reports that the object was removed.
fn remove(rig: &mut Rig, object: &Instance) {
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

/// Lets time pass until the catalog asks for an eviction. Returns the object version.
fn until_evicted(rig: &mut Rig) -> Version {
    loop {
        if let Some(on) = evictions(&rig.run(1.0)).first() {
            return on.clone();
        }
    }
}

#[test]
fn terminating_object_is_not_discoverable_and_names_its_finalizer() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    rig.run(1.0);
    delete(&mut rig, "a");
    assert_eq!((rig.phase("a"), rig.view().discoverable().count()), (Some(Phase::Terminating), 0));
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Terminating(_)));
    let others = rig.run(1.0);
    assert_eq!(others, [], "only its status is written");
    let stored = rig.record("a").stored;
    assert_eq!((stored.phase, stored.reason()), (Some(Phase::Terminating), Some("Terminating")));
    assert!(stored.conditions[0].message.contains("(example.com/held)"), "{stored:?}");
}

#[test]
fn terminating_phase_is_final() {
    let mut rig = Rig::new();
    rig.put(instance("a").with(|facts| facts.state = State::OutOfService));
    rig.run(1.0);
    delete(&mut rig, "a");
    // Its lease ends, and a heartbeat comes by annotation and one by HTTP.
    assert_eq!(rig.run(60.0), []);
    assert_eq!(rig.catalog.counts().expired, 0);
    rig.annotate("a");
    let a = rig.record("a");
    rig.apply(Fact::RecordedHere { key: a.key.clone(), uid: a.uid.clone(), at: Moment(rig.time) });
    assert_eq!(rig.run(60.0), []);
    assert_eq!(rig.phase("a"), Some(Phase::Terminating));
    assert_eq!(rig.catalog.counts().revived, 0);
    remove(&mut rig, &a);
    assert_eq!((rig.phase("a"), announced(&rig.take_duties())), (None, vec![]));
}

#[test]
fn terminating_object_is_not_revived() {
    let mut rig = Rig::new();
    let lease =
        Lease { on_expiry: rollcall_model::lease::OnExpiry::Retain, ..crate::rig::lease(10) };
    rig.put(instance("a").with(|facts| facts.lease = lease));
    rig.run(12.0);
    assert_eq!(rig.phase("a"), Some(Phase::Expired));
    delete(&mut rig, "a");
    rig.annotate("a");
    assert_eq!(rig.run(1.0), []);
    assert_eq!((rig.phase("a"), rig.catalog.counts().revived), (Some(Phase::Terminating), 0));
}

#[test]
fn eviction_with_a_finalizer_is_requested_once_and_announced_at_the_removal() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let on = until_evicted(&mut rig);
    rig.attempted(&on, WriteOutcome::Deleting);
    // This holds however late the watch event is.
    assert!(evictions(&rig.run(30.0)).is_empty());
    let held = delete(&mut rig, "a");
    let others = rig.run(60.0);
    assert_eq!((evictions(&others), announced(&others)), (vec![], vec![]));
    assert_eq!(rig.catalog.counts().evicted, 0);
    remove(&mut rig, &held);
    let announcements = announced(&rig.take_duties());
    assert!(matches!(announcements[..], [Announcement::Evicted { .. }]), "{announcements:?}");
    assert_eq!(rig.catalog.counts().evicted, 1);
    assert!(matches!(rig.heartbeat("a"), Heartbeat::Evicted(_)));
}

#[test]
fn eviction_is_announced_once_whether_response_or_watch_comes_first() {
    for watch_first in [true, false] {
        let mut rig = Rig::new();
        rig.put(instance("a"));
        let on = until_evicted(&mut rig);
        let a = rig.record("a");
        if watch_first {
            remove(&mut rig, &a);
        }
        rig.attempted(&on, WriteOutcome::Evicted);
        rig.settle();
        if !watch_first {
            remove(&mut rig, &a);
        }
        let announcements = announced(&rig.take_duties());
        assert!(
            matches!(announcements[..], [Announcement::Evicted { .. }]),
            "{watch_first}: {announcements:?}"
        );
        assert_eq!(rig.catalog.counts().evicted, 1);
    }
}

#[test]
fn terminating_object_does_not_count_for_a_mass_expiry() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.put(instance(name));
    }
    rig.run(1.0);
    // Two of three are being deleted. Only the third one stops sending heartbeats.
    delete(&mut rig, "a");
    delete(&mut rig, "b");
    rig.run(12.0);
    assert_eq!(rig.phase("c"), Some(Phase::Expired));
    assert_eq!(rig.catalog.counts().holds, 0);
}

#[test]
fn deletion_ends_a_hold() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.put(instance(name));
    }
    rig.run(11.0);
    let held = |rig: &Rig| rig.directory.report().held.as_ref().map_or(0, |held| held.instances);
    assert_eq!(held(&rig), 2);
    delete(&mut rig, "a");
    assert_eq!(held(&rig), 1);
}
