//! Which names exist, and exact negative answers.

use hickory_proto::{op::ResponseCode, rr::RecordType};
use proptest::prelude::*;
use rollcall_model::instance::{Protocol, State};
use rollcall_model::lease::Moment;

use super::world::{CHANGED, With, World, instance, negative_ttls, port};
use crate::config::EmptyAnswer;
use crate::dns::ede::Ede;

const TYPES: [RecordType; 12] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::NS,
    RecordType::PTR,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::ANY,
    RecordType::Unknown(65_280),
];

fn world() -> World {
    World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"])
            .ports(&[port("http", 8080, Protocol::Tcp), port("dns", 53, Protocol::Udp)]),
        instance("drained", "d1", &["10.0.1.1"]).state(State::Draining),
        instance("gone", "x1", &["10.0.2.1"]).expired().version("0.9").zone("EU_1a"),
        instance("db", "db1", &[]).hostname("db.example.com"),
        instance("mixed", "m1", &["10.0.3.1"]).version("2.3.1").tags(&["canary", "eu"]),
        instance("mixed", "m2", &["10.0.3.2"]).version("2.4.0").zone("EU_1a").ports(&[port(
            "grpc",
            90,
            Protocol::Tcp,
        )]),
        instance("mixed", "m3", &["10.0.3.3"]).tags(&["old"]).state(State::OutOfService),
    ])
}

/// Names, and whether they exist.
const NAMES: &[(&str, bool)] = &[
    ("rollcall.internal.", true),
    ("svc.rollcall.internal.", true),
    ("dns.rollcall.internal.", true),
    ("ns.dns.rollcall.internal.", true),
    ("dns-version.rollcall.internal.", true),
    ("shop", true),
    ("orders.shop", true),
    ("drained.shop", true),
    ("gone.shop", true),
    ("db.shop", true),
    ("o1.orders.shop", true),
    ("x1.gone.shop", true),
    ("d1.drained.shop", true),
    ("db1.db.shop", true),
    ("_tcp.orders.shop", true),
    ("_udp.orders.shop", true),
    ("_http._tcp.orders.shop", true),
    ("_dns._udp.orders.shop", true),
    ("_tcp.gone.shop", true),
    ("_http._tcp.gone.shop", true),
    ("_http._tcp.db.shop", true),
    // A value of a selector exists when an instance of any phase has it.
    ("_ver.mixed.shop", true),
    ("2-3-1._ver.mixed.shop", true),
    ("_tag.mixed.shop", true),
    ("canary._tag.eu._tag.mixed.shop", true),
    ("old._tag.mixed.shop", true),
    ("_http._tcp.old._tag.mixed.shop", true),
    ("_zone.mixed.shop", true),
    ("eu-1a._zone.mixed.shop", true),
    ("_ver.eu-1a._zone.mixed.shop", true),
    ("_tag.2-3-1._ver.mixed.shop", true),
    ("_tcp.2-4-0._ver.mixed.shop", true),
    ("_grpc._tcp.2-4-0._ver.mixed.shop", true),
    ("0-9._ver.gone.shop", true),
    ("0-9._ver.eu-1a._zone.gone.shop", true),
    // A client can be in any zone, so every zone exists below `_near`.
    ("_near.orders.shop", true),
    ("mars._near.orders.shop", true),
    ("_http._tcp.mars._near.orders.shop", true),
    ("mars._near.eu-1a._zone.mixed.shop", true),
    // These names do not exist. Nothing exists below `ns.dns`, `dns-version` or an instance (RFC 8020).
    ("www.rollcall.internal.", false),
    ("x.dns.rollcall.internal.", false),
    ("x.ns.dns.rollcall.internal.", false),
    ("x.dns-version.rollcall.internal.", false),
    ("elsewhere", false),
    ("orders.elsewhere", false),
    ("none.shop", false),
    ("o1.none.shop", false),
    ("_http._tcp.none.shop", false),
    ("o3.orders.shop", false),
    ("x1.orders.shop", false),
    ("x.o1.orders.shop", false),
    ("_http._tcp.o1.orders.shop", false),
    ("_sctp.orders.shop", false),
    ("_udp.gone.shop", false),
    ("_dns._tcp.orders.shop", false),
    ("_grpc._tcp.orders.shop", false),
    ("x._http._tcp.orders.shop", false),
    ("*.orders.shop", false),
    ("2-3-1._ver.orders.shop", false),
    ("canary._tag.orders.shop", false),
    ("_http._tcp.2-3-1._ver.orders.shop", false),
    ("_ver.orders.shop", false),
    ("_tag.orders.shop", false),
    ("_zone.orders.shop", false),
    ("_ver.none.shop", false),
    ("_near.none.shop", false),
    ("_tag.2-4-0._ver.mixed.shop", false),
    ("_zone.2-3-1._ver.mixed.shop", false),
    ("2-3-1._ver.eu-1a._zone.mixed.shop", false),
    ("canary._tag.old._tag.mixed.shop", false),
    ("_udp.2-4-0._ver.mixed.shop", false),
    ("_http._tcp.2-4-0._ver.mixed.shop", false),
    ("2-3._ver.mixed.shop", false),
    ("2-3-1._ver.2-3-1._ver.mixed.shop", false),
    ("mars._near.mars._near.mixed.shop", false),
    ("m1.2-3-1._ver.mixed.shop", false),
    ("x.2-3-1._ver.mixed.shop", false),
    ("2-3-1._ver.m1.mixed.shop", false),
    ("2-3-1._ver._http._tcp.mixed.shop", false),
    // Addresses have names in the configured networks.
    ("10.in-addr.arpa.", true),
    ("0.10.in-addr.arpa.", true),
    ("0.0.10.in-addr.arpa.", true),
    ("1.0.0.10.in-addr.arpa.", true),
    ("1.2.0.10.in-addr.arpa.", true),
    ("8.b.d.0.1.0.0.2.ip6.arpa.", true),
    ("0.8.b.d.0.1.0.0.2.ip6.arpa.", true),
    ("99.0.0.10.in-addr.arpa.", false),
    ("9.0.10.in-addr.arpa.", false),
    ("9.10.in-addr.arpa.", false),
    ("x.10.in-addr.arpa.", false),
    ("x.1.0.0.10.in-addr.arpa.", false),
    ("1.8.b.d.0.1.0.0.2.ip6.arpa.", false),
];

#[test]
fn name_exists_for_every_type_or_for_none() {
    let world = world();
    for (name, exists) in NAMES {
        for kind in TYPES {
            let answer = world.ask(name, kind);
            let code = if *exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
            assert_eq!(answer.code, code, "{name} {kind}");
            assert!(answer.authoritative, "{name} {kind}");
            assert!(*exists || answer.answers.is_empty(), "{name} {kind}");
        }
    }
}

#[test]
fn every_negative_answer_has_a_soa_with_a_ttl_of_two_seconds() {
    let world = world();
    for (name, _) in NAMES {
        for kind in TYPES {
            let answer = world.ask(name, kind);
            if answer.answers.is_empty() {
                assert_eq!(negative_ttls(&answer), (2, 2), "{name} {kind}");
                let apexes =
                    ["rollcall.internal.", "10.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."];
                let apex = apexes.iter().find(|apex| name.ends_with(*apex)).unwrap_or(&apexes[0]);
                assert_eq!(answer.authority[0].name.to_ascii(), *apex, "{name}");
            } else {
                assert!(answer.authority.is_empty(), "{name} {kind}");
            }
        }
    }
}

#[test]
fn name_outside_the_zones_is_refused_without_authority() {
    for world in [world(), World::unsynced()] {
        for name in [
            "example.com.",
            ".",
            "internal.",
            "notrollcall.internal.",
            "in-addr.arpa.",
            "1.in-addr.arpa.",
            "0.0.127.in-addr.arpa.",
            "ip6.arpa.",
            "b.d.0.1.0.0.2.ip6.arpa.",
        ] {
            let answer = world.ask(name, RecordType::A);
            assert_eq!(answer.code, ResponseCode::Refused, "{name}");
            assert_eq!(answer.edes, [Ede::NOT_AUTHORITATIVE]);
            assert!(!answer.authoritative && answer.authority.is_empty());
        }
    }
}

#[test]
fn every_name_is_servfail_before_the_first_list() {
    let world = World::unsynced();
    for (name, _) in NAMES {
        let answer = world.ask(name, RecordType::A);
        assert_eq!((answer.code, answer.edes), (ResponseCode::ServFail, vec![Ede::NOT_READY]));
        assert!(!answer.authoritative && answer.authority.is_empty());
    }
}

#[test]
fn stale_replica_answers_with_an_extended_error() {
    let mut world = world();
    assert_eq!(world.ask("orders.shop", RecordType::A).edes, []);
    world.now = Moment(world.directory().horizon().0 + 15_001);
    for (name, count) in [("orders.shop", 2), ("none.shop", 0)] {
        let answer = world.ask(name, RecordType::A);
        assert_eq!((answer.answers.len(), answer.edes), (count, vec![Ede::STALE]));
    }
}

#[test]
fn serial_is_the_second_of_the_last_change() {
    let answer = world().ask("rollcall.internal.", RecordType::SOA);
    let serial = CHANGED.0 / 1000;
    let soa =
        format!("ns.dns.rollcall.internal. hostmaster.rollcall.internal. {serial} 30 10 86400 2");
    assert_eq!(super::world::data(&answer.answers), [soa]);
    assert_eq!(answer.answers[0].ttl, 5);
}

#[test]
fn address_has_ptr_of_its_instances_until_they_expire() {
    let world = world();
    let ask = |name| world.ask(name, RecordType::PTR);
    let one = ask("1.0.0.10.in-addr.arpa.");
    assert_eq!(super::world::data(&one.answers), ["o1.orders.shop.svc.rollcall.internal."]);
    let expired = ask("1.2.0.10.in-addr.arpa.");
    assert_eq!((expired.code, expired.answers.len()), (ResponseCode::NoError, 0));
    let draining = ask("1.1.0.10.in-addr.arpa.");
    assert_eq!(super::world::data(&draining.answers), ["d1.drained.shop.svc.rollcall.internal."]);
    let six = format!("2.{}8.b.d.0.1.0.0.2.ip6.arpa.", "0.".repeat(23));
    assert_eq!(super::world::data(&ask(&six).answers), ["o2.orders.shop.svc.rollcall.internal."]);
    let apex = world.ask("10.in-addr.arpa.", RecordType::NS);
    assert_eq!(super::world::data(&apex.answers), ["ns.dns.rollcall.internal."]);
}

#[test]
fn empty_answer_has_the_number_of_instances_in_each_phase() {
    let world = world();
    for (name, reason) in [
        ("drained.shop", "none of 1 instance is discoverable: 1 Draining"),
        ("_http._tcp.gone.shop", "none of 1 instance is discoverable: 1 Expired"),
        ("old._tag.mixed.shop", "none of 1 instance is discoverable: 1 OutOfService"),
        ("x1.gone.shop", "this instance has expired"),
    ] {
        let answer = world.ask(name, RecordType::SRV);
        assert_eq!(answer.edes, [Ede::empty(reason.to_owned())], "{name}");
    }
    for name in ["orders.shop", "none.shop", "shop", "_tcp.gone.shop"] {
        assert_eq!(world.ask(name, RecordType::TXT).edes, [], "{name}");
    }
}

#[test]
fn dns_empty_nxdomain_denies_services_without_discoverable_instances() {
    let world = world().with_settings(|settings| settings.empty = EmptyAnswer::NxDomain);
    for (name, exists) in [
        ("orders.shop", true),
        ("shop", true),
        ("gone.shop", false),
        ("x1.gone.shop", false),
        ("_tcp.gone.shop", false),
        ("d1.drained.shop", false),
        ("m3.mixed.shop", true),
        ("old._tag.mixed.shop", false),
        ("_http._tcp.old._tag.mixed.shop", false),
    ] {
        for kind in TYPES {
            let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
            assert_eq!(world.ask(name, kind).code, code, "{name} {kind}");
        }
    }
    let edes = world.ask("gone.shop", RecordType::A).edes;
    assert_eq!(edes, [Ede::empty("none of 1 instance is discoverable: 1 Expired".to_owned())]);
}

#[test]
fn dns_empty_last_answers_with_the_last_known_instances() {
    let world = world().with_settings(|settings| settings.empty = EmptyAnswer::Last);
    let gone = world.ask("gone.shop", RecordType::A);
    assert_eq!(
        (super::world::data(&gone.answers), gone.answers[0].ttl),
        (vec!["10.0.2.1".into()], 0)
    );
    assert_eq!(gone.edes, [Ede::last_known("none of 1 instance is discoverable: 1 Expired")]);
    // The target of the SRV record has an address.
    assert_eq!(world.ask("gone.shop", RecordType::SRV).answers.len(), 1);
    let target = world.ask("x1.gone.shop", RecordType::A);
    assert_eq!(super::world::data(&target.answers), ["10.0.2.1"]);
    let drained = world.ask("drained.shop", RecordType::A);
    assert!(drained.answers.is_empty(), "an operator set it to Draining");
    assert_eq!(world.ask("orders.shop", RecordType::A).answers.len(), 2);
}

/// Labels that combine to names of every shape.
fn labels() -> impl Strategy<Value = Vec<&'static str>> {
    let label = prop::sample::select(vec![
        "svc", "shop", "orders", "o1", "o2", "_tcp", "_udp", "_http", "_dns", "db", "db1", "gone",
        "x1", "dns", "ns", "x", "_x", "*", "_ver", "_tag", "_zone", "_near", "mixed", "2-3-1",
        "2-4-0", "canary", "eu", "old", "eu-1a", "_grpc",
    ]);
    let any = prop::collection::vec(label.clone(), 0..7);
    // Most random names do not exist, so half of them are below a service with selector values.
    let below = prop::collection::vec(label, 0..6)
        .prop_map(|labels| labels.into_iter().chain(["mixed", "shop", "svc"]).collect());
    prop_oneof![any, below]
}

proptest! {
    /// The owner has the case of the query (0x20).
    #[test]
    fn every_answer_is_owned_by_the_queried_name(labels in labels()) {
        let name = labels.iter().map(|label| format!("{label}.")).collect::<String>();
        let name = name.to_uppercase() + "rollcall.internal.";
        for kind in TYPES {
            for record in world().ask(&name, kind).answers {
                prop_assert_eq!(record.name.to_ascii(), name.clone());
            }
        }
    }

    /// NXDOMAIN for one type is NXDOMAIN for every type and for every name below (RFC 8020).
    #[test]
    fn nxdomain_holds_for_every_name_below(labels in labels(), below in labels()) {
        let world = world();
        let name = |labels: &[&str]| {
            labels.iter().map(|label| format!("{label}.")).collect::<String>() + "rollcall.internal."
        };
        let code = world.ask(&name(&labels), RecordType::A).code;
        for kind in TYPES {
            prop_assert_eq!(world.ask(&name(&labels), kind).code, code);
        }
        if code == ResponseCode::NXDomain {
            let longer: Vec<_> = below.iter().chain(&labels).copied().collect();
            prop_assert_eq!(world.ask(&name(&longer), RecordType::SRV).code, code);
        }
    }

    /// The same property with `--dns-empty nxdomain`.
    #[test]
    fn nxdomain_of_an_empty_service_holds_for_every_name_below(labels in labels(), below in labels()) {
        let world = world().with_settings(|settings| settings.empty = EmptyAnswer::NxDomain);
        let name = |labels: &[&str]| {
            labels.iter().map(|label| format!("{label}.")).collect::<String>() + "rollcall.internal."
        };
        if world.ask(&name(&labels), RecordType::A).code == ResponseCode::NXDomain {
            let longer: Vec<_> = below.iter().chain(&labels).copied().collect();
            let code = world.ask(&name(&longer), RecordType::SRV).code;
            prop_assert_eq!(code, ResponseCode::NXDomain);
        }
    }
}
