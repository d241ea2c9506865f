//! Arbitrary bytes as a query: the invariants of the response.
//!
//! Owns: the invariants of a message and of a zone transfer. Does not own: which names exist (`name`).

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::opt::EdnsOption},
};
use rollcall::dns::{
    cookie::CookieState,
    fit::TCP,
    limit::LimitDecision,
    query::Query,
    respond::{Responder, Response, ResponseSummary, Transport},
    transfer::Transfer,
};

use super::{
    wire::{assert_well_formed, word},
    world::{Mode, Policy},
};

const SEED: u64 = 7;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
/// RA, Z, AD and CD, which no response sets.
const NEVER_SET: u16 = 0x00f0;

/// The first byte of the input is a [`Mode`], the rest a message.
pub(crate) fn check(input: &[u8]) {
    let Some((mode, message)) = input.split_first() else { return };
    MessageCheck { mode: Mode(*mode), message }.check();
}

/// A message, and the mode in which it is sent.
#[derive(Clone, Copy)]
pub(crate) struct MessageCheck<'m> {
    pub(crate) mode: Mode,
    pub(crate) message: &'m [u8],
}

impl MessageCheck<'_> {
    pub(crate) fn check(self) {
        let responder = self.mode.responder();
        match self.ask(&responder, self.mode.transport()) {
            Response::Dropped => {
                let is_query = self.message.len() >= 12 && word(self.message, 2) & QR == 0;
                assert!(!is_query, "a query got no response");
            }
            Response::Message(bytes, summary) => {
                self.check_reply(&bytes, summary);
                self.check_repetition(&responder, &bytes, summary);
            }
            Response::Transfer(transfer) => self.check_transfer(*transfer),
        }
    }

    fn ask(self, responder: &Responder, transport: Transport) -> Response {
        responder.respond(self.message, self.mode.client_over(transport), self.mode.now(), SEED)
    }

    fn query(&self) -> Query<'_> {
        Query::parse(self.message).expect("a query that got a response can be parsed")
    }

    /// Checks what all responses have in common, and decodes the message.
    fn check_header(&self, bytes: &[u8], over: Transport) -> Message {
        assert_well_formed(bytes);
        let (query_flags, flags) = (word(self.message, 2), word(bytes, 2));
        assert_eq!(word(bytes, 0), word(self.message, 0), "the ID");
        assert_eq!(
            flags & (QR | OPCODE | RD | NEVER_SET),
            QR | (query_flags & (OPCODE | RD)),
            "the flags"
        );
        let read = Message::from_vec(bytes).expect("the response can be decoded");
        assert_eq!(read.metadata.message_type, MessageType::Response);
        self.check_opt(&read, over);
        read
    }

    fn check_reply(&self, bytes: &[u8], summary: ResponseSummary) {
        let read = self.check_header(bytes, self.mode.transport());
        let query = self.query();
        let flags = word(bytes, 2);
        assert!(bytes.len() <= self.limit(&query, summary.cookie), "{} bytes", bytes.len());
        assert_eq!(flags & TC != 0, summary.truncated, "the summary has the TC of the message");
        assert_eq!(read.queries.len(), usize::from(query.question.is_some()));
        let echo = bytes.get(12..12 + query.bytes.len());
        assert_eq!(echo, Some(query.bytes), "the question is not repeated as received");
        self.check_sections(&read, &query);
        self.check_truncation(&read, summary);
    }

    fn limit(&self, query: &Query<'_>, cookie: CookieState) -> usize {
        if self.mode.transport() == Transport::Tcp {
            return usize::from(TCP);
        }
        let is_limited =
            self.mode.policy() == Policy::SmallCookieless && cookie != CookieState::Good;
        match &query.edns {
            Some(edns) if !is_limited => usize::from(edns.size.clamp(512, 1232)),
            _ => 512,
        }
    }

    /// The response has an OPT if the query has one, with no option that was not requested.
    fn check_opt(&self, read: &Message, over: Transport) {
        let query = self.query();
        assert_eq!(read.edns.is_some(), query.edns.is_some(), "OPT in response and query");
        let (Some(opt), Some(request)) = (&read.edns, &query.edns) else { return };
        assert_eq!((opt.version(), opt.max_payload()), (0, 1232));
        assert_eq!(opt.flags().dnssec_ok, request.dnssec_ok, "DO is not copied");
        for (code, option) in opt.options().as_ref() {
            let is_allowed = match (u16::from(*code), option) {
                (3, EdnsOption::NSID(_)) => request.nsid,
                (10, EdnsOption::Unknown(_, cookie)) => {
                    request.cookie.is_some() && cookie.len() == 24
                }
                (11, _) => request.keepalive && over == Transport::Tcp,
                (15, _) => true,
                _ => false,
            };
            assert!(is_allowed, "option {code:?} was not requested");
        }
    }

    fn check_sections(&self, read: &Message, query: &Query<'_>) {
        let code = read.metadata.response_code;
        let authoritative = read.metadata.authoritative;
        let positive = code == ResponseCode::NoError;
        assert!(!authoritative || positive || code == ResponseCode::NXDomain, "AA with {code}");
        assert!(positive || read.answers.is_empty(), "answers with {code}");
        assert!(
            authoritative || read.answers.len() + read.authorities.len() == 0,
            "records without AA"
        );
        if authoritative && read.answers.is_empty() && !read.metadata.truncation {
            assert!(is_soa(&read.authorities), "a negative answer without a SOA");
        } else {
            assert!(read.authorities.is_empty(), "a SOA with an answer");
        }
        if code == ResponseCode::NXDomain {
            assert!(is_soa(&read.authorities), "NXDOMAIN without a SOA");
        }
        let records = [&read.answers, &read.authorities, &read.additionals].into_iter().flatten();
        assert!(records.clone().all(|record| record.ttl <= 5), "a TTL of more than 5 s");
        let Some(question) = &query.question else { return };
        let original = question.original();
        for record in &read.answers {
            assert!(
                is_same(&record.name, original.name()),
                "an answer is owned by {}",
                record.name
            );
            let kind = record.record_type();
            let fits = kind == original.query_type()
                || kind == RecordType::CNAME
                || (kind, original.query_type()) == (RecordType::HINFO, RecordType::ANY)
                || (kind, original.query_type()) == (RecordType::SOA, RecordType::IXFR);
            assert!(fits, "{kind} for {}", original.query_type());
        }
        assert_no_duplicates(&read.answers);
    }

    /// TC is set if and only if the answer is a proper prefix of the answer over TCP.
    fn check_truncation(&self, read: &Message, summary: ResponseSummary) {
        let (truncated, udp) = (summary.truncated, self.mode.transport() == Transport::Udp);
        if !udp {
            return assert!(!truncated, "TC over TCP, although all sets of the world fit");
        }
        let Response::Message(bytes, _) = self.ask(&self.mode.responder(), Transport::Tcp) else {
            // A transfer that is requested over UDP gets one message.
            return assert!(!truncated);
        };
        let whole = self.check_header(&bytes, Transport::Tcp);
        if is_transfer(&self.query()) {
            return;
        }
        assert_eq!(read.metadata.response_code, whole.metadata.response_code);
        assert!(whole.answers.starts_with(&read.answers), "other answers over TCP");
        assert_eq!(truncated, read.answers.len() < whole.answers.len(), "TC");
        if !truncated {
            assert_eq!(read.authorities, whole.authorities);
        }
        assert!(whole.additionals.starts_with(&read.additionals), "other addresses over TCP");
    }

    /// The same query at the same moment with the same seed has the same response, except above the rate limit.
    fn check_repetition(&self, responder: &Responder, bytes: &[u8], summary: ResponseSummary) {
        let assert_same = |responder| match self.ask(responder, self.mode.transport()) {
            Response::Message(again, _) => {
                assert_eq!(again, bytes, "the response differs from the first one");
            }
            other => panic!("the response differs from the first one: {other:?}"),
        };
        assert_same(responder);
        if self.mode.policy() != Policy::RateLimited || summary.cookie == CookieState::Good {
            return assert_same(responder);
        }
        let denied = word(bytes, 2) & 15 != 0 || summary.code == ResponseCode::BADVERS;
        if self.mode.transport() == Transport::Tcp || !denied {
            return assert_same(responder);
        }
        let Response::Message(slip, summary) = self.ask(responder, Transport::Udp) else {
            panic!("a response above the rate limit was dropped, not truncated");
        };
        assert_eq!((summary.decision, summary.truncated), (LimitDecision::Slip, true));
        let read = self.check_header(&slip, Transport::Udp);
        let counts = [read.answers.len(), read.authorities.len(), read.additionals.len()];
        assert_eq!((counts, word(&slip, 2) & (TC | AA | 15)), ([0; 3], TC));
        assert!(slip.len() <= self.limit(&self.query(), summary.cookie));
    }

    /// A transfer begins and ends with the same SOA, its messages are well formed, and only allowed clients get it.
    fn check_transfer(&self, transfer: Transfer) {
        let query = self.query();
        let zones = self.mode.zones();
        let question = query.question.as_ref().expect("a transfer has a question");
        assert!(is_transfer(&query) && self.mode.transport() == Transport::Tcp);
        assert!(matches!(self.mode.policy(), Policy::Open | Policy::RateLimited));
        assert!(**question.name() == *zones.zone.apex());
        let mut all = Vec::new();
        for (at, bytes) in transfer.take(1000).enumerate() {
            let read = self.check_header(&bytes, Transport::Tcp);
            assert!(bytes.len() <= 16_384, "{} bytes", bytes.len());
            assert_eq!(word(&bytes, 2) & (AA | TC | 15), AA);
            assert_eq!(
                read.queries.len(),
                usize::from(at == 0),
                "only the first message has the question"
            );
            assert!(read.authorities.is_empty() && read.additionals.is_empty());
            assert!(!read.answers.is_empty(), "a message without records");
            all.extend(read.answers);
        }
        let [first, inner @ .., last] = &all[..] else { panic!("fewer than two records") };
        assert!(
            first == last && first.record_type() == RecordType::SOA,
            "the first and the last record are not the same SOA"
        );
        assert!(inner.iter().all(|record| record.record_type() != RecordType::SOA));
        assert!(all.iter().all(|record| zones.zone.apex().zone_of(&record.name)));
        assert_cnames_are_alone(inner);
        assert_no_duplicates(inner);
    }
}

fn is_transfer(query: &Query<'_>) -> bool {
    let kind = query.question.as_ref().map(|question| question.query_type());
    matches!(kind, Some(RecordType::AXFR | RecordType::IXFR))
}

fn is_soa(records: &[Record]) -> bool {
    matches!(records, [Record { data: RData::SOA(_), .. }])
}

/// The same name in the same case (0x20).
fn is_same(a: &Name, b: &Name) -> bool {
    a.iter().eq(b.iter())
}

/// A set has no duplicates (RFC 2181 §5).
fn assert_no_duplicates(records: &[Record]) {
    let mut texts: Vec<String> = records.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    let duplicate = texts.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(duplicate, None, "a duplicate record");
}

/// A name with a CNAME has no other records (RFC 1034 §3.6.2).
fn assert_cnames_are_alone(records: &[Record]) {
    for record in records.iter().filter(|record| record.record_type() == RecordType::CNAME) {
        let count = records.iter().filter(|other| other.name == record.name).count();
        assert_eq!(count, 1, "{} has a CNAME and other records", record.name);
    }
}
