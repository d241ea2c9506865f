//! The answers at each kind of name.

use std::collections::HashMap;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use proptest::prelude::*;
use rollcall_model::instance::{Facts, Health, Protocol, State};
use rollcall_model::lease::{Moment, Wall};
use rollcall_model::naming;

use super::world::{START, With, World, data, instance, negative_ttls, port, sorted_data};
use crate::dns::answer::Answer;

use RecordType::{A, AAAA, ANY, CNAME, NS, SRV, TXT};

#[test]
fn service_answers_with_the_addresses_of_discoverable_instances() {
    let world = World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"]).with(|i| i.health = Health::Warning),
        instance("orders", "o3", &["10.0.0.3"]).with(|i| i.health = Health::Critical),
        instance("orders", "o4", &["10.0.0.4"]).state(State::Draining),
        instance("orders", "o5", &["10.0.0.5"]).state(State::OutOfService),
        instance("orders", "o6", &["10.0.0.6"]).expired(),
        instance("orders", "o7", &["10.0.0.1"]),
        instance("other", "p1", &["10.9.9.9"]),
    ]);
    assert_eq!(sorted_data(&world.ask("orders.shop", A).answers), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(data(&world.ask("orders.shop", AAAA).answers), ["2001:db8::2"]);
    assert_eq!(world.ask("orders.shop", A).glue, []);
}

#[test]
fn addresses_are_of_the_lowest_priority_that_has_an_address() {
    let world = World::with_instances([
        instance("orders", "host", &[]).hostname("db.example.com"),
        instance("orders", "o1", &["10.0.0.1"]).priority(1),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"]).priority(2),
    ]);
    assert_eq!(data(&world.ask("orders.shop", A).answers), ["10.0.0.1"]);
    // A and AAAA answer for the same instances.
    let no_data = world.ask("orders.shop", AAAA);
    assert_eq!((no_data.code, negative_ttls(&no_data)), (ResponseCode::NoError, (2, 2)));
    assert_eq!(world.ask("orders.shop", SRV).answers.len(), 3);
}

#[test]
fn srv_of_service_has_every_port_and_glue_for_every_target() {
    let ports = [port("http", 80, Protocol::Tcp), port("grpc", 90, Protocol::Tcp)];
    let world = World::with_instances([
        instance("orders", "o1", &["10.0.0.1", "2001:db8::1"]).ports(&ports),
        instance("orders", "o2", &["10.0.0.2"]).with(|i| (i.weight, i.priority) = (0, 7)),
    ]);
    let answer = world.ask("Orders.SHOP", SRV);
    assert_eq!(
        sorted_data(&answer.answers),
        [
            "0 100 80 o1.orders.shop.svc.rollcall.internal.",
            "0 100 90 o1.orders.shop.svc.rollcall.internal.",
            "7 0 8080 o2.orders.shop.svc.rollcall.internal.",
        ]
    );
    // The owner has the case of the query (0x20); all other names are in lower case.
    assert!(
        answer.answers.iter().all(|r| r.name.to_ascii() == "Orders.SHOP.svc.rollcall.internal.")
    );
    let glue: Vec<_> = answer.glue.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    assert_eq!(
        glue,
        [
            "o1.orders.shop.svc.rollcall.internal. 10.0.0.1",
            "o1.orders.shop.svc.rollcall.internal. 2001:db8::1",
            "o2.orders.shop.svc.rollcall.internal. 10.0.0.2",
        ]
    );
}

#[test]
fn srv_of_port_has_the_discoverable_instances_with_that_port() {
    let world = World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]),
        instance("orders", "o2", &["10.0.0.2"]).ports(&[port("admin", 9090, Protocol::Tcp)]),
        instance("orders", "o3", &["10.0.0.3"]).ports(&[port("http", 443, Protocol::Udp)]),
        instance("orders", "o4", &["10.0.0.4"])
            .ports(&[port("old", 1, Protocol::Tcp)])
            .state(State::Draining),
    ]);
    let answer = world.ask("_http._tcp.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 8080 o1.orders.shop.svc.rollcall.internal."]);
    assert_eq!(data(&answer.glue), ["10.0.0.1"]);
    let answer = world.ask("_http._udp.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 443 o3.orders.shop.svc.rollcall.internal."]);
    // Only an instance that is not discoverable has the port: the name exists, without records.
    let answer = world.ask("_old._tcp.orders.shop", SRV);
    assert_eq!((answer.code, answer.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(world.ask("_http._tcp.orders.shop", A).answers, []);
}

#[test]
fn no_record_is_duplicated() {
    let ports = [port("dns", 53, Protocol::Udp), port("dns-tcp", 53, Protocol::Tcp)];
    let world = World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]).ports(&ports),
        instance("orders", "h1", &[]).hostname("db.example.com"),
        instance("orders", "h2", &[]).hostname("DB.example.com."),
    ]);
    assert_eq!(world.ask("orders.shop", SRV).answers.len(), 2);
}

#[test]
fn instance_resolves_by_its_own_name_until_it_expires() {
    let world = World::with_instances([
        instance("orders", "up", &["10.0.0.1", "2001:db8::1"]),
        instance("orders", "draining", &["10.0.0.2"]).state(State::Draining),
        instance("orders", "critical", &["10.0.0.3"]).with(|i| i.health = Health::Critical),
        instance("orders", "expired", &["10.0.0.4"]).expired(),
        instance("orders", "Not.a_label", &["10.0.0.5"]),
    ]);
    for (name, addresses) in [
        ("up", &["10.0.0.1"][..]),
        ("draining", &["10.0.0.2"]),
        ("critical", &["10.0.0.3"]),
        ("expired", &[]),
    ] {
        let answer = world.ask(&format!("{name}.orders.shop"), A);
        assert_eq!(
            (answer.code, data(&answer.answers)),
            (ResponseCode::NoError, addresses.iter().map(|a| (*a).to_owned()).collect()),
            "{name}"
        );
    }
    assert_eq!(data(&world.ask("UP.orders.shop", AAAA).answers), ["2001:db8::1"]);
    let answer = world.ask("up.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 8080 up.orders.shop.svc.rollcall.internal."]);
    assert_eq!(data(&answer.glue), ["10.0.0.1", "2001:db8::1"]);
    assert_eq!(world.ask("up.orders.shop", TXT).answers, []);
    let label = naming::label("Not.a_label");
    assert_eq!(data(&world.ask(&format!("{label}.orders.shop"), A).answers), ["10.0.0.5"]);
}

#[test]
fn older_of_two_instances_with_one_label_has_the_name() {
    let label = naming::label("o.1");
    let world = World::with_instances([
        instance("orders", "o.1", &["10.0.0.1"]).with(|i| i.created = Wall(1)),
        instance("orders", &label, &["10.0.0.2"]).with(|i| i.created = Wall(2)),
    ]);
    let answer = world.ask("orders.shop", SRV);
    assert_eq!((answer.answers.len(), data(&answer.glue)), (1, vec!["10.0.0.1".to_owned()]));
    assert_eq!(data(&world.ask(&format!("{label}.orders.shop"), A).answers), ["10.0.0.1"]);
    assert_eq!(world.ask("orders.shop", A).answers.len(), 2);
}

#[test]
fn instance_with_hostname_is_an_srv_target_and_if_alone_a_cname() {
    let single = World::with_instances([
        instance("db", "db1", &[]).hostname("db.example.com"),
        instance("db", "db2", &["10.0.0.2"]).state(State::Draining),
    ]);
    for kind in [A, AAAA, SRV, CNAME, TXT, ANY] {
        for name in ["db.shop", "db1.db.shop"] {
            let answer = single.ask(name, kind);
            let records = (answer.answers[0].record_type(), data(&answer.answers));
            assert_eq!(records, (CNAME, vec!["db.example.com.".to_owned()]), "{name} {kind}");
            assert_eq!((answer.glue.len(), answer.authority.len()), (0, 0));
        }
    }
    let srv = single.ask("_http._tcp.db.shop", SRV);
    assert_eq!(
        (data(&srv.answers), srv.glue.len()),
        (vec!["0 100 8080 db.example.com.".into()], 0)
    );

    let mixed = World::with_instances([
        instance("db", "db1", &[]).hostname("db.example.com"),
        instance("db", "db2", &["10.0.0.2"]),
    ]);
    assert_eq!(data(&mixed.ask("db.shop", A).answers), ["10.0.0.2"]);
    assert_eq!(mixed.ask("db.shop", CNAME).answers, []);
    assert_eq!(mixed.ask("db.shop", SRV).answers.len(), 2);
    assert_eq!(data(&mixed.ask("db1.db.shop", A).answers), ["db.example.com."]);
}

#[test]
fn dns_version_has_the_schema_version() {
    let answer = World::with_instances([]).ask("dns-version.rollcall.internal.", TXT);
    assert_eq!((data(&answer.answers), answer.answers[0].ttl), (vec!["1.1.0".into()], 5));
}

#[test]
fn any_is_answered_with_one_hinfo() {
    let world = World::with_instances([instance("orders", "o1", &["10.0.0.1"])]);
    for name in ["orders.shop", "shop", "rollcall.internal."] {
        assert_eq!(data(&world.ask(name, ANY).answers), ["RFC8482 "], "{name}");
    }
    assert_eq!(world.ask("none.shop", ANY).answers, []);
}

#[test]
fn zone_has_ns_and_addresses_of_its_name_server() {
    let world = World::with_instances([]);
    let answer = world.ask("rollcall.internal.", NS);
    assert_eq!(data(&answer.answers), ["ns.dns.rollcall.internal."]);
    assert_eq!(data(&answer.glue), ["192.0.2.53", "2001:db8::53"]);
    assert_eq!(data(&world.ask("ns.dns.rollcall.internal.", A).answers), ["192.0.2.53"]);
    assert_eq!(data(&world.ask("ns.dns.rollcall.internal.", AAAA).answers), ["2001:db8::53"]);
    assert_eq!(world.ask("ns.dns.rollcall.internal.", TXT).answers, []);
    assert_eq!(world.ask("shop", NS).code, ResponseCode::NXDomain);
}

#[test]
fn order_is_random_by_weight() {
    let heavy = |i: &mut Facts| i.weight = 900;
    let mut world = World::with_instances([
        instance("orders", "heavy", &["10.0.0.9"]).with(heavy),
        instance("orders", "light", &["10.0.0.1"]),
        instance("orders", "last", &["10.0.0.0"]).with(|i| i.weight = 0),
    ]);
    let mut first = HashMap::new();
    for seed in 0..2000 {
        world.seed = seed;
        let a = data(&world.ask("orders.shop", A).answers);
        let srv = data(&world.ask("orders.shop", SRV).answers);
        assert_eq!(a[2], "10.0.0.0");
        assert!(srv[2].contains(" last."));
        *first.entry(a[0].clone()).or_insert(0) += 1;
    }
    assert!((1700..1900).contains(&first["10.0.0.9"]), "{first:?}");
}

#[test]
fn ttl_ends_with_the_first_lease_in_the_answer() {
    let mut world = World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]).leased(4),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"]).leased(30),
        instance("orders", "o3", &["10.0.0.3"]),
    ]);
    for (after, all, two) in
        [(0, 4, 5), (1, 3, 5), (999, 3, 5), (3_999, 0, 5), (9_000, 0, 5), (27_500, 0, 2)]
    {
        world.now = Moment(START.0 + after);
        let ttls = |answer: Answer| {
            let mut ttls: Vec<_> =
                answer.answers.iter().chain(&answer.glue).map(|r| r.ttl).collect();
            ttls.dedup();
            ttls
        };
        assert_eq!(ttls(world.ask("orders.shop", A)), [all], "after {after} ms");
        assert_eq!(ttls(world.ask("orders.shop", SRV)), [all], "after {after} ms");
        assert_eq!(ttls(world.ask("orders.shop", AAAA)), [two], "after {after} ms");
        assert_eq!(ttls(world.ask("o2.orders.shop", SRV)), [two], "after {after} ms");
        assert_eq!(ttls(world.ask("o3.orders.shop", A)), [5], "after {after} ms");
    }
}

proptest! {
    #[test]
    fn ttl_is_uniform_and_never_exceeds_a_lease(
        leases in prop::collection::vec(prop::option::of(2u64..40), 1..12),
        after in 0u64..60_000,
        seed: u64,
    ) {
        let instances = leases.iter().enumerate().map(|(i, lease)| {
            let instance = instance("orders", &format!("o{i}"), &[&format!("10.0.0.{i}")]);
            lease.map_or_else(|| instance.clone(), |seconds| instance.clone().leased(seconds))
        });
        let mut world = World::with_instances(instances);
        (world.now, world.seed) = (Moment(START.0 + after), seed);
        let left = leases.iter().flatten().map(|s| (s * 1000).saturating_sub(after) / 1000);
        let expected = u32::try_from(left.min().unwrap_or(5).min(5)).unwrap();
        for (name, kind) in [("orders.shop", A), ("orders.shop", SRV), ("_http._tcp.orders.shop", SRV)] {
            let answer = world.ask(name, kind);
            prop_assert_eq!(answer.answers.len(), leases.len());
            prop_assert!(answer.answers.iter().chain(&answer.glue).all(|r| r.ttl == expected));
        }
    }
}
