//! One row for each sentence of an RFC that applies to us: the rule in our words with its section, a query,
//! and what is to be answered.
//!
//! Queries are octets that are written here, since no library writes those that break a rule. Rules of
//! sockets are in `tests/integration/dns_tcp.rs`; which names exist, TTLs and sizes also have properties in the files
//! beside this folder, which are not repeated.

mod communicate;
mod cookies;
mod edns;
mod existence;
mod large;
mod message;
mod policy;
mod sets;
mod transfers;

use std::fmt::Write as _;

use hickory_proto::{
    op::Message,
    rr::{Name, RecordType, rdata::opt::EdnsOption},
};
use rollcall_model::instance::Instance;

use super::world::{World, full, instance};
use crate::dns::respond::{Outcome, Transport};

pub(super) const APEX: &str = "rollcall.internal.";

/// Flags and opcodes, as they stand in the header.
pub(super) const AA: u16 = 0x0400;
pub(super) const TC: u16 = 0x0200;
pub(super) const RD: u16 = 0x0100;
pub(super) const RA: u16 = 0x0080;
pub(super) const Z: u16 = 0x0040;
pub(super) const AD: u16 = 0x0020;
pub(super) const CD: u16 = 0x0010;

pub(super) const fn opcode(code: u16) -> u16 {
    code << 11
}

pub(super) const NSID: u16 = 3;
pub(super) const SUBNET: u16 = 8;
pub(super) const EXPIRE: u16 = 9;
pub(super) const COOKIE: u16 = 10;
pub(super) const KEEPALIVE: u16 = 11;
pub(super) const PADDING: u16 = 12;

/// A query, right or wrong.
#[derive(Clone)]
pub(super) struct Wire {
    flags: u16,
    /// Question, answer, authority, additional.
    counts: [u16; 4],
    body: Vec<u8>,
    transport: Transport,
}

/// Asks for a name, which is completed by `svc.<zone>` when it has no final dot, in class IN.
pub(super) fn ask(name: &str, kind: impl Into<u16>) -> Wire {
    let kind = kind.into();
    nothing(0).question(&name_octets(&full(name)), kind, 1)
}

/// Asks for the zone's SOA.
pub(super) fn soa() -> Wire {
    ask(APEX, RecordType::SOA)
}

/// A header alone.
pub(super) fn nothing(flags: u16) -> Wire {
    Wire { flags, counts: [0; 4], body: Vec::new(), transport: Transport::Udp }
}

pub(super) fn name_octets(name: &str) -> Vec<u8> {
    let name = Name::from_ascii(name).unwrap();
    let labels = name.iter().map(|label| [&[label.len() as u8], label].concat());
    labels.collect::<Vec<_>>().concat().into_iter().chain([0]).collect()
}

impl Wire {
    pub(super) fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// Over TCP.
    pub(super) fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }

    pub(super) fn question(mut self, name: &[u8], kind: u16, class: u16) -> Self {
        self.counts[0] += 1;
        self.raw(name).raw(&kind.to_be_bytes()).raw(&class.to_be_bytes())
    }

    /// A record of `section` 1 (answer) to 3 (additional); they have to be added in order.
    pub(super) fn record(
        mut self,
        section: usize,
        owner: &[u8],
        kind: u16,
        class: u16,
        ttl: u32,
        data: &[u8],
    ) -> Self {
        self.counts[section] += 1;
        let length = u16::try_from(data.len()).unwrap();
        let head = [kind.to_be_bytes(), class.to_be_bytes()].concat();
        self.raw(owner).raw(&head).raw(&ttl.to_be_bytes()).raw(&length.to_be_bytes()).raw(data)
    }

    /// An OPT of this size, `version`, flags and options.
    pub(super) fn opt(self, size: u16, ttl: u32, options: &[(u16, &[u8])]) -> Self {
        self.record(3, &[0], 41, size, ttl, &option_octets(options))
    }

    /// An OPT of the size that everybody sends.
    pub(super) fn edns(self, options: &[(u16, &[u8])]) -> Self {
        self.opt(1232, 0, options)
    }

    /// More octets, that no count speaks of.
    pub(super) fn raw(mut self, octets: &[u8]) -> Self {
        self.body.extend_from_slice(octets);
        self
    }

    /// The header says so, whatever there is.
    pub(super) fn counts(mut self, counts: [u16; 4]) -> Self {
        self.counts = counts;
        self
    }

    /// Without its last octets.
    pub(super) fn cut(mut self, octets: usize) -> Self {
        self.body.truncate(self.body.len() - octets);
        self
    }

    pub(super) fn octets(&self) -> Vec<u8> {
        let words = [0x1267, self.flags].into_iter().chain(self.counts);
        words.flat_map(u16::to_be_bytes).chain(self.body.iter().copied()).collect()
    }

    /// What becomes of it.
    pub(super) fn put_to(&self, world: &World) -> Outcome {
        world.send(&self.octets(), self.transport)
    }

    /// The octets that answer it.
    pub(super) fn answer(&self, world: &World) -> Vec<u8> {
        super::messages::exchange(world, &self.octets(), self.transport)
    }

    /// The message that answers it.
    pub(super) fn message(&self, world: &World) -> Message {
        Message::from_vec(&self.answer(world)).unwrap()
    }
}

/// DO, and version and other flags, as they stand in the TTL of an OPT.
pub(super) const DO: u32 = 0x8000;
pub(super) const VERSION_1: u32 = 1 << 16;

pub(super) fn option_octets(options: &[(u16, &[u8])]) -> Vec<u8> {
    let option = |(code, data): &(u16, &[u8])| {
        let length = u16::try_from(data.len()).unwrap();
        [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
    };
    options.iter().flat_map(option).collect()
}

/// A row: the rule, a query, and the answer as [`told`] writes it.
pub(super) type Row<'a> = (&'a str, Wire, &'a str);

/// Holds the world to every row, and names those that it broke.
pub(super) fn hold(world: &World, rows: &[Row<'_>]) {
    let mut broken = String::new();
    for (rule, query, wanted) in rows {
        let given = told(query, &query.put_to(world));
        if given != *wanted {
            write!(broken, "\n{rule}\n  wanted {wanted}\n  given  {given}").unwrap();
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

/// An answer in one line: code, flags, counts of question, answer, authority and additional (without the
/// OPT), and the OPT with its flags and options. What is the same for all is asserted: ID, QR, opcode,
/// question, the size and version that an OPT has.
pub(super) fn told(query: &Wire, outcome: &Outcome) -> String {
    let octets = match outcome {
        Outcome::Reply(octets, _) => octets,
        Outcome::Silence => return "silence".to_owned(),
        Outcome::Transfer(_) => return "transfer".to_owned(),
    };
    let message = Message::from_vec(octets).unwrap();
    let flags = u16::from_be_bytes([octets[2], octets[3]]);
    assert_eq!(octets[..2], [0x12, 0x67], "the ID");
    assert_eq!(flags & 0xf800, 0x8000 | (query.flags & 0x7800), "QR and opcode");
    if !message.queries.is_empty() {
        let end = 12
            + message.queries[0].name().len()
            + usize::from(!message.queries[0].name().is_root())
            + 4;
        assert_eq!(octets[12..end], query.octets()[12..end], "the question, as it came");
    }
    let mut text = code(message.metadata.response_code.into());
    let names = [(AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra"), (Z, "z"), (AD, "ad"), (CD, "cd")];
    for (_, name) in names.iter().filter(|(flag, _)| flags & flag != 0) {
        write!(text, " {name}").unwrap();
    }
    let records = [&message.answers, &message.authorities, &message.additionals].map(Vec::len);
    let [answers, authorities, additional] = records;
    write!(text, " {}/{answers}/{authorities}/{additional}", message.queries.len()).unwrap();
    if let Some(edns) = &message.edns {
        assert_eq!((edns.max_payload(), edns.version(), edns.flags().z), (1232, 0, 0), "the OPT");
        write!(text, " opt{}", if edns.flags().dnssec_ok { " do" } else { "" }).unwrap();
        for (code, option) in edns.options().as_ref() {
            write!(text, " {}", option_text((*code).into(), option)).unwrap();
        }
    }
    text
}

fn code(code: u16) -> String {
    let known = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        _ => return format!("RCODE{code}"),
    };
    known.to_owned()
}

fn option_text(code: u16, option: &EdnsOption) -> String {
    let data = Vec::<u8>::try_from(option).unwrap();
    match (code, &data[..]) {
        (NSID, name) => format!("nsid={}", String::from_utf8_lossy(name)),
        (COOKIE, cookie) => format!("cookie/{}", cookie.len()),
        (KEEPALIVE, [high, low]) => format!("keepalive={}", u16::from_be_bytes([*high, *low])),
        (15, [high, low, text @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("ede{code}={:?}", String::from_utf8_lossy(text))
        }
        _ => format!("option{code}/{}", data.len()),
    }
}

/// `orders`: two with a port `http`, one of them dual.
pub(super) fn orders() -> Vec<Instance> {
    vec![
        instance("orders", "o1", &["10.0.0.1"]),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"]),
    ]
}

pub(super) fn world() -> World {
    World::of(orders())
}
