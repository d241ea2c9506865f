//! Selection and order: which instances a filter selects, and how often each comes first.

use std::{collections::BTreeMap, sync::Arc};

use rollcall_model::{
    instance::Instance,
    select::{Filter, Order},
    view::{Member, View},
};

use crate::rig::{Rig, instance};

fn view(instances: Vec<Instance>) -> Arc<View> {
    let mut rig = Rig::unlisted();
    rig.list(instances);
    rig.view()
}

fn weighted(name: &str, weight: u16) -> Instance {
    let mut object = instance(name);
    object.weight = weight;
    object
}

fn names(members: &[&Arc<Member>]) -> Vec<String> {
    members.iter().map(|member| member.facts.key.name.to_string()).collect()
}

#[test]
fn first_place_follows_the_weights() {
    let weights = [("a", 1u32), ("b", 2), ("c", 3), ("d", 10)];
    let all = weights.iter().map(|(name, weight)| weighted(name, *weight as u16)).collect();
    let view = view(all);
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    let draws = 40_000u64;
    for seed in 0..draws {
        let mut members = Filter::default().apply(&view);
        Order::Weighted.arrange(&mut members, seed);
        *first.entry(names(&members)[0].clone()).or_default() += 1;
    }
    let chi: f64 = weights
        .iter()
        .map(|(name, weight)| {
            let expected = draws as f64 * f64::from(*weight) / 16.0;
            (f64::from(first[*name]) - expected).powi(2) / expected
        })
        .sum();
    // Three degrees of freedom: a value above 21.1 has a probability of 1 in 10,000, and the seeds are fixed.
    assert!(chi < 21.1, "chi² {chi}: {first:?}");
}

#[test]
fn equal_weights_give_every_order_equally_often() {
    let view = view(["a", "b", "c"].map(|name| weighted(name, 100)).into());
    let mut orders: BTreeMap<Vec<String>, u32> = BTreeMap::new();
    for seed in 0..12_000 {
        let mut members = Filter::default().apply(&view);
        Order::Weighted.arrange(&mut members, seed);
        *orders.entry(names(&members)).or_default() += 1;
    }
    assert_eq!(orders.len(), 6);
    let chi: f64 = orders.values().map(|n| (f64::from(*n) - 2000.0).powi(2) / 2000.0).sum();
    // Five degrees of freedom.
    assert!(chi < 25.7, "chi² {chi}: {orders:?}");
}

#[test]
fn weight_zero_is_the_last_resort_and_priority_comes_before_weight() {
    let mut backup = weighted("backup", 65_535);
    backup.priority = 1;
    let view = view(vec![weighted("a", 1), weighted("z", 0), backup]);
    for seed in 0..1000 {
        let mut members = Filter::default().apply(&view);
        Order::Weighted.arrange(&mut members, seed);
        assert_eq!(names(&members), ["a", "z", "backup"]);
    }
}

#[test]
fn round_robin_puts_each_instance_of_the_best_priority_first_equally_often() {
    let mut backup = instance("backup");
    backup.priority = 1;
    let view = view(vec![instance("a"), instance("b"), instance("c"), backup]);
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..300 {
        let mut members = Filter::default().apply(&view);
        Order::RoundRobin.arrange(&mut members, seed);
        *first.entry(names(&members)[0].clone()).or_default() += 1;
        assert_eq!(names(&members)[3], "backup");
    }
    assert_eq!(first, ["a", "b", "c"].map(|name| (name.to_owned(), 100)).into());
}

#[test]
fn near_prefers_a_zone_and_falls_back_to_all_while_a_zone_pins() {
    let mut here = instance("here");
    here.zone = Some("eu-1a".into());
    let view = view(vec![here, instance("there")]);
    let near = |zone: &str| Filter { near: Some(zone.into()), ..Filter::default() };
    let pinned = |zone: &str| Filter { zone: Some(zone.into()), ..Filter::default() };
    assert_eq!(names(&near("eu-1a").apply(&view)), ["here"]);
    assert_eq!(names(&near("us-1").apply(&view)), ["here", "there"]);
    assert_eq!(names(&pinned("eu-1a").apply(&view)), ["here"]);
    assert!(pinned("us-1").apply(&view).is_empty());
}

#[test]
fn near_considers_only_instances_that_match_the_other_filters() {
    let mut here = instance("here");
    (here.zone, here.version) = (Some("eu-1a".into()), Some("1".into()));
    let mut there = instance("there");
    there.version = Some("2".into());
    let view = view(vec![here, there]);
    let filter =
        Filter { near: Some("eu-1a".into()), version: Some("2".into()), ..Filter::default() };
    assert_eq!(names(&filter.apply(&view)), ["there"]);
}

#[test]
fn filter_requires_all_tags_and_accepts_dns_spelling() {
    let mut object = instance("one");
    object.tags = Arc::new(["Blue".into(), "v2.1".into()]);
    let view = view(vec![object]);
    let tags = |tags: &[&str]| Filter {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Filter::default()
    };
    assert_eq!(tags(&["Blue", "v2-1"]).apply(&view).len(), 1);
    assert_eq!(tags(&["blue", "v2.1"]).apply(&view).len(), 1);
    assert!(tags(&["Blue", "green"]).apply(&view).is_empty());
}
