//! Whole messages: from the octets of a request to the octets of its response.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::opt::EdnsOption},
};
use proptest::prelude::*;

use super::world::{With, World, full, instance};
use crate::dns::fit::UDP_PAYLOAD;
use crate::dns::query::Query as Read;
use crate::dns::respond::{Outcome, Transport};

/// A query as a client would build it.
pub(super) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(full(name)).unwrap(), kind));
    message
}

/// The same with EDNS of this size.
pub(super) fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.edns = Some(edns);
    message
}

/// The octets that answer these octets; they have to be answered.
pub(super) fn exchange(world: &World, octets: &[u8], transport: Transport) -> Vec<u8> {
    match world.send(octets, transport) {
        Outcome::Reply(octets, said) => {
            assert_eq!(said.truncated, octets[2] & 2 != 0, "what is counted is what is sent");
            octets
        }
        other => panic!("no answer: {other:?}"),
    }
}

fn ask(world: &World, message: &Message) -> Message {
    let octets = exchange(world, &message.to_vec().unwrap(), Transport::Udp);
    Message::from_vec(&octets).unwrap()
}

fn world() -> World {
    World::of([
        instance("orders", "o1", &["10.0.0.1"]).leased(30),
        instance("orders", "o2", &["10.0.0.2"]),
    ])
}

fn ede(message: &Message) -> Option<u16> {
    let options = message.edns.as_ref()?.options();
    options.as_ref().iter().find_map(|(_, option)| match option {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    })
}

#[test]
fn flags_are_copied_or_cleared_as_the_rfcs_say() {
    for rd in [false, true] {
        let mut message = query("orders.shop", RecordType::A);
        message.metadata.recursion_desired = rd;
        message.metadata.checking_disabled = true;
        message.metadata.authentic_data = true;
        let answer = ask(&world(), &message).metadata;
        assert_eq!(answer.id, 4711);
        assert_eq!((answer.message_type, answer.op_code), (MessageType::Response, OpCode::Query));
        assert!(answer.authoritative && !answer.truncation && !answer.recursion_available);
        assert!(!answer.authentic_data && !answer.checking_disabled);
        assert_eq!(answer.recursion_desired, rd);
    }
}

#[test]
fn edns_is_in_the_response_if_and_only_if_it_was_in_the_query() {
    let plain = ask(&world(), &query("orders.shop", RecordType::A));
    assert_eq!((plain.answers.len(), plain.edns), (2, None));
    for (size, dnssec) in [(0, false), (512, true), (1232, false), (65_535, true)] {
        let mut message = with_edns(query("orders.shop", RecordType::A), size);
        let edns = message.edns.as_mut().unwrap();
        edns.set_dnssec_ok(dnssec);
        edns.options_mut().insert(EdnsOption::Unknown(65_001, b"echo?".to_vec()));
        let answer = ask(&world(), &message);
        let edns = answer.edns.unwrap();
        assert_eq!((edns.version(), edns.max_payload()), (0, UDP_PAYLOAD));
        assert_eq!(edns.flags().dnssec_ok, dnssec);
        assert!(edns.options().as_ref().is_empty());
    }
}

#[test]
fn the_case_of_the_question_is_echoed_in_question_and_owners() {
    let answer = ask(&world(), &query("oRdErS.sHoP", RecordType::A));
    let expected = "oRdErS.sHoP.svc.rollcall.internal.";
    assert_eq!(answer.queries[0].name().to_ascii(), expected);
    assert!(answer.answers.iter().all(|record| record.name.to_ascii() == expected));
}

#[test]
fn other_opcodes_are_not_implemented() {
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(1)] {
        let mut message = with_edns(query("orders.shop", RecordType::SOA), 1232);
        message.metadata.op_code = opcode;
        let answer = ask(&world(), &message);
        assert_eq!(answer.metadata.response_code, ResponseCode::NotImp, "{opcode}");
        assert_eq!(answer.metadata.op_code, opcode);
        assert!(!answer.metadata.authoritative && answer.edns.is_some());
    }
}

#[test]
fn other_versions_of_edns_are_refused_with_version_zero() {
    let mut message = with_edns(query("orders.shop", RecordType::A), 1232);
    message.edns.as_mut().unwrap().set_version(1);
    let answer = ask(&world(), &message);
    // hickory reads 16 as BADSIG, which has the same number.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!((answer.answers.len(), answer.edns.unwrap().version()), (0, 0));
}

#[test]
fn no_question_or_two_are_a_format_error() {
    let mut none = query("orders.shop", RecordType::A);
    none.queries.clear();
    let mut two = query("orders.shop", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("a.").unwrap(), RecordType::A));
    for message in [none, two] {
        let answer = ask(&world(), &message);
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        assert!(answer.queries.is_empty() && answer.answers.is_empty());
    }
}

#[test]
fn a_crowd_of_questions_is_not_repeated_whatever_the_code() {
    for opcode in [OpCode::Query, OpCode::Status] {
        let mut message = query("orders.shop", RecordType::A);
        message.metadata.op_code = opcode;
        message.queries = (0..50).map(label_query).collect();
        let octets = exchange(&world(), &message.to_vec().unwrap(), Transport::Udp);
        assert_eq!(octets.len(), 12, "{opcode}");
    }
}

fn label_query(i: u8) -> Query {
    Query::query(Name::from_ascii(format!("a-rather-long-name-{i}.")).unwrap(), RecordType::A)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever can be read is answered, in a message that can be read.
    #[test]
    fn no_request_upsets_us(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        names in prop::sample::select(vec!["_http._tcp.orders.shop", "o1.orders.shop", "a."]),
        edns: Option<u16>,
        tcp: bool,
    ) {
        let plain = query(names, RecordType::SRV);
        let message = edns.map_or_else(|| plain.clone(), |size| with_edns(plain.clone(), size));
        let mut octets = message.to_vec().unwrap();
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        match world().send(&octets, transport) {
            Outcome::Silence => prop_assert!(octets[2] & 0x80 != 0, "only responses are dropped"),
            Outcome::Reply(answer, _) => {
                let answer = Message::from_vec(&answer).unwrap();
                let read = Read::read(&octets).unwrap();
                prop_assert_eq!(answer.metadata.id, read.id);
                prop_assert_eq!(answer.edns.is_some(), read.edns.is_some());
                prop_assert!(!answer.metadata.recursion_available && !answer.metadata.authentic_data);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// Whatever comes, nothing breaks; and no message that is answered is short of a header.
    #[test]
    fn no_octets_upset_us(octets in prop::collection::vec(any::<u8>(), 0..80), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        match world().send(&octets, transport) {
            Outcome::Silence => prop_assert!(octets.len() < 12 || octets[2] & 0x80 != 0),
            Outcome::Reply(answer, _) => prop_assert!(Message::from_vec(&answer).is_ok()),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn other_classes_are_refused() {
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::NONE] {
        let mut message = query("orders.shop", RecordType::TXT);
        message.queries[0].set_query_class(class);
        let answer = ask(&world(), &message).metadata;
        assert_eq!(answer.response_code, ResponseCode::Refused, "{class}");
        assert!(!answer.authoritative);
    }
}

#[test]
fn why_there_is_no_answer_is_said_to_those_who_understand_it() {
    let outside = query("example.com.", RecordType::A);
    assert_eq!(ask(&world(), &outside).metadata.response_code, ResponseCode::Refused);
    assert_eq!(ede(&ask(&world(), &outside)), None);
    assert_eq!(ede(&ask(&world(), &with_edns(outside, 1232))), Some(20));
    let early = with_edns(query("orders.shop", RecordType::A), 1232);
    let answer = ask(&World::unsynced(), &early);
    assert_eq!((answer.metadata.response_code, ede(&answer)), (ResponseCode::ServFail, Some(14)));
    let mut stale = world();
    stale.now.0 += 3_600_000;
    assert_eq!(ede(&ask(&stale, &early)), Some(3));
}

#[test]
fn srv_targets_are_not_compressed() {
    let octets = query("_http._tcp.orders.shop", RecordType::SRV).to_vec().unwrap();
    let out = exchange(&world(), &octets, Transport::Udp);
    for label in [&b"\x02o1"[..], b"\x02o2"] {
        let target = [label, b"\x06orders\x04shop\x03svc\x08rollcall\x08internal\0"].concat();
        assert!(out.windows(target.len()).any(|window| window == target));
    }
}

#[test]
fn a_type_that_we_do_not_know_is_simply_absent() {
    let answer = ask(&world(), &query("orders.shop", RecordType::Unknown(65_280)));
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(matches!(&answer.authorities[..], [Record { data: RData::SOA(_), .. }]));
}
