//! From the octets of a query to the octets of its response.
//!
//! Owns: the rules of the message itself: who is answered at all, which queries are answered by a code
//! alone, and the flags and the OPT of every response (RFC 1035, RFC 6891, RFC 8906). Does not own: the
//! answer (`answer`), its size (`fit`), and the sockets (`udp`, `tcp`).

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
    context::Moods,
    cookie::{Secret, Standing},
    ede::Ede,
    edns::Opt,
    fit::{self, TCP},
    limit::{Limits, Verdict},
    query::{Fault, Query},
    realm::Realm,
    transfer::Transfer,
    wire::{HEADER, Head, Question},
    zone::TTL,
};

/// QR, AA, TC and RD, and the opcode.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const RECURSION_DESIRED: u16 = 0x0100;

/// Room that no option of an OPT may take: that of a SOA, as `MAX_ZONE` adds it up.
const SOA_ROOM: usize = 162;

/// For how long a client is answered by the same part of a service, where there is a ceiling: ms.
const CHOICE: u64 = 60_000;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

impl Transport {
    /// As people and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address; not one of IPv4 inside IPv6.
    pub address: IpAddr,
    /// How it asks.
    pub transport: Transport,
}

/// What is counted about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The type asked for; none when there was no question.
    pub kind: Option<RecordType>,
    /// The code.
    pub code: ResponseCode,
    /// Whether TC was set.
    pub truncated: bool,
    /// What the query's cookie was worth.
    pub cookie: Standing,
    /// What the bound on errors made of it.
    pub verdict: Verdict,
}

/// What becomes of a query.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing: it is no query.
    Silence,
    /// One message.
    Reply(Vec<u8>, Said),
    /// As many as the zone needs; only over TCP.
    Transfer(Box<Transfer>),
}

/// All that answers depend on.
#[derive(Debug)]
pub struct Responder {
    /// What is answered for, and how.
    pub realm: Arc<Realm>,
    /// What cookies are made by.
    pub secret: Secret,
    /// The bound on errors and denials.
    pub limits: Limits,
    /// This replica, in answers to queries with NSID.
    pub replica: Box<str>,
}

impl Responder {
    /// Answers a message, as of `now`; `seed` decides the order.
    #[must_use]
    pub fn respond(&self, message: &[u8], client: Client, now: Now, seed: u64) -> Outcome {
        let Some(query) = Query::read(message) else { return Outcome::Silence };
        let turn = Turn { responder: self, query: &query, client, now, seed };
        match turn.answer() {
            Spoken::Answer(answer) => turn.send(&answer),
            Spoken::Transfer => turn.transfer(),
        }
    }
}

/// What there is to say.
enum Spoken {
    Answer(Answer),
    Transfer,
}

impl From<Answer> for Spoken {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Whether a serial is the other or before it, in the arithmetic of serials (RFC 1982 §3.2). A secondary may
/// be ahead, when it asked another replica before; it is not to go back (RFC 1995 §2).
const fn is_no_newer(serial: u32, other: u32) -> bool {
    other.wrapping_sub(serial) < 1 << 31
}

/// Whether an address is in any of these networks.
fn contain(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Tenths of a second, as a keepalive option has them (RFC 7828).
fn tenths(idle: Duration) -> u16 {
    u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX)
}

/// One query and its client.
struct Turn<'a> {
    responder: &'a Responder,
    query: &'a Query<'a>,
    client: Client,
    now: Now,
    seed: u64,
}

impl Turn<'_> {
    fn answer(&self) -> Spoken {
        let allow = &self.responder.realm.settings.allow;
        if !allow.is_empty() && !contain(allow, self.client.address) {
            return Answer::bare(ResponseCode::Refused, Some(Ede::PROHIBITED)).into();
        }
        match self.query.fault {
            None => {}
            Some(Fault::Format) => return Answer::bare(ResponseCode::FormErr, None).into(),
            Some(Fault::Version) => return Answer::bare(ResponseCode::BADVERS, None).into(),
            Some(Fault::Opcode) => {
                return Answer::bare(ResponseCode::NotImp, Some(Ede::NOT_SUPPORTED)).into();
            }
        }
        // Without a question it is about the cookie (RFC 7873 §5.4).
        let Some(question) = &self.query.question else {
            let is_bad = self.standing() == Standing::Bad;
            let code = if is_bad { ResponseCode::BADCOOKIE } else { ResponseCode::NoError };
            return Answer::bare(code, None).into();
        };
        if question.query_class() != DNSClass::IN {
            return Answer::bare(ResponseCode::Refused, Some(Ede::NOT_AUTHORITATIVE)).into();
        }
        match question.query_type() {
            kind @ (RecordType::AXFR | RecordType::IXFR) => self.whole_zone(question, kind),
            _ => self.responder.realm.answer(question, self.moods()).into(),
        }
    }

    fn moods(&self) -> Moods {
        let mut who = [0; 24];
        let (address, minute) = who.split_at_mut(16);
        match self.client.address {
            IpAddr::V4(ip) => address.copy_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => address.copy_from_slice(&ip.octets()),
        }
        // Each client has its own minute: not all of them change over at once.
        let offset = xxh3_64_with_seed(address, 0) % CHOICE;
        let turn = self.now.moment.0.wrapping_add(offset) / CHOICE;
        minute.copy_from_slice(&turn.to_be_bytes());
        let choice = xxh3_64_with_seed(&who, 0);
        Moods { now: self.now.moment, seed: self.seed, choice }
    }

    /// A request for all of a zone, or for what has changed in it, which is answered by all of it.
    fn whole_zone(&self, question: &LowerQuery, kind: RecordType) -> Spoken {
        let realm = &self.responder.realm;
        let refused = |ede| Answer::bare(ResponseCode::Refused, Some(ede)).into();
        let apex = &**question.name();
        if realm.reverse.iter().any(|zone| zone.apex() == apex) {
            return refused(Ede::NOT_SUPPORTED);
        }
        if apex != realm.zone.apex() {
            // RFC 5936 §2.2.1: such a zone is not here.
            return Answer::bare(ResponseCode::NotAuth, Some(Ede::NOT_AUTHORITATIVE)).into();
        }
        if !contain(&realm.settings.transfer, self.client.address) {
            return refused(Ede::NO_TRANSFER);
        }
        if !realm.directory.is_synced() {
            return Answer::bare(ResponseCode::ServFail, Some(Ede::NOT_READY)).into();
        }
        let over_udp = self.client.transport == Transport::Udp;
        if kind == RecordType::AXFR && over_udp {
            return refused(Ede::NOT_SUPPORTED);
        }
        let owner = question.original().name();
        let newest = realm.directory.serial();
        let is_current = self.query.serial.is_some_and(|had| is_no_newer(newest, had));
        if kind == RecordType::IXFR && (over_udp || is_current) {
            // One SOA: "you have it", or "come by TCP" (RFC 1995 §2).
            let soa = realm.zone.soa(owner, newest, TTL);
            let answer = Answer::bare(ResponseCode::NoError, None);
            return Answer { authoritative: true, answers: vec![soa], ..answer }.into();
        }
        Spoken::Transfer
    }

    fn transfer(&self) -> Outcome {
        let Some(question) = self.question() else { return Outcome::Silence };
        let head = self.head(AUTHORITATIVE);
        let opt = self.opt(&[]).map(|opt| opt.finish(0));
        let realm = self.responder.realm.clone();
        Outcome::Transfer(Box::new(Transfer::new(realm, head, question, opt, self.now.moment)))
    }

    fn send(&self, answer: &Answer) -> Outcome {
        let cookie = self.standing();
        let verdict = self.verdict(answer, cookie);
        let kind = self.query.question.as_ref().map(LowerQuery::query_type);
        let code = answer.code;
        let nothing;
        let (answer, cut) = match verdict {
            Verdict::Send => (answer, 0),
            Verdict::Slip => {
                nothing = Answer::bare(ResponseCode::NoError, None);
                (&nothing, fit::TRUNCATED)
            }
        };
        let authoritative = if answer.authoritative { AUTHORITATIVE } else { 0 };
        let rcode = u16::from(answer.code);
        let head = self.head(authoritative | cut | (rcode & 0xf));
        let opt = self.opt(&answer.edes).map(|opt| opt.finish(rcode));
        let limit = self.limit(cookie);
        let (octets, is_short) = fit::message(head, self.question(), answer, opt.as_deref(), limit);
        let truncated = is_short || cut != 0;
        Outcome::Reply(octets, Said { kind, code, truncated, cookie, verdict })
    }

    fn question(&self) -> Option<Question<'_>> {
        let question = self.query.question.as_ref()?;
        Some(Question { name: question.original().name(), octets: self.query.octets })
    }

    /// RD is copied; AD and CD are cleared, since nothing here is signed (RFC 4035 §3.1.6).
    fn head(&self, flags: u16) -> Head {
        let copied = self.query.flags & (OPCODE | RECURSION_DESIRED);
        Head { id: self.query.id, flags: RESPONSE | copied | flags }
    }

    fn standing(&self) -> Standing {
        let cookie = self.query.edns.as_ref().and_then(|edns| edns.cookie);
        let judge =
            |cookie| self.responder.secret.judge(&cookie, self.client.address, self.now.wall);
        cookie.map_or(Standing::Absent, judge)
    }

    fn limit(&self, cookie: Standing) -> u16 {
        let cookieless = self.responder.realm.settings.cookieless;
        let most = if cookie == Standing::Good { TCP } else { cookieless };
        match self.client.transport {
            Transport::Tcp => TCP,
            Transport::Udp => fit::udp(self.query.edns.as_ref().map(|edns| edns.size), most),
        }
    }

    /// Those who can be told apart from a liar are not bounded, and what is at a name is what we are here for: that
    /// it has no AAAA, too, since half of all queries are about that.
    fn verdict(&self, answer: &Answer, cookie: Standing) -> Verdict {
        let spared = self.client.transport == Transport::Tcp || cookie == Standing::Good;
        if spared || answer.code == ResponseCode::NoError {
            return Verdict::Send;
        }
        self.responder.limits.take(self.client.address, self.now.moment)
    }

    /// The OPT of a response, if the query had one (RFC 6891 §6.1.1); no option is echoed.
    fn opt(&self, edes: &[Ede]) -> Option<Opt> {
        let asks = self.query.edns.as_ref()?;
        let Responder { realm, secret, replica, .. } = self.responder;
        let limit = usize::from(self.limit(Standing::Absent));
        let room = limit.saturating_sub(HEADER + self.query.octets.len() + SOA_ROOM);
        let mut opt = Opt::new(asks.dnssec_ok, room);
        if let Some(cookie) = &asks.cookie {
            let whole = secret.answer(cookie, self.client.address, self.now.wall);
            opt.cookie(&whole);
        }
        if asks.keepalive && self.client.transport == Transport::Tcp {
            opt.keepalive(tenths(realm.settings.idle));
        }
        if asks.nsid {
            opt.nsid(replica);
        }
        edes.iter().for_each(|ede| opt.ede(ede));
        Some(opt)
    }
}
