//! Records and their sets: RFC 1034, RFC 2181, RFC 2782, RFC 3597, RFC 4343, RFC 8482. That sets have no
//! duplicates and one TTL is in `tests/answers.rs`.

use hickory_proto::rr::{RData, RecordType};
use rollcall_model::instance::Protocol;

use super::super::world::{With, World, instance, port};
use super::{APEX, ask, hold, name_octets, nothing, orders, world};

const A: u16 = 1;
const CNAME: u16 = 5;
const HINFO: u16 = 13;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;

#[test]
fn names_are_compared_in_ascii_case_and_in_no_other_way() {
    let zone = name_octets("shop.svc.rollcall.internal.");
    let below = |labels: &[&[u8]], kind| {
        let labels = labels.iter().map(|label| [&[label.len() as u8], *label].concat());
        let name = [labels.collect::<Vec<_>>().concat(), zone.clone()].concat();
        nothing(0).question(&name, kind, 1)
    };
    let there = "NOERROR aa 1/2/0/0";
    let not = "NXDOMAIN aa 1/0/1/0";
    hold(
        &world(),
        &[
            ("4343 §3: letters", below(&[b"oRDeRS"], A), there),
            ("4343 §3: of all labels", ask("ORDERS.SHOP.SVC.ROLLCALL.INTERNAL.", A), there),
            (
                "4343 §3: of ports and protocols",
                ask("_HTTP._Tcp.orders.shop", SRV),
                "NOERROR aa 1/2/0/3",
            ),
            (
                "4343 §3: 0x5f and 0x7f differ by what letters do",
                below(&[b"\x7ftcp", b"orders"], SRV),
                not,
            ),
            ("4343 §3: so do other octets", below(&[b"\xcfrders"], A), not),
            ("4343 §3: digits are digits", below(&[b"o\x11", b"orders"], A), not),
        ],
    );
}

#[test]
fn types_that_we_do_not_have_are_absent_and_no_error() {
    let absent = "NOERROR aa 1/0/1/0";
    let mut rows = Vec::new();
    for kind in [
        0_u16, 2, 6, 12, 15, 16, 39, 41, 43, 46, 47, 48, 64, 65, 250, 253, 254, 256, 257, 32_769,
        65_280, 65_535,
    ] {
        rows.push(("3597 §2, 6895 §3.1: whatever its number", ask("orders.shop", kind), absent));
        rows.push((
            "3597 §2: nor is there such a name",
            ask("none.shop", kind),
            "NXDOMAIN aa 1/0/1/0",
        ));
    }
    hold(&world(), &rows);
}

#[test]
fn everything_is_answered_by_little() {
    let mut all = orders();
    all.push(instance("db", "db1", &[]).hostname("db.example.com"));
    let world = World::of(all);
    let one = "NOERROR aa 1/1/0/0";
    hold(
        &world,
        &[
            ("8482 §4.2: one record", ask("orders.shop", ANY), one),
            ("8482 §4.4: over TCP as over UDP", ask("orders.shop", ANY).tcp(), one),
            ("8482 §4.2: where there is none, too", ask("shop", ANY), one),
            ("8482 §4.2: but no name comes of it", ask("none.shop", ANY), "NXDOMAIN aa 1/0/1/0"),
            ("8482 §4.3: an alias is its only record", ask("db.shop", ANY), one),
            (
                "8482 §4.2: and no HINFO for those who ask for that",
                ask("orders.shop", HINFO),
                "NOERROR aa 1/0/1/0",
            ),
        ],
    );
    let told = |name| ask(name, ANY).message(&world).answers[0].clone();
    let RData::HINFO(hinfo) = told("orders.shop").data else { panic!("no HINFO") };
    assert_eq!((&*hinfo.cpu, &*hinfo.os), (&b"RFC8482"[..], &b""[..]));
    assert_eq!(told("db.shop").record_type(), RecordType::CNAME);
}

/// The SRV records at a name, as priority, weight, port and target.
fn srv(world: &World, name: &str) -> Vec<(u16, u16, u16, String)> {
    let records = ask(name, SRV).message(world).answers;
    let mut all: Vec<_> = records
        .iter()
        .map(|record| match &record.data {
            RData::SRV(srv) => (srv.priority, srv.weight, srv.port, srv.target.to_ascii()),
            other => panic!("not expected here: {other}"),
        })
        .collect();
    all.sort();
    all
}

/// `web`: priorities and weights from end to end, a port of two protocols, and a hostname.
fn web() -> World {
    let extreme = |name: &str, priority, weight| {
        let ips = format!("10.0.0.{name}");
        instance("web", &format!("w{name}"), &[&ips])
            .with(|i| (i.priority, i.weight) = (priority, weight))
    };
    let ports = [port("http", 65_535, Protocol::Tcp), port("http", 1, Protocol::Udp)];
    World::of([
        extreme("1", 0, 0),
        extreme("2", 65_535, 65_535),
        extreme("3", 1, 1).ports(&ports),
        instance("web", "w4", &[]).hostname("www.example.com"),
    ])
}

#[test]
fn srv_records_say_what_was_registered_and_lead_to_addresses() {
    let world = web();
    let target = |name: &str| format!("{name}.web.shop.svc.{APEX}");
    // 2782, "Priority", "Weight" and "Port": 0 to 65535, as they are stored.
    assert_eq!(
        srv(&world, "_http._tcp.web.shop"),
        [
            (0, 0, 8080, target("w1")),
            (0, 100, 8080, "www.example.com.".into()),
            (1, 1, 65_535, target("w3")),
            (65_535, 65_535, 8080, target("w2")),
        ]
    );
    // 2782, "Service" and "Proto": the same name of another protocol is another service.
    assert_eq!(srv(&world, "_http._udp.web.shop"), [(1, 1, 1, target("w3"))]);
    // 2782, "Target": has addresses, and is no alias.
    for name in ["w1", "w2", "w3"] {
        let name = target(name);
        hold(
            &world,
            &[
                ("2782: a target has an address", ask(&name, A), "NOERROR aa 1/1/0/0"),
                ("2782: and is no alias", ask(&name, CNAME), "NOERROR aa 1/0/1/0"),
            ],
        );
    }
}

#[test]
fn a_name_has_what_its_kind_has() {
    hold(
        &web(),
        &[
            (
                "2782: SRV at a name without a port is that of all ports",
                ask("web.shop", SRV),
                "NOERROR aa 1/5/0/3",
            ),
            (
                "2782: no A at the name of a port",
                ask("_http._tcp.web.shop", A),
                "NOERROR aa 1/0/1/0",
            ),
            (
                "2181 §10.3: a name server's name is no alias",
                ask("ns.dns.rollcall.internal.", CNAME),
                "NOERROR aa 1/0/1/0",
            ),
            (
                "2181 §10.3: and has addresses",
                ask("ns.dns.rollcall.internal.", AAAA),
                "NOERROR aa 1/1/0/0",
            ),
            (
                "1034 §3.6.2: nothing stands beside an alias",
                ask("w4.web.shop", SRV),
                "NOERROR aa 1/1/0/0",
            ),
        ],
    );
}
