//! The answer to one question: a pure function of the directory, the moment and a seed.
//!
//! Owns: which names exist, what exact negatives look like (RFC 2308, RFC 8020), and what is said
//! when we cannot know. Does not own: the message around it (`gate`) and its size (`fit`).

use hickory_proto::{
    op::{LowerQuery, ResponseCode},
    rr::{RData, Record, RecordType, rdata::HINFO},
};

use crate::dns::{
    member,
    name::{Asked, Service},
    records::{self, Set},
    service::{self, Context},
    zone::{NEGATIVE_TTL, TTL, Zone},
};
use crate::registry::{directory::Directory, lease::Moment, view::View};

/// What an answer says beside its code (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ede {
    /// 3: nothing new has been seen for so long that nobody is judged any more.
    Stale,
    /// 14: the first list has not been taken in.
    NotReady,
    /// 20: not our zone.
    NotAuthoritative,
}

impl Ede {
    /// Its number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Stale => 3,
            Self::NotReady => 14,
            Self::NotAuthoritative => 20,
        }
    }

    /// A few words for a person.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Stale => "no news from the Kubernetes API",
            Self::NotReady => "not yet in sync with the Kubernetes API",
            Self::NotAuthoritative => "not a zone of this server",
        }
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// Whether it is ours to say.
    pub authoritative: bool,
    /// What was asked for, all of it, in the order in which it may be cut.
    pub answers: Vec<Record>,
    /// The SOA, where there is no answer to give.
    pub authority: Vec<Record>,
    /// Addresses of targets; those of one target stand together.
    pub glue: Vec<Record>,
    /// What else is to be said.
    pub ede: Option<Ede>,
}

impl Answer {
    /// No record, only a code.
    #[must_use]
    pub fn bare(code: ResponseCode, ede: Option<Ede>) -> Self {
        let (answers, authority, glue) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, authoritative: false, answers, authority, glue, ede }
    }
}

/// Answers a question of class IN, as of `now`; `seed` decides the order.
#[must_use]
pub fn answer(
    zone: &Zone,
    directory: &Directory,
    question: &LowerQuery,
    now: Moment,
    seed: u64,
) -> Answer {
    let asked = Asked::parse(question.name(), zone);
    let kind = question.query_type();
    if asked == Asked::Outside {
        return Answer::bare(ResponseCode::Refused, Some(Ede::NotAuthoritative));
    }
    if asked.namespace().is_some_and(|namespace| !directory.covers(namespace)) {
        return Answer::bare(ResponseCode::Refused, Some(Ede::NotAuthoritative));
    }
    if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return Answer::bare(ResponseCode::Refused, None);
    }
    if !directory.is_synced() {
        return Answer::bare(ResponseCode::ServFail, Some(Ede::NotReady));
    }
    let found = Finder { zone, directory, question, now, seed }.find(asked);
    let code = if found.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
    let mut set = found.unwrap_or_default();
    if code == ResponseCode::NoError && kind == RecordType::ANY && set.answers.is_empty() {
        set.answers.push(instead_of_any(question));
    }
    let soa = || zone.soa(zone.apex(), directory.serial(), NEGATIVE_TTL);
    Answer {
        code,
        authoritative: true,
        authority: set.answers.is_empty().then(soa).into_iter().collect(),
        answers: set.answers,
        glue: set.glue,
        ede: directory.is_stale(now).then_some(Ede::Stale),
    }
}

/// One small record for those who ask for everything (RFC 8482 §4.2).
fn instead_of_any(question: &LowerQuery) -> Record {
    let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
    Record::from_rdata(question.original().name().clone(), TTL, RData::HINFO(hinfo))
}

/// The version of Kubernetes' "DNS-Based Service Discovery" whose shapes of names are answered, as
/// its §2.2 has it told.
const SCHEMA_VERSION: &str = "1.1.0";

struct Finder<'a> {
    zone: &'a Zone,
    directory: &'a Directory,
    question: &'a LowerQuery,
    now: Moment,
    seed: u64,
}

impl Finder<'_> {
    /// The records at a name; none when the name does not exist.
    fn find(&self, asked: Asked<'_>) -> Option<Set> {
        match asked {
            Asked::Outside | Asked::Unknown => None,
            Asked::Services | Asked::NameServerParent => Some(Set::default()),
            Asked::Apex => Some(self.apex()),
            Asked::NameServer => Some(self.name_server()),
            Asked::Version => Some(self.version()),
            Asked::Namespace(name) => self.directory.has_namespace(name).then(Set::default),
            Asked::Service(of) => {
                self.of(&of, |view, context| service::service(view, &of.only, context))
            }
            Asked::Selector(of, kind) => {
                self.of(&of, |view, _| service::selector(view, &of.only, kind))
            }
            Asked::Transport(of, protocol) => {
                self.of(&of, |view, _| service::transport(view, &of.only, protocol))
            }
            Asked::Port(of, protocol, name) => self
                .of(&of, |view, context| service::port(view, &of.only, (protocol, name), context)),
            Asked::Instance(of, label) => {
                self.of(&of, |view, context| member::member(view, label, context))
            }
        }
    }

    fn of(
        &self,
        of: &Service<'_>,
        f: impl FnOnce(&View, Context<'_>) -> Option<Set>,
    ) -> Option<Set> {
        let view = self.directory.service(of.namespace, of.service)?;
        let kind = self.question.query_type();
        let base = match kind {
            // Only SRV records have targets to be named.
            RecordType::SRV => self.zone.service(of.namespace, of.service),
            _ => None,
        };
        let owner = self.question.original().name();
        f(&view, Context { owner, base: base.as_ref(), kind, now: self.now, seed: self.seed })
    }

    fn apex(&self) -> Set {
        let owner = self.question.original().name();
        match self.question.query_type() {
            RecordType::SOA => {
                let soa = self.zone.soa(owner, self.directory.serial(), TTL);
                Set { answers: vec![soa], glue: Vec::new() }
            }
            RecordType::NS => {
                let (name, ips) = (self.zone.name_server(), self.zone.addresses().iter());
                let glue = ips.map(|ip| records::address(name, *ip, TTL)).collect();
                Set { answers: vec![self.zone.ns(owner)], glue }
            }
            _ => Set::default(),
        }
    }

    fn name_server(&self) -> Set {
        let (owner, kind) = (self.question.original().name(), self.question.query_type());
        if !matches!(kind, RecordType::A | RecordType::AAAA) {
            return Set::default();
        }
        let ips = self.zone.addresses().iter().copied();
        Set { answers: records::addresses(owner, kind, ips, TTL), glue: Vec::new() }
    }

    fn version(&self) -> Set {
        let owner = self.question.original().name();
        let text = || records::text(owner, SCHEMA_VERSION, TTL);
        let asked = self.question.query_type() == RecordType::TXT;
        Set { answers: asked.then(text).into_iter().collect(), glue: Vec::new() }
    }
}
