//! The message: RFC 1034, RFC 1035 §4.1, RFC 6895, RFC 9619.

use hickory_proto::rr::RecordType;

use super::super::world::{World, ZONE};
use super::{
    AA, AD, APEX, CD, RA, RD, RawQuery, TC, Z, ask, assert_rows, describe, header_only, name_bytes,
    opcode, orders, soa, world,
};

const A: u16 = 1;

fn question(name: &[u8], kind: u16, class: u16) -> RawQuery {
    header_only(0).question(name, kind, class)
}

#[test]
fn flags_opcodes_and_counts_of_the_header_are_checked() {
    let all = AA | TC | RD | RA | Z | AD | CD;
    assert_rows(
        &world(),
        &[
            ("1035 §4.1.1: a response is not answered", soa().flags(0x8000), "dropped"),
            (
                "1035 §4.1.1: a response of another opcode is not answered",
                soa().flags(0x8000 | opcode(2)),
                "dropped",
            ),
            (
                "1035 §4.1.1: flags of responses are ignored in a query; only RD is copied",
                soa().flags(all),
                "NOERROR aa rd 1/1/0/0",
            ),
            (
                "1035 §4.1.1: a response code is ignored in a query",
                soa().flags(0xf),
                "NOERROR aa 1/1/0/0",
            ),
            ("1035 §4.1.1: TC is ignored in a query", soa().flags(TC), "NOERROR aa 1/1/0/0"),
            ("6895 §2.2: opcode 1", soa().flags(opcode(1)), "NOTIMP 1/0/0/0"),
            ("6895 §2.2: STATUS", soa().flags(opcode(2) | RD), "NOTIMP rd 1/0/0/0"),
            ("1996 §3: NOTIFY", soa().flags(opcode(4)), "NOTIMP 1/0/0/0"),
            ("2136 §3: UPDATE", soa().flags(opcode(5)), "NOTIMP 1/0/0/0"),
            (
                "6891 §6.1.1: an OPT in the query gets an OPT and the reason",
                soa().flags(opcode(6)).edns(&[]),
                "NOTIMP 1/0/0/0 opt ede21=\"this server does not support this kind of query\"",
            ),
            (
                "8906 §7: with an unknown opcode only the header is interpreted",
                header_only(opcode(15)).counts([1, 7, 7, 7]).raw(&[0xff; 5]),
                "NOTIMP 0/0/0/0",
            ),
            (
                "9619 §4: two questions",
                ask("orders.shop", A).question(&[0], A, 1),
                "FORMERR 0/0/0/0",
            ),
            ("9619 §4: the same one twice", soa().counts([2, 0, 0, 0]), "FORMERR 0/0/0/0"),
            (
                "9619 §4, 6891 §6.1.1: two questions with an OPT",
                soa().question(&[0], A, 1).edns(&[]),
                "FORMERR 0/0/0/0 opt",
            ),
            ("9619 §4: no question", header_only(0), "FORMERR 0/0/0/0"),
            (
                "9619 §4: no question, and an OPT without a cookie",
                header_only(0).edns(&[]),
                "FORMERR 0/0/0/0 opt",
            ),
        ],
    );
}

#[test]
fn malformed_query_is_a_format_error() {
    let a = |name: &[u8]| question(name, A, 1);
    let record = |section| ask("orders.shop", A).record(section, &[0], A, 1, 5, &[10, 0, 0, 1]);
    assert_rows(
        &world(),
        &[
            (
                "1035 §4.1.2: a question cut in its name",
                ask("orders.shop", A).cut(9),
                "FORMERR 0/0/0/0",
            ),
            ("1035 §4.1.2: cut in its class", ask("orders.shop", A).cut(1), "FORMERR 0/0/0/0"),
            (
                "1035 §4.1.2: no bytes after the header",
                header_only(0).counts([1, 0, 0, 0]),
                "FORMERR 0/0/0/0",
            ),
            (
                "1035 §4.1.4: a pointer, although no name comes before",
                a(b"\x06orders\xc0\x0c"),
                "FORMERR 0/0/0/0",
            ),
            ("1035 §4.1.4: a pointer to itself", a(b"\xc0\x0c"), "FORMERR 0/0/0/0"),
            ("1035 §4.1.4: the label type 01 is reserved", a(b"\x41a\0"), "FORMERR 0/0/0/0"),
            ("1035 §4.1.4: the label type 10 is reserved", a(b"\x81a\0"), "FORMERR 0/0/0/0"),
            ("1035 §4.1.1: an answer in a query", record(1), "FORMERR 1/0/0/0"),
            ("1035 §4.1.1: an authority in a query", record(2), "FORMERR 1/0/0/0"),
            (
                "6891 §6.1.1: an answer in a query, with an OPT",
                record(1).edns(&[]),
                "FORMERR 1/0/0/0 opt",
            ),
            (
                "1035 §4.1.1: fewer records than the header counts",
                soa().counts([1, 0, 0, 1]),
                "FORMERR 1/0/0/0",
            ),
            (
                "1035 §4.1.3: a record cut in its data",
                soa().record(3, &[0], A, 1, 0, &[1, 2, 3, 4]).cut(1),
                "FORMERR 1/0/0/0",
            ),
            (
                "3597 §3, 8945 §5.2: a record of an unknown type is skipped",
                soa().record(3, b"\x03key\0", 65_280, 1, 5, b"???"),
                "NOERROR aa 1/1/0/0",
            ),
            (
                "8945 §5.2: a signature after an OPT is skipped",
                soa().edns(&[]).record(3, b"\x03key\0", 250, 255, 0, &[1; 40]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "3597 §3: data of skipped records is not decoded",
                soa().record(3, &[0], A, 1, 0, b"no address"),
                "NOERROR aa 1/1/0/0",
            ),
            // Not in an RFC.
            ("bytes after the last record are ignored", soa().raw(b"more"), "NOERROR aa 1/1/0/0"),
        ],
    );
}

#[test]
fn names_have_any_bytes_up_to_the_length_limits() {
    let zone = name_bytes(ZONE);
    let label = |length: usize, byte: u8| [vec![length as u8], vec![byte; length]].concat();
    let below = |labels: &[Vec<u8>]| question(&[&labels.concat()[..], &zone].concat(), A, 1);
    // 3 × 64 + 43 bytes, and the zone with 19.
    let labels_254 = [label(63, b'a'), label(63, b'a'), label(63, b'a'), label(42, b'a')];
    assert_eq!(labels_254.concat().len() + zone.len(), 254);
    let labels_255 = [&labels_254[..3], &[label(43, b'a')]].concat();
    let labels_256 = [&labels_254[..3], &[label(44, b'a')]].concat();
    assert_rows(
        &world(),
        &[
            ("1035 §2.3.4: a label of 63", below(&[label(63, b'x')]), "NXDOMAIN aa 1/0/1/0"),
            ("1035 §3.1: 254 bytes", below(&labels_254), "NXDOMAIN aa 1/0/1/0"),
            ("1035 §3.1: 255 bytes", below(&labels_255), "NXDOMAIN aa 1/0/1/0"),
            ("1035 §3.1: 256 bytes", below(&labels_256), "FORMERR 0/0/0/0"),
            ("2181 §11: a zero byte in a label", below(&[label(9, 0)]), "NXDOMAIN aa 1/0/1/0"),
            (
                "2181 §11: a dot within a label",
                below(&[b"\x08svc.zone".to_vec()]),
                "NXDOMAIN aa 1/0/1/0",
            ),
            ("2181 §11: the byte 0xff in a label", below(&[label(9, 0xff)]), "NXDOMAIN aa 1/0/1/0"),
        ],
    );
}

#[test]
fn foreign_names_and_classes_are_refused() {
    let outside = "REFUSED 1/0/0/0 opt ede20=\"this server does not answer for this name\"";
    let class = |class| question(&name_bytes(APEX), 6, class).edns(&[]);
    assert_rows(
        &World::with_instances(orders()),
        &[
            (
                "1034 §4.3.1: another zone gets no referral and no SOA",
                ask("example.com.", A).edns(&[]),
                outside,
            ),
            ("1034 §4.3.1: the root", ask(".", 2_u16).edns(&[]), outside),
            ("1034 §4.3.1: the parent of the zone", ask("internal.", 2_u16).edns(&[]), outside),
            ("6895 §3.2: CH", class(3), outside),
            ("6895 §3.2: HS", class(4), outside),
            ("1035 §3.2.5: class ANY", class(255), outside),
            ("3597 §2: an unknown class", class(0xff00), outside),
            (
                "1034 §4.3.1: RD is not an error, although this server does not recurse",
                ask("orders.shop", A).flags(RD),
                "NOERROR aa rd 1/2/0/0",
            ),
        ],
    );
}

#[test]
fn message_shorter_than_a_header_is_not_answered() {
    let world = world();
    let bytes = soa().bytes();
    for length in 0..12 {
        let response = world.send(&bytes[..length], crate::dns::respond::Transport::Udp);
        assert_eq!(describe(&soa(), &response), "dropped", "{length} bytes");
    }
    assert_eq!(u16::from(RecordType::SOA), 6);
}
