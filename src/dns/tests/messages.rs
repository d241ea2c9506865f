//! Whole messages: from the bytes of a query to the bytes of its response. `rfc` has the rules of the RFCs.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use proptest::prelude::*;

use super::world::{With, World, absolute_name, instance};
use crate::dns::limit::ErrorLimits;
use crate::dns::query::Query as ParsedQuery;
use crate::dns::respond::{Response, Transport};

/// A query without EDNS.
pub(super) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(absolute_name(name)).unwrap(), kind));
    message
}

/// Adds EDNS with this size to a query.
pub(super) fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.edns = Some(edns);
    message
}

/// The response to these bytes; panics if there is none.
pub(super) fn exchange(world: &World, bytes: &[u8], transport: Transport) -> Vec<u8> {
    match world.send(bytes, transport) {
        Response::Message(bytes, summary) => {
            assert_eq!(
                summary.truncated,
                bytes[2] & 2 != 0,
                "the summary has the TC of the message"
            );
            bytes
        }
        other => panic!("no response message: {other:?}"),
    }
}

fn ask(world: &World, message: &Message) -> Message {
    let bytes = exchange(world, &message.to_vec().unwrap(), Transport::Udp);
    Message::from_vec(&bytes).unwrap()
}

fn world() -> World {
    World::with_instances([
        instance("orders", "o1", &["10.0.0.1"]).leased(30),
        instance("orders", "o2", &["10.0.0.2"]),
    ])
}

#[test]
fn question_and_owners_have_the_case_of_the_query() {
    let answer = ask(&world(), &query("oRdErS.sHoP", RecordType::A));
    let expected = "oRdErS.sHoP.svc.rollcall.internal.";
    assert_eq!(answer.queries[0].name().to_ascii(), expected);
    assert!(answer.answers.iter().all(|record| record.name.to_ascii() == expected));
}

#[test]
fn several_questions_are_never_repeated() {
    for opcode in [OpCode::Query, OpCode::Status] {
        let mut message = query("orders.shop", RecordType::A);
        message.metadata.op_code = opcode;
        message.queries = (0..50).map(label_query).collect();
        let bytes = exchange(&world(), &message.to_vec().unwrap(), Transport::Udp);
        assert_eq!(bytes.len(), 12, "{opcode}");
    }
}

fn label_query(i: u8) -> Query {
    Query::query(Name::from_ascii(format!("a-rather-long-name-{i}.")).unwrap(), RecordType::A)
}

#[test]
fn rate_limit_truncates_nxdomain_and_exempts_nodata() {
    // One response a second, and a burst of two.
    let world = world().with_limits(ErrorLimits::new(1, 7));
    let missing = query("none.shop", RecordType::A);
    let responses: Vec<_> = (0..6).map(|_| ask(&world, &missing)).collect();
    for (answer, at) in responses.iter().zip(0..) {
        let metadata = &answer.metadata;
        let (code, tc) = (metadata.response_code, metadata.truncation);
        let expected = if at < 2 { ResponseCode::NXDomain } else { ResponseCode::NoError };
        assert_eq!((code, tc), (expected, at >= 2), "{answer}");
        assert_eq!(answer.authorities.len(), usize::from(at < 2), "{answer}");
    }
    let bytes = missing.to_vec().unwrap();
    let (truncated, whole) =
        (exchange(&world, &bytes, Transport::Udp), exchange(&world, &bytes, Transport::Tcp));
    assert_eq!(truncated.len(), bytes.len(), "a spoofed query is not amplified");
    let whole = Message::from_vec(&whole).unwrap();
    assert_eq!(whole.metadata.response_code, ResponseCode::NXDomain, "over TCP");
    for _ in 0..10 {
        let none = ask(&world, &query("orders.shop", RecordType::AAAA));
        assert!(!none.metadata.truncation && none.authorities.len() == 1, "{none}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every well-formed query gets a well-formed response.
    #[test]
    fn every_query_gets_a_valid_response(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        names in prop::sample::select(vec!["_http._tcp.orders.shop", "o1.orders.shop", "a."]),
        edns: Option<u16>,
        tcp: bool,
    ) {
        let plain = query(names, RecordType::SRV);
        let message = edns.map_or_else(|| plain.clone(), |size| with_edns(plain.clone(), size));
        let mut bytes = message.to_vec().unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        match world().send(&bytes, transport) {
            Response::Dropped => prop_assert!(bytes[2] & 0x80 != 0, "only responses are dropped"),
            Response::Message(answer, _) => {
                let answer = Message::from_vec(&answer).unwrap();
                let read = ParsedQuery::parse(&bytes).unwrap();
                prop_assert_eq!(answer.metadata.id, read.id);
                prop_assert_eq!(answer.edns.is_some(), read.edns.is_some());
                // RFC 6891 §6.1.1: if another library finds an OPT in the query, the response has one.
                let has_opt = Message::from_vec(&bytes).is_ok_and(|query| query.edns.is_some());
                prop_assert!(!has_opt || answer.edns.is_some());
                prop_assert!(!answer.metadata.recursion_available && !answer.metadata.authentic_data);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// No input causes a panic, and only incomplete headers and responses are dropped.
    #[test]
    fn any_bytes_are_handled_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        match world().send(&bytes, transport) {
            Response::Dropped => prop_assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0),
            Response::Message(answer, _) => prop_assert!(Message::from_vec(&answer).is_ok()),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn srv_targets_are_not_compressed() {
    let bytes = query("_http._tcp.orders.shop", RecordType::SRV).to_vec().unwrap();
    let out = exchange(&world(), &bytes, Transport::Udp);
    for label in [&b"\x02o1"[..], b"\x02o2"] {
        let target = [label, b"\x06orders\x04shop\x03svc\x08rollcall\x08internal\0"].concat();
        assert!(out.windows(target.len()).any(|window| window == target));
    }
}
