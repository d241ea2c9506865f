//! Records and their sets: RFC 1034, RFC 2181, RFC 2782, RFC 3597, RFC 4343, RFC 8482. `tests/answers.rs`
//! tests that sets have no duplicates and one TTL.

use hickory_proto::rr::{RData, RecordType};
use rollcall_model::instance::Protocol;

use super::super::world::{With, World, instance, port};
use super::{APEX, ask, assert_rows, header_only, name_bytes, orders, world};

const A: u16 = 1;
const CNAME: u16 = 5;
const HINFO: u16 = 13;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;

#[test]
fn name_comparison_ignores_only_ascii_case() {
    let zone = name_bytes("shop.svc.rollcall.internal.");
    let below = |labels: &[&[u8]], kind| {
        let labels = labels.iter().map(|label| [&[label.len() as u8], *label].concat());
        let name = [labels.collect::<Vec<_>>().concat(), zone.clone()].concat();
        header_only(0).question(&name, kind, 1)
    };
    let found = "NOERROR aa 1/2/0/0";
    let missing = "NXDOMAIN aa 1/0/1/0";
    assert_rows(
        &world(),
        &[
            ("4343 §3: letters of the service", below(&[b"oRDeRS"], A), found),
            ("4343 §3: letters of all labels", ask("ORDERS.SHOP.SVC.ROLLCALL.INTERNAL.", A), found),
            (
                "4343 §3: letters of ports and protocols",
                ask("_HTTP._Tcp.orders.shop", SRV),
                "NOERROR aa 1/2/0/3",
            ),
            (
                "4343 §3: 0x5f and 0x7f differ in the case bit, but are not letters",
                below(&[b"\x7ftcp", b"orders"], SRV),
                missing,
            ),
            (
                "4343 §3: other bytes that differ in the case bit",
                below(&[b"\xcfrders"], A),
                missing,
            ),
            ("4343 §3: digits have no case", below(&[b"o\x11", b"orders"], A), missing),
        ],
    );
}

#[test]
fn unsupported_types_have_no_records() {
    let absent = "NOERROR aa 1/0/1/0";
    let mut rows = Vec::new();
    for kind in [
        0_u16, 2, 6, 12, 15, 16, 39, 41, 43, 46, 47, 48, 64, 65, 250, 253, 254, 256, 257, 32_769,
        65_280, 65_535,
    ] {
        rows.push(("3597 §2, 6895 §3.1: an unsupported type", ask("orders.shop", kind), absent));
        rows.push((
            "3597 §2: an unsupported type at a name that does not exist",
            ask("none.shop", kind),
            "NXDOMAIN aa 1/0/1/0",
        ));
    }
    assert_rows(&world(), &rows);
}

#[test]
fn any_is_answered_with_one_record() {
    let mut all = orders();
    all.push(instance("db", "db1", &[]).hostname("db.example.com"));
    let world = World::with_instances(all);
    let one = "NOERROR aa 1/1/0/0";
    assert_rows(
        &world,
        &[
            ("8482 §4.2: one record", ask("orders.shop", ANY), one),
            ("8482 §4.4: over TCP", ask("orders.shop", ANY).tcp(), one),
            ("8482 §4.2: at a name without records", ask("shop", ANY), one),
            (
                "8482 §4.2: not at a name that does not exist",
                ask("none.shop", ANY),
                "NXDOMAIN aa 1/0/1/0",
            ),
            ("8482 §4.3: the CNAME, if there is one", ask("db.shop", ANY), one),
            (
                "8482 §4.2: HINFO exists only in answer to ANY",
                ask("orders.shop", HINFO),
                "NOERROR aa 1/0/1/0",
            ),
        ],
    );
    let first_record = |name| ask(name, ANY).message(&world).answers[0].clone();
    let RData::HINFO(hinfo) = first_record("orders.shop").data else { panic!("expected HINFO") };
    assert_eq!((&*hinfo.cpu, &*hinfo.os), (&b"RFC8482"[..], &b""[..]));
    assert_eq!(first_record("db.shop").record_type(), RecordType::CNAME);
}

/// The SRV records at a name, as priority, weight, port and target.
fn srv(world: &World, name: &str) -> Vec<(u16, u16, u16, String)> {
    let records = ask(name, SRV).message(world).answers;
    let mut all: Vec<_> = records
        .iter()
        .map(|record| match &record.data {
            RData::SRV(srv) => (srv.priority, srv.weight, srv.port, srv.target.to_ascii()),
            other => panic!("unexpected record: {other}"),
        })
        .collect();
    all.sort();
    all
}

/// Service `web`: extreme priorities and weights, a port name with two protocols, and a hostname.
fn web() -> World {
    let extreme = |name: &str, priority, weight| {
        let ips = format!("10.0.0.{name}");
        instance("web", &format!("w{name}"), &[&ips])
            .with(|i| (i.priority, i.weight) = (priority, weight))
    };
    let ports = [port("http", 65_535, Protocol::Tcp), port("http", 1, Protocol::Udp)];
    World::with_instances([
        extreme("1", 0, 0),
        extreme("2", 65_535, 65_535),
        extreme("3", 1, 1).ports(&ports),
        instance("web", "w4", &[]).hostname("www.example.com"),
    ])
}

#[test]
fn srv_records_have_the_registered_values_and_targets_with_addresses() {
    let world = web();
    let target = |name: &str| format!("{name}.web.shop.svc.{APEX}");
    // 2782, "Priority", "Weight" and "Port": 0 to 65535, as stored.
    assert_eq!(
        srv(&world, "_http._tcp.web.shop"),
        [
            (0, 0, 8080, target("w1")),
            (0, 100, 8080, "www.example.com.".into()),
            (1, 1, 65_535, target("w3")),
            (65_535, 65_535, 8080, target("w2")),
        ]
    );
    // 2782, "Service" and "Proto": the same port name with another protocol is separate.
    assert_eq!(srv(&world, "_http._udp.web.shop"), [(1, 1, 1, target("w3"))]);
    // 2782, "Target": a target has addresses, and is not a CNAME.
    for name in ["w1", "w2", "w3"] {
        let name = target(name);
        assert_rows(
            &world,
            &[
                ("2782: a target has an address", ask(&name, A), "NOERROR aa 1/1/0/0"),
                ("2782: a target is not a CNAME", ask(&name, CNAME), "NOERROR aa 1/0/1/0"),
            ],
        );
    }
}

#[test]
fn each_kind_of_name_has_its_types() {
    assert_rows(
        &web(),
        &[
            (
                "2782: SRV at the name of a service has all ports",
                ask("web.shop", SRV),
                "NOERROR aa 1/5/0/3",
            ),
            (
                "2782: no A at the name of a port",
                ask("_http._tcp.web.shop", A),
                "NOERROR aa 1/0/1/0",
            ),
            (
                "2181 §10.3: the name of a name server is not a CNAME",
                ask("ns.dns.rollcall.internal.", CNAME),
                "NOERROR aa 1/0/1/0",
            ),
            (
                "2181 §10.3: the name of a name server has addresses",
                ask("ns.dns.rollcall.internal.", AAAA),
                "NOERROR aa 1/1/0/0",
            ),
            (
                "1034 §3.6.2: a CNAME is the only record of its name",
                ask("w4.web.shop", SRV),
                "NOERROR aa 1/1/0/0",
            ),
        ],
    );
}
