//! Whole messages: from the octets of a request to the octets of its response. What the RFCs say of them is in
//! `rfc`.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use proptest::prelude::*;

use super::world::{With, World, full, instance};
use crate::dns::limit::Limits;
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

#[test]
fn the_case_of_the_question_is_echoed_in_question_and_owners() {
    let answer = ask(&world(), &query("oRdErS.sHoP", RecordType::A));
    let expected = "oRdErS.sHoP.svc.rollcall.internal.";
    assert_eq!(answer.queries[0].name().to_ascii(), expected);
    assert!(answer.answers.iter().all(|record| record.name.to_ascii() == expected));
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

#[test]
fn beyond_the_bound_denials_are_cut_but_never_kept_back_and_that_a_name_has_no_such_type_is_said() {
    // One a second, two at once.
    let world = world().limits(Limits::new(1, 7));
    let missing = query("none.shop", RecordType::A);
    let told: Vec<_> = (0..6).map(|_| ask(&world, &missing)).collect();
    for (answer, at) in told.iter().zip(0..) {
        let metadata = &answer.metadata;
        let (code, cut) = (metadata.response_code, metadata.truncation);
        let wanted = if at < 2 { ResponseCode::NXDomain } else { ResponseCode::NoError };
        assert_eq!((code, cut), (wanted, at >= 2), "{answer}");
        assert_eq!(answer.authorities.len(), usize::from(at < 2), "{answer}");
    }
    let octets = missing.to_vec().unwrap();
    let (cut, whole) =
        (exchange(&world, &octets, Transport::Udp), exchange(&world, &octets, Transport::Tcp));
    assert_eq!(cut.len(), octets.len(), "who is not who he says gains nothing");
    let whole = Message::from_vec(&whole).unwrap();
    assert_eq!(whole.metadata.response_code, ResponseCode::NXDomain, "over TCP");
    for _ in 0..10 {
        let none = ask(&world, &query("orders.shop", RecordType::AAAA));
        assert!(!none.metadata.truncation && none.authorities.len() == 1, "{none}");
    }
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
                // RFC 6891 §6.1.1: where another library sees an OPT, there is one in the answer.
                let seen = Message::from_vec(&octets).is_ok_and(|query| query.edns.is_some());
                prop_assert!(!seen || answer.edns.is_some());
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
fn srv_targets_are_not_compressed() {
    let octets = query("_http._tcp.orders.shop", RecordType::SRV).to_vec().unwrap();
    let out = exchange(&world(), &octets, Transport::Udp);
    for label in [&b"\x02o1"[..], b"\x02o2"] {
        let target = [label, b"\x06orders\x04shop\x03svc\x08rollcall\x08internal\0"].concat();
        assert!(out.windows(target.len()).any(|window| window == target));
    }
}
