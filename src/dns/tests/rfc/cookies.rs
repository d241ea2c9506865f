//! Cookies: RFC 7873, RFC 9018.

use std::hash::Hasher as _;

use rollcall_model::lease::Wall;
use siphasher::sip::SipHasher24;

use super::super::world::{CHANGED, World};
use super::{COOKIE, NSID, Wire, ask, hold, nothing, opcode, soa, world};
use crate::dns::cookie::{Cookie, Secret, Standing};
use crate::dns::respond::Outcome;

const CLIENT: &[u8] = b"8 octets";
const SECRET: &[u8; 16] = b"known in advance";

/// What the world gives to its client, so many seconds ago.
fn whole(ago: i64) -> Vec<u8> {
    let then = Wall(CHANGED.0 - ago * 1000);
    let cookie = Cookie::read(CLIENT).unwrap();
    Secret::new(*SECRET).answer(&cookie, world().from, then).to_vec()
}

/// One whose server part begins so, rightly hashed.
fn beginning(head: [u8; 8]) -> Vec<u8> {
    let mut hasher = SipHasher24::new_with_key(SECRET);
    hasher.write(CLIENT);
    hasher.write(&head);
    hasher.write(&[192, 0, 2, 1]);
    [CLIENT, &head, &hasher.finish().to_le_bytes()].concat()
}

fn with(query: Wire, cookie: &[u8]) -> Wire {
    query.edns(&[(COOKIE, cookie)])
}

#[test]
fn a_cookie_is_answered_by_its_client_part_and_ours() {
    let fine = "NOERROR aa 1/1/0/0 opt cookie/24";
    let malformed = "FORMERR 1/0/0/0 opt";
    let twice = |first: &[u8], second: &[u8]| soa().edns(&[(COOKIE, first), (COOKIE, second)]);
    let mut rows = vec![
        (
            "7873 §5.2.1: none asked for, none given",
            soa().edns(&[(NSID, b"")]),
            "NOERROR aa 1/1/0/0 opt nsid=rollcall-0",
        ),
        ("7873 §5.2.3: the client's alone is answered as usual", with(soa(), CLIENT), fine),
        ("7873 §5.2.4: one that we did not make, too", with(soa(), &[7; 24]), fine),
        ("7873 §5.2.5: and our own", with(soa(), &whole(0)), fine),
        ("7873 §5.2: over TCP as over UDP", with(soa(), &[7; 40]).tcp(), fine),
        ("7873 §5.2: of several the first one counts", twice(CLIENT, b"?"), fine),
        ("7873 §5.2: however the second one looks", twice(b"?", CLIENT), malformed),
        (
            "7873 §5.2: errors have it, too",
            with(ask("example.com.", 1_u16), CLIENT),
            "REFUSED 1/0/0/0 opt cookie/24 ede20=\"not a zone of this server\"",
        ),
    ];
    for length in [0, 7, 9, 15, 41] {
        let query = with(soa(), &vec![7; length]);
        rows.push(("7873 §5.2.2: a length that no cookie has", query, malformed));
    }
    for length in [8, 16, 17, 40] {
        rows.push((
            "7873 §4: a length that a cookie may have",
            with(soa(), &vec![7; length]),
            fine,
        ));
    }
    hold(&world(), &rows);
}

#[test]
fn without_a_question_it_is_about_the_cookie() {
    let rows = [
        (
            "7873 §5.4: the client's alone is given ours",
            with(nothing(0), CLIENT),
            "NOERROR 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: our own is confirmed",
            with(nothing(0), &whole(60)),
            "NOERROR 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: another is not",
            with(nothing(0), &[7; 24]),
            "BADCOOKIE 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: nor one that is too old",
            with(nothing(0), &whole(3601)),
            "BADCOOKIE 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: over TCP",
            with(nothing(0), &[7; 24]).tcp(),
            "BADCOOKIE 0/0/0/0 opt cookie/24",
        ),
        (
            "7873 §5.4: QUERY alone is extended",
            with(nothing(opcode(2)), CLIENT),
            "NOTIMP 0/0/0/0 opt cookie/24 ede21=\"not a query that this server answers\"",
        ),
        (
            "7873 §5.4: a question that cannot be read is not none",
            with(nothing(0).question(b"\xc0\x0c", 1, 1), CLIENT),
            "FORMERR 0/0/0/0 opt cookie/24",
        ),
    ];
    hold(&world(), &rows);
}

#[test]
fn a_cookie_is_good_for_the_client_that_it_was_made_for_as_long_as_it_is_young() {
    let stamp = u32::try_from(CHANGED.0 / 1000).unwrap().to_be_bytes();
    let [a, b, c, d] = stamp;
    let mut changed = whole(0);
    changed[0] ^= 1;
    for (rule, cookie, standing) in [
        ("9018 §4.4: as we made it", whole(0), Standing::Good),
        (
            "9018 §4.4: the hash is made as the RFC says",
            beginning([1, 0, 0, 0, a, b, c, d]),
            Standing::Good,
        ),
        (
            "9018 §4.2: reserved octets are hashed, not judged",
            beginning([1, 9, 9, 9, a, b, c, d]),
            Standing::Good,
        ),
        (
            "9018 §4.1: another version is not ours",
            beginning([2, 0, 0, 0, a, b, c, d]),
            Standing::Bad,
        ),
        ("9018 §4.3: an hour old", whole(3600), Standing::Good),
        ("9018 §4.3: older", whole(3601), Standing::Bad),
        (
            "9018 §4.3: five minutes ahead, as another replica's clock may be",
            whole(-300),
            Standing::Good,
        ),
        ("9018 §4.3: further ahead", whole(-301), Standing::Bad),
        ("7873 §5.2.4: another client part", changed, Standing::Bad),
        ("7873 §5.2.3: the client's alone", CLIENT.to_vec(), Standing::New),
    ] {
        let Outcome::Reply(_, said) = with(soa(), &cookie).put_to(&world()) else {
            panic!("{rule}")
        };
        assert_eq!(said.cookie, standing, "{rule}");
    }
    let mut elsewhere = world();
    elsewhere.from = "192.0.2.2".parse().unwrap();
    let Outcome::Reply(_, said) = with(soa(), &whole(0)).put_to(&elsewhere) else { panic!() };
    assert_eq!(said.cookie, Standing::Bad, "7873 §6: the address is hashed, too");
}

#[test]
fn an_answer_repeats_the_client_part_and_renews_ours() {
    let cookie = |query: &[u8]| {
        let message = with(soa(), query).message(&world());
        let options = message.edns.unwrap().options().as_ref().to_vec();
        Vec::<u8>::try_from(&options[0].1).unwrap()
    };
    // 9018 §4.3: past half of its life at the latest; we do it each time.
    for query in [CLIENT, &whole(0), &whole(3000), &[CLIENT, &[7; 32]].concat()] {
        assert_eq!(cookie(query), whole(0));
    }
    // 9018 §3: whoever has the secret makes the same.
    let other = World::of([]);
    let Outcome::Reply(_, said) = with(soa(), &whole(0)).put_to(&other) else { panic!() };
    assert_eq!(said.cookie, Standing::Good);
}
