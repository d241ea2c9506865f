//! EDNS: RFC 6891, RFC 3225, RFC 5001, RFC 7828, RFC 7830, RFC 7871, RFC 8914.

use rollcall_model::instance::State;

use super::super::world::{With, World, instance};
use super::{
    APEX, COOKIE, DO, EXPIRE, KEEPALIVE, NSID, PADDING, Row, SUBNET, VERSION_1, ask, assert_rows,
    header_only, opcode, option_bytes, orders, soa, world,
};
use crate::config::EmptyAnswer;

const A: u16 = 1;
const AXFR: u16 = 252;

const OPT: u16 = 41;

#[test]
fn opt_is_answered_with_an_opt_even_if_malformed() {
    let twice = soa().opt(1232, DO, &[(NSID, b"")]).edns(&[]);
    let cut = [&option_bytes(&[(NSID, b"")])[..], &[0, 3, 0, 9, 1]].concat();
    assert_rows(
        &world(),
        &[
            ("6891 §7: no OPT in the query, none in the response", soa(), "NOERROR aa 1/1/0/0"),
            (
                "6891 §6.1.1: two OPTs are an error; the response follows the first",
                twice,
                "FORMERR 1/0/0/0 opt do nsid=rollcall-0",
            ),
            (
                "6891 §6.1.2: the owner must be the root",
                soa().record(3, b"\x01a\0", OPT, 1232, 0, &[]),
                "FORMERR 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.1: an OPT can be anywhere in the additional section",
                soa().record(3, &[0], A, 1, 0, &[10, 0, 0, 1]).edns(&[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "6891 §6.1.1: an OPT in another section is an error",
                soa().record(1, &[0], OPT, 1232, 0, &[]),
                "FORMERR 1/0/0/0",
            ),
            (
                "6891 §7: an option longer than the OPT",
                soa().record(3, &[0], OPT, 1232, 0, &cut),
                "FORMERR 1/0/0/0 opt nsid=rollcall-0",
            ),
            (
                "6891 §7: an option code cut in half",
                soa().record(3, &[0], OPT, 1232, 0, &[0]),
                "FORMERR 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.2: unsupported options are ignored, well formed or not",
                soa().edns(&[(SUBNET, b"?"), (EXPIRE, b"?"), (0, b""), (65_001, &[0; 300])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
        ],
    );
}

#[test]
fn response_opt_has_version_zero_and_no_flag_except_do() {
    assert_rows(
        &world(),
        &[
            (
                "6891 §6.1.3: any other version",
                soa().opt(1232, 255 << 16, &[]),
                "BADVERS 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.3: options of another version are not interpreted",
                soa().opt(1232, VERSION_1, &[(COOKIE, b"?")]),
                "BADVERS 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.3: the upper bits of the code are ignored in a query",
                soa().opt(1232, 0x1700_0000, &[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "6891 §6.2.3: a size below 512 counts as 512",
                soa().opt(0, 0, &[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            ("3225 §3: DO is copied", soa().opt(1232, DO, &[]), "NOERROR aa 1/1/0/0 opt do"),
            (
                "3225 §3: DO is copied into errors",
                header_only(0).opt(1232, DO, &[]),
                "FORMERR 0/0/0/0 opt do",
            ),
            (
                "6891 §6.1.4: no other flag is copied",
                soa().opt(1232, 0xffff, &[]),
                "NOERROR aa 1/1/0/0 opt do",
            ),
        ],
    );
}

#[test]
fn supported_options_are_sent_only_on_request() {
    let named = "NOERROR aa 1/1/0/0 opt nsid=rollcall-0";
    assert_rows(
        &world(),
        &[
            (
                "5001 §2.1: NSID is answered with the name of the replica",
                soa().edns(&[(NSID, b"")]),
                named,
            ),
            (
                "5001 §2.1: data of the option in a query is ignored",
                soa().edns(&[(NSID, b"you?")]),
                named,
            ),
            ("5001 §2.1: over TCP", soa().tcp().edns(&[(NSID, b"")]), named),
            (
                "5001 §2.1: in errors",
                ask("example.com.", A).edns(&[(NSID, b"")]),
                "REFUSED 1/0/0/0 opt nsid=rollcall-0 ede20=\"this server does not answer for this name\"",
            ),
            (
                "7828 §3.3.2: over TCP, in tenths of a second",
                soa().tcp().edns(&[(KEEPALIVE, b"")]),
                "NOERROR aa 1/1/0/0 opt keepalive=100",
            ),
            (
                "7828 §3.2.1: a timeout from the client is ignored",
                soa().tcp().edns(&[(KEEPALIVE, &[0xff, 0xff])]),
                "NOERROR aa 1/1/0/0 opt keepalive=100",
            ),
            (
                "7828 §3.3.1: ignored over UDP",
                soa().edns(&[(KEEPALIVE, b"")]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7828 §3.3.1: ignored over UDP, even with a timeout",
                soa().edns(&[(KEEPALIVE, &[0, 9])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7828 §3.3.2: not sent without a request",
                soa().tcp().edns(&[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7871 §7.2.1: answers do not depend on the subnet, so the option is not returned",
                soa().edns(&[(SUBNET, &[0, 1, 24, 0, 10, 0, 0])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7830 §6: no padding without encryption",
                soa().edns(&[(PADDING, &[0; 64])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
        ],
    );
}

#[test]
fn clients_with_edns_get_the_reason_as_code_and_text() {
    let edns = |name| ask(name, A).edns(&[]);
    let empty = "NOERROR aa 1/0/1/0 opt ede0=\"none of 5 instances is discoverable: 2 Draining, 1 OutOfService, 2 Expired\"";
    let mut five: Vec<_> =
        (1..=5).map(|i| instance("five", &format!("f{i}"), &["10.0.0.5"])).collect();
    for (i, state) in [(0, State::Draining), (1, State::Draining), (2, State::OutOfService)] {
        five[i] = five[i].clone().state(state);
    }
    five[3] = five[3].clone().expired();
    five[4] = five[4].clone().expired();
    five.extend(orders());
    let world = World::with_instances(five);
    let unsupported = "ede21=\"this server does not support this kind of query\"";
    assert_rows(
        &world,
        &[
            ("8914 §4.1: why no instance is discoverable", edns("five.shop"), empty),
            ("8914 §4.1: for every type", ask("_http._tcp.five.shop", 33_u16).edns(&[]), empty),
            ("8914 §2: no extended error without EDNS", ask("five.shop", A), "NOERROR aa 1/0/1/0"),
            (
                "8914 §4.21: another zone",
                edns("example.com."),
                "REFUSED 1/0/0/0 opt ede20=\"this server does not answer for this name\"",
            ),
            (
                "8914 §4.22: another opcode",
                soa().flags(opcode(2)).edns(&[]),
                &format!("NOTIMP 1/0/0/0 opt {unsupported}"),
            ),
            (
                "8914 §4.19: the client may not transfer the zone",
                ask(APEX, AXFR).tcp().edns(&[]),
                "REFUSED 1/0/0/0 opt ede18=\"your address may not transfer this zone (--dns-transfer)\"",
            ),
            (
                "8914 §2: no extended error in a normal answer",
                edns("orders.shop"),
                "NOERROR aa 1/2/0/0 opt",
            ),
        ],
    );
}

#[test]
fn readiness_staleness_and_access_are_extended_errors() {
    let edns = |name| ask(name, A).edns(&[]);
    let early = "SERVFAIL 1/0/0/0 opt ede14=\"this server has not listed the instances yet\"";
    assert_rows(
        &World::unsynced(),
        &[("8914 §4.15: before the first list", edns("orders.shop"), early)],
    );
    let prohibited = World::with_instances(orders())
        .with_settings(|settings| settings.allow = vec![("10.0.0.0/8").parse().unwrap()]);
    let refused =
        "REFUSED 1/0/0/0 opt ede18=\"your address may not query this server (--dns-allow)\"";
    assert_rows(
        &prohibited,
        &[("8914 §4.19: the client may not query", edns("orders.shop"), refused)],
    );
    let mut world = world();
    world.now.0 += 3_600_000;
    let stale = "ede3=\"no lease ends for now: see standstill in /v1/cluster\"";
    let rows: &[Row<'_>] = &[
        (
            "8914 §4.4: a stale answer",
            edns("orders.shop"),
            &format!("NOERROR aa 1/2/0/0 opt {stale}"),
        ),
        (
            "8914 §4.4: a stale negative answer",
            edns("none.shop"),
            &format!("NXDOMAIN aa 1/0/1/0 opt {stale}"),
        ),
    ];
    assert_rows(&world, rows);
    let last = World::with_instances([instance("gone", "d1", &["10.0.0.9"]).expired()])
        .with_settings(|settings| settings.empty = EmptyAnswer::Last);
    let last_known = "NOERROR aa 1/1/0/0 opt ede3=\"none of 1 instance is discoverable: 1 Expired; these are the last instances known\"";
    assert_rows(&last, &[("8914 §4.4: the last known instances", edns("gone.shop"), last_known)]);
}
