//! Zone transfers: RFC 5936, RFC 1995, RFC 1982.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use rollcall_model::instance::{Instance, State};

use super::super::world::{With, World, full, instance};
use super::{APEX, Wire, ask, hold, name_octets, orders};
use crate::config::Empty;
use crate::dns::respond::Outcome;

const SOA: u16 = 6;
const IXFR: u16 = 251;
const AXFR: u16 = 252;

fn world(instances: Vec<Instance>) -> World {
    World::of(instances)
        .settings(|settings| settings.transfer = vec!["192.0.2.0/24".parse().unwrap()])
}

/// Asks for what has changed since a serial.
fn since(serial: u32) -> Wire {
    let data = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
    ask(APEX, IXFR).record(2, &name_octets(APEX), SOA, 1, 5, &data).tcp()
}

#[test]
fn who_may_have_the_zone_has_it_over_tcp() {
    let axfr = |name: &str| ask(name, AXFR).tcp();
    let (supported, ours) =
        ("ede21=\"not a query that this server answers\"", "ede20=\"not a zone of this server\"");
    let not_ours = format!("NOTAUTH 1/0/0/0 opt {ours}");
    let unsupported = format!("REFUSED 1/0/0/0 opt {supported}");
    hold(
        &world(orders()),
        &[
            ("5936 §2.2: all of it", axfr(APEX), "transfer"),
            ("5936 §2.1: in any case", axfr("ROLLCALL.internal."), "transfer"),
            ("5936 §2.2.1: a zone that is not here", axfr("example.com.").edns(&[]), &not_ours),
            (
                "5936 §2.2.1: a name within a zone is none",
                axfr("svc.rollcall.internal.").edns(&[]),
                &not_ours,
            ),
            ("5936 §2.2.1: nor is one above it", axfr("internal.").edns(&[]), &not_ours),
            ("5936 §2.2.1: nor what is not even there", axfr("none.shop").edns(&[]), &not_ours),
            ("reverse zones are not transferred", axfr("10.in-addr.arpa.").edns(&[]), &unsupported),
            ("5936 §4.2: not over UDP", ask(APEX, AXFR).edns(&[]), &unsupported),
            (
                "5936 §2.1.2: a query has nothing but its question",
                axfr(APEX).record(2, &[0], SOA, 1, 0, &[0; 22]),
                "FORMERR 1/0/0/0",
            ),
            (
                "5936 §2.1: of class IN",
                super::nothing(0).question(&name_octets(APEX), AXFR, 3).tcp(),
                "REFUSED 1/0/0/0",
            ),
            (
                "1995 §3: an IXFR says what it has",
                ask(APEX, IXFR).record(2, &[0], 1, 1, 0, &[0; 22]).tcp(),
                "FORMERR 1/0/0/0",
            ),
            ("1995 §4: without that all is sent", ask(APEX, IXFR).tcp(), "transfer"),
        ],
    );
    let mut stranger = world(orders());
    stranger.from = "198.51.100.1".parse().unwrap();
    let refused = "REFUSED 1/0/0/0 opt ede18=\"not an address that may transfer this zone\"";
    hold(
        &stranger,
        &[
            ("5936 §5: to nobody else", axfr(APEX).edns(&[]), refused),
            ("1995 §6: nor what has changed", since(1).edns(&[]), refused),
        ],
    );
    let early = World::unsynced()
        .settings(|settings| settings.transfer = vec!["0.0.0.0/0".parse().unwrap()]);
    let not_yet = "SERVFAIL 1/0/0/0 opt ede14=\"not yet in sync with the Kubernetes API\"";
    hold(&early, &[("5936 §2.2.1: half a zone is none", axfr(APEX).edns(&[]), not_yet)]);
}

#[test]
fn who_has_what_we_have_or_more_is_told_the_serial_and_no_more() {
    let world = world(orders());
    let newest = world.directory().serial();
    let (one, all) = ("NOERROR aa 1/1/0/0", "transfer");
    let half = 1 << 31;
    hold(
        &world,
        &[
            ("1995 §2: the same", since(newest), one),
            ("1995 §2: older", since(newest - 1), all),
            ("1995 §2: newer, as another replica gave it", since(newest + 1), one),
            ("1982 §3.2: as far ahead as can be", since(newest.wrapping_add(half - 1)), one),
            ("1982 §3.2: as far behind as can be", since(newest.wrapping_sub(half - 1)), all),
            ("1982 §3.2: neither ahead nor behind", since(newest.wrapping_add(half)), all),
            ("1982 §3.2: 0 is a number like others", since(0), all),
            ("1995 §2: over UDP the serial, which says enough", udp(newest - 1), one),
            ("1995 §2: over UDP without any", ask(APEX, IXFR), one),
        ],
    );
    let answer = since(newest).message(&world);
    let RData::SOA(soa) = &answer.answers[0].data else { panic!("no SOA") };
    assert_eq!((soa.serial, answer.answers[0].ttl), (newest, 5));
}

/// The same over UDP.
fn udp(serial: u32) -> Wire {
    Wire { transport: crate::dns::respond::Transport::Udp, ..since(serial) }
}

/// The messages of a transfer.
fn messages(query: &Wire, world: &World) -> Vec<Message> {
    let Outcome::Transfer(transfer) = query.put_to(world) else { panic!("no transfer") };
    let octets: Vec<_> = transfer.collect();
    assert!(octets.iter().all(|message| message.len() <= 16_384));
    octets.iter().map(|message| Message::from_vec(message).unwrap()).collect()
}

#[test]
fn a_transfer_begins_and_ends_with_the_same_soa_in_messages_of_one_id() {
    let crowd = (0..2000).map(|i| instance("crowd", &format!("c{i}"), &["10.0.0.1"])).collect();
    let world = world(crowd);
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
                "5936 §2.2.2: the question is in the first"
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
        assert_eq!(soas.len(), 2, "5936 §2.2: the SOA stands at both ends");
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
        instance("dead", "x1", &["10.0.3.1"]).expired(),
    ]);
    all
}

/// Everything that a name has, by type, without TTLs and order.
fn has(records: impl IntoIterator<Item = Record>) -> BTreeSet<String> {
    records.into_iter().map(|record| format!("{} {}", record.record_type(), record.data)).collect()
}

/// Names that have records wherever nobody is left out for being lost.
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
fn a_transfer_has_what_we_answer_at_each_name_and_no_record_twice() {
    for empty in [Empty::NoData, Empty::NxDomain, Empty::Last] {
        let world = world(mixed()).settings(|settings| settings.empty = empty);
        let all = messages(&ask(APEX, AXFR).tcp(), &world).into_iter().flat_map(|m| m.answers);
        let mut names = BTreeMap::<String, Vec<Record>>::new();
        // The last SOA is the first one again.
        for record in all.skip(1) {
            assert!(record.name.to_ascii().ends_with(APEX), "5936 §3.4: of this zone: {record}");
            assert_eq!(record.ttl, 5);
            names.entry(record.name.to_ascii()).or_default().push(record);
        }
        for name in NAMES.map(full) {
            assert!(names.contains_key(&name), "5936 §3: all of it: {name} {empty:?}");
        }
        for (name, records) in names {
            same(&world, &name, records);
        }
    }
}

/// Types that any name has.
const KINDS: [RecordType; 6] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::NS,
];

/// These records are all that is answered at a name.
fn same(world: &World, name: &str, records: Vec<Record>) {
    let count = records.len();
    let transferred = has(records);
    assert_eq!(transferred.len(), count, "5936 §2.2: once: {name}");
    let answers = KINDS.map(|kind| world.ask(name, kind));
    assert!(answers.iter().all(|answer| answer.code == ResponseCode::NoError), "{name}");
    let answered = has(answers.into_iter().flat_map(|answer| answer.answers));
    if answered.is_empty() {
        // 4592 §2.2.2: a name that is there without records has a text, else the secondary would deny it.
        assert!(transferred.iter().all(|data| data.starts_with("TXT ")), "{name}: {transferred:?}");
    } else {
        assert_eq!(transferred, answered, "{name}");
    }
}
