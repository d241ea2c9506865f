//! What is said to whom: rules that are ours to choose, and where they touch an RFC.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use super::super::world::{World, instance};
use super::{COOKIE, Wire, ask, hold, orders, soa, told, world};
use crate::dns::limit::Limits;
use crate::dns::respond::Outcome;

const A: u16 = 1;
const SRV: u16 = 33;

fn crowd(count: usize) -> Vec<rollcall_model::instance::Instance> {
    (0..count).map(|i| instance("crowd", &format!("c{i}"), &[&format!("10.0.0.{i}")])).collect()
}

/// The same query with the cookie that the world gives for it.
fn known(world: &World, query: &Wire) -> Wire {
    let given = query.clone().edns(&[(COOKIE, b"8 octets")]).message(world).edns.unwrap();
    let cookie = Vec::<u8>::try_from(&given.options().as_ref()[0].1).unwrap();
    query.clone().edns(&[(COOKIE, &cookie)])
}

#[test]
fn a_stranger_has_as_much_as_is_chosen_and_who_shows_a_cookie_all_that_he_takes() {
    let world = World::of(crowd(60)).settings(|settings| settings.cookieless = 512);
    let query = ask("crowd.shop", A);
    // 60 × 16 octets; 512 - 49 - 11 hold 28 of them, 28 octets of a cookie take two.
    hold(
        &world,
        &[
            ("no EDNS", query.clone(), "NOERROR aa tc 1/28/0/0"),
            ("EDNS", query.clone().edns(&[]), "NOERROR aa tc 1/28/0/0 opt"),
            (
                "a new one",
                query.clone().edns(&[(COOKIE, b"8 octets")]),
                "NOERROR aa tc 1/26/0/0 opt cookie/24",
            ),
            (
                "a bad one",
                query.clone().edns(&[(COOKIE, &[7; 24])]),
                "NOERROR aa tc 1/26/0/0 opt cookie/24",
            ),
            ("a good one", known(&world, &query), "NOERROR aa 1/60/0/0 opt cookie/24"),
            ("over TCP", query.tcp(), "NOERROR aa 1/60/0/0"),
        ],
    );
}

#[test]
fn too_many_denials_are_cut_to_nothing_but_for_those_who_are_no_liars() {
    // One a second, two at once.
    let world = World::of(orders()).limits(Limits::new(1, 7));
    let wrong = ask("none.shop", A).edns(&[(COOKIE, b"8 octets")]);
    let nothing = "NXDOMAIN aa 1/0/1/0 opt cookie/24";
    let given: Vec<_> = (0..6).map(|_| told(&wrong, &wrong.put_to(&world))).collect();
    // 7873 §5.2.3: the cookie is told, with which the next one is spared.
    let slip = "NOERROR tc 1/0/0/0 opt cookie/24";
    assert_eq!(given, [nothing, nothing, slip, slip, slip, slip]);
    hold(
        &world,
        &[
            ("records are what we are here for", ask("orders.shop", A), "NOERROR aa 1/2/0/0"),
            (
                "so is that a name has no such type",
                ask("orders.shop", 16_u16),
                "NOERROR aa 1/0/1/0",
            ),
            ("over TCP", ask("none.shop", A).tcp(), "NXDOMAIN aa 1/0/1/0"),
            (
                "with a good cookie",
                known(&world, &ask("orders.shop", A)),
                "NOERROR aa 1/2/0/0 opt cookie/24",
            ),
        ],
    );
    let known = ask("none.shop", A).edns(&[(COOKIE, &cookie_of(&world))]);
    for _ in 0..10 {
        assert_eq!(told(&known, &known.put_to(&world)), nothing);
    }
    let elsewhere = "REFUSED 1/0/0/0";
    let mut other = world;
    other.from = "198.51.100.1".parse().unwrap();
    hold(&other, &[("another network has its own", ask("example.com.", A), elsewhere)]);
}

fn cookie_of(world: &World) -> Vec<u8> {
    let given = soa().edns(&[(COOKIE, b"8 octets")]).message(world).edns.unwrap();
    Vec::<u8>::try_from(&given.options().as_ref()[0].1).unwrap()
}

#[test]
fn who_may_not_ask_is_refused_whatever_he_asks() {
    let world =
        world().settings(|settings| settings.allow = vec!["198.51.100.0/24".parse().unwrap()]);
    hold(
        &world,
        &[
            ("ours", ask("orders.shop", A), "REFUSED 1/0/0/0"),
            ("over TCP", soa().tcp(), "REFUSED 1/0/0/0"),
            ("a transfer", ask("rollcall.internal.", 252_u16).tcp(), "REFUSED 1/0/0/0"),
            ("what is wrong", soa().counts([2, 0, 0, 0]), "REFUSED 0/0/0/0"),
            ("a response is still none", soa().flags(0x8000), "silence"),
        ],
    );
}

/// The targets of an answer, without their order.
fn targets(world: &World) -> HashSet<String> {
    let message = ask("crowd.shop", SRV).tcp().message(world);
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn where_there_is_a_ceiling_a_client_keeps_its_part_for_a_minute_while_others_come_and_go() {
    let ceiling = |count: usize| {
        World::of(crowd(count)).settings(|settings| settings.ceiling = NonZeroUsize::new(5))
    };
    let mut world = ceiling(50);
    let first = targets(&world);
    assert_eq!(first.len(), 5);
    for seed in 0..20 {
        world.seed = seed;
        assert_eq!(targets(&world), first, "only the order is random");
    }
    // One more can push out one at most, and one less lets in one at most.
    for count in [49, 51] {
        assert!(targets(&ceiling(count)).intersection(&first).count() >= 4, "{count}");
    }
    let same = (0..60_000).step_by(1000).filter(|later| {
        world.now.0 = super::super::world::START.0 + later;
        targets(&world) == first
    });
    let same = same.count();
    world.now.0 = super::super::world::START.0;
    // The minute that was under way, and nothing of the next one.
    assert!((1..=60).contains(&same), "{same}");
    world.now.0 += 60_000;
    assert_ne!(targets(&world), first, "a minute later");
    world.now.0 -= 60_000;
    let others = (0..50).flat_map(|client| {
        world.from = [192, 0, 2, client].into();
        targets(&world)
    });
    let others: HashSet<_> = others.collect();
    assert!(others.len() > 45, "all are somebody's: {}", others.len());
    // Below it everybody is there.
    assert_eq!(targets(&ceiling(3)).len(), 3);
    assert!(
        matches!(ask("crowd.shop", SRV).put_to(&ceiling(50)), Outcome::Reply(_, said) if !said.truncated)
    );
}
