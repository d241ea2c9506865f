//! What the names of a part of a service answer.

use hickory_proto::rr::{LowerName, Name, RecordType};
use proptest::prelude::*;
use rollcall_model::instance::{Protocol, State};
use rollcall_model::lease::Moment;
use rollcall_model::naming;

use super::world::{START, With, World, ZONE, data, instance, port, sorted};
use crate::dns::{
    name::{Asked, Service},
    subset::{Kind, Subset},
    zone::Zone,
};

use RecordType::{A, AAAA, CNAME, SRV};

/// Two versions in two zones, and one instance that is not discoverable.
fn world() -> World {
    World::of([
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
fn a_selector_chooses_by_what_a_person_would_write() {
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
        // Known, but nobody to offer.
        ("1-0._ver.orders.shop", &[]),
        ("us-1._zone.orders.shop", &[]),
    ] {
        assert_eq!(sorted(&world.ask(name, A).answers), addresses, "{name}");
    }
    assert_eq!(data(&world.ask("2-3-1._ver.orders.shop", AAAA).answers), ["2001:db8::2"]);
}

#[test]
fn near_prefers_a_zone_and_falls_back_to_all_where_zone_pins() {
    let world = world();
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    for (name, addresses) in [
        ("eu-1a._near.orders.shop", &all[..1]),
        // Somebody is there, but nobody who is discoverable.
        ("us-1._near.orders.shop", &all),
        ("mars._near.orders.shop", &all),
        ("mars._near.2-3-1._ver.orders.shop", &all[..2]),
        ("eu-1a._near.2-4-0-rc-1._ver.orders.shop", &all[2..]),
        ("eu-1a._near.eu-1b._zone.orders.shop", &all[1..]),
    ] {
        assert_eq!(sorted(&world.ask(name, A).answers), addresses, "{name}");
    }
    // Near is who has the port: the zone's only instance does not.
    let answer = world.ask("_admin._tcp.eu-1a._near.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 9090 b1.orders.shop.svc.rollcall.internal."]);
}

#[test]
fn targets_of_a_part_are_the_instances_own_names() {
    let world = world();
    let answer = world.ask("_HTTP._tcp.2-3-1._ver.eu-1b._zone.orders.shop", SRV);
    assert_eq!(data(&answer.answers), ["0 100 8080 a2.orders.shop.svc.rollcall.internal."]);
    assert_eq!(data(&answer.glue), ["10.0.0.2", "2001:db8::2"]);
    let answer = world.ask("2-4-0-rc-1._ver.orders.shop", SRV);
    assert_eq!(answer.answers.len(), 2, "every port");
}

#[test]
fn a_part_has_its_own_best_priority_and_its_own_soonest_lease() {
    let mut world = World::of([
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
fn a_hostname_alone_in_its_part_is_an_alias() {
    let world = World::of([
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
    fn any_labels_at_all_are_read_without_a_panic(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..12),
    ) {
        let labels = labels.iter().map(|label| &label[..]);
        let zone = [&b"svc"[..], b"rollcall", b"internal"];
        for with in [&zone[..], &zone[1..], &[]] {
            let Ok(name) = Name::from_labels(labels.clone().chain(with.iter().copied())) else {
                continue;
            };
            let _ = Asked::parse(&LowerName::new(&name), &self::zone());
        }
    }

    #[test]
    fn what_naming_prints_is_read_back(
        name in "[A-Za-z0-9._-]{1,80}",
        service in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        values in prop::collection::vec((0usize..4, "[A-Za-z0-9][!-~]{0,62}"), 0..5),
    ) {
        let printed = naming::instance_name(&name, &service, "shop", ZONE) + ".";
        let query = LowerName::new(&Name::from_ascii(&printed).unwrap());
        let everybody = Service { namespace: "shop", service: &service, only: Subset::default() };
        let label = naming::label(&name);
        prop_assert_eq!(Asked::parse(&query, &zone()), Asked::Instance(everybody.clone(), &label));

        let values: Vec<_> = values
            .into_iter()
            .map(|(kind, value)| (Kind::ALL[kind], naming::selector_label(&value)))
            .collect();
        let text: String = values.iter().rev().map(|(k, v)| format!("{v}.{}.", k.label())).collect();
        let only = values.iter().try_fold(Subset::default(), |only, (k, v)| only.and(*k, v));
        let text = format!("{text}{service}.shop.svc.{ZONE}");
        let Ok(name) = Name::from_ascii(&text) else { return Ok(()) };
        let query = LowerName::new(&name);
        // Of a kind that may not stand there twice, nothing is asked.
        let asked = only.map_or(Asked::Unknown, |only| Asked::Service(Service { only, ..everybody }));
        prop_assert_eq!(Asked::parse(&query, &zone()), asked);
    }
}
