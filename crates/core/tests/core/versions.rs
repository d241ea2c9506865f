//! Versions and incarnations: what is old does no harm, what is gone stays gone.

use std::sync::Arc;

use rollcall_core::{
    directory::Heartbeat,
    fact::{Fact, Sent},
    slot::Source,
};
use rollcall_model::instance::Instance;

use crate::rig::{Rig, instance, lease};

#[test]
fn an_old_version_that_comes_late_changes_nothing() {
    let mut rig = Rig::new();
    let old = rig.put(instance("a"));
    let mut new = old.clone();
    new.weight = 7;
    let new = rig.put(new);
    let before = rig.view().revision;
    rig.apply(Fact::Upserted(Arc::new(old.clone())));
    rig.apply(Fact::Written { instance: Arc::new(old), by: Source::Http, sent: Sent::default() });
    rig.settle();
    assert_eq!(rig.view().revision, before);
    assert_eq!(rig.record("a"), new);
}

#[test]
fn an_old_version_is_no_beat() {
    let mut rig = Rig::new();
    let old = rig.put(instance("a"));
    rig.annotate("a");
    let beat = rig.directory.slot("shop", "a").unwrap().last_heartbeat();
    rig.pass(3.0);
    rig.apply(Fact::Upserted(Arc::new(old)));
    assert_eq!(rig.directory.slot("shop", "a").unwrap().last_heartbeat(), beat);
}

#[test]
fn a_name_that_is_created_anew_is_another_instance() {
    let mut rig = Rig::new();
    let first = rig.put(instance("a"));
    rig.pass(9.0);
    let mut second = first.clone();
    second.uid = "another".into();
    // Its creation may be seen though the removal was missed.
    let second = rig.put(second);
    assert_eq!(rig.record("a").uid, second.uid);
    rig.apply(Fact::Removed { key: first.key.clone(), uid: first.uid.clone(), index: rig.version });
    rig.settle();
    assert_eq!(rig.directory.len(), 2, "the late removal of the first takes the second not along");
    let old = rig.directory.heartbeat("shop", "a", Some("uid-a"), None, rig.now().moment);
    assert!(matches!(old, Heartbeat::OtherUid(uid) if *uid == *"another"));
}

#[test]
fn what_we_deleted_does_not_come_back_by_an_older_version() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.apply(Fact::Deleted { key: a.key.clone(), uid: a.uid.clone() });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    rig.put(a.clone());
    rig.apply(Fact::Written {
        instance: Arc::new(a.clone()),
        by: Source::Http,
        sent: Sent::default(),
    });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    // The name itself is free.
    let mut next = a;
    next.uid = "another".into();
    rig.put(next);
    assert!(rig.phase("a").is_some());
}

#[test]
fn an_answer_that_comes_after_the_removal_was_seen_brings_nobody_back() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.version += 1;
    rig.apply(Fact::Removed { key: a.key.clone(), uid: a.uid.clone(), index: rig.version });
    rig.apply(Fact::Written { instance: Arc::new(a), by: Source::Http, sent: Sent::default() });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
}

#[test]
fn a_list_keeps_what_was_written_after_it_and_drops_what_it_lacks() {
    let mut rig = Rig::new();
    let old = rig.put(instance("old"));
    let mut new = instance("new");
    new.resource_version = rig.version + 10;
    rig.apply(Fact::Written { instance: Arc::new(new), by: Source::Http, sent: Sent::default() });
    rig.list(Vec::new());
    assert_eq!(rig.phase("old"), None, "{:?} was not in the list", old.key);
    assert!(rig.phase("new").is_some());
}

#[test]
fn the_index_never_goes_back_and_is_never_ahead_of_the_watch() {
    let mut rig = Rig::new();
    rig.apply(Fact::Progress { index: 500 });
    rig.settle();
    assert_eq!(rig.directory.index(), 500);
    let mut a = instance("a");
    a.resource_version = 900;
    rig.apply(Fact::Written { instance: Arc::new(a), by: Source::Http, sent: Sent::default() });
    rig.apply(Fact::Progress { index: 400 });
    rig.settle();
    assert_eq!(rig.directory.index(), 500);
}

#[test]
fn a_list_that_began_before_a_deletion_brings_nothing_back_and_the_next_is_the_truth() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    rig.apply(Fact::Deleted { key: a.key.clone(), uid: a.uid.clone() });
    rig.settle();
    assert_eq!(rig.phase("a"), None);
    rig.list(vec![a.clone()]);
    assert_eq!(rig.phase("a"), None, "the list may have begun before");
    rig.list(vec![a]);
    assert!(rig.phase("a").is_some(), "it was never gone");
}

#[test]
fn a_removal_is_awaited_until_the_index_covers_it() {
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
    assert!(rig.directory.awaits_removal(&a.uid), "readers do not see it yet");
    rig.settle();
    assert!(!rig.directory.awaits_removal(&a.uid) && rig.directory.index() >= removal);
    rig.apply(deleted);
    rig.settle();
    assert!(!rig.directory.awaits_removal(&a.uid), "the watch was quicker than the answer");
}

#[test]
fn a_list_without_it_covers_a_removal_unless_it_is_older_than_the_object() {
    let mut rig = Rig::new();
    let a = Arc::new(Instance { resource_version: rig.version + 10, ..instance("a") });
    let (by, sent) = (Source::Http, Sent::default());
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
fn the_newest_version_covers_what_this_replica_wrote_before_the_watch_brings_it() {
    let mut rig = Rig::new();
    let mut a = instance("a");
    a.resource_version = 900;
    rig.apply(Fact::Written { instance: Arc::new(a), by: Source::Http, sent: Sent::default() });
    rig.settle();
    assert!(rig.directory.index() < 900);
    assert_eq!(rig.directory.newest(), 900);
    rig.apply(Fact::Progress { index: 1_000 });
    rig.settle();
    assert_eq!(rig.directory.newest(), 1_000);
}

#[test]
fn a_beat_is_told_by_the_way_it_came() {
    let mut rig = Rig::new();
    let mut a = rig.put(instance("a"));
    rig.pass(1.0);
    rig.annotate("a");
    assert_eq!(rig.directory.slot("shop", "a").unwrap().source(), Source::Annotation);
    rig.pass(1.0);
    a.heartbeat = Some("written by us".into());
    rig.version += 1;
    a.resource_version = rig.version;
    rig.apply(Fact::Written { instance: Arc::new(a), by: Source::Http, sent: Sent::default() });
    assert_eq!(rig.directory.slot("shop", "a").unwrap().source(), Source::Http);
    assert_eq!(rig.catalog.counts().annotation_beats, 1, "neither that one nor our own");
}

fn source(rig: &Rig) -> Source {
    rig.directory.slot("shop", "a").unwrap().source()
}

#[test]
fn who_is_in_the_first_list_was_heard_at_the_start_and_who_comes_later_at_its_creation() {
    let mut rig = Rig::unlisted();
    rig.list(vec![instance("a")]);
    assert_eq!(source(&rig), Source::Start);
    let mut rig = Rig::new();
    rig.put(instance("a"));
    assert_eq!(source(&rig), Source::Creation);
    rig.pass(1.0);
    let _ = rig.beat("a");
    assert_eq!(source(&rig), Source::Http);
    let mut next = rig.record("a");
    next.lease = lease(20);
    rig.put(next);
    assert_eq!(source(&rig), Source::Terms);
}

#[test]
fn a_registration_is_told_as_such_whether_its_answer_or_the_watch_comes_first() {
    let registered = |rig: &mut Rig, a: &Instance| {
        rig.apply(Fact::Written {
            instance: Arc::new(a.clone()),
            by: Source::Registration,
            sent: Sent::default(),
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
    // A beat since then stays the last one.
    rig.pass(1.0);
    let _ = rig.beat("a");
    registered(&mut rig, &a);
    assert_eq!(source(&rig), Source::Http);
    rig.annotate("a");
    registered(&mut rig, &a);
    assert_eq!(source(&rig), Source::Annotation);
}
