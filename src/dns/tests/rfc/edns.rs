//! EDNS: RFC 6891, RFC 3225, RFC 5001, RFC 7828, RFC 7830, RFC 7871, RFC 8914.

use rollcall_model::instance::State;

use super::super::world::{With, World, instance};
use super::{
    APEX, COOKIE, DO, EXPIRE, KEEPALIVE, NSID, PADDING, Row, SUBNET, VERSION_1, ask, hold, nothing,
    opcode, option_octets, orders, soa, world,
};
use crate::config::Empty;

const A: u16 = 1;
const AXFR: u16 = 252;

/// A type, a size and flags.
const OPT: u16 = 41;

#[test]
fn an_opt_is_read_as_far_as_it_can_be_and_answered_by_one() {
    let twice = soa().opt(1232, DO, &[(NSID, b"")]).edns(&[]);
    let cut = [&option_octets(&[(NSID, b"")])[..], &[0, 3, 0, 9, 1]].concat();
    hold(
        &world(),
        &[
            ("6891 §7: no OPT, none in the answer", soa(), "NOERROR aa 1/1/0/0"),
            (
                "6891 §6.1.1: two; the first one says how",
                twice,
                "FORMERR 1/0/0/0 opt do nsid=rollcall-0",
            ),
            (
                "6891 §6.1.2: it is owned by the root",
                soa().record(3, b"\x01a\0", OPT, 1232, 0, &[]),
                "FORMERR 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.1: it stands anywhere among the additional records",
                soa().record(3, &[0], A, 1, 0, &[10, 0, 0, 1]).edns(&[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "6891 §6.1.1: but in no other section",
                soa().record(1, &[0], OPT, 1232, 0, &[]),
                "FORMERR 1/0/0/0",
            ),
            (
                "6891 §7: an option longer than the OPT",
                soa().record(3, &[0], OPT, 1232, 0, &cut),
                "FORMERR 1/0/0/0 opt nsid=rollcall-0",
            ),
            (
                "6891 §7: half a code",
                soa().record(3, &[0], OPT, 1232, 0, &[0]),
                "FORMERR 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.2: what we do not support is ignored, well formed or not",
                soa().edns(&[(SUBNET, b"?"), (EXPIRE, b"?"), (0, b""), (65_001, &[0; 300])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
        ],
    );
}

#[test]
fn versions_sizes_and_flags_are_those_of_version_zero() {
    hold(
        &world(),
        &[
            (
                "6891 §6.1.3: any other version",
                soa().opt(1232, 255 << 16, &[]),
                "BADVERS 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.3: of which nobody knows what its options are",
                soa().opt(1232, VERSION_1, &[(COOKIE, b"?")]),
                "BADVERS 1/0/0/0 opt",
            ),
            (
                "6891 §6.1.3: the upper bits of a code are those of an answer",
                soa().opt(1232, 0x1700_0000, &[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "6891 §6.2.3: a size below 512 is 512",
                soa().opt(0, 0, &[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            ("3225 §3: DO is copied", soa().opt(1232, DO, &[]), "NOERROR aa 1/1/0/0 opt do"),
            ("3225 §3: into errors, too", nothing(0).opt(1232, DO, &[]), "FORMERR 0/0/0/0 opt do"),
            (
                "6891 §6.1.4: and no other flag",
                soa().opt(1232, 0xffff, &[]),
                "NOERROR aa 1/1/0/0 opt do",
            ),
        ],
    );
}

#[test]
fn options_that_we_have_are_given_to_those_who_ask() {
    let named = "NOERROR aa 1/1/0/0 opt nsid=rollcall-0";
    hold(
        &world(),
        &[
            ("5001 §2.1: who asks by NSID is told who answers", soa().edns(&[(NSID, b"")]), named),
            (
                "5001 §2.1: what a query says in it is ignored",
                soa().edns(&[(NSID, b"you?")]),
                named,
            ),
            ("5001 §2.1: over TCP, too", soa().tcp().edns(&[(NSID, b"")]), named),
            (
                "5001 §2.1: whatever the answer",
                ask("example.com.", A).edns(&[(NSID, b"")]),
                "REFUSED 1/0/0/0 opt nsid=rollcall-0 ede20=\"not a zone of this server\"",
            ),
            (
                "7828 §3.3.2: over TCP, in tenths of a second",
                soa().tcp().edns(&[(KEEPALIVE, b"")]),
                "NOERROR aa 1/1/0/0 opt keepalive=100",
            ),
            (
                "7828 §3.2.1: a client has no say in it",
                soa().tcp().edns(&[(KEEPALIVE, &[0xff, 0xff])]),
                "NOERROR aa 1/1/0/0 opt keepalive=100",
            ),
            (
                "7828 §3.3.1: ignored over UDP",
                soa().edns(&[(KEEPALIVE, b"")]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7828 §3.3.1: also with a time",
                soa().edns(&[(KEEPALIVE, &[0, 9])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7828 §3.3.2: unasked nothing is said",
                soa().tcp().edns(&[]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7871 §7.2.1: answers are the same from everywhere, and no subnet is named",
                soa().edns(&[(SUBNET, &[0, 1, 24, 0, 10, 0, 0])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
            (
                "7830 §6: in clear text there is nothing to pad",
                soa().edns(&[(PADDING, &[0; 64])]),
                "NOERROR aa 1/1/0/0 opt",
            ),
        ],
    );
}

#[test]
fn why_is_said_by_number_and_in_words_to_those_with_edns() {
    let edns = |name| ask(name, A).edns(&[]);
    let why = "NOERROR aa 1/0/1/0 opt ede0=\"0 of 5 instances passing (2 Draining, 1 OutOfService, 2 Expired)\"";
    let mut five: Vec<_> =
        (1..=5).map(|i| instance("five", &format!("f{i}"), &["10.0.0.5"])).collect();
    for (i, state) in [(0, State::Draining), (1, State::Draining), (2, State::OutOfService)] {
        five[i] = five[i].clone().state(state);
    }
    five[3] = five[3].clone().expired();
    five[4] = five[4].clone().expired();
    five.extend(orders());
    let world = World::of(five);
    let unsupported = "ede21=\"not a query that this server answers\"";
    hold(
        &world,
        &[
            ("8914 §4.1: why there is nobody", edns("five.shop"), why),
            ("8914 §4.1: for each type", ask("_http._tcp.five.shop", 33_u16).edns(&[]), why),
            ("8914 §2: not without EDNS", ask("five.shop", A), "NOERROR aa 1/0/1/0"),
            (
                "8914 §4.21: not our zone",
                edns("example.com."),
                "REFUSED 1/0/0/0 opt ede20=\"not a zone of this server\"",
            ),
            (
                "8914 §4.22: an opcode",
                soa().flags(opcode(2)).edns(&[]),
                &format!("NOTIMP 1/0/0/0 opt {unsupported}"),
            ),
            (
                "8914 §4.19: no transfer to this client",
                ask(APEX, AXFR).tcp().edns(&[]),
                "REFUSED 1/0/0/0 opt ede18=\"not an address that may transfer this zone\"",
            ),
            (
                "8914 §2: nothing where there is nothing to say",
                edns("orders.shop"),
                "NOERROR aa 1/2/0/0 opt",
            ),
        ],
    );
}

#[test]
fn how_much_is_known_and_who_may_ask_is_said_as_well() {
    let edns = |name| ask(name, A).edns(&[]);
    let early = "SERVFAIL 1/0/0/0 opt ede14=\"not yet in sync with the Kubernetes API\"";
    hold(&World::unsynced(), &[("8914 §4.15: nothing is known yet", edns("orders.shop"), early)]);
    let prohibited = World::of(orders())
        .settings(|settings| settings.allow = vec![("10.0.0.0/8").parse().unwrap()]);
    let why = "REFUSED 1/0/0/0 opt ede18=\"not an address that may ask this server\"";
    hold(&prohibited, &[("8914 §4.19: who may not ask", edns("orders.shop"), why)]);
    let mut world = world();
    world.now.0 += 3_600_000;
    let stale = "ede3=\"no news from the Kubernetes API\"";
    let rows: &[Row<'_>] = &[
        ("8914 §4.4: no news", edns("orders.shop"), &format!("NOERROR aa 1/2/0/0 opt {stale}")),
        (
            "8914 §4.4: also of what is not there",
            edns("none.shop"),
            &format!("NXDOMAIN aa 1/0/1/0 opt {stale}"),
        ),
    ];
    hold(&world, rows);
    let last = World::of([instance("dead", "d1", &["10.0.0.9"]).expired()])
        .settings(|settings| settings.empty = Empty::Last);
    let lost = "NOERROR aa 1/1/0/0 opt ede3=\"0 of 1 instances passing (1 Expired); these were lost last\"";
    hold(&last, &[("8914 §4.4: those who were lost", edns("dead.shop"), lost)]);
}
