//! The message: RFC 1034, RFC 1035 §4.1, RFC 6895, RFC 9619.

use hickory_proto::rr::RecordType;

use super::super::world::{World, ZONE};
use super::{
    AA, AD, APEX, CD, RA, RD, TC, Wire, Z, ask, hold, name_octets, nothing, opcode, orders, soa,
    told, world,
};

const A: u16 = 1;

fn question(name: &[u8], kind: u16, class: u16) -> Wire {
    nothing(0).question(name, kind, class)
}

#[test]
fn a_header_is_answered_by_what_it_says() {
    let all = AA | TC | RD | RA | Z | AD | CD;
    hold(
        &world(),
        &[
            ("1035 §4.1.1: a response is not answered", soa().flags(0x8000), "silence"),
            ("1035 §4.1.1: nor one of another opcode", soa().flags(0x8000 | opcode(2)), "silence"),
            (
                "1035 §4.1.1: flags of responses mean nothing in a query, and none but RD is copied",
                soa().flags(all),
                "NOERROR aa rd 1/1/0/0",
            ),
            ("1035 §4.1.1: nor does a code", soa().flags(0xf), "NOERROR aa 1/1/0/0"),
            ("1035 §4.1.1: TC in a query", soa().flags(TC), "NOERROR aa 1/1/0/0"),
            ("6895 §2.2: opcode 1", soa().flags(opcode(1)), "NOTIMP 1/0/0/0"),
            ("6895 §2.2: STATUS", soa().flags(opcode(2) | RD), "NOTIMP rd 1/0/0/0"),
            ("1996 §3: NOTIFY is for secondaries", soa().flags(opcode(4)), "NOTIMP 1/0/0/0"),
            ("2136 §3: UPDATE", soa().flags(opcode(5)), "NOTIMP 1/0/0/0"),
            (
                "6891 §6.1.1: with an OPT when it had one, and why",
                soa().flags(opcode(6)).edns(&[]),
                "NOTIMP 1/0/0/0 opt ede21=\"not a query that this server answers\"",
            ),
            (
                "8906 §7: of an unknown opcode nothing is known but the header",
                nothing(opcode(15)).counts([1, 7, 7, 7]).raw(&[0xff; 5]),
                "NOTIMP 0/0/0/0",
            ),
            (
                "9619 §4: two questions",
                ask("orders.shop", A).question(&[0], A, 1),
                "FORMERR 0/0/0/0",
            ),
            ("9619 §4: the same one twice", soa().counts([2, 0, 0, 0]), "FORMERR 0/0/0/0"),
            (
                "9619 §4, 6891 §6.1.1: with an OPT when there was one",
                soa().question(&[0], A, 1).edns(&[]),
                "FORMERR 0/0/0/0 opt",
            ),
            ("9619 §4: none", nothing(0), "FORMERR 0/0/0/0"),
            (
                "9619 §4: none, and an OPT without a cookie",
                nothing(0).edns(&[]),
                "FORMERR 0/0/0/0 opt",
            ),
        ],
    );
}

#[test]
fn what_is_no_query_is_a_format_error() {
    let a = |name: &[u8]| question(name, A, 1);
    let record = |section| ask("orders.shop", A).record(section, &[0], A, 1, 5, &[10, 0, 0, 1]);
    hold(
        &world(),
        &[
            (
                "1035 §4.1.2: a question cut in its name",
                ask("orders.shop", A).cut(9),
                "FORMERR 0/0/0/0",
            ),
            ("1035 §4.1.2: cut in its class", ask("orders.shop", A).cut(1), "FORMERR 0/0/0/0"),
            (
                "1035 §4.1.2: nothing behind the header",
                nothing(0).counts([1, 0, 0, 0]),
                "FORMERR 0/0/0/0",
            ),
            (
                "1035 §4.1.4: a pointer points to what stands before: there is nothing",
                a(b"\x06orders\xc0\x0c"),
                "FORMERR 0/0/0/0",
            ),
            ("1035 §4.1.4: to itself", a(b"\xc0\x0c"), "FORMERR 0/0/0/0"),
            ("1035 §4.1.4: bits 01 and 10 are reserved", a(b"\x41a\0"), "FORMERR 0/0/0/0"),
            ("1035 §4.1.4: also 10", a(b"\x81a\0"), "FORMERR 0/0/0/0"),
            ("1035 §4.1.1: an answer in a query", record(1), "FORMERR 1/0/0/0"),
            ("1035 §4.1.1: an authority in a query", record(2), "FORMERR 1/0/0/0"),
            ("6891 §6.1.1: and an OPT behind it", record(1).edns(&[]), "FORMERR 1/0/0/0 opt"),
            (
                "1035 §4.1.1: fewer records than it says",
                soa().counts([1, 0, 0, 1]),
                "FORMERR 1/0/0/0",
            ),
            (
                "1035 §4.1.3: a record cut in its data",
                soa().record(3, &[0], A, 1, 0, &[1, 2, 3, 4]).cut(1),
                "FORMERR 1/0/0/0",
            ),
            (
                "3597 §3, 8945 §5.2: a record that we do not know is passed over",
                soa().record(3, b"\x03key\0", 65_280, 1, 5, b"???"),
                "NOERROR aa 1/1/0/0",
            ),
            (
                "8945 §5.2: so is a signature, before or behind an OPT",
                soa().edns(&[]).record(3, b"\x03key\0", 250, 255, 0, &[1; 40]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "3597 §3: whatever its type, data is not looked into",
                soa().record(3, &[0], A, 1, 0, b"no address"),
                "NOERROR aa 1/1/0/0",
            ),
            // No RFC says it; what is behind the last record is not ours to read.
            (
                "octets behind the end are neither read nor repeated",
                soa().raw(b"more"),
                "NOERROR aa 1/1/0/0",
            ),
        ],
    );
}

#[test]
fn names_are_of_any_octets_up_to_the_lengths_that_there_are() {
    let zone = name_octets(ZONE);
    let label = |length: usize, octet: u8| [vec![length as u8], vec![octet; length]].concat();
    let below = |labels: &[Vec<u8>]| question(&[&labels.concat()[..], &zone].concat(), A, 1);
    // 3 × 64 + 43 + 1 + 19 octets of zone.
    let longest = [label(63, b'a'), label(63, b'a'), label(63, b'a'), label(42, b'a')];
    assert_eq!(longest.concat().len() + zone.len(), 254);
    let more = [&longest[..3], &[label(43, b'a')]].concat();
    let most = [&longest[..3], &[label(44, b'a')]].concat();
    hold(
        &world(),
        &[
            ("1035 §2.3.4: a label of 63", below(&[label(63, b'x')]), "NXDOMAIN aa 1/0/1/0"),
            ("1035 §3.1: 254 octets", below(&longest), "NXDOMAIN aa 1/0/1/0"),
            ("1035 §3.1: 255 octets", below(&more), "NXDOMAIN aa 1/0/1/0"),
            ("1035 §3.1: 256 octets", below(&most), "FORMERR 0/0/0/0"),
            (
                "2181 §11: any octet may stand in a label",
                below(&[label(9, 0)]),
                "NXDOMAIN aa 1/0/1/0",
            ),
            (
                "2181 §11: a dot within a label",
                below(&[b"\x08svc.zone".to_vec()]),
                "NXDOMAIN aa 1/0/1/0",
            ),
            ("2181 §11: the highest", below(&[label(9, 0xff)]), "NXDOMAIN aa 1/0/1/0"),
        ],
    );
}

#[test]
fn what_is_asked_for_is_ours_or_refused() {
    let outside = "REFUSED 1/0/0/0 opt ede20=\"not a zone of this server\"";
    let class = |class| question(&name_octets(APEX), 6, class).edns(&[]);
    hold(
        &World::of(orders()),
        &[
            (
                "1034 §4.3.1: another zone has no referral and no SOA",
                ask("example.com.", A).edns(&[]),
                outside,
            ),
            ("1034 §4.3.1: nor has the root", ask(".", 2_u16).edns(&[]), outside),
            ("1034 §4.3.1: nor what is above us", ask("internal.", 2_u16).edns(&[]), outside),
            ("6895 §3.2: CH", class(3), outside),
            ("6895 §3.2: HS", class(4), outside),
            ("1035 §3.2.5: ANY, of which there is one here", class(255), outside),
            ("3597 §2: a class that nobody knows", class(0xff00), outside),
            (
                "1034 §4.3.1: RD asks for what we do not do, which is no error",
                ask("orders.shop", A).flags(RD),
                "NOERROR aa rd 1/2/0/0",
            ),
        ],
    );
}

#[test]
fn a_message_short_of_a_header_is_not_answered() {
    let world = world();
    let octets = soa().octets();
    for length in 0..12 {
        let outcome = world.send(&octets[..length], crate::dns::respond::Transport::Udp);
        assert_eq!(told(&soa(), &outcome), "silence", "{length} octets");
    }
    assert_eq!(u16::from(RecordType::SOA), 6);
}
