//! What is not there, as it goes out: RFC 2308, RFC 4592, RFC 8020. Which names exist is in
//! `tests/existence.rs`.

use hickory_proto::rr::{RData, RecordType};
use rollcall_model::instance::State;

use super::super::world::{With, World, instance};
use super::{APEX, ask, hold, orders};
use crate::config::Empty;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

fn world() -> World {
    let mut all = orders();
    all.push(instance("drained", "d1", &["10.0.1.1"]).state(State::Draining));
    all.push(instance("db", "db1", &[]).hostname("db.example.com"));
    World::of(all)
}

#[test]
fn what_is_not_there_is_said_as_exactly_as_it_is_known() {
    let (no_name, no_data) = ("NXDOMAIN aa 1/0/1/0", "NOERROR aa 1/0/1/0");
    hold(
        &world(),
        &[
            ("2308 §2.1: no such name", ask("none.shop", A), no_name),
            ("2308 §2.2: no such type", ask("o1.orders.shop", AAAA), no_data),
            ("2308 §2.2: nobody to offer", ask("drained.shop", A), no_data),
            ("2308 §2.2: nobody to offer at a port", ask("_http._tcp.drained.shop", SRV), no_data),
            (
                "1034 §4.3.2: a type at a name that has only SRV",
                ask("_http._tcp.orders.shop", A),
                no_data,
            ),
            (
                "1034 §4.3.2: an alias answers for each type",
                ask("db1.db.shop", AAAA),
                "NOERROR aa 1/1/0/0",
            ),
            (
                "2308 §2.1: nothing of an alias is in another zone's name",
                ask("x.db1.db.shop", A),
                no_name,
            ),
            ("8020 §2: nor of all names below", ask("a.b.c.none.shop", A), no_name),
            (
                "8020 §2: also where a name could be no service",
                ask("x._tcp.none.shop", SRV),
                no_name,
            ),
            (
                "8020 §3.1: a name with names below it is there",
                ask("svc.rollcall.internal.", A),
                no_data,
            ),
            ("4592 §2.2.2: the namespace", ask("shop", A), no_data),
            ("4592 §2.2.2: the protocol", ask("_tcp.orders.shop", SRV), no_data),
            (
                "4592 §2.2.2: of services without anybody to offer, too",
                ask("_tcp.drained.shop", SRV),
                no_data,
            ),
            ("4592 §2.1.1: an asterisk is a label like others", ask("*.orders.shop", A), no_name),
            ("4592 §2.1.1: and stands for none of them", ask("*._tcp.orders.shop", SRV), no_name),
            ("4592 §4.2: nor anywhere else", ask("*.rollcall.internal.", A), no_name),
        ],
    );
    let empty = world().settings(|settings| settings.empty = Empty::NxDomain);
    hold(
        &empty,
        &[
            ("8020 §2: where nobody is no name, nothing is below", ask("drained.shop", A), no_name),
            ("8020 §2: whoever was", ask("d1.drained.shop", A), no_name),
            ("8020 §2: wherever", ask("_http._tcp.drained.shop", SRV), no_name),
            (
                "8020 §2: and others are not concerned",
                ask("o1.orders.shop", A),
                "NOERROR aa 1/1/0/0",
            ),
        ],
    );
}

#[test]
fn a_negative_answer_is_believed_for_as_long_as_its_soa_says() {
    let world = world();
    let soa = |query: super::Wire| {
        let message = query.message(&world);
        let [record] = &message.authorities[..] else { panic!("not one: {message}") };
        let RData::SOA(soa) = &record.data else { panic!("no SOA: {record}") };
        (record.name.to_ascii(), record.ttl, soa.minimum, soa.serial)
    };
    let serial = world.directory().serial();
    // 2308 §3 and §5: the SOA of the zone, for the lesser of its TTL and MINIMUM; both are the same, so
    // that a cache which looks at one of them does no harm.
    for query in [
        ask("none.shop", A),
        ask("shop", A),
        ask("orders.shop", 65_280_u16),
        ask("NONE.shop", SRV).tcp(),
    ] {
        assert_eq!(soa(query), (APEX.to_owned(), 2, 2, serial));
    }
    // 2308 §3: the zone's own SOA is believed as long as any record.
    let own = ask(APEX, RecordType::SOA).message(&world);
    assert_eq!(own.answers[0].ttl, 5);
}
