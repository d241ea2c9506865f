//! Cookies: RFC 7873, RFC 9018.

use std::hash::Hasher as _;

use rollcall_model::lease::Wall;
use siphasher::sip::SipHasher24;

use super::super::world::{CHANGED, World};
use super::{COOKIE, NSID, RawQuery, ask, assert_rows, header_only, opcode, soa, world};
use crate::dns::cookie::{Cookie, CookieState, Secret};
use crate::dns::respond::Response;

const CLIENT: &[u8] = b"clientid";
const SECRET: &[u8; 16] = b"known in advance";

/// A cookie that was issued to the default client this many seconds ago.
fn issued(ago: i64) -> Vec<u8> {
    let then = Wall(CHANGED.0 - ago * 1000);
    let cookie = Cookie::parse(CLIENT).unwrap();
    Secret::new(*SECRET).issue(&cookie, world().from, then).to_vec()
}

/// A cookie whose server part begins with these bytes, with the correct hash.
fn with_prefix(prefix: [u8; 8]) -> Vec<u8> {
    let mut hasher = SipHasher24::new_with_key(SECRET);
    hasher.write(CLIENT);
    hasher.write(&prefix);
    hasher.write(&[192, 0, 2, 1]);
    [CLIENT, &prefix, &hasher.finish().to_le_bytes()].concat()
}

fn with_cookie(query: RawQuery, cookie: &[u8]) -> RawQuery {
    query.edns(&[(COOKIE, cookie)])
}

#[test]
fn cookie_is_answered_with_its_client_part_and_a_server_part() {
    let normal = "NOERROR aa 1/1/0/0 opt cookie/24";
    let malformed = "FORMERR 1/0/0/0 opt";
    let twice = |first: &[u8], second: &[u8]| soa().edns(&[(COOKIE, first), (COOKIE, second)]);
    let mut rows = vec![
        (
            "7873 §5.2.1: no cookie in the query, none in the response",
            soa().edns(&[(NSID, b"")]),
            "NOERROR aa 1/1/0/0 opt nsid=rollcall-0",
        ),
        (
            "7873 §5.2.3: a client cookie alone gets a normal answer",
            with_cookie(soa(), CLIENT),
            normal,
        ),
        (
            "7873 §5.2.4: a foreign server cookie gets a normal answer",
            with_cookie(soa(), &[7; 24]),
            normal,
        ),
        ("7873 §5.2.5: a good cookie gets a normal answer", with_cookie(soa(), &issued(0)), normal),
        ("7873 §5.2: TCP has the same answer", with_cookie(soa(), &[7; 40]).tcp(), normal),
        ("7873 §5.2: the first of several cookies counts", twice(CLIENT, b"?"), normal),
        (
            "7873 §5.2: an invalid first cookie is an error, whatever the second",
            twice(b"?", CLIENT),
            malformed,
        ),
        (
            "7873 §5.2: errors have a cookie, too",
            with_cookie(ask("example.com.", 1_u16), CLIENT),
            "REFUSED 1/0/0/0 opt cookie/24 ede20=\"this server does not answer for this name\"",
        ),
    ];
    for length in [0, 7, 9, 15, 41] {
        let query = with_cookie(soa(), &vec![7; length]);
        rows.push(("7873 §5.2.2: an invalid length", query, malformed));
    }
    for length in [8, 16, 17, 40] {
        rows.push(("7873 §4: a valid length", with_cookie(soa(), &vec![7; length]), normal));
    }
    assert_rows(&world(), &rows);
}

#[test]
fn query_without_question_only_asks_for_a_cookie() {
    let rows = [
        (
            "7873 §5.4: a client cookie gets a server cookie",
            with_cookie(header_only(0), CLIENT),
            "NOERROR 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: a good cookie is confirmed",
            with_cookie(header_only(0), &issued(60)),
            "NOERROR 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: a foreign cookie is BADCOOKIE",
            with_cookie(header_only(0), &[7; 24]),
            "BADCOOKIE 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: a cookie that is too old is BADCOOKIE",
            with_cookie(header_only(0), &issued(3601)),
            "BADCOOKIE 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: over TCP",
            with_cookie(header_only(0), &[7; 24]).tcp(),
            "BADCOOKIE 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: only for opcode QUERY",
            with_cookie(header_only(opcode(2)), CLIENT),
            "NOTIMP 0/0/0/0 opt cookie/24 ede21=\"this server does not support this kind of query\"",
        ),
        (
            "7873 §5.4: an invalid question is an error",
            with_cookie(header_only(0).question(b"\xc0\x0c", 1, 1), CLIENT),
            "FORMERR 0/0/0/0 opt cookie/24",
        ),
    ];
    assert_rows(&world(), &rows);
}

#[test]
fn cookie_is_good_for_its_client_for_one_hour() {
    let stamp = u32::try_from(CHANGED.0 / 1000).unwrap().to_be_bytes();
    let [a, b, c, d] = stamp;
    let mut changed = issued(0);
    changed[0] ^= 1;
    for (rule, cookie, cookie_state) in [
        ("9018 §4.4: a cookie of this server", issued(0), CookieState::Good),
        (
            "9018 §4.4: the hash of the RFC",
            with_prefix([1, 0, 0, 0, a, b, c, d]),
            CookieState::Good,
        ),
        (
            "9018 §4.2: reserved bytes are hashed and can have any value",
            with_prefix([1, 9, 9, 9, a, b, c, d]),
            CookieState::Good,
        ),
        (
            "9018 §4.1: another version is bad",
            with_prefix([2, 0, 0, 0, a, b, c, d]),
            CookieState::Bad,
        ),
        ("9018 §4.3: an hour old", issued(3600), CookieState::Good),
        ("9018 §4.3: older than an hour", issued(3601), CookieState::Bad),
        (
            "9018 §4.3: five minutes ahead, for the clock of another replica",
            issued(-300),
            CookieState::Good,
        ),
        ("9018 §4.3: more than five minutes ahead", issued(-301), CookieState::Bad),
        ("7873 §5.2.4: another client part", changed, CookieState::Bad),
        ("7873 §5.2.3: a client cookie alone", CLIENT.to_vec(), CookieState::New),
    ] {
        let Response::Message(_, summary) = with_cookie(soa(), &cookie).send_to(&world()) else {
            panic!("{rule}")
        };
        assert_eq!(summary.cookie, cookie_state, "{rule}");
    }
    let mut other_client = world();
    other_client.from = "192.0.2.2".parse().unwrap();
    let Response::Message(_, summary) = with_cookie(soa(), &issued(0)).send_to(&other_client)
    else {
        panic!()
    };
    assert_eq!(summary.cookie, CookieState::Bad, "7873 §6: the hash includes the client address");
}

#[test]
fn response_repeats_the_client_part_and_renews_the_server_part() {
    let cookie = |query: &[u8]| {
        let message = with_cookie(soa(), query).message(&world());
        let options = message.edns.unwrap().options().as_ref().to_vec();
        Vec::<u8>::try_from(&options[0].1).unwrap()
    };
    // 9018 §4.3 requires renewal after half the lifetime; this server renews in every response.
    for query in [CLIENT, &issued(0), &issued(3000), &[CLIENT, &[7; 32]].concat()] {
        assert_eq!(cookie(query), issued(0));
    }
    // 9018 §3: servers with the same secret accept each other's cookies.
    let other = World::with_instances([]);
    let Response::Message(_, summary) = with_cookie(soa(), &issued(0)).send_to(&other) else {
        panic!()
    };
    assert_eq!(summary.cookie, CookieState::Good);
}
