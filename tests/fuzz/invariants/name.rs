//! Names of known labels and random bytes: which of them exist.
//!
//! Owns: the invariants of the answers at one name for all types, at the names above and below it, and at a secondary
//! that transferred the zone. Does not own: the message (`query`).

use std::{collections::HashSet, sync::LazyLock};

use hickory_proto::{
    op::{LowerQuery, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{LowerName, Name, RData, Record, RecordType},
};
use rollcall::dns::{
    answer::Answer,
    context::QueryContext,
    respond::{Response, Transport},
    zones::Zones,
};

use super::{
    query::MessageCheck,
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

/// The parents of the names: the root, the zone and names in it, reverse zones.
const BASES: [&[&str]; 6] = [
    &[],
    &["ZONE"],
    &["svc", "ZONE"],
    &["shop", "svc", "ZONE"],
    &["10", "in-addr", "arpa"],
    &["8", "b", "d", "0", "1", "0", "0", "2", "ip6", "arpa"],
];

/// Labels that have a meaning in some name. The corpus refers to them by index.
const LABELS: [&str; 72] = [
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

/// Labels that `check_below` adds to a name that does not exist: the longer name must not exist either.
const BELOW: [&str; 4] = ["x", "_tcp", "_ver", "0"];

/// The input: a mode, a base, a mask of upper-case letters, then labels from right to left. A byte below 224 is an index
/// into `LABELS`; from 224 on it gives the length of a label that follows.
pub(crate) fn check(input: &[u8]) {
    let [mode, base, case, labels @ ..] = input else { return };
    let mode = Mode(*mode);
    let zones = mode.zones();
    let Some(name) = build_name(&zones, (*base, *case), labels) else { return };
    let checker = NameChecker { mode, zones: &zones };
    let exists = checker.check_types(&name);
    match exists {
        Some(true) => checker.check_above(&name),
        Some(false) => checker.check_below(&name),
        None => {}
    }
    checker.check_secondary(&name, exists);
    checker.check_message(&name, *case);
}

fn build_name(zones: &Zones, (base, case): (u8, u8), mut rest: &[u8]) -> Option<Name> {
    let mut name = Name::root();
    for label in BASES[usize::from(base) % BASES.len()].iter().rev() {
        name = match *label {
            "ZONE" => zones.zone.apex().clone(),
            label => name.prepend_label(label).ok()?,
        };
    }
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let label = match byte {
            224.. => {
                let (label, after) = rest.split_at_checked(usize::from(byte - 223))?;
                rest = after;
                label
            }
            index => LABELS[usize::from(*index) % LABELS.len()].as_bytes(),
        };
        // The name is None when it is too long.
        name = name.prepend_label(label).ok()?;
    }
    let fold = |at: usize, byte: &u8| {
        if case >> (at % 8) & 1 == 1 { byte.to_ascii_uppercase() } else { *byte }
    };
    let labels: Vec<Vec<u8>> = name
        .iter()
        .map(|label| label.iter().enumerate().map(|(at, byte)| fold(at, byte)).collect())
        .collect();
    let mut name = Name::from_labels(labels.iter().map(|label| &label[..])).ok()?;
    name.set_fqdn(true);
    Some(name)
}

struct NameChecker<'a> {
    mode: Mode,
    zones: &'a Zones,
}

impl NameChecker<'_> {
    fn ask(&self, name: &Name, kind: RecordType) -> Answer {
        let question = LowerQuery::query(Query::query(name.clone(), kind));
        self.zones
            .answer(&question, QueryContext { now: self.mode.now().moment, seed: 7, choice: 7 })
    }

    /// Whether a name exists; `None` when it is outside the zones.
    fn exists(&self, name: &Name) -> Option<bool> {
        match self.ask(name, RecordType::TXT).code {
            ResponseCode::NoError => Some(true),
            ResponseCode::NXDomain => Some(false),
            ResponseCode::Refused => None,
            other => panic!("the response code for {name} is {other}"),
        }
    }

    /// A name exists for every type or for none, and a CNAME answers every type.
    fn check_types(&self, name: &Name) -> Option<bool> {
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
                self.check_authority(name, &answer);
            }
            if !alias.is_empty() {
                assert_eq!(answer.answers, alias, "{name} {kind}");
            }
            self.check_ceiling(&answer);
        }
        exists
    }

    /// An answer has records, or the SOA of the zone of the name.
    fn check_authority(&self, name: &Name, answer: &Answer) {
        match &answer.authority[..] {
            [] => assert!(!answer.answers.is_empty(), "{name}: neither records nor a SOA"),
            [Record { name: apex, data: RData::SOA(soa), ttl, .. }] => {
                assert!(answer.answers.is_empty() && apex.zone_of(name), "{name} in {apex}");
                assert_eq!((*ttl, soa.minimum), (2, 2));
            }
            other => panic!("{name}: {other:?}"),
        }
        let [first, ..] = &answer.answers[..] else { return };
        assert!(
            answer.answers.iter().all(|record| record.ttl == first.ttl),
            "the TTLs of a set differ"
        );
    }

    fn check_ceiling(&self, answer: &Answer) {
        let targets = answer.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(&srv.target),
            _ => None,
        });
        let count = targets.collect::<HashSet<_>>().len();
        assert!(!self.mode.has_ceiling() || count <= CEILING, "{count} targets");
    }

    /// All names between an existing name and its zone exist.
    fn check_above(&self, name: &Name) {
        let mut parent = name.base_name();
        // Above the apex, names are outside the zones.
        while let Some(exists) = self.exists(&parent).filter(|_| !parent.is_root()) {
            assert!(exists, "{name} exists, but {parent} does not");
            parent = parent.base_name();
        }
    }

    /// If a name does not exist, no name below it exists (RFC 8020).
    fn check_below(&self, name: &Name) {
        for label in BELOW {
            let Ok(below) = name.prepend_label(label) else { return };
            assert_eq!(self.exists(&below), Some(false), "{name} does not exist, but {below} does");
        }
    }

    /// A secondary has the same names, except those with selectors.
    fn check_secondary(&self, name: &Name, exists: Option<bool>) {
        static NAMES: LazyLock<Vec<HashSet<LowerName>>> =
            LazyLock::new(|| (0..4).map(|at| transferred_names(Mode(at << 1 | 1))).collect());
        if !self.zones.zone.apex().zone_of(name) || name.iter().any(is_selector) {
            return;
        }
        let names = &NAMES[usize::from(self.mode.0 >> 1 & 3)];
        assert_eq!(exists, Some(names.contains(&LowerName::new(name))), "{name} at a secondary");
    }

    /// Checks the message for one of the types.
    fn check_message(&self, name: &Name, at: u8) {
        let bytes = encode_query(name, TYPES[usize::from(at) % TYPES.len()]);
        MessageCheck { mode: self.mode, message: &bytes }.check();
    }
}

fn is_selector(label: &[u8]) -> bool {
    let selectors: [&[u8]; 4] = [b"_ver", b"_tag", b"_zone", b"_near"];
    selectors.iter().any(|selector| label.eq_ignore_ascii_case(selector))
}

fn encode_query(name: &Name, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), kind));
    message.to_vec().expect("a query for a valid name can be encoded")
}

/// The owners in a transfer, and the names between them and the apex.
fn transferred_names(mode: Mode) -> HashSet<LowerName> {
    let zones = mode.zones();
    let bytes = encode_query(zones.zone.apex(), RecordType::AXFR);
    let client = mode.client_over(Transport::Tcp);
    let Response::Transfer(transfer) = mode.responder().respond(&bytes, client, mode.now(), 7)
    else {
        panic!("expected a transfer");
    };
    let mut names = HashSet::new();
    for bytes in *transfer {
        for record in
            Message::from_vec(&bytes).expect("a message of a transfer can be decoded").answers
        {
            let mut name = record.name;
            while zones.zone.apex().zone_of(&name) && names.insert(LowerName::new(&name)) {
                name = name.base_name();
            }
        }
    }
    names
}
