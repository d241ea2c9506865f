//! TXT records: the attributes of an instance.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use proptest::prelude::*;
use rollcall_model::instance::{Instance, State};
use rollcall_model::lease::Moment;

use super::messages::{exchange, query};
use super::world::{START, With, World, instance, negative_ttls};
use crate::dns::respond::Transport;

use RecordType::{A, ANY, SRV, TXT};

fn with_attributes(instance: Instance, attributes: &[(&str, &str)]) -> Instance {
    let pairs = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    instance.with(|i| i.attributes = pairs.collect())
}

/// The character-strings of each record.
fn strings(records: &[Record]) -> Vec<Vec<Vec<u8>>> {
    let strings = |record: &Record| match &record.data {
        RData::TXT(txt) => txt.txt_data.iter().map(|string| string.to_vec()).collect(),
        other => panic!("not a TXT: {other}"),
    };
    records.iter().map(strings).collect()
}

#[test]
fn attributes_are_in_txt_records_at_the_name_of_the_instance() {
    let attributes = [("a", "1"), ("empty", ""), ("place", "Zürich, \"am See\""), ("sum", "1+1=2")];
    let mut world = World::with_instances([
        with_attributes(instance("orders", "o1", &["10.0.0.1"]).leased(4), &attributes),
        with_attributes(
            instance("orders", "o2", &["10.0.0.2"]).state(State::Draining),
            &[("b", "2")],
        ),
        with_attributes(instance("orders", "o3", &["10.0.0.3"]).expired(), &[("c", "3")]),
        instance("orders", "o4", &["10.0.0.4"]),
    ]);
    world.now = Moment(START.0 + 1_000);
    let answer = world.ask("O1.orders.shop", TXT);
    let expected: Vec<_> =
        attributes.iter().map(|(k, v)| vec![format!("{k}={v}").into_bytes()]).collect();
    assert_eq!(strings(&answer.answers), expected);
    assert!(answer.answers.iter().all(|r| r.ttl == 3), "the TTL ends with the lease");
    assert_eq!(strings(&world.ask("o2.orders.shop", TXT).answers), [[b"b=2".to_vec()]]);
    for name in ["orders.shop", "_http._tcp.orders.shop", "o3.orders.shop", "o4.orders.shop"] {
        let answer = world.ask(name, TXT);
        assert_eq!((answer.code, answer.answers.len()), (ResponseCode::NoError, 0), "{name}");
        assert_eq!(negative_ttls(&answer), (2, 2));
    }
    for kind in [A, SRV, ANY] {
        let answer = world.ask("o1.orders.shop", kind);
        let records = answer.answers.iter().chain(&answer.glue);
        assert!(records.into_iter().all(|r| r.record_type() != TXT), "{kind}");
    }
}

#[test]
fn attributes_that_do_not_fit_are_truncated_at_a_record() {
    let value = "x".repeat(400);
    let attributes: Vec<_> = ["a", "b", "c", "d"].iter().map(|key| (*key, &*value)).collect();
    let world = World::with_instances([with_attributes(
        instance("orders", "o1", &["10.0.0.1"]),
        &attributes,
    )]);
    for (transport, count) in [(Transport::Udp, 1), (Transport::Tcp, 4)] {
        let bytes = exchange(&world, &query("o1.orders.shop", TXT).to_vec().unwrap(), transport);
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!((answer.answers.len(), answer.metadata.truncation), (count, count < 4));
    }
}

proptest! {
    /// In the message, each string but the last has 255 bytes, and concatenated they are the attribute.
    #[test]
    fn concatenated_strings_are_the_attribute(
        key in "[!-<>-~]{1,63}",
        value in "\\PC{0,1024}",
    ) {
        let attributes = [(&*key, &*value)];
        let world = World::with_instances([with_attributes(instance("o", "o1", &["10.0.0.1"]), &attributes)]);
        let bytes = exchange(&world, &query("o1.o.shop", TXT).to_vec().unwrap(), Transport::Tcp);
        let records = strings(&Message::from_vec(&bytes).unwrap().answers);
        prop_assert_eq!(records.len(), 1);
        prop_assert!(records[0].iter().rev().skip(1).all(|string| string.len() == 255));
        prop_assert_eq!(records[0].concat(), format!("{key}={value}").into_bytes());
    }
}
