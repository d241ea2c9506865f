//! Access, size and rate limits: rules that no RFC requires, and their effect on rules that an RFC requires.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use super::super::world::{World, instance};
use super::{COOKIE, RawQuery, ask, assert_rows, describe, orders, soa, world};
use crate::dns::limit::ErrorLimits;
use crate::dns::respond::Response;

const A: u16 = 1;
const SRV: u16 = 33;

fn many(count: usize) -> Vec<rollcall_model::instance::Instance> {
    (0..count).map(|i| instance("many", &format!("c{i}"), &[&format!("10.0.0.{i}")])).collect()
}

/// Adds a good cookie to a query.
fn with_good_cookie(world: &World, query: &RawQuery) -> RawQuery {
    let opt = query.clone().edns(&[(COOKIE, b"clientid")]).message(world).edns.unwrap();
    let cookie = Vec::<u8>::try_from(&opt.options().as_ref()[0].1).unwrap();
    query.clone().edns(&[(COOKIE, &cookie)])
}

#[test]
fn cookieless_size_limits_udp_answers_without_a_good_cookie() {
    let world = World::with_instances(many(60)).with_settings(|settings| settings.cookieless = 512);
    let query = ask("many.shop", A);
    // 60 × 16 bytes. 512 - 49 - 11 has space for 28 records; a cookie of 28 bytes displaces two.
    assert_rows(
        &world,
        &[
            ("no EDNS", query.clone(), "NOERROR aa tc 1/28/0/0"),
            ("EDNS", query.clone().edns(&[]), "NOERROR aa tc 1/28/0/0 opt"),
            (
                "a client cookie alone",
                query.clone().edns(&[(COOKIE, b"clientid")]),
                "NOERROR aa tc 1/26/0/0 opt cookie/24",
            ),
            (
                "a bad cookie",
                query.clone().edns(&[(COOKIE, &[7; 24])]),
                "NOERROR aa tc 1/26/0/0 opt cookie/24",
            ),
            (
                "a good cookie",
                with_good_cookie(&world, &query),
                "NOERROR aa 1/60/0/0 opt cookie/24",
            ),
            ("over TCP", query.tcp(), "NOERROR aa 1/60/0/0"),
        ],
    );
}

#[test]
fn rate_limit_truncates_nxdomain_and_exempts_tcp_and_good_cookies() {
    // One response a second, and a burst of two.
    let world = World::with_instances(orders()).with_limits(ErrorLimits::new(1, 7));
    let missing = ask("none.shop", A).edns(&[(COOKIE, b"clientid")]);
    let denied = "NXDOMAIN aa 1/0/1/0 opt cookie/24";
    let responses: Vec<_> = (0..6).map(|_| describe(&missing, &missing.send_to(&world))).collect();
    // 7873 §5.2.3: a truncated response has the cookie that exempts the next query.
    let slip = "NOERROR tc 1/0/0/0 opt cookie/24";
    assert_eq!(responses, [denied, denied, slip, slip, slip, slip]);
    assert_rows(
        &world,
        &[
            ("answers with records are exempt", ask("orders.shop", A), "NOERROR aa 1/2/0/0"),
            ("NODATA is exempt", ask("orders.shop", 16_u16), "NOERROR aa 1/0/1/0"),
            ("over TCP", ask("none.shop", A).tcp(), "NXDOMAIN aa 1/0/1/0"),
            (
                "with a good cookie",
                with_good_cookie(&world, &ask("orders.shop", A)),
                "NOERROR aa 1/2/0/0 opt cookie/24",
            ),
        ],
    );
    let trusted = ask("none.shop", A).edns(&[(COOKIE, &good_cookie(&world))]);
    for _ in 0..10 {
        assert_eq!(describe(&trusted, &trusted.send_to(&world)), denied);
    }
    let refused = "REFUSED 1/0/0/0";
    let mut other = world;
    other.from = "198.51.100.1".parse().unwrap();
    assert_rows(&other, &[("another network has its own bucket", ask("example.com.", A), refused)]);
}

fn good_cookie(world: &World) -> Vec<u8> {
    let opt = soa().edns(&[(COOKIE, b"clientid")]).message(world).edns.unwrap();
    Vec::<u8>::try_from(&opt.options().as_ref()[0].1).unwrap()
}

#[test]
fn client_outside_dns_allow_is_refused_for_every_query() {
    let world =
        world().with_settings(|settings| settings.allow = vec!["198.51.100.0/24".parse().unwrap()]);
    assert_rows(
        &world,
        &[
            ("a name of the zone", ask("orders.shop", A), "REFUSED 1/0/0/0"),
            ("over TCP", soa().tcp(), "REFUSED 1/0/0/0"),
            ("a transfer", ask("rollcall.internal.", 252_u16).tcp(), "REFUSED 1/0/0/0"),
            ("an invalid query", soa().counts([2, 0, 0, 0]), "REFUSED 0/0/0/0"),
            ("a response is still dropped", soa().flags(0x8000), "dropped"),
        ],
    );
}

/// The set of targets in an answer.
fn targets(world: &World) -> HashSet<String> {
    let message = ask("many.shop", SRV).tcp().message(world);
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn with_max_answers_a_client_keeps_its_instances_for_a_minute() {
    let limited = |count: usize| {
        World::with_instances(many(count))
            .with_settings(|settings| settings.ceiling = NonZeroUsize::new(5))
    };
    let mut world = limited(50);
    let first = targets(&world);
    assert_eq!(first.len(), 5);
    for seed in 0..20 {
        world.seed = seed;
        assert_eq!(targets(&world), first, "only the order is random");
    }
    // One instance more or less changes at most one of the targets.
    for count in [49, 51] {
        assert!(targets(&limited(count)).intersection(&first).count() >= 4, "{count}");
    }
    let unchanged = (0..60_000).step_by(1000).filter(|later| {
        world.now.0 = super::super::world::START.0 + later;
        targets(&world) == first
    });
    let unchanged = unchanged.count();
    world.now.0 = super::super::world::START.0;
    // Until the end of the current minute, and no longer.
    assert!((1..=60).contains(&unchanged), "{unchanged}");
    world.now.0 += 60_000;
    assert_ne!(targets(&world), first, "a minute later");
    world.now.0 -= 60_000;
    let others = (0..50).flat_map(|client| {
        world.from = [192, 0, 2, client].into();
        targets(&world)
    });
    let others: HashSet<_> = others.collect();
    assert!(others.len() > 45, "together the clients get almost all: {}", others.len());
    // A service with fewer instances than the limit is answered whole.
    assert_eq!(targets(&limited(3)).len(), 3);
    assert!(
        matches!(ask("many.shop", SRV).send_to(&limited(50)), Response::Message(_, summary) if !summary.truncated)
    );
}
