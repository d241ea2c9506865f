//! Sets that are larger than a message: RFC 1035 §4.2, RFC 2181 §9, RFC 6891 §7, on the names that everybody has.
//!
//! A question for `_http._tcp.web.shop.svc.rollcall.internal.` has 12 octets of header, 43 of name and 4 of type
//! and class: 59. A target `<label>.web.shop.svc.rollcall.internal.` has 33 octets and the label's; no SRV target
//! is compressed (RFC 2782), so a record has 2 (a pointer to the question), 10, 6 and 33, which is 51, and the
//! label's.

use hickory_proto::{
    op::Message,
    rr::{RData, RecordType},
};

use super::super::world::{World, instance};
use super::{COOKIE, NSID, Wire, ask};

const HTTP: &str = "_http._tcp.web.shop";
const QUESTION: usize = 59;

/// An OPT without options.
const OPT: usize = 11;

const UDP: usize = 1232;
const TCP: usize = 65_535;

/// So many instances of `web` whose labels have this length.
fn web(count: usize, label: usize) -> World {
    World::of((0..count).map(|i| {
        let (high, low) = (i / 250, i % 250);
        let ips = [format!("10.0.{high}.{low}"), format!("2001:db8::{i:x}")];
        instance("web", &format!("w{i:0>width$}", width = label - 1), &[&ips[0], &ips[1]])
    }))
}

struct Seen {
    octets: usize,
    message: Message,
}

fn see(world: &World, query: &Wire) -> Seen {
    let octets = query.answer(world);
    Seen { octets: octets.len(), message: Message::from_vec(&octets).unwrap() }
}

/// Asks for SRV; the answer is the beginning of the whole one, with its OPT as the last record.
fn srv(world: &World, query: &Wire, wanted: usize) -> Seen {
    let seen = see(world, query);
    let whole = world.ask(HTTP, RecordType::SRV).answers;
    assert_eq!(seen.message.answers.len(), wanted);
    assert_eq!(seen.message.answers[..], whole[..wanted]);
    assert_eq!(seen.message.metadata.truncation, wanted < whole.len());
    let distinct: std::collections::HashSet<_> =
        seen.message.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(distinct.len(), wanted);
    seen
}

#[test]
fn as_many_srv_as_fit_go_out_over_tcp_with_tc_and_the_opt() {
    // 51 + 20 octets each: 1,000 need 71,059, which is more than 65,535. 922 fit: 59 + 922 × 71 = 65,521.
    let world = web(1000, 20);
    let query = ask(HTTP, RecordType::SRV).tcp();
    let seen = srv(&world, &query, (TCP - QUESTION) / 71);
    assert_eq!((seen.message.answers.len(), seen.octets), (922, 65_521));
    assert!(seen.message.edns.is_none());
    // An OPT takes 11 of the 14 octets that are left.
    let seen = srv(&world, &query.clone().edns(&[]), (TCP - QUESTION - OPT) / 71);
    assert_eq!((seen.message.answers.len(), seen.octets), (922, 65_532));
    assert!(seen.message.edns.is_some());
    assert!(seen.message.additionals.is_empty() && seen.message.authorities.is_empty());
    // A cookie of 4 + 24 octets and a name of 4 + 10 take the place of one more.
    let asks = query.clone().opt(65_535, super::DO, &[(COOKIE, b"8 octets"), (NSID, b"")]);
    let seen = srv(&world, &asks, (TCP - QUESTION - OPT - 28 - 14) / 71);
    assert_eq!((seen.message.answers.len(), seen.octets), (921, 59 + 921 * 71 + 53));
    let edns = seen.message.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().len() == 2);
    // One more or less than fits is the boundary.
    for (count, truncated) in [(921, false), (922, false), (923, true)] {
        let seen = srv(&web(count, 20), &query, count.min(922));
        assert_eq!(seen.message.metadata.truncation, truncated, "{count}");
    }
}

#[test]
fn a_thousand_srv_with_labels_of_eleven_octets_are_whole() {
    // 51 + 11 octets each: (65,535 - 59 - 11) / 62 = 1,055 fit; 1,000 have 62,000.
    let world = web(1000, 11);
    for query in [ask(HTTP, RecordType::SRV).tcp(), ask(HTTP, RecordType::SRV).tcp().edns(&[])] {
        let seen = srv(&world, &query, 1000);
        assert!(seen.octets <= TCP);
        // What is left, 3,476 or 3,465 octets, is for the addresses of 78 or 77 targets: 2 + 10 + 4 and 2 + 10 +
        // 16 octets each, as their names stand before octet 16,384 and can be pointed to.
        let left = TCP - QUESTION - 62_000 - seen.message.edns.as_ref().map_or(0, |_| OPT);
        assert_eq!(seen.message.additionals.len(), left / 44 * 2);
    }
    let query = ask(HTTP, RecordType::SRV).tcp().edns(&[]);
    for (count, wanted) in [(1055, 1055), (1056, 1055), (2000, 1055)] {
        srv(&web(count, 11), &query, wanted);
    }
}

#[test]
fn a_thousand_addresses_are_whole() {
    let world = web(1000, 20);
    // A question without `_http._tcp.` has 11 octets less; each record has 2 + 10 and the address.
    for (kind, size) in [(RecordType::A, 16), (RecordType::AAAA, 28)] {
        let seen = see(&world, &ask("web.shop", kind).tcp().edns(&[]));
        assert_eq!(seen.octets, QUESTION - 11 + 1000 * size + OPT);
        assert!(!seen.message.metadata.truncation && seen.message.edns.is_some());
        let distinct: std::collections::HashSet<_> = seen
            .message
            .answers
            .iter()
            .map(|record| match &record.data {
                RData::A(ip) => std::net::IpAddr::from(ip.0),
                RData::AAAA(ip) => ip.0.into(),
                other => panic!("not expected here: {other}"),
            })
            .collect();
        assert_eq!(distinct.len(), 1000);
    }
}

#[test]
fn over_udp_the_best_that_fits_goes_out_with_tc_and_the_opt() {
    for (label, size) in [(20, 71), (11, 62)] {
        let world = web(1000, label);
        let query = ask(HTTP, RecordType::SRV);
        srv(&world, &query, (512 - QUESTION) / size);
        for (asked, limit) in [(0, 512), (512, 512), (1000, 1000), (1232, UDP), (65_535, UDP)] {
            let seen =
                srv(&world, &query.clone().opt(asked, 0, &[]), (limit - QUESTION - OPT) / size);
            assert!(seen.octets <= limit && seen.octets + size > limit);
            assert!(seen.message.edns.is_some() && seen.message.additionals.is_empty());
        }
    }
    // 2181 §9: addresses of targets that are left out set no TC. 12 × 71 = 852 octets of SRV, and 310 are left,
    // for the addresses of 7 targets.
    let seen = srv(&web(12, 20), &ask(HTTP, RecordType::SRV).edns(&[]), 12);
    assert_eq!(seen.message.additionals.len(), (UDP - QUESTION - OPT - 12 * 71) / 44 * 2);
}

#[test]
fn who_is_cut_off_changes_from_one_answer_to_the_next() {
    let mut world = web(1000, 20);
    let mut seen = std::collections::HashSet::new();
    for seed in 0..40 {
        world.seed = seed;
        let message = ask(HTTP, RecordType::SRV).tcp().message(&world);
        seen.extend(message.answers.iter().map(|record| record.data.to_string()));
    }
    assert_eq!(seen.len(), 1000, "nobody is left out for good");
}
