//! One row for each sentence of an RFC that applies to this server: the rule with its section, a query, and the expected
//! response.
//!
//! Queries are encoded here, because no library encodes invalid ones. `tests/integration/dns_tcp.rs` tests the rules of
//! sockets. Property tests of existence, TTLs and sizes are in the files next to this directory.

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

use super::world::{World, absolute_name, instance};
use crate::dns::respond::{Response, Transport};

pub(super) const APEX: &str = "rollcall.internal.";

/// Flags of the header.
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

/// Builds a query, valid or not.
#[derive(Clone)]
pub(super) struct RawQuery {
    flags: u16,
    /// Counts of question, answer, authority and additional section.
    counts: [u16; 4],
    body: Vec<u8>,
    transport: Transport,
}

/// A query of class IN; `svc.<zone>` is appended to a name without a final dot.
pub(super) fn ask(name: &str, kind: impl Into<u16>) -> RawQuery {
    let kind = kind.into();
    header_only(0).question(&name_bytes(&absolute_name(name)), kind, 1)
}

/// A query for the SOA record of the zone.
pub(super) fn soa() -> RawQuery {
    ask(APEX, RecordType::SOA)
}

/// A header without records.
pub(super) fn header_only(flags: u16) -> RawQuery {
    RawQuery { flags, counts: [0; 4], body: Vec::new(), transport: Transport::Udp }
}

pub(super) fn name_bytes(name: &str) -> Vec<u8> {
    let name = Name::from_ascii(name).unwrap();
    let labels = name.iter().map(|label| [&[label.len() as u8], label].concat());
    labels.collect::<Vec<_>>().concat().into_iter().chain([0]).collect()
}

impl RawQuery {
    pub(super) fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    pub(super) fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }

    pub(super) fn question(mut self, name: &[u8], kind: u16, class: u16) -> Self {
        self.counts[0] += 1;
        self.raw(name).raw(&kind.to_be_bytes()).raw(&class.to_be_bytes())
    }

    /// Adds a record to section 1 (answer) to 3 (additional). Records must be added in the order of their sections.
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

    /// Adds an OPT. `ttl` holds version and flags.
    pub(super) fn opt(self, size: u16, ttl: u32, options: &[(u16, &[u8])]) -> Self {
        self.record(3, &[0], 41, size, ttl, &option_bytes(options))
    }

    /// Adds an OPT with the usual size.
    pub(super) fn edns(self, options: &[(u16, &[u8])]) -> Self {
        self.opt(1232, 0, options)
    }

    /// Appends bytes without changing a count.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }

    /// Sets the counts of the header.
    pub(super) fn counts(mut self, counts: [u16; 4]) -> Self {
        self.counts = counts;
        self
    }

    /// Removes the last bytes.
    pub(super) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(self.body.len() - bytes);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let words = [0x1267, self.flags].into_iter().chain(self.counts);
        words.flat_map(u16::to_be_bytes).chain(self.body.iter().copied()).collect()
    }

    /// The response of a world.
    pub(super) fn send_to(&self, world: &World) -> Response {
        world.send(&self.bytes(), self.transport)
    }

    /// The bytes of the response.
    pub(super) fn answer(&self, world: &World) -> Vec<u8> {
        super::messages::exchange(world, &self.bytes(), self.transport)
    }

    /// The decoded response.
    pub(super) fn message(&self, world: &World) -> Message {
        Message::from_vec(&self.answer(world)).unwrap()
    }
}

/// DO and the version in the TTL of an OPT.
pub(super) const DO: u32 = 0x8000;
pub(super) const VERSION_1: u32 = 1 << 16;

pub(super) fn option_bytes(options: &[(u16, &[u8])]) -> Vec<u8> {
    let option = |(code, data): &(u16, &[u8])| {
        let length = u16::try_from(data.len()).unwrap();
        [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
    };
    options.iter().flat_map(option).collect()
}

/// A rule, a query, and the expected response as [`describe`] prints it.
pub(super) type Row<'a> = (&'a str, RawQuery, &'a str);

/// Checks all rows; the failure lists each rule that is broken.
pub(super) fn assert_rows(world: &World, rows: &[Row<'_>]) {
    let mut broken = String::new();
    for (rule, query, expected) in rows {
        let actual = describe(query, &query.send_to(world));
        if actual != *expected {
            write!(broken, "\n{rule}\n  expected {expected}\n  actual   {actual}").unwrap();
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

/// Prints a response in one line: code, flags, counts of question, answer, authority and additional section (without the
/// OPT), and the OPT with its flags and options. Asserts what all responses have in common: ID, QR, opcode, question,
/// and the size and version of an OPT.
pub(super) fn describe(query: &RawQuery, response: &Response) -> String {
    let bytes = match response {
        Response::Message(bytes, _) => bytes,
        Response::Dropped => return "dropped".to_owned(),
        Response::Transfer(_) => return "transfer".to_owned(),
    };
    let message = Message::from_vec(bytes).unwrap();
    let flags = u16::from_be_bytes([bytes[2], bytes[3]]);
    assert_eq!(bytes[..2], [0x12, 0x67], "the ID");
    assert_eq!(flags & 0xf800, 0x8000 | (query.flags & 0x7800), "QR and opcode");
    if !message.queries.is_empty() {
        let end = 12
            + message.queries[0].name().len()
            + usize::from(!message.queries[0].name().is_root())
            + 4;
        assert_eq!(bytes[12..end], query.bytes()[12..end], "the question as received");
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
    let name = match code {
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
    name.to_owned()
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

/// Service `orders`: two instances with a port `http`, one of them with IPv4 and IPv6.
pub(super) fn orders() -> Vec<Instance> {
    vec![
        instance("orders", "o1", &["10.0.0.1"]),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"]),
    ]
}

pub(super) fn world() -> World {
    World::with_instances(orders())
}
