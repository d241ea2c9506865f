//! Messages that clients send: every shape of name, every EDNS option, every mode.
//!
//! Owns: inputs that the fuzzer would need long to find. Does not own: the invariants.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::SOA, rdata::opt::EdnsOption},
};
use rollcall::dns::cookie::{Cookie, Secret};
use rollcall_model::lease::Wall;

use crate::invariants::world::{LONG, SECRET, ZONE};

/// Names below `svc.<zone>`, or absolute names with a final dot.
const NAMES: [(&str, RecordType); 38] = [
    ("rollcall.internal.", RecordType::SOA),
    ("rollcall.internal.", RecordType::NS),
    ("rollcall.internal.", RecordType::AXFR),
    ("ns.dns.rollcall.internal.", RecordType::A),
    ("dns-version.rollcall.internal.", RecordType::TXT),
    ("svc.rollcall.internal.", RecordType::A),
    ("shop", RecordType::A),
    ("orders.shop", RecordType::A),
    ("oRdErS.sHoP", RecordType::AAAA),
    ("orders.shop", RecordType::SRV),
    ("orders.shop", RecordType::ANY),
    ("o2.orders.shop", RecordType::TXT),
    ("o2.orders.shop", RecordType::AAAA),
    ("_tcp.orders.shop", RecordType::SRV),
    ("_http._tcp.orders.shop", RecordType::SRV),
    ("_dns._udp.orders.shop", RecordType::SRV),
    ("drained.shop", RecordType::A),
    ("ill.shop", RecordType::A),
    ("dead.shop", RecordType::A),
    ("x1.dead.shop", RecordType::A),
    ("db.shop", RecordType::A),
    ("db1.db.shop", RecordType::CNAME),
    ("_http._tcp.dbs.shop", RecordType::SRV),
    ("half.shop", RecordType::AAAA),
    ("crowd.shop", RecordType::A),
    ("_http._tcp.crowd.shop", RecordType::SRV),
    ("2-3-1._ver.mixed.shop", RecordType::A),
    ("canary._tag.eu._tag.mixed.shop", RecordType::A),
    ("_grpc._sctp.eu-1a._zone.mixed.shop", RecordType::SRV),
    ("mars._near.mixed.shop", RecordType::SRV),
    ("_tag.mixed.shop", RecordType::A),
    ("none.shop", RecordType::A),
    ("x.o1.orders.shop", RecordType::HTTPS),
    ("example.com.", RecordType::A),
    ("10.in-addr.arpa.", RecordType::SOA),
    ("2.0.0.10.in-addr.arpa.", RecordType::PTR),
    ("0.10.in-addr.arpa.", RecordType::PTR),
    ("8.b.d.0.1.0.0.2.ip6.arpa.", RecordType::NS),
];

/// Modes: plain, over TCP, with a ceiling, with each policy and each `--dns-empty`.
const MODES: [u8; 10] = [0, 1, 8, 0x10, 0x20, 0x30, 0x42, 0x84, 0x26, 0xc5];

/// Inputs of the target `query`.
pub(crate) fn queries() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (at, (name, kind)) in NAMES.into_iter().enumerate() {
        let mode = MODES[at % MODES.len()];
        all.push(input(0, &query(name, kind)));
        all.push(input(1, &query(name, kind)));
        all.push(input(mode, &with_edns(query(name, kind), 1232, &[])));
    }
    let long = format!("_http._tcp.{LONG}.{LONG}");
    all.push(input(0, &query(&long, RecordType::SRV)));
    all.extend(ixfr());
    all.extend(options());
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut message = with_edns(query("orders.shop", RecordType::SOA), 512, &[]);
        message.metadata.op_code = opcode;
        all.push(input(0, &message));
    }
    all
}

fn ixfr() -> Vec<Vec<u8>> {
    let message_from = |serial| {
        let mut message = query(ZONE, RecordType::IXFR);
        let zone = Name::from_ascii(ZONE).unwrap();
        let soa = RData::SOA(SOA::new(zone.clone(), zone.clone(), serial, 1, 1, 1, 1));
        message.authorities = vec![Record::from_rdata(zone, 1, soa)];
        message
    };
    [0, 1]
        .into_iter()
        .flat_map(|mode| [0, 1_700_000_000].map(|serial| input(mode, &message_from(serial))))
        .collect()
}

fn options() -> Vec<Vec<u8>> {
    let client = *b"clientck";
    let plain = EdnsOption::Unknown(10, client.to_vec());
    let cookie = Cookie::parse(&client).unwrap();
    let nsid = EdnsOption::Unknown(3, vec![]);
    let keepalive = EdnsOption::Unknown(11, vec![]);
    let mut all = Vec::new();
    for (mode, from) in [(0x10, "192.0.2.1"), (0x60, "2001:db8::1"), (1, "192.0.2.1")] {
        let issued =
            Secret::new(SECRET).issue(&cookie, from.parse().unwrap(), Wall(1_700_000_000_500));
        let good = EdnsOption::Unknown(10, issued.to_vec());
        for options in [
            &[good][..],
            std::slice::from_ref(&plain),
            &[nsid.clone(), keepalive.clone(), plain.clone()],
        ] {
            for name in ["_http._tcp.crowd.shop", "none.shop"] {
                all.push(input(mode, &with_edns(query(name, RecordType::SRV), 4096, options)));
            }
        }
    }
    let mut cookie_only = with_edns(query(".", RecordType::A), 1232, &[plain]);
    cookie_only.queries.clear();
    all.push(input(0, &cookie_only));
    let mut version = with_edns(query("orders.shop", RecordType::A), 1232, &[nsid]);
    if let Some(edns) = &mut version.edns {
        edns.set_version(1).set_dnssec_ok(true);
    }
    all.push(input(0, &version));
    all
}

/// Inputs of the target `name`: labels below every base.
pub(crate) fn names() -> Vec<Vec<u8>> {
    (0..6)
        .flat_map(|base| {
            (0..72).map(move |index| vec![MODES[usize::from(index) % 10], base, index, index, 8])
        })
        .collect()
}

/// Inputs of the target `ledger`.
pub(crate) fn ledgers() -> Vec<Vec<u8>> {
    use rollcall_core::{codec::encode, ledger::Segment};
    let beats = |count: u64| {
        (0..count).map(|i| (i << (i % 56), i as u32)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let segment =
        |sequence, count| Segment { first: 1, sequence, beats: beats(count).into_iter().collect() };
    let all = [
        vec![],
        vec![segment(1, 0)],
        vec![segment(1, 3), segment(2, 50)],
        vec![segment(7, 200), segment(9, 1)],
    ];
    all.iter().map(|segments| [vec![9], encode(segments)].concat()).collect()
}

fn query(name: &str, kind: RecordType) -> Message {
    let name = if name.ends_with('.') { name.to_owned() } else { format!("{name}.svc.{ZONE}") };
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, size: u16, options: &[EdnsOption]) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    for option in options {
        edns.options_mut().insert(option.clone());
    }
    message.edns = Some(edns);
    message
}

fn input(mode: u8, message: &Message) -> Vec<u8> {
    [vec![mode], message.to_vec().unwrap()].concat()
}
