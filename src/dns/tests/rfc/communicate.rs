//! RFC 8906 §8: the queries with which operators test that a server responds to all clients.

use super::super::world::{World, instance};
use super::APEX;
use super::{
    AD, CD, COOKIE, DO, EXPIRE, NSID, RD, SUBNET, VERSION_1, Z, ask, assert_rows, header_only,
    opcode, soa, world,
};

#[test]
fn every_query_of_rfc_8906_gets_the_expected_response() {
    // An undefined EDNS flag, as sent by `dig +ednsflags=0x40`.
    let flag = 0x40;
    let unknown: &[(u16, &[u8])] = &[(100, b"")];
    let defined: &[(u16, &[u8])] =
        &[(NSID, b""), (SUBNET, &[0, 1, 0, 0]), (EXPIRE, b""), (COOKIE, b"12345678")];
    let several = "NOERROR aa 1/1/0/0 opt cookie/24 nsid=rollcall-0";
    assert_rows(
        &world(),
        &[
            ("8.1.1: the server of a zone answers with its SOA", soa(), "NOERROR aa 1/1/0/0"),
            ("8.1.2: an unknown type has no records", ask(APEX, 1000_u16), "NOERROR aa 1/0/1/0"),
            ("8.1.3.1: CD is ignored", soa().flags(CD), "NOERROR aa 1/1/0/0"),
            ("8.1.3.2: AD is not set for unsigned data", soa().flags(AD), "NOERROR aa 1/1/0/0"),
            ("8.1.3.3: the reserved bit is not copied", soa().flags(Z), "NOERROR aa 1/1/0/0"),
            ("8.1.3.4: RD is copied, RA is not set", soa().flags(RD), "NOERROR aa rd 1/1/0/0"),
            (
                "8.1.4: an unknown opcode gets only a header",
                header_only(opcode(15)),
                "NOTIMP 0/0/0/0",
            ),
            ("8.1.5: TCP has the same answer", soa().tcp(), "NOERROR aa 1/1/0/0"),
            ("8.2.1: an OPT is answered with an OPT", soa().edns(&[]), "NOERROR aa 1/1/0/0 opt"),
            (
                "8.2.2: another version gets BADVERS",
                soa().opt(1232, VERSION_1, &[]),
                "BADVERS 1/0/0/0 opt",
            ),
            (
                "8.2.3: an unknown option is not echoed",
                soa().edns(unknown),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "8.2.4: an unknown flag is not echoed",
                soa().opt(1232, flag, &[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "8.2.5: an unknown flag with another version is not echoed",
                soa().opt(1232, VERSION_1 | flag, &[]),
                "BADVERS 1/0/0/0 opt",
            ),
            (
                "8.2.6: an unknown option with another version is not echoed",
                soa().opt(1232, VERSION_1, unknown),
                "BADVERS 1/0/0/0 opt",
            ),
            // 8.2.7 has its own test, because no set at the apex is large.
            ("8.2.8: DO is copied", soa().opt(1232, DO, &[]), "NOERROR aa 1/1/0/0 opt do"),
            (
                "8.2.9: DO is copied with another version",
                soa().opt(1232, VERSION_1 | DO, &[]),
                "BADVERS 1/0/0/0 opt do",
            ),
            ("8.2.10: several options in one query", soa().edns(defined), several),
        ],
    );
}

#[test]
fn truncated_answer_keeps_its_opt() {
    // 40 × 16 bytes are more than 512.
    let ips: Vec<_> = (0..40).map(|i| format!("10.0.0.{i}")).collect();
    let ips: Vec<_> = ips.iter().map(String::as_str).collect();
    let world = World::with_instances([instance("orders", "o1", &ips)]);
    let query = ask("orders.shop", 1_u16).opt(512, DO, &[]);
    // 12 + 37 bytes of header and question; 512 - 49 - 11 (OPT) has space for 28 records.
    assert_rows(&world, &[("8.2.7: TC and the OPT", query, "NOERROR aa tc 1/28/0/0 opt do")]);
}
