//! Zone transfers: RFC 5936, RFC 1995, RFC 1982.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use rollcall_model::instance::{Instance, State};

use super::super::world::{With, World, absolute_name, instance};
use super::{APEX, RawQuery, ask, assert_rows, name_bytes, orders};
use crate::config::EmptyAnswer;
use crate::dns::respond::Response;

const SOA: u16 = 6;
const IXFR: u16 = 251;
const AXFR: u16 = 252;

fn world(instances: Vec<Instance>) -> World {
    World::with_instances(instances)
        .with_settings(|settings| settings.transfer = vec!["192.0.2.0/24".parse().unwrap()])
}

/// An IXFR over TCP from this serial.
fn ixfr_from(serial: u32) -> RawQuery {
    let data = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
    ask(APEX, IXFR).record(2, &name_bytes(APEX), SOA, 1, 5, &data).tcp()
}

#[test]
fn allowed_clients_transfer_the_zone_over_tcp() {
    let axfr = |name: &str| ask(name, AXFR).tcp();
    let (not_supported, not_authoritative) = (
        "ede21=\"this server does not support this kind of query\"",
        "ede20=\"this server does not answer for this name\"",
    );
    let notauth = format!("NOTAUTH 1/0/0/0 opt {not_authoritative}");
    let unsupported = format!("REFUSED 1/0/0/0 opt {not_supported}");
    assert_rows(
        &world(orders()),
        &[
            ("5936 §2.2: the zone", axfr(APEX), "transfer"),
            ("5936 §2.1: the zone in upper case", axfr("ROLLCALL.internal."), "transfer"),
            ("5936 §2.2.1: another zone", axfr("example.com.").edns(&[]), &notauth),
            (
                "5936 §2.2.1: a name in the zone is not a zone",
                axfr("svc.rollcall.internal.").edns(&[]),
                &notauth,
            ),
            ("5936 §2.2.1: the parent of the zone", axfr("internal.").edns(&[]), &notauth),
            ("5936 §2.2.1: a name that does not exist", axfr("none.shop").edns(&[]), &notauth),
            ("reverse zones are not transferred", axfr("10.in-addr.arpa.").edns(&[]), &unsupported),
            ("5936 §4.2: not over UDP", ask(APEX, AXFR).edns(&[]), &unsupported),
            (
                "5936 §2.1.2: AXFR with a record in its authority section",
                axfr(APEX).record(2, &[0], SOA, 1, 0, &[0; 22]),
                "FORMERR 1/0/0/0",
            ),
            (
                "5936 §2.1: another class",
                super::header_only(0).question(&name_bytes(APEX), AXFR, 3).tcp(),
                "REFUSED 1/0/0/0",
            ),
            (
                "1995 §3: IXFR needs a SOA in its authority section",
                ask(APEX, IXFR).record(2, &[0], 1, 1, 0, &[0; 22]).tcp(),
                "FORMERR 1/0/0/0",
            ),
            ("1995 §4: IXFR without a SOA gets the whole zone", ask(APEX, IXFR).tcp(), "transfer"),
        ],
    );
    let mut other_client = world(orders());
    other_client.from = "198.51.100.1".parse().unwrap();
    let refused =
        "REFUSED 1/0/0/0 opt ede18=\"your address may not transfer this zone (--dns-transfer)\"";
    assert_rows(
        &other_client,
        &[
            ("5936 §5: AXFR from another client", axfr(APEX).edns(&[]), refused),
            ("1995 §6: IXFR from another client", ixfr_from(1).edns(&[]), refused),
        ],
    );
    let early = World::unsynced()
        .with_settings(|settings| settings.transfer = vec!["0.0.0.0/0".parse().unwrap()]);
    let not_yet = "SERVFAIL 1/0/0/0 opt ede14=\"this server has not listed the instances yet\"";
    assert_rows(
        &early,
        &[("5936 §2.2.1: no transfer before the first list", axfr(APEX).edns(&[]), not_yet)],
    );
}

#[test]
fn ixfr_from_a_current_or_newer_serial_gets_only_the_soa() {
    let world = world(orders());
    let newest = world.directory().serial();
    let (soa_only, all) = ("NOERROR aa 1/1/0/0", "transfer");
    let half = 1 << 31;
    assert_rows(
        &world,
        &[
            ("1995 §2: the same serial", ixfr_from(newest), soa_only),
            ("1995 §2: an older serial", ixfr_from(newest - 1), all),
            ("1995 §2: a newer serial of another replica", ixfr_from(newest + 1), soa_only),
            ("1982 §3.2: ahead by the maximum", ixfr_from(newest.wrapping_add(half - 1)), soa_only),
            ("1982 §3.2: behind by the maximum", ixfr_from(newest.wrapping_sub(half - 1)), all),
            ("1982 §3.2: neither ahead nor behind", ixfr_from(newest.wrapping_add(half)), all),
            ("1982 §3.2: 0 has no special meaning", ixfr_from(0), all),
            ("1995 §2: over UDP only the SOA", ixfr_over_udp(newest - 1), soa_only),
            ("1995 §2: over UDP without a SOA", ask(APEX, IXFR), soa_only),
        ],
    );
    let answer = ixfr_from(newest).message(&world);
    let RData::SOA(soa) = &answer.answers[0].data else { panic!("expected a SOA") };
    assert_eq!((soa.serial, answer.answers[0].ttl), (newest, 5));
}

/// An IXFR over UDP from this serial.
fn ixfr_over_udp(serial: u32) -> RawQuery {
    RawQuery { transport: crate::dns::respond::Transport::Udp, ..ixfr_from(serial) }
}

/// The messages of a transfer.
fn messages(query: &RawQuery, world: &World) -> Vec<Message> {
    let Response::Transfer(transfer) = query.send_to(world) else { panic!("expected a transfer") };
    let bytes: Vec<_> = transfer.collect();
    assert!(bytes.iter().all(|message| message.len() <= 16_384));
    bytes.iter().map(|message| Message::from_vec(message).unwrap()).collect()
}

#[test]
fn transfer_begins_and_ends_with_the_same_soa() {
    let instances = (0..2000).map(|i| instance("many", &format!("c{i}"), &["10.0.0.1"])).collect();
    let world = world(instances);
    for edns in [false, true] {
        let query = ask(APEX, AXFR).tcp().flags(super::RD);
        let query = if edns { query.opt(512, super::DO, &[]) } else { query };
        let messages = messages(&query, &world);
        assert!(messages.len() > 5, "{}", messages.len());
        for (i, message) in messages.iter().enumerate() {
            let head = &message.metadata;
            assert_eq!(
                (head.id, head.response_code),
                (0x1267, ResponseCode::NoError),
                "5936 §2.2.1"
            );
            assert!(
                head.authoritative && !head.truncation && head.recursion_desired,
                "5936 §2.2.1"
            );
            assert_eq!(
                message.queries.len(),
                usize::from(i == 0),
                "5936 §2.2.2: only the first message has the question"
            );
            assert_eq!(message.edns.is_some(), edns, "5936 §2.2.5");
            assert!(
                message.authorities.is_empty() && message.additionals.is_empty(),
                "5936 §2.2.4"
            );
        }
        let all: Vec<_> = messages.iter().flat_map(|message| &message.answers).collect();
        let soas: Vec<_> =
            all.iter().enumerate().filter(|(_, r)| r.record_type() == RecordType::SOA).collect();
        assert_eq!(soas.len(), 2, "5936 §2.2: the SOA is the first and the last record");
        assert_eq!((soas[0].0, soas[1].0, soas[0].1), (0, all.len() - 1, soas[1].1));
    }
}

fn mixed() -> Vec<Instance> {
    let mut all = orders();
    let attributes = [("path".into(), "/v2".into()), ("x".into(), "y".repeat(300).into())];
    all.extend([
        instance("orders", "o3", &["10.0.0.1"])
            .with(|i| i.attributes = attributes.into_iter().collect()),
        instance("orders", "o4", &["10.0.0.4"]).priority(9).version("2.3.1"),
        instance("db", "db1", &[]).hostname("db.example.com"),
        instance("both", "b1", &[]).hostname("b.example.com"),
        instance("both", "b2", &["10.0.1.1"]),
        instance("drained", "d1", &["10.0.2.1"]).state(State::Draining),
        instance("gone", "x1", &["10.0.3.1"]).expired(),
    ]);
    all
}

/// The types and data of records, without TTLs and order.
fn contents(records: impl IntoIterator<Item = Record>) -> BTreeSet<String> {
    records.into_iter().map(|record| format!("{} {}", record.record_type(), record.data)).collect()
}

/// Names that have records with every `--dns-empty`.
const NAMES: [&str; 9] = [
    APEX,
    "ns.dns.rollcall.internal.",
    "dns-version.rollcall.internal.",
    "orders.shop",
    "_http._tcp.orders.shop",
    "o3.orders.shop",
    "db1.db.shop",
    "both.shop",
    "_http._tcp.both.shop",
];

#[test]
fn transfer_has_the_answers_at_each_name_without_duplicates() {
    for empty in [EmptyAnswer::NoData, EmptyAnswer::NxDomain, EmptyAnswer::Last] {
        let world = world(mixed()).with_settings(|settings| settings.empty = empty);
        let all = messages(&ask(APEX, AXFR).tcp(), &world).into_iter().flat_map(|m| m.answers);
        let mut names = BTreeMap::<String, Vec<Record>>::new();
        // The last SOA equals the first one.
        for record in all.skip(1) {
            assert!(
                record.name.to_ascii().ends_with(APEX),
                "5936 §3.4: only records of this zone: {record}"
            );
            assert_eq!(record.ttl, 5);
            names.entry(record.name.to_ascii()).or_default().push(record);
        }
        for name in NAMES.map(absolute_name) {
            assert!(names.contains_key(&name), "5936 §3: the whole zone: {name} {empty:?}");
        }
        for (name, records) in names {
            assert_answers_equal(&world, &name, records);
        }
    }
}

/// The types that names can have.
const TYPES: [RecordType; 6] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::NS,
];

/// Asserts that the answers at a name contain exactly these records.
fn assert_answers_equal(world: &World, name: &str, records: Vec<Record>) {
    let count = records.len();
    let transferred = contents(records);
    assert_eq!(transferred.len(), count, "5936 §2.2: no duplicates: {name}");
    let answers = TYPES.map(|kind| world.ask(name, kind));
    assert!(answers.iter().all(|answer| answer.code == ResponseCode::NoError), "{name}");
    let answered = contents(answers.into_iter().flat_map(|answer| answer.answers));
    if answered.is_empty() {
        // 4592 §2.2.2: a name without records has a TXT, because otherwise the secondary would answer NXDOMAIN.
        assert!(transferred.iter().all(|data| data.starts_with("TXT ")), "{name}: {transferred:?}");
    } else {
        assert_eq!(transferred, answered, "{name}");
    }
}
