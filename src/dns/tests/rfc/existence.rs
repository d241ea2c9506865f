//! Negative answers as messages: RFC 2308, RFC 4592, RFC 8020. `tests/existence.rs` tests which names exist.

use hickory_proto::rr::{RData, RecordType};
use rollcall_model::instance::State;

use super::super::world::{With, World, instance};
use super::{APEX, ask, assert_rows, orders};
use crate::config::EmptyAnswer;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

fn world() -> World {
    let mut all = orders();
    all.push(instance("drained", "d1", &["10.0.1.1"]).state(State::Draining));
    all.push(instance("db", "db1", &[]).hostname("db.example.com"));
    World::with_instances(all)
}

#[test]
fn negative_answers_distinguish_nxdomain_and_nodata() {
    let (no_name, no_data) = ("NXDOMAIN aa 1/0/1/0", "NOERROR aa 1/0/1/0");
    assert_rows(
        &world(),
        &[
            ("2308 §2.1: no such name", ask("none.shop", A), no_name),
            ("2308 §2.2: no such type", ask("o1.orders.shop", AAAA), no_data),
            ("2308 §2.2: no discoverable instance", ask("drained.shop", A), no_data),
            (
                "2308 §2.2: no discoverable instance with the port",
                ask("_http._tcp.drained.shop", SRV),
                no_data,
            ),
            (
                "1034 §4.3.2: A at a name that has only SRV",
                ask("_http._tcp.orders.shop", A),
                no_data,
            ),
            (
                "1034 §4.3.2: a CNAME answers every type",
                ask("db1.db.shop", AAAA),
                "NOERROR aa 1/1/0/0",
            ),
            ("2308 §2.1: a name below a CNAME does not exist", ask("x.db1.db.shop", A), no_name),
            ("8020 §2: no name exists below", ask("a.b.c.none.shop", A), no_name),
            (
                "8020 §2: no name exists below, whatever its shape",
                ask("x._tcp.none.shop", SRV),
                no_name,
            ),
            ("8020 §3.1: an empty non-terminal exists", ask("svc.rollcall.internal.", A), no_data),
            ("4592 §2.2.2: the namespace exists", ask("shop", A), no_data),
            ("4592 §2.2.2: the protocol exists", ask("_tcp.orders.shop", SRV), no_data),
            (
                "4592 §2.2.2: the protocol of a service without discoverable instances exists",
                ask("_tcp.drained.shop", SRV),
                no_data,
            ),
            ("4592 §2.1.1: an asterisk is an ordinary label", ask("*.orders.shop", A), no_name),
            (
                "4592 §2.1.1: an asterisk matches no other label",
                ask("*._tcp.orders.shop", SRV),
                no_name,
            ),
            (
                "4592 §4.2: there is no wildcard at the apex",
                ask("*.rollcall.internal.", A),
                no_name,
            ),
        ],
    );
}

#[test]
fn nxdomain_for_a_service_without_discoverable_instances_covers_the_names_below() {
    let no_name = "NXDOMAIN aa 1/0/1/0";
    let empty = world().with_settings(|settings| settings.empty = EmptyAnswer::NxDomain);
    assert_rows(
        &empty,
        &[
            ("8020 §2: a service without discoverable instances", ask("drained.shop", A), no_name),
            ("8020 §2: its instances", ask("d1.drained.shop", A), no_name),
            ("8020 §2: its ports", ask("_http._tcp.drained.shop", SRV), no_name),
            (
                "8020 §2: other services are unaffected",
                ask("o1.orders.shop", A),
                "NOERROR aa 1/1/0/0",
            ),
        ],
    );
}

#[test]
fn negative_answer_has_the_soa_of_the_zone_with_a_short_ttl() {
    let world = world();
    let soa = |query: super::RawQuery| {
        let message = query.message(&world);
        let [record] = &message.authorities[..] else { panic!("expected one record: {message}") };
        let RData::SOA(soa) = &record.data else { panic!("expected a SOA: {record}") };
        (record.name.to_ascii(), record.ttl, soa.minimum, soa.serial)
    };
    let serial = world.directory().serial();
    // 2308 §3 and §5: the TTL is the lesser of the SOA's TTL and MINIMUM. Both are equal, so a cache that uses only one
    // of them is correct, too.
    for query in [
        ask("none.shop", A),
        ask("shop", A),
        ask("orders.shop", 65_280_u16),
        ask("NONE.shop", SRV).tcp(),
    ] {
        assert_eq!(soa(query), (APEX.to_owned(), 2, 2, serial));
    }
    // 2308 §3: a SOA in the answer section has the usual TTL.
    let own = ask(APEX, RecordType::SOA).message(&world);
    assert_eq!(own.answers[0].ttl, 5);
}
