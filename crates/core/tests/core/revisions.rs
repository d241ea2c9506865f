//! Revisions: equal views have equal revisions, whatever the order of the facts, and heartbeats change no revision.

use std::sync::Arc;

use proptest::prelude::*;
use rollcall_core::{
    fact::{Fact, StorePosition},
    slot::Source,
};
use rollcall_model::instance::{Health, Instance, State};

use crate::rig::{Rig, instance};

#[test]
fn heartbeat_changes_no_revision() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let before = rig.view();
    rig.time += 1000;
    let _ = rig.heartbeat("a");
    rig.annotate("a");
    assert_eq!(rig.view().revision, before.revision);
}

#[test]
fn visible_change_changes_the_revision() {
    let mut rig = Rig::new();
    let base = rig.put(instance("a"));
    let changes: [fn(&mut Instance); 6] = [
        |i| i.weight = 7,
        |i| i.state = State::Draining,
        |i| i.health = Health::Warning,
        |i| i.zone = Some("eu-1".into()),
        |i| i.version = Some("2".into()),
        |i| i.labels = Arc::new([("k".into(), "v".into())]),
    ];
    for change in changes {
        let before = rig.view().revision;
        let mut next = base.clone();
        change(&mut next);
        rig.put(next);
        assert_ne!(rig.view().revision, before);
    }
}

#[test]
fn removal_of_the_last_instance_removes_service_and_namespace() {
    let mut rig = Rig::new();
    let a = rig.put(instance("a"));
    assert!(rig.directory.has_namespace("shop"));
    rig.version += 1;
    rig.apply(Fact::Removed { key: a.key.clone(), uid: a.uid.clone(), index: rig.version });
    rig.settle();
    assert!(rig.directory.service("shop", "orders").is_none());
    assert!(!rig.directory.has_namespace("shop"));
}

/// One change to one of a few names.
#[derive(Clone, Debug)]
enum Change {
    Put { name: u8, weight: u16 },
    Delete { name: u8 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let put = (0..5u8, 0..3u16).prop_map(|(name, weight)| Change::Put { name, weight });
    let delete = (0..5u8).prop_map(|name| Change::Delete { name });
    prop::collection::vec(prop_oneof![3 => put, 1 => delete], 0..30)
}

/// The facts that a watch reports for these steps, the instances at the end, and the last version.
fn facts_of(changes: &[Change]) -> (Vec<Fact>, Vec<Instance>, u64) {
    let mut instances: Vec<Instance> = Vec::new();
    let mut facts = Vec::new();
    let mut version = 200;
    for change in changes {
        version += 1;
        match change {
            Change::Put { name, weight } => {
                let name = format!("i{name}");
                let known = instances.iter().position(|i| *i.key.name == *name);
                let mut next = known.map_or_else(|| instance(&name), |at| instances.remove(at));
                if known.is_none() {
                    next.uid = format!("{name}-{version}").into();
                }
                (next.weight, next.resource_version) = (*weight, version);
                instances.push(next.clone());
                facts.push(Fact::Upserted(Arc::new(next)));
            }
            Change::Delete { name } => {
                let name = format!("i{name}");
                let Some(at) = instances.iter().position(|i| *i.key.name == *name) else {
                    continue;
                };
                let gone = instances.remove(at);
                facts.push(Fact::Removed {
                    key: gone.key.clone(),
                    uid: gone.uid.clone(),
                    index: version,
                });
            }
        }
    }
    (facts, instances, version)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Three replicas show the same revisions: one followed every change, one lists at its start, and one
    /// missed the middle and lists again.
    #[test]
    fn relist_watch_and_restart_give_equal_revisions(changes in changes(), followed_until in 0..30usize) {
        let (facts, instances, version) = facts_of(&changes);
        let mut followed = Rig::new();
        facts.iter().for_each(|fact| followed.apply(fact.clone()));
        followed.settle();

        let mut fresh = Rig::unlisted();
        fresh.version = version;
        fresh.list(instances.clone());

        let mut relisted = Rig::new();
        facts.iter().take(followed_until).for_each(|fact| relisted.apply(fact.clone()));
        relisted.settle();
        relisted.version = version;
        relisted.list(instances);

        prop_assert_eq!(followed.shown(), fresh.shown());
        prop_assert_eq!(relisted.shown(), fresh.shown());
    }

    /// Responses to writes can be ahead of the watch or behind it, in any order. The result is the same.
    #[test]
    fn order_of_responses_and_watch_does_not_change_the_result(
        changes in changes(),
        answers in prop::collection::vec((0..30usize, 0..30usize), 0..10),
    ) {
        let (facts, _, _) = facts_of(&changes);
        let mut plain = Rig::new();
        let mut mixed = Rig::new();
        for (at, fact) in facts.iter().enumerate() {
            for (when, what) in &answers {
                if let (true, Some(Fact::Upserted(written))) = (*when == at, facts.get(*what)) {
                    mixed.apply(Fact::Written { instance: written.clone(), by: Source::Http, sent: StorePosition::default() });
                }
            }
            mixed.apply(fact.clone());
            plain.apply(fact.clone());
        }
        mixed.settle();
        plain.settle();
        prop_assert_eq!(mixed.shown(), plain.shown());
    }
}

/// The services whose subscribers the next round notifies.
fn changed_services(rig: &mut Rig) -> Vec<String> {
    let _ = rig.catalog.settle(rig.now(), 64);
    rig.catalog.take_revised().iter().map(ToString::to_string).collect()
}

/// Every heartbeat and every status write stores a new version of an instance. The unchanged facts are in
/// memory only once.
#[test]
fn view_and_record_share_unchanged_facts() {
    let mut rig = Rig::new();
    let first = rig.put(instance("a"));
    let view = rig.view();
    let facts = |rig: &Rig| rig.directory.slot("shop", "a").unwrap().record().facts.clone();
    // An object that a watch decodes has its own copy of the facts.
    let again = Instance { facts: Arc::new((*first.facts).clone()), ..rig.annotate("a") };
    rig.put(again);
    assert!(Arc::ptr_eq(&facts(&rig), &view.members[0].facts));
    assert!(Arc::ptr_eq(&view, &rig.view()), "readers keep the view that they have");
    rig.put(rig.record("a").with(|facts| facts.weight = 7));
    assert!(Arc::ptr_eq(&facts(&rig), &rig.view().members[0].facts));
    assert_eq!((view.members[0].facts.weight, rig.view().members[0].facts.weight), (100, 7));
}

#[test]
fn subscribers_are_notified_once_of_each_changed_service() {
    let mut rig = Rig::new();
    let base = rig.store(instance("a"));
    let ledger = instance("b").with(|facts| facts.service = "ledger".into());
    rig.store(ledger);
    let mut both = changed_services(&mut rig);
    both.sort_unstable();
    assert_eq!(both, ["shop/ledger", "shop/orders"]);
    assert_eq!(changed_services(&mut rig), [""; 0], "each change is reported once");
    rig.time += 1000;
    let _ = rig.heartbeat("a");
    let renewed = Instance { heartbeat: Some("second".into()), ..base.clone() };
    rig.store(renewed);
    assert_eq!(changed_services(&mut rig), [""; 0], "a heartbeat is not a change");
    rig.store(base.clone().with(|facts| facts.weight = 7));
    assert_eq!(changed_services(&mut rig), ["shop/orders"]);
    rig.store(base.clone().with(|facts| facts.weight = 8));
    rig.store(base.clone().with(|facts| facts.weight = 7));
    assert_eq!(changed_services(&mut rig), [""; 0], "changed and changed back within one round");
    rig.version += 1;
    rig.apply(Fact::Removed { key: base.key.clone(), uid: base.uid.clone(), index: rig.version });
    assert_eq!(changed_services(&mut rig), ["shop/orders"], "the instance was removed");
}
