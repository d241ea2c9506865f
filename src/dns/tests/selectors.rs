//! Answers at names with selectors.

use hickory_proto::rr::{LowerName, Name, RecordType};
use proptest::prelude::*;
use rollcall_model::instance::{Protocol, State};
use rollcall_model::lease::Moment;
use rollcall_model::naming;

use super::world::{START, With, World, ZONE, data, instance, port, sorted_data};
use crate::dns::{
    name::{QueryName, ServiceName},
    subset::{SelectorKind, Subset},
    zone::Zone,
};

use RecordType::{A, AAAA, CNAME, SRV};

/// Two versions in two zones, and an instance that is not discoverable.
fn world() -> World {
    World::with_instances([
        instance("orders", "a1", &["10.0.0.1"]).version("2.3.1").zone("EU_1a").tags(&["canary"]),
        instance("orders", "a2", &["10.0.0.2", "2001:db8::2"])
            .version("2.3.1")
            .zone("eu-1b")
            .tags(&["canary", "Blue+Green"]),
        instance("orders", "b1", &["10.0.0.3"])
            .version("2.4.0-rc.1")
            .zone("eu-1b")
            .ports(&[port("http", 8080, Protocol::Tcp), port("admin", 9090, Protocol::Tcp)]),
        instance("orders", "c1", &["10.0.0.4"]).version("1.0").zone("us-1").state(State::Draining),
    ])
}

#[test]
fn selector_values_match_as_dns_labels() {
    let world = world();
    for (name, addresses) in [
        ("2-3-1._ver.orders.shop", &["10.0.0.1", "10.0.0.2"][..]),
        ("2-4-0-RC-1._VER.orders.shop", &["10.0.0.3"]),
        ("canary._tag.orders.shop", &["10.0.0.1", "10.0.0.2"]),
        ("blue-green._tag.orders.shop", &["10.0.0.2"]),
        ("blue-green._tag.canary._tag.orders.shop", &["10.0.0.2"]),
        ("canary._tag.blue-green._tag.orders.shop", &["10.0.0.2"]),
        ("eu-1a._zone.orders.shop", &["10.0.0.1"]),
        ("eu-1b._zone.orders.shop", &["10.0.0.2", "10.0.0.3"]),
        ("2-3-1._ver.eu-1b._zone.orders.shop", &["10.0.0.2"]),
        ("eu-1b._zone.2-3-1._ver.orders.shop", &["10.0.0.2"]),
        ("canary._tag.eu-1a._near.2-3-1._ver.orders.shop", &["10.0.0.1"]),
        // An instance has this value, but is not discoverable.
        ("1-0._ver.orders.shop", &[]),
        ("us-1._zone.orders.shop", &[]),
    ] {
        assert_eq!(sorted_data(&world.ask(name, A).answers), addresses, "{name}");
    }
    assert_eq!(data(&world.ask("2-3-1._ver.orders.shop", AAAA).answers), ["2001:db8::2"]);
}

#[test]
fn near_falls_back_to_all_zones_and_zone_does_not() {
    let world = world();
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    for (name, addresses) in [
        ("eu-1a._near.orders.shop", &all[..1]),
        // The only instance in this zone is not discoverable.
        ("us-1._near.orders.shop", &all),
        ("mars._near.orders.shop", &all),
        ("mars._near.2-3-1._ver.orders.shop", &all[..2]),
        ("eu-1a._near.2-4-0-rc-1._ver.orders.shop", &all[2..]),
        ("eu-1a._near.eu-1b._zone.orders.shop", &all[1..]),
    ] {
        assert_eq!(sorted_data(&world.ask(name, A).answers), addresses, "{name}");
    }
    // `_near` considers only instances with the port, which the zone's only instance does not have.
    let answer = world.ask("_admin._tcp.eu-1a._near.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 9090 b1.orders.shop.svc.rollcall.internal."]);
}

#[test]
fn srv_targets_below_selectors_are_the_names_of_the_instances() {
    let world = world();
    let answer = world.ask("_HTTP._tcp.2-3-1._ver.eu-1b._zone.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 8080 a2.orders.shop.svc.rollcall.internal."]);
    assert_eq!(data(&answer.glue), ["10.0.0.2", "2001:db8::2"]);
    let answer = world.ask("2-4-0-rc-1._ver.orders.shop", SRV);
    assert_eq!(answer.answers.len(), 2, "every port");
}

#[test]
fn subset_has_its_own_lowest_priority_and_its_own_ttl() {
    let mut world = World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]).version("1").leased(4),
        instance("orders", "o2", &["10.0.0.2"]).version("2").priority(1).leased(30),
        instance("orders", "o3", &["10.0.0.3"]).version("2").priority(2),
    ]);
    world.now = Moment(START.0 + 1_000);
    assert_eq!(data(&world.ask("orders.shop", A).answers), ["10.0.0.1"]);
    let answer = world.ask("2._ver.orders.shop", A);
    assert_eq!((data(&answer.answers), answer.answers[0].ttl), (vec!["10.0.0.2".into()], 5));
    assert_eq!(world.ask("1._ver.orders.shop", A).answers[0].ttl, 3);
}

#[test]
fn hostname_alone_in_its_subset_is_a_cname() {
    let world = World::with_instances([
        instance("db", "h1", &[]).hostname("db.example.com").version("1"),
        instance("db", "i1", &["10.0.0.1"]).version("2"),
    ]);
    for kind in [A, AAAA, SRV, CNAME] {
        let answer = world.ask("1._ver.db.shop", kind);
        assert_eq!(data(&answer.answers), ["db.example.com."], "{kind}");
        assert_eq!(answer.answers[0].record_type(), CNAME);
    }
    assert_eq!(data(&world.ask("2._ver.db.shop", A).answers), ["10.0.0.1"]);
    assert_eq!(world.ask("2._ver.db.shop", CNAME).answers, []);
}

fn zone() -> Zone {
    Zone::parse(ZONE, &[]).unwrap()
}

proptest! {
    #[test]
    fn any_labels_are_parsed_without_a_panic(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..12),
    ) {
        let labels = labels.iter().map(|label| &label[..]);
        let zone = [&b"svc"[..], b"rollcall", b"internal"];
        for suffix in [&zone[..], &zone[1..], &[]] {
            let Ok(name) = Name::from_labels(labels.clone().chain(suffix.iter().copied())) else {
                continue;
            };
            let _ = QueryName::parse(&LowerName::new(&name), &self::zone());
        }
    }

    #[test]
    fn names_from_the_naming_module_are_parsed_back(
        name in "[A-Za-z0-9._-]{1,80}",
        service in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        values in prop::collection::vec((0usize..4, "[A-Za-z0-9][!-~]{0,62}"), 0..5),
    ) {
        let printed = naming::instance_name(&name, &service, "shop", ZONE) + ".";
        let query = LowerName::new(&Name::from_ascii(&printed).unwrap());
        let all_instances = ServiceName { namespace: "shop", service: &service, subset: Subset::default() };
        let label = naming::label(&name);
        prop_assert_eq!(QueryName::parse(&query, &zone()), QueryName::Instance(all_instances.clone(), &label));

        let values: Vec<_> = values
            .into_iter()
            .map(|(kind, value)| (SelectorKind::ALL[kind], naming::selector_label(&value)))
            .collect();
        let text: String = values.iter().rev().map(|(k, v)| format!("{v}.{}.", k.label())).collect();
        let subset = values.iter().try_fold(Subset::default(), |subset, (k, v)| subset.with(*k, v));
        let text = format!("{text}{service}.shop.svc.{ZONE}");
        let Ok(name) = Name::from_ascii(&text) else { return Ok(()) };
        let query = LowerName::new(&name);
        // A name that repeats a selector other than `_tag` is unknown.
        let expected = subset.map_or(QueryName::Unknown, |subset| QueryName::Service(ServiceName { subset, ..all_instances }));
        prop_assert_eq!(QueryName::parse(&query, &zone()), expected);
    }
}
