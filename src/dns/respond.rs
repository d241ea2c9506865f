//! Answers a message: from the bytes of a query to the bytes of its response.
//!
//! Owns: which clients get an answer, which queries get only a response code, and the flags and the OPT of every
//! response (RFC 1035, RFC 6891, RFC 8906). Does not own: the answer (`answer`), its size (`fit`), and the sockets
//! (`udp`, `tcp`).

use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{LowerQuery, ResponseCode},
    rr::{DNSClass, RecordType},
};
use ipnet::IpNet;
use rollcall_model::lease::Now;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::dns::{
    answer::Answer,
    context::QueryContext,
    cookie::{CookieState, Secret},
    ede::Ede,
    edns::Opt,
    fit::{self, TCP},
    limit::{ErrorLimits, LimitDecision},
    query::{Query, QueryFault},
    transfer::Transfer,
    wire::{HEADER_LEN, Header, Question},
    zone::TTL,
    zones::Zones,
};

/// The flags QR, AA, TC and RD, and the bits of the opcode.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const RECURSION_DESIRED: u16 = 0x0100;

/// The number of bytes that the options of an OPT must leave free for a SOA. `MAX_ZONE` has the arithmetic.
const SOA_RESERVE: usize = 162;

/// With `--dns-max-answers`: how long a client gets the same instances, in ms.
const CHOICE_PERIOD: u64 = 60_000;

/// The transport of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A UDP datagram.
    Udp,
    /// A TCP connection.
    Tcp,
}

impl Transport {
    /// The name in messages, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// The client of a query.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address, in canonical form: never IPv4 mapped to IPv6.
    pub address: IpAddr,
    /// The transport of its query.
    pub transport: Transport,
}

/// The properties of a response that metrics and the query log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseSummary {
    /// The queried type; `None` when there was no question.
    pub kind: Option<RecordType>,
    /// The response code.
    pub code: ResponseCode,
    /// Whether TC is set.
    pub truncated: bool,
    /// The state of the query's cookie.
    pub cookie: CookieState,
    /// Whether the rate limit truncated the response.
    pub decision: LimitDecision,
}

/// The response to a message.
#[derive(Debug)]
pub enum Response {
    /// No response, because the message is not a query.
    Dropped,
    /// One message, and its summary.
    Message(Vec<u8>, ResponseSummary),
    /// The messages of a zone transfer; only over TCP.
    Transfer(Box<Transfer>),
}

/// Answers messages. Contains the state that all answers depend on.
#[derive(Debug)]
pub struct Responder {
    /// The zones, their directory and the settings.
    pub zones: Arc<Zones>,
    /// The secret of the cookies.
    pub secret: Secret,
    /// The rate limit of errors and negative answers.
    pub limits: ErrorLimits,
    /// The name of this replica, for NSID.
    pub replica: Box<str>,
}

impl Responder {
    /// Answers a message at the time `now`. `seed` determines the order of records.
    #[must_use]
    pub fn respond(&self, message: &[u8], client: Client, now: Now, seed: u64) -> Response {
        let Some(query) = Query::parse(message) else { return Response::Dropped };
        let exchange = Exchange { responder: self, query: &query, client, now, seed };
        match exchange.answer() {
            Reply::Answer(answer) => exchange.send(&answer),
            Reply::Transfer => exchange.transfer(),
        }
    }
}

/// The content of a response.
enum Reply {
    Answer(Answer),
    Transfer,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Whether `serial` equals `other` or precedes it in serial arithmetic (RFC 1982 §3.2). A secondary that queried
/// another replica before can have a newer serial, and must not go back to an older one (RFC 1995 §2).
const fn is_not_newer(serial: u32, other: u32) -> bool {
    other.wrapping_sub(serial) < 1 << 31
}

/// Whether any of these networks contains the address.
fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Tenths of a second, the unit of the keepalive option (RFC 7828).
fn tenths(idle: Duration) -> u16 {
    u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX)
}

/// One query and its client, at one point in time.
struct Exchange<'a> {
    responder: &'a Responder,
    query: &'a Query<'a>,
    client: Client,
    now: Now,
    seed: u64,
}

impl Exchange<'_> {
    fn answer(&self) -> Reply {
        let allow = &self.responder.zones.settings.allow;
        if !allow.is_empty() && !contains(allow, self.client.address) {
            return Answer::bare(ResponseCode::Refused, Some(Ede::PROHIBITED)).into();
        }
        match self.query.fault {
            None => {}
            Some(QueryFault::Format) => return Answer::bare(ResponseCode::FormErr, None).into(),
            Some(QueryFault::Version) => return Answer::bare(ResponseCode::BADVERS, None).into(),
            Some(QueryFault::Opcode) => {
                return Answer::bare(ResponseCode::NotImp, Some(Ede::NOT_SUPPORTED)).into();
            }
        }
        // A query without a question asks only for a cookie (RFC 7873 §5.4).
        let Some(question) = &self.query.question else {
            let is_bad = self.cookie_state() == CookieState::Bad;
            let code = if is_bad { ResponseCode::BADCOOKIE } else { ResponseCode::NoError };
            return Answer::bare(code, None).into();
        };
        if question.query_class() != DNSClass::IN {
            return Answer::bare(ResponseCode::Refused, Some(Ede::NOT_AUTHORITATIVE)).into();
        }
        match question.query_type() {
            kind @ (RecordType::AXFR | RecordType::IXFR) => {
                self.answer_transfer_request(question, kind)
            }
            _ => self.responder.zones.answer(question, self.query_context()).into(),
        }
    }

    fn query_context(&self) -> QueryContext {
        let mut client_and_period = [0; 24];
        let (address, period_bytes) = client_and_period.split_at_mut(16);
        match self.client.address {
            IpAddr::V4(ip) => address.copy_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => address.copy_from_slice(&ip.octets()),
        }
        // The offset spreads the changes, so that clients do not all get other instances at the same moment.
        let offset = xxh3_64_with_seed(address, 0) % CHOICE_PERIOD;
        let period = self.now.moment.0.wrapping_add(offset) / CHOICE_PERIOD;
        period_bytes.copy_from_slice(&period.to_be_bytes());
        let choice = xxh3_64_with_seed(&client_and_period, 0);
        QueryContext { now: self.now.moment, seed: self.seed, choice }
    }

    /// Answers AXFR and IXFR, both with the whole zone.
    fn answer_transfer_request(&self, question: &LowerQuery, kind: RecordType) -> Reply {
        let zones = &self.responder.zones;
        let refused = |ede| Answer::bare(ResponseCode::Refused, Some(ede)).into();
        let apex = &**question.name();
        if zones.reverse.iter().any(|zone| zone.apex() == apex) {
            return refused(Ede::NOT_SUPPORTED);
        }
        if apex != zones.zone.apex() {
            // RFC 5936 §2.2.1: this server is not authoritative for that zone.
            return Answer::bare(ResponseCode::NotAuth, Some(Ede::NOT_AUTHORITATIVE)).into();
        }
        if !contains(&zones.settings.transfer, self.client.address) {
            return refused(Ede::NO_TRANSFER);
        }
        if !zones.directory.is_synced() {
            return Answer::bare(ResponseCode::ServFail, Some(Ede::NOT_READY)).into();
        }
        let over_udp = self.client.transport == Transport::Udp;
        if kind == RecordType::AXFR && over_udp {
            return refused(Ede::NOT_SUPPORTED);
        }
        let owner = question.original().name();
        let current_serial = zones.directory.serial();
        let is_current = self
            .query
            .serial
            .is_some_and(|client_serial| is_not_newer(current_serial, client_serial));
        if kind == RecordType::IXFR && (over_udp || is_current) {
            // One SOA means "you are up to date" or "ask over TCP" (RFC 1995 §2).
            let soa = zones.zone.soa(owner, current_serial, TTL);
            let answer = Answer::bare(ResponseCode::NoError, None);
            return Answer { authoritative: true, answers: vec![soa], ..answer }.into();
        }
        Reply::Transfer
    }

    fn transfer(&self) -> Response {
        let Some(question) = self.question() else { return Response::Dropped };
        let header = self.header(AUTHORITATIVE);
        let opt = self.opt(&[]).map(|opt| opt.finish(0));
        let zones = self.responder.zones.clone();
        Response::Transfer(Box::new(Transfer::new(zones, header, question, opt, self.now.moment)))
    }

    fn send(&self, answer: &Answer) -> Response {
        let cookie = self.cookie_state();
        let decision = self.check_limit(answer, cookie);
        let kind = self.query.question.as_ref().map(LowerQuery::query_type);
        let code = answer.code;
        let empty;
        let (answer, tc) = match decision {
            LimitDecision::Send => (answer, 0),
            LimitDecision::Slip => {
                empty = Answer::bare(ResponseCode::NoError, None);
                (&empty, fit::TRUNCATED)
            }
        };
        let authoritative = if answer.authoritative { AUTHORITATIVE } else { 0 };
        let rcode = u16::from(answer.code);
        let header = self.header(authoritative | tc | (rcode & 0xf));
        let opt = self.opt(&answer.edes).map(|opt| opt.finish(rcode));
        let limit = self.limit(cookie);
        let (bytes, is_cut) =
            fit::build_message(header, self.question(), answer, opt.as_deref(), limit);
        let truncated = is_cut || tc != 0;
        Response::Message(bytes, ResponseSummary { kind, code, truncated, cookie, decision })
    }

    fn question(&self) -> Option<Question<'_>> {
        let question = self.query.question.as_ref()?;
        Some(Question { name: question.original().name(), bytes: self.query.bytes })
    }

    /// Copies RD; clears AD and CD, because the zone is not signed (RFC 4035 §3.1.6).
    fn header(&self, flags: u16) -> Header {
        let copied = self.query.flags & (OPCODE | RECURSION_DESIRED);
        Header { id: self.query.id, flags: RESPONSE | copied | flags }
    }

    fn cookie_state(&self) -> CookieState {
        let cookie = self.query.edns.as_ref().and_then(|edns| edns.cookie);
        let verify =
            |cookie| self.responder.secret.verify(&cookie, self.client.address, self.now.wall);
        cookie.map_or(CookieState::Absent, verify)
    }

    fn limit(&self, cookie: CookieState) -> u16 {
        let cookieless = self.responder.zones.settings.cookieless;
        let max = if cookie == CookieState::Good { TCP } else { cookieless };
        match self.client.transport {
            Transport::Tcp => TCP,
            Transport::Udp => fit::udp_limit(self.query.edns.as_ref().map(|edns| edns.size), max),
        }
    }

    /// Exempts clients whose address cannot be spoofed (TCP, or a good cookie), and every NOERROR: to return records is
    /// the purpose of this server, and about half of all queries ask for AAAA records that a name does not have.
    fn check_limit(&self, answer: &Answer, cookie: CookieState) -> LimitDecision {
        let is_exempt = self.client.transport == Transport::Tcp || cookie == CookieState::Good;
        if is_exempt || answer.code == ResponseCode::NoError {
            return LimitDecision::Send;
        }
        self.responder.limits.check(self.client.address, self.now.moment)
    }

    /// The OPT of a response, if the query had one (RFC 6891 §6.1.1). No option is echoed.
    fn opt(&self, edes: &[Ede]) -> Option<Opt> {
        let request = self.query.edns.as_ref()?;
        let Responder { zones, secret, replica, .. } = self.responder;
        let limit = usize::from(self.limit(CookieState::Absent));
        let available = limit.saturating_sub(HEADER_LEN + self.query.bytes.len() + SOA_RESERVE);
        let mut opt = Opt::new(request.dnssec_ok, available);
        if let Some(cookie) = &request.cookie {
            let whole = secret.issue(cookie, self.client.address, self.now.wall);
            opt.add_cookie(&whole);
        }
        if request.keepalive && self.client.transport == Transport::Tcp {
            opt.add_keepalive(tenths(zones.settings.idle));
        }
        if request.nsid {
            opt.add_nsid(replica);
        }
        edes.iter().for_each(|ede| opt.add_ede(ede));
        Some(opt)
    }
}
