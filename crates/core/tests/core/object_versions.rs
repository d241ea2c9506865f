//! Versions and uids: an old version changes nothing, and a deleted object stays deleted.

use std::sync::Arc;

use rollcall_core::{
    directory::Heartbeat,
    fact::{Fact, StorePosition},
    slot::Source,
};
use rollcall_model::instance::Instance;

use crate::rig::{Rig, instance, lease};

#[test]
fn late_old_version_changes_nothing() {
    let mut rig = Rig::new();
    let old = rig.put(instance("a"));
    let mut new = old.clone();
    new.weight = 7;
    let new = rig.put(new);
    let before = rig.view().revision;
    rig.apply(Fact::Upserted(Arc::new(old.clone())));
    rig.apply(Fact::Written {
        instance: Arc::new(old),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    rig.settle();
    assert_eq!(rig.view().revision, before);
    assert_eq!(rig.record("a"), new);
}

#[test]
fn late_old_version_is_not_a_heartbeat() {
    let mut rig = Rig::new();
    let old = rig.put(instance("a"));
    rig.annotate("a");
    let beat = rig.directory.slot("shop", "a").unwrap().last_heartbeat();
    rig.advance(3.0);
    rig.apply(Fact::Upserted(Arc::new(old)));
    assert_eq!(rig.directory.slot("shop", "a").unwrap().last_heartbeat(), beat);
}

#[test]
fn recreated_name_is_another_instance() {
    let mut rig = Rig::new();
    let first = rig.put(instance("a"));
    rig.advance(9.0);
    let mut second = first.clone();
    second.uid = "another".into();
    // The creation can be observed although the removal was missed.
    let second = rig.put(second);
    assert_eq!(rig.record("a").uid, second.uid);
    rig.apply(Fact::Removed { key: first.key.clone(), uid: first.uid.clone(), index: rig.version });
    rig.settle();
    assert_eq!(
        rig.directory.len(),
        2,
        "the late removal of the first object does not remove the second"
    );
    let old = rig.directory.heartbeat("shop", "a", Some("uid-a"), None, rig.now().moment);
    assert!(matches!(old, Heartbeat::OtherUid(uid) if *uid == *"another"));
}

#[test]
fn own_deletion_is_not_undone_by_an_older_version() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.apply(Fact::Deleted { key: a.key.clone(), uid: a.uid.clone() });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    rig.put(a.clone());
    rig.apply(Fact::Written {
        instance: Arc::new(a.clone()),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    // The name can be used again.
    let mut next = a;
    next.uid = "another".into();
    rig.put(next);
    assert!(rig.phase("a").is_some());
}

#[test]
fn response_after_an_observed_removal_restores_nothing() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.version += 1;
    rig.apply(Fact::Removed { key: a.key.clone(), uid: a.uid.clone(), index: rig.version });
    rig.apply(Fact::Written {
        instance: Arc::new(a),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
}

#[test]
fn list_keeps_later_writes_and_drops_missing_objects() {
    let mut rig = Rig::new();
    let old = rig.put(instance("old"));
    let mut new = instance("new");
    new.resource_version = rig.version + 10;
    rig.apply(Fact::Written {
        instance: Arc::new(new),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    rig.list(Vec::new());
    assert_eq!(rig.phase("old"), None, "{:?} was not in the list", old.key);
    assert!(rig.phase("new").is_some());
}

#[test]
fn index_never_decreases_and_is_never_ahead_of_the_watch() {
    let mut rig = Rig::new();
    rig.apply(Fact::Progress { index: 500 });
    rig.settle();
    assert_eq!(rig.directory.index(), 500);
    let mut a = instance("a");
    a.resource_version = 900;
    rig.apply(Fact::Written {
        instance: Arc::new(a),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    rig.apply(Fact::Progress { index: 400 });
    rig.settle();
    assert_eq!(rig.directory.index(), 500);
}

#[test]
fn list_begun_before_a_deletion_restores_nothing_and_the_next_list_counts() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.apply(Fact::Deleted { key: a.key.clone(), uid: a.uid.clone() });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    rig.list(vec![a.clone()]);
    assert_eq!(rig.phase("a"), None, "the list can have begun before the deletion");
    rig.list(vec![a]);
    assert!(rig.phase("a").is_some(), "the object was never deleted");
}

#[test]
fn removal_is_awaited_until_the_index_covers_it() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    let deleted = Fact::Deleted { key: a.key.clone(), uid: a.uid.clone() };
    rig.apply(deleted.clone());
    rig.settle();
    let index = rig.directory.index();
    assert!(rig.directory.awaits_removal(&a.uid));
    rig.list(vec![a.clone()]);
    assert!(rig.directory.awaits_removal(&a.uid), "the list is older");
    let removal = index + 7;
    rig.apply(Fact::Removed { key: a.key.clone(), uid: a.uid.clone(), index: removal });
    assert!(rig.directory.awaits_removal(&a.uid), "readers do not see the removal yet");
    rig.settle();
    assert!(!rig.directory.awaits_removal(&a.uid) && rig.directory.index() >= removal);
    rig.apply(deleted);
    rig.settle();
    assert!(!rig.directory.awaits_removal(&a.uid), "the watch was faster than the response");
}

#[test]
fn list_without_the_object_covers_its_removal_unless_it_is_older() {
    let mut rig = Rig::new();
    let a = Arc::new(Instance { resource_version: rig.version + 10, ..instance("a") });
    let (by, sent) = (Source::Http, StorePosition::default());
    rig.apply(Fact::Written { instance: a.clone(), by, sent });
    rig.apply(Fact::Deleted { key: a.key.clone(), uid: a.uid.clone() });
    rig.apply(Fact::Listed { instances: Vec::new(), index: a.resource_version - 1 });
    rig.settle();
    assert!(rig.directory.awaits_removal(&a.uid));
    rig.apply(Fact::Listed { instances: Vec::new(), index: a.resource_version + 1 });
    rig.settle();
    assert!(!rig.directory.awaits_removal(&a.uid));
}

#[test]
fn newest_version_covers_own_writes_before_the_watch_reports_them() {
    let mut rig = Rig::new();
    let mut a = instance("a");
    a.resource_version = 900;
    rig.apply(Fact::Written {
        instance: Arc::new(a),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    rig.settle();
    assert!(rig.directory.index() < 900);
    assert_eq!(rig.directory.newest(), 900);
    rig.apply(Fact::Progress { index: 1_000 });
    rig.settle();
    assert_eq!(rig.directory.newest(), 1_000);
}

#[test]
fn heartbeat_source_is_reported() {
    let mut rig = Rig::new();
    let mut a = rig.put(instance("a"));
    rig.advance(1.0);
    rig.annotate("a");
    assert_eq!(rig.directory.slot("shop", "a").unwrap().source(), Source::Annotation);
    rig.advance(1.0);
    a.heartbeat = Some("written by us".into());
    rig.version += 1;
    a.resource_version = rig.version;
    rig.apply(Fact::Written {
        instance: Arc::new(a),
        by: Source::Http,
        sent: StorePosition::default(),
    });
    assert_eq!(rig.directory.slot("shop", "a").unwrap().source(), Source::Http);
    assert_eq!(
        rig.catalog.counts().annotation_heartbeats,
        1,
        "neither the HTTP heartbeat nor the self-beat counts as an annotation heartbeat"
    );
}

fn source(rig: &Rig) -> Source {
    rig.directory.slot("shop", "a").unwrap().source()
}

#[test]
fn source_is_start_for_the_first_list_and_creation_for_later_objects() {
    let mut rig = Rig::unlisted();
    rig.list(vec![instance("a")]);
    assert_eq!(source(&rig), Source::Start);
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert_eq!(source(&rig), Source::Creation);
    rig.advance(1.0);
    let _ = rig.heartbeat("a");
    assert_eq!(source(&rig), Source::Http);
    let mut next = rig.record("a");
    next.lease = lease(20);
    rig.put(next);
    assert_eq!(source(&rig), Source::Terms);
}

#[test]
fn registration_is_the_source_whether_response_or_watch_comes_first() {
    let registered = |rig: &mut Rig, a: &Instance| {
        rig.apply(Fact::Written {
            instance: Arc::new(a.clone()),
            by: Source::Registration,
            sent: StorePosition::default(),
        });
    };
    let mut rig = Rig::new();
    let mut a = instance("a");
    a.resource_version = rig.version + 1;
    registered(&mut rig, &a);
    assert_eq!(source(&rig), Source::Registration);
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    registered(&mut rig, &a);
    assert_eq!(source(&rig), Source::Registration);
    // The last heartbeat is still the one that came after the registration.
    rig.advance(1.0);
    let _ = rig.heartbeat("a");
    registered(&mut rig, &a);
    assert_eq!(source(&rig), Source::Http);
    rig.annotate("a");
    registered(&mut rig, &a);
    assert_eq!(source(&rig), Source::Annotation);
}
