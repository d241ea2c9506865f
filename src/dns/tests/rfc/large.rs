//! Sets that are larger than a message: RFC 1035 §4.2, RFC 2181 §9, RFC 6891 §7, with names of usual length.
//!
//! A query for `_http._tcp.web.shop.svc.rollcall.internal.` has 12 bytes of header, 43 of name and 4 of type and class:
//! 59. A target `<label>.web.shop.svc.rollcall.internal.` has 33 bytes plus the label. SRV targets are not compressed
//! (RFC 2782), so a record has 2 (a pointer to the question) + 10 + 6 + 33 = 51 bytes, plus the label.

use hickory_proto::{
    op::Message,
    rr::{RData, RecordType},
};

use super::super::world::{World, instance};
use super::{COOKIE, NSID, RawQuery, ask};

const HTTP: &str = "_http._tcp.web.shop";
const QUESTION: usize = 59;

/// The length of an OPT without options.
const OPT: usize = 11;

const UDP: usize = 1232;
const TCP: usize = 65_535;

/// `count` instances of `web` with labels of this length.
fn web(count: usize, label: usize) -> World {
    World::with_instances((0..count).map(|i| {
        let (high, low) = (i / 250, i % 250);
        let ips = [format!("10.0.{high}.{low}"), format!("2001:db8::{i:x}")];
        instance("web", &format!("w{i:0>width$}", width = label - 1), &[&ips[0], &ips[1]])
    }))
}

struct SizedMessage {
    size: usize,
    message: Message,
}

fn receive(world: &World, query: &RawQuery) -> SizedMessage {
    let bytes = query.answer(world);
    SizedMessage { size: bytes.len(), message: Message::from_vec(&bytes).unwrap() }
}

/// Sends a query for SRV, and checks that the response has the first `expected` records of the whole answer.
fn srv(world: &World, query: &RawQuery, expected: usize) -> SizedMessage {
    let response = receive(world, query);
    let whole = world.ask(HTTP, RecordType::SRV).answers;
    assert_eq!(response.message.answers.len(), expected);
    assert_eq!(response.message.answers[..], whole[..expected]);
    assert_eq!(response.message.metadata.truncation, expected < whole.len());
    let distinct: std::collections::HashSet<_> =
        response.message.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(distinct.len(), expected);
    response
}

#[test]
fn tcp_message_has_as_many_srv_as_fit_with_tc_and_opt() {
    // 51 + 20 bytes each: 1,000 records would need 71,059 bytes, more than 65,535. 922 fit: 59 + 922 × 71 = 65,521.
    let world = web(1000, 20);
    let query = ask(HTTP, RecordType::SRV).tcp();
    let response = srv(&world, &query, (TCP - QUESTION) / 71);
    assert_eq!((response.message.answers.len(), response.size), (922, 65_521));
    assert!(response.message.edns.is_none());
    // An OPT needs 11 of the remaining 14 bytes.
    let response = srv(&world, &query.clone().edns(&[]), (TCP - QUESTION - OPT) / 71);
    assert_eq!((response.message.answers.len(), response.size), (922, 65_532));
    assert!(response.message.edns.is_some());
    assert!(response.message.additionals.is_empty() && response.message.authorities.is_empty());
    // A cookie of 4 + 24 bytes and an NSID of 4 + 10 displace one record.
    let with_options = query.clone().opt(65_535, super::DO, &[(COOKIE, b"clientid"), (NSID, b"")]);
    let response = srv(&world, &with_options, (TCP - QUESTION - OPT - 28 - 14) / 71);
    assert_eq!((response.message.answers.len(), response.size), (921, 59 + 921 * 71 + 53));
    let edns = response.message.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().len() == 2);
    // One record fewer and one record more than fit.
    for (count, truncated) in [(921, false), (922, false), (923, true)] {
        let response = srv(&web(count, 20), &query, count.min(922));
        assert_eq!(response.message.metadata.truncation, truncated, "{count}");
    }
}

#[test]
fn a_thousand_srv_with_labels_of_eleven_bytes_fit_over_tcp() {
    // 51 + 11 bytes each: (65,535 - 59 - 11) / 62 = 1,055 fit; 1,000 have 62,000.
    let world = web(1000, 11);
    for query in [ask(HTTP, RecordType::SRV).tcp(), ask(HTTP, RecordType::SRV).tcp().edns(&[])] {
        let response = srv(&world, &query, 1000);
        assert!(response.size <= TCP);
        // The remaining 3,476 or 3,465 bytes hold the addresses of 78 or 77 targets, 2 + 10 + 4 and 2 + 10 + 16 bytes
        // each: their names are before byte 16,384, so pointers can reach them.
        let left = TCP - QUESTION - 62_000 - response.message.edns.as_ref().map_or(0, |_| OPT);
        assert_eq!(response.message.additionals.len(), left / 44 * 2);
    }
    let query = ask(HTTP, RecordType::SRV).tcp().edns(&[]);
    for (count, expected) in [(1055, 1055), (1056, 1055), (2000, 1055)] {
        srv(&web(count, 11), &query, expected);
    }
}

#[test]
fn a_thousand_addresses_fit_over_tcp() {
    let world = web(1000, 20);
    // A question without `_http._tcp.` is 11 bytes shorter; each record has 2 + 10 bytes plus the address.
    for (kind, size) in [(RecordType::A, 16), (RecordType::AAAA, 28)] {
        let response = receive(&world, &ask("web.shop", kind).tcp().edns(&[]));
        assert_eq!(response.size, QUESTION - 11 + 1000 * size + OPT);
        assert!(!response.message.metadata.truncation && response.message.edns.is_some());
        let distinct: std::collections::HashSet<_> = response
            .message
            .answers
            .iter()
            .map(|record| match &record.data {
                RData::A(ip) => std::net::IpAddr::from(ip.0),
                RData::AAAA(ip) => ip.0.into(),
                other => panic!("unexpected record: {other}"),
            })
            .collect();
        assert_eq!(distinct.len(), 1000);
    }
}

#[test]
fn udp_message_has_as_many_srv_as_fit_with_tc_and_opt() {
    for (label, size) in [(20, 71), (11, 62)] {
        let world = web(1000, label);
        let query = ask(HTTP, RecordType::SRV);
        srv(&world, &query, (512 - QUESTION) / size);
        for (advertised, limit) in [(0, 512), (512, 512), (1000, 1000), (1232, UDP), (65_535, UDP)]
        {
            let response = srv(
                &world,
                &query.clone().opt(advertised, 0, &[]),
                (limit - QUESTION - OPT) / size,
            );
            assert!(response.size <= limit && response.size + size > limit);
            assert!(response.message.edns.is_some() && response.message.additionals.is_empty());
        }
    }
    // 2181 §9: missing glue does not set TC. 12 × 71 = 852 bytes of SRV leave 310 bytes for the addresses of 7 targets.
    let response = srv(&web(12, 20), &ask(HTTP, RecordType::SRV).edns(&[]), 12);
    assert_eq!(response.message.additionals.len(), (UDP - QUESTION - OPT - 12 * 71) / 44 * 2);
}

#[test]
fn truncated_records_change_from_one_answer_to_the_next() {
    let mut world = web(1000, 20);
    let mut targets = std::collections::HashSet::new();
    for seed in 0..40 {
        world.seed = seed;
        let message = ask(HTTP, RecordType::SRV).tcp().message(&world);
        targets.extend(message.answers.iter().map(|record| record.data.to_string()));
    }
    assert_eq!(targets.len(), 1000, "every target appears in some answer");
}
