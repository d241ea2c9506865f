//! Any octets as a query: what must hold of what they are answered.
//!
//! Owns: the promises of the message itself and of a transfer. Does not own: which names exist
//! (`name`).

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::opt::EdnsOption},
};
use rollcall::dns::{
    cookie::Standing,
    fit::TCP,
    limit::Verdict,
    query::Query,
    respond::{Outcome, Responder, Said, Transport},
    transfer::Transfer,
};

use super::{
    wire::{must_be_whole, word},
    world::{Manners, Mode},
};

const SEED: u64 = 7;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
/// RA, Z, AD and CD.
const NEVER: u16 = 0x00f0;

/// The first octet is a [`Mode`], the rest a message.
pub(crate) fn check(input: &[u8]) {
    let Some((mode, message)) = input.split_first() else { return };
    Exchange { mode: Mode(*mode), message }.check();
}

/// One message and how it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'m> {
    pub(crate) mode: Mode,
    pub(crate) message: &'m [u8],
}

impl Exchange<'_> {
    pub(crate) fn check(self) {
        let responder = self.mode.responder();
        match self.ask(&responder, self.mode.transport()) {
            Outcome::Silence => {
                let is_query = self.message.len() >= 12 && word(self.message, 2) & QR == 0;
                assert!(!is_query, "a query is not answered");
            }
            Outcome::Reply(octets, said) => {
                self.reply(&octets, said);
                self.again(&responder, &octets, said);
            }
            Outcome::Transfer(transfer) => self.transfer(*transfer),
        }
    }

    fn ask(self, responder: &Responder, transport: Transport) -> Outcome {
        responder.respond(self.message, self.mode.asks(transport), self.mode.now(), SEED)
    }

    fn query(&self) -> Query<'_> {
        Query::read(self.message).expect("what is answered can be read")
    }

    /// What holds of every message that is answered.
    fn head(&self, octets: &[u8], over: Transport) -> Message {
        must_be_whole(octets);
        let (asked, flags) = (word(self.message, 2), word(octets, 2));
        assert_eq!(word(octets, 0), word(self.message, 0), "the id");
        assert_eq!(flags & (QR | OPCODE | RD | NEVER), QR | (asked & (OPCODE | RD)), "the flags");
        let read = Message::from_vec(octets).expect("the answer can be read");
        assert_eq!(read.metadata.message_type, MessageType::Response);
        self.opt(&read, over);
        read
    }

    fn reply(&self, octets: &[u8], said: Said) {
        let read = self.head(octets, self.mode.transport());
        let query = self.query();
        let flags = word(octets, 2);
        assert!(octets.len() <= self.limit(&query, said.cookie), "{} octets", octets.len());
        assert_eq!(flags & TC != 0, said.truncated, "TC is counted as it is sent");
        assert_eq!(read.queries.len(), usize::from(query.question.is_some()));
        let echo = octets.get(12..12 + query.octets.len());
        assert_eq!(echo, Some(query.octets), "the question is repeated as it came");
        self.sections(&read, &query);
        self.cut(&read, said);
    }

    fn limit(&self, query: &Query<'_>, cookie: Standing) -> usize {
        if self.mode.transport() == Transport::Tcp {
            return usize::from(TCP);
        }
        let stranger = self.mode.manners() == Manners::Short && cookie != Standing::Good;
        match &query.edns {
            Some(edns) if !stranger => usize::from(edns.size.clamp(512, 1232)),
            _ => 512,
        }
    }

    /// An OPT for an OPT, with nothing in it that was not asked for.
    fn opt(&self, read: &Message, over: Transport) {
        let query = self.query();
        assert_eq!(read.edns.is_some(), query.edns.is_some(), "an OPT for an OPT");
        let (Some(opt), Some(asks)) = (&read.edns, &query.edns) else { return };
        assert_eq!((opt.version(), opt.max_payload()), (0, 1232));
        assert_eq!(opt.flags().dnssec_ok, asks.dnssec_ok, "DO is copied");
        for (code, option) in opt.options().as_ref() {
            let asked = match (u16::from(*code), option) {
                (3, EdnsOption::NSID(_)) => asks.nsid,
                (10, EdnsOption::Unknown(_, cookie)) => asks.cookie.is_some() && cookie.len() == 24,
                (11, _) => asks.keepalive && over == Transport::Tcp,
                (15, _) => true,
                _ => false,
            };
            assert!(asked, "nobody asked for option {code:?}");
        }
    }

    fn sections(&self, read: &Message, query: &Query<'_>) {
        let code = read.metadata.response_code;
        let said = read.metadata.authoritative;
        let positive = code == ResponseCode::NoError;
        assert!(!said || positive || code == ResponseCode::NXDomain, "authority on {code}");
        assert!(positive || read.answers.is_empty(), "answers with {code}");
        assert!(
            said || read.answers.len() + read.authorities.len() == 0,
            "records of no authority"
        );
        if said && read.answers.is_empty() && !read.metadata.truncation {
            assert!(is_soa(&read.authorities), "nothing is said without a SOA");
        } else {
            assert!(read.authorities.is_empty(), "a SOA beside an answer");
        }
        if code == ResponseCode::NXDomain {
            assert!(is_soa(&read.authorities), "NXDOMAIN without a SOA");
        }
        let records = [&read.answers, &read.authorities, &read.additionals].into_iter().flatten();
        assert!(records.clone().all(|record| record.ttl <= 5), "a TTL of more than 5 s");
        let Some(question) = &query.question else { return };
        let asked = question.original();
        for record in &read.answers {
            assert!(is_same(&record.name, asked.name()), "{} owns an answer", record.name);
            let kind = record.record_type();
            let fits = kind == asked.query_type()
                || kind == RecordType::CNAME
                || (kind, asked.query_type()) == (RecordType::HINFO, RecordType::ANY)
                || (kind, asked.query_type()) == (RecordType::SOA, RecordType::IXFR);
            assert!(fits, "{kind} for {}", asked.query_type());
        }
        no_record_twice(&read.answers);
    }

    /// TC if and only if there are fewer answers than over TCP, and these are the first of those.
    fn cut(&self, read: &Message, said: Said) {
        let (truncated, udp) = (said.truncated, self.mode.transport() == Transport::Udp);
        if !udp {
            return assert!(!truncated, "TC over TCP, in a world that fits");
        }
        let Outcome::Reply(octets, _) = self.ask(&self.mode.responder(), Transport::Tcp) else {
            // Who asks for a transfer by UDP is told so.
            return assert!(!truncated);
        };
        let whole = self.head(&octets, Transport::Tcp);
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

    /// The same moment and seed have the same answer; but errors are bounded.
    fn again(&self, responder: &Responder, octets: &[u8], said: Said) {
        let same = |responder| match self.ask(responder, self.mode.transport()) {
            Outcome::Reply(again, _) => assert_eq!(again, octets, "another answer to the same"),
            other => panic!("another answer to the same: {other:?}"),
        };
        same(responder);
        if self.mode.manners() != Manners::Bounded || said.cookie == Standing::Good {
            return same(responder);
        }
        let denied = word(octets, 2) & 15 != 0 || said.code == ResponseCode::BADVERS;
        if self.mode.transport() == Transport::Tcp || !denied {
            return same(responder);
        }
        let Outcome::Reply(slip, said) = self.ask(responder, Transport::Udp) else {
            panic!("what is beyond the bound is cut, not dropped");
        };
        assert_eq!((said.verdict, said.truncated), (Verdict::Slip, true));
        let read = self.head(&slip, Transport::Udp);
        let counts = [read.answers.len(), read.authorities.len(), read.additionals.len()];
        assert_eq!((counts, word(&slip, 2) & (TC | AA | 15)), ([0; 3], TC));
        assert!(slip.len() <= self.limit(&self.query(), said.cookie));
    }

    /// Everything between two equal SOAs, in messages that can be read, for one who may have it.
    fn transfer(&self, transfer: Transfer) {
        let query = self.query();
        let realm = self.mode.realm();
        let question = query.question.as_ref().expect("nothing else is a transfer");
        assert!(is_transfer(&query) && self.mode.transport() == Transport::Tcp);
        assert!(matches!(self.mode.manners(), Manners::Open | Manners::Bounded));
        assert!(**question.name() == *realm.zone.apex());
        let mut all = Vec::new();
        for (at, octets) in transfer.take(1000).enumerate() {
            let read = self.head(&octets, Transport::Tcp);
            assert!(octets.len() <= 16_384, "{} octets", octets.len());
            assert_eq!(word(&octets, 2) & (AA | TC | 15), AA);
            assert_eq!(read.queries.len(), usize::from(at == 0), "the question comes once");
            assert!(read.authorities.is_empty() && read.additionals.is_empty());
            assert!(!read.answers.is_empty(), "a message of nothing");
            all.extend(read.answers);
        }
        let [first, inner @ .., last] = &all[..] else { panic!("fewer than two records") };
        assert!(first == last && first.record_type() == RecordType::SOA, "it begins as it ends");
        assert!(inner.iter().all(|record| record.record_type() != RecordType::SOA));
        assert!(all.iter().all(|record| realm.zone.apex().zone_of(&record.name)));
        aliases_stand_alone(inner);
        no_record_twice(inner);
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
fn no_record_twice(records: &[Record]) {
    let mut texts: Vec<String> = records.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    let twice = texts.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "a record stands there twice");
}

/// What has an alias has nothing else (RFC 1034 §3.6.2).
fn aliases_stand_alone(records: &[Record]) {
    for record in records.iter().filter(|record| record.record_type() == RecordType::CNAME) {
        let count = records.iter().filter(|other| other.name == record.name).count();
        assert_eq!(count, 1, "{} has an alias and more", record.name);
    }
}
