//! Names put together from words that mean something and from any octets: which of them exist.
//!
//! Owns: what must hold of the answers to one name for all types, to the names above it and below it,
//! and of a secondary that has the zone by transfer. Does not own: the message (`query`).

use std::{collections::HashSet, sync::LazyLock};

use hickory_proto::{
    op::{LowerQuery, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{LowerName, Name, RData, Record, RecordType},
};
use rollcall::dns::{
    answer::Answer,
    context::Moods,
    realm::Realm,
    respond::{Outcome, Transport},
};

use super::{
    query::Exchange,
    world::{CEILING, LONG, Mode},
};

const TYPES: [RecordType; 15] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::NS,
    RecordType::PTR,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::HINFO,
    RecordType::DS,
    RecordType::OPT,
    RecordType::ANY,
    RecordType::Unknown(65_280),
];

/// What names begin below: nothing of ours, the zone and parts of it, addresses.
const BASES: [&[&str]; 6] = [
    &[],
    &["ZONE"],
    &["svc", "ZONE"],
    &["shop", "svc", "ZONE"],
    &["10", "in-addr", "arpa"],
    &["8", "b", "d", "0", "1", "0", "0", "2", "ip6", "arpa"],
];

/// Labels that mean something somewhere.
const WORDS: [&str; 72] = [
    "svc",
    "dns",
    "ns",
    "dns-version",
    "hostmaster",
    "shop",
    "shop-2",
    LONG,
    "orders",
    "drained",
    "ill",
    "db",
    "dbs",
    "half",
    "portless",
    "mixed",
    "dead",
    "crowd",
    "o1",
    "o2",
    "o-3",
    "o4",
    "d1",
    "c1",
    "db1",
    "db2",
    "h1",
    "h2",
    "p1",
    "m1",
    "m2",
    "m3",
    "m4",
    "x1",
    "crowd-7",
    "crowd-299",
    "_ver",
    "_tag",
    "_zone",
    "_near",
    "_tcp",
    "_udp",
    "_sctp",
    "_http",
    "_dns",
    "_grpc",
    "_web",
    "_",
    "2-3-1",
    "2-4-0",
    "0-9",
    "canary",
    "eu",
    "old",
    "eu-1a",
    "mars",
    "0",
    "1",
    "2",
    "3",
    "9",
    "10",
    "255",
    "256",
    "07",
    "f",
    "a",
    "*",
    "www",
    "internal",
    "rollcall",
    "arpa",
];

/// What stands below a name that does not exist does not either.
const BELOW: [&str; 4] = ["x", "_tcp", "_ver", "0"];

/// A mode, a base, which letters are large; then labels, the last one first: an octet names a word,
/// or from 224 on says how many octets follow to be one.
pub(crate) fn check(input: &[u8]) {
    let [mode, base, case, labels @ ..] = input else { return };
    let mode = Mode(*mode);
    let realm = mode.realm();
    let Some(name) = name(&realm, (*base, *case), labels) else { return };
    let asking = Asking { mode, realm: &realm };
    let exists = asking.types(&name);
    match exists {
        Some(true) => asking.above(&name),
        Some(false) => asking.below(&name),
        None => {}
    }
    asking.secondary(&name, exists);
    asking.whole_messages(&name, *case);
}

fn name(realm: &Realm, (base, case): (u8, u8), mut rest: &[u8]) -> Option<Name> {
    let mut name = Name::root();
    for label in BASES[usize::from(base) % BASES.len()].iter().rev() {
        name = match *label {
            "ZONE" => realm.zone.apex().clone(),
            label => name.prepend_label(label).ok()?,
        };
    }
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        let label = match octet {
            224.. => {
                let (label, after) = rest.split_at_checked(usize::from(octet - 223))?;
                rest = after;
                label
            }
            word => WORDS[usize::from(*word) % WORDS.len()].as_bytes(),
        };
        // A name that is too long is none.
        name = name.prepend_label(label).ok()?;
    }
    let large = |at: usize, octet: &u8| {
        if case >> (at % 8) & 1 == 1 { octet.to_ascii_uppercase() } else { *octet }
    };
    let labels: Vec<Vec<u8>> = name
        .iter()
        .map(|label| label.iter().enumerate().map(|(at, o)| large(at, o)).collect())
        .collect();
    let mut name = Name::from_labels(labels.iter().map(|label| &label[..])).ok()?;
    name.set_fqdn(true);
    Some(name)
}

struct Asking<'a> {
    mode: Mode,
    realm: &'a Realm,
}

impl Asking<'_> {
    fn ask(&self, name: &Name, kind: RecordType) -> Answer {
        let question = LowerQuery::query(Query::query(name.clone(), kind));
        self.realm.answer(&question, Moods { now: self.mode.now().moment, seed: 7, choice: 7 })
    }

    /// Whether a name exists; none when it is not ours.
    fn exists(&self, name: &Name) -> Option<bool> {
        match self.ask(name, RecordType::TXT).code {
            ResponseCode::NoError => Some(true),
            ResponseCode::NXDomain => Some(false),
            ResponseCode::Refused => None,
            other => panic!("{name} is answered {other}"),
        }
    }

    /// A name exists for every type or for none, and an alias is one for every type.
    fn types(&self, name: &Name) -> Option<bool> {
        let exists = self.exists(name);
        let alias = self.ask(name, RecordType::CNAME).answers;
        for kind in TYPES {
            let answer = self.ask(name, kind);
            let code = match exists {
                Some(true) => ResponseCode::NoError,
                Some(false) => ResponseCode::NXDomain,
                None => ResponseCode::Refused,
            };
            assert_eq!(answer.code, code, "{name} {kind}");
            assert_eq!(answer.authoritative, exists.is_some(), "{name} {kind}");
            assert!(exists == Some(true) || answer.answers.is_empty(), "{name} {kind}");
            if exists.is_some() {
                self.authority(name, &answer);
            }
            if !alias.is_empty() {
                assert_eq!(answer.answers, alias, "{name} {kind}");
            }
            self.ceiling(&answer);
        }
        exists
    }

    /// Records of the name, or the SOA of a zone that the name is in.
    fn authority(&self, name: &Name, answer: &Answer) {
        match &answer.authority[..] {
            [] => assert!(!answer.answers.is_empty(), "{name}: neither an answer nor a SOA"),
            [Record { name: apex, data: RData::SOA(soa), ttl, .. }] => {
                assert!(answer.answers.is_empty() && apex.zone_of(name), "{name} in {apex}");
                assert_eq!((*ttl, soa.minimum), (2, 2));
            }
            other => panic!("{name}: {other:?}"),
        }
        let [first, ..] = &answer.answers[..] else { return };
        assert!(answer.answers.iter().all(|record| record.ttl == first.ttl), "one TTL for a set");
    }

    fn ceiling(&self, answer: &Answer) {
        let targets = answer.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(&srv.target),
            _ => None,
        });
        let count = targets.collect::<HashSet<_>>().len();
        assert!(!self.mode.has_ceiling() || count <= CEILING, "{count} targets");
    }

    /// Nothing hangs in the air: all names from it up to its zone exist.
    fn above(&self, name: &Name) {
        let mut above = name.base_name();
        // Above the apex there is nothing of ours.
        while let Some(exists) = self.exists(&above).filter(|_| !above.is_root()) {
            assert!(exists, "{name} exists, {above} does not");
            above = above.base_name();
        }
    }

    /// RFC 8020.
    fn below(&self, name: &Name) {
        for label in BELOW {
            let Ok(below) = name.prepend_label(label) else { return };
            assert_eq!(self.exists(&below), Some(false), "{name} does not exist, {below} does");
        }
    }

    /// Who has the zone by transfer knows the same names, but for selectors.
    fn secondary(&self, name: &Name, exists: Option<bool>) {
        static TREES: LazyLock<Vec<HashSet<LowerName>>> =
            LazyLock::new(|| (0..4).map(|at| tree(Mode(at << 1 | 1))).collect());
        if !self.realm.zone.apex().zone_of(name) || name.iter().any(is_selector) {
            return;
        }
        let tree = &TREES[usize::from(self.mode.0 >> 1 & 3)];
        assert_eq!(exists, Some(tree.contains(&LowerName::new(name))), "{name}, to a secondary");
    }

    /// The same as messages, for some type.
    fn whole_messages(&self, name: &Name, at: u8) {
        let octets = message(name, TYPES[usize::from(at) % TYPES.len()]);
        Exchange { mode: self.mode, message: &octets }.check();
    }
}

fn is_selector(label: &[u8]) -> bool {
    let selectors: [&[u8]; 4] = [b"_ver", b"_tag", b"_zone", b"_near"];
    selectors.iter().any(|selector| label.eq_ignore_ascii_case(selector))
}

fn message(name: &Name, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), kind));
    message.to_vec().expect("a name that is one can be asked for")
}

/// The names of a transfer, and all above them in the zone.
fn tree(mode: Mode) -> HashSet<LowerName> {
    let realm = mode.realm();
    let octets = message(realm.zone.apex(), RecordType::AXFR);
    let asks = mode.asks(Transport::Tcp);
    let Outcome::Transfer(transfer) = mode.responder().respond(&octets, asks, mode.now(), 7) else {
        panic!("no transfer");
    };
    let mut names = HashSet::new();
    for octets in *transfer {
        for record in Message::from_vec(&octets).expect("it can be read").answers {
            let mut name = record.name;
            while realm.zone.apex().zone_of(&name) && names.insert(LowerName::new(&name)) {
                name = name.base_name();
            }
        }
    }
    names
}
