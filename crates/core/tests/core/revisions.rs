//! Revisions: the same for the same answer, whatever came in which order, and blind to beats.

use std::sync::Arc;

use proptest::prelude::*;
use rollcall_core::{
    fact::{Fact, Sent},
    slot::Source,
};
use rollcall_model::instance::{Health, Instance, State};

use crate::rig::{Rig, instance};

#[test]
fn a_beat_by_http_or_annotation_changes_no_revision_and_no_member_but_its_record() {
    let mut rig = Rig::new();
    rig.put(instance("a"));
    let before = rig.view();
    rig.time += 1000;
    let _ = rig.beat("a");
    rig.annotate("a");
    assert_eq!(rig.view().revision, before.revision);
}

#[test]
fn whatever_readers_see_changes_the_revision() {
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
fn the_last_instance_takes_its_service_and_namespace_along() {
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
enum Step {
    Put { name: u8, weight: u16 },
    Delete { name: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = (0..5u8, 0..3u16).prop_map(|(name, weight)| Step::Put { name, weight });
    let delete = (0..5u8).prop_map(|name| Step::Delete { name });
    prop::collection::vec(prop_oneof![3 => put, 1 => delete], 0..30)
}

/// The facts of these steps, as a watch tells them, and what is there at the end.
fn history(steps: &[Step]) -> (Vec<Fact>, Vec<Instance>, u64) {
    let mut there: Vec<Instance> = Vec::new();
    let mut facts = Vec::new();
    let mut version = 200;
    for step in steps {
        version += 1;
        match step {
            Step::Put { name, weight } => {
                let name = format!("i{name}");
                let known = there.iter().position(|i| *i.key.name == *name);
                let mut next = known.map_or_else(|| instance(&name), |at| there.remove(at));
                if known.is_none() {
                    next.uid = format!("{name}-{version}").into();
                }
                (next.weight, next.resource_version) = (*weight, version);
                there.push(next.clone());
                facts.push(Fact::Upserted(Arc::new(next)));
            }
            Step::Delete { name } => {
                let name = format!("i{name}");
                let Some(at) = there.iter().position(|i| *i.key.name == *name) else { continue };
                let gone = there.remove(at);
                facts.push(Fact::Removed {
                    key: gone.key.clone(),
                    uid: gone.uid.clone(),
                    index: version,
                });
            }
        }
    }
    (facts, there, version)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A replica that followed everything, one that lists afresh, and one that missed the middle
    /// and lists again all show the same.
    #[test]
    fn a_relist_shows_what_following_and_a_fresh_start_show(steps in steps(), seen in 0..30usize) {
        let (facts, there, version) = history(&steps);
        let mut followed = Rig::new();
        facts.iter().for_each(|fact| followed.apply(fact.clone()));
        followed.settle();

        let mut fresh = Rig::unlisted();
        fresh.version = version;
        fresh.list(there.clone());

        let mut relisted = Rig::new();
        facts.iter().take(seen).for_each(|fact| relisted.apply(fact.clone()));
        relisted.settle();
        relisted.version = version;
        relisted.list(there);

        prop_assert_eq!(followed.shown(), fresh.shown());
        prop_assert_eq!(relisted.shown(), fresh.shown());
    }

    /// Answers to writes may overtake the watch or come late, in any order: the end is the same.
    #[test]
    fn answers_ahead_of_the_watch_or_behind_it_change_nothing_in_the_end(
        steps in steps(),
        answers in prop::collection::vec((0..30usize, 0..30usize), 0..10),
    ) {
        let (facts, _, _) = history(&steps);
        let mut plain = Rig::new();
        let mut mixed = Rig::new();
        for (at, fact) in facts.iter().enumerate() {
            for (when, what) in &answers {
                if let (true, Some(Fact::Upserted(written))) = (*when == at, facts.get(*what)) {
                    mixed.apply(Fact::Written { instance: written.clone(), by: Source::Http, sent: Sent::default() });
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

/// What the next round tells those who wait.
fn revised(rig: &mut Rig) -> Vec<String> {
    let _ = rig.catalog.settle(rig.now(), 64);
    rig.catalog.take_revised().iter().map(ToString::to_string).collect()
}

/// An instance is stored anew with every beat and every status: what it shows is in memory once.
#[test]
fn what_stays_the_same_is_shared_by_the_view_and_the_newest_record() {
    let mut rig = Rig::new();
    let first = rig.put(instance("a"));
    let view = rig.view();
    let facts = |rig: &Rig| rig.directory.slot("shop", "a").unwrap().record().facts.clone();
    // As it comes over the wire: with facts of its own.
    let again = Instance { facts: Arc::new((*first.facts).clone()), ..rig.annotate("a") };
    rig.put(again);
    assert!(Arc::ptr_eq(&facts(&rig), &view.members[0].facts));
    assert!(Arc::ptr_eq(&view, &rig.view()), "readers go on with what they have");
    rig.put(rig.record("a").with(|facts| facts.weight = 7));
    assert!(Arc::ptr_eq(&facts(&rig), &rig.view().members[0].facts));
    assert_eq!((view.members[0].facts.weight, rig.view().members[0].facts.weight), (100, 7));
}

#[test]
fn who_waits_is_told_of_services_that_look_different_once_and_of_no_other() {
    let mut rig = Rig::new();
    let base = rig.store(instance("a"));
    let ledger = instance("b").with(|facts| facts.service = "ledger".into());
    rig.store(ledger);
    let mut both = revised(&mut rig);
    both.sort_unstable();
    assert_eq!(both, ["shop/ledger", "shop/orders"]);
    assert_eq!(revised(&mut rig), [""; 0], "once");
    rig.time += 1000;
    let _ = rig.beat("a");
    let beaten = Instance { heartbeat: Some("second".into()), ..base.clone() };
    rig.store(beaten);
    assert_eq!(revised(&mut rig), [""; 0], "a beat is no change");
    rig.store(base.clone().with(|facts| facts.weight = 7));
    assert_eq!(revised(&mut rig), ["shop/orders"]);
    rig.store(base.clone().with(|facts| facts.weight = 8));
    rig.store(base.clone().with(|facts| facts.weight = 7));
    assert_eq!(revised(&mut rig), [""; 0], "there and back within a round");
    rig.version += 1;
    rig.apply(Fact::Removed { key: base.key.clone(), uid: base.uid.clone(), index: rig.version });
    assert_eq!(revised(&mut rig), ["shop/orders"], "it went");
}
