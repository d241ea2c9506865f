//! The answer to one question: a pure function of the directory, the moment and a seed.
//!
//! Owns: which names exist, what exact negatives look like (RFC 2308, RFC 8020), and what is said
//! when we cannot know. Does not own: the message around it (`respond`) and its size (`fit`).

use std::sync::Arc;

use hickory_proto::{
    op::{LowerQuery, ResponseCode},
    rr::{
        LowerName, Name, RData, Record, RecordType,
        rdata::{HINFO, PTR},
    },
};
use rollcall_model::{
    instance::Phase,
    select::Filter,
    view::{Member, View},
};

use crate::config::Empty;
use crate::dns::{
    context::{Context, Moods},
    ede::Ede,
    member,
    name::{Asked, Service},
    realm::Realm,
    records::{self, Set},
    reverse::Place,
    service,
    zone::{NEGATIVE_TTL, TTL},
};

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
    pub edes: Vec<Ede>,
}

impl Answer {
    /// No record, only a code.
    #[must_use]
    pub fn bare(code: ResponseCode, ede: Option<Ede>) -> Self {
        let (answers, authority, glue) = (Vec::new(), Vec::new(), Vec::new());
        let edes = ede.into_iter().collect();
        Self { code, authoritative: false, answers, authority, glue, edes }
    }
}

impl Realm {
    /// Answers a question of class IN that is not about a transfer.
    #[must_use]
    pub fn answer(&self, question: &LowerQuery, moods: Moods) -> Answer {
        let Some((asked, apex)) = self.place(question.name()) else {
            return Answer::bare(ResponseCode::Refused, Some(Ede::NOT_AUTHORITATIVE));
        };
        if !self.directory.is_synced() {
            return Answer::bare(ResponseCode::ServFail, Some(Ede::NOT_READY));
        }
        let finder = Finder { realm: self, question, moods };
        let found = finder.find(asked);
        let code = if found.exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let mut set = found.set;
        let any = question.query_type() == RecordType::ANY;
        if found.exists && any && set.answers.is_empty() {
            set.answers.push(instead_of_any(question));
        }
        let soa = || self.zone.soa(apex, self.directory.serial(), NEGATIVE_TTL);
        let stale = self.directory.is_stale(moods.now).then_some(Ede::STALE);
        Answer {
            code,
            authoritative: true,
            authority: set.answers.is_empty().then(soa).into_iter().collect(),
            answers: set.answers,
            glue: set.glue,
            edes: stale.into_iter().chain(set.why).collect(),
        }
    }

    /// What a name asks for, and the zone that it is in; none when that is not ours.
    fn place<'a>(&'a self, name: &'a LowerName) -> Option<(Asked<'a>, &'a Name)> {
        let asked = match Asked::parse(name, &self.zone) {
            Asked::Outside => {
                let mut places = self.reverse.iter().map(|zone| (zone.place(name), zone.apex()));
                return places.find_map(|(place, apex)| Some((Asked::Reverse(place?), apex)));
            }
            asked => asked,
        };
        let is_covered = |namespace| self.directory.covers(namespace);
        asked.namespace().is_none_or(is_covered).then_some((asked, self.zone.apex()))
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
    realm: &'a Realm,
    question: &'a LowerQuery,
    moods: Moods,
}

/// What there is at a name.
struct Found {
    exists: bool,
    set: Set,
}

impl From<Option<Set>> for Found {
    fn from(set: Option<Set>) -> Self {
        Self { exists: set.is_some(), set: set.unwrap_or_default() }
    }
}

impl Finder<'_> {
    fn find(&self, asked: Asked<'_>) -> Found {
        let directory = &self.realm.directory;
        let set = match asked {
            Asked::Outside | Asked::Unknown => None,
            Asked::Services | Asked::NameServerParent => Some(Set::default()),
            Asked::Apex | Asked::Reverse(Place::Apex) => Some(self.apex()),
            Asked::NameServer => Some(self.name_server()),
            Asked::Version => Some(self.version()),
            Asked::Namespace(name) => directory.has_namespace(name).then(Set::default),
            Asked::Reverse(place) => self.reverse(place),
            Asked::Service(of) => {
                return self.of(&of, |view, context| service::service(view, &of.only, context));
            }
            Asked::Selector(of, kind) => {
                return self
                    .of(&of, |view, context| service::selector(view, &of.only, kind, context));
            }
            Asked::Transport(of, protocol) => {
                return self.of(&of, |view, context| {
                    service::transport(view, &of.only, protocol, context)
                });
            }
            Asked::Port(of, protocol, name) => {
                return self.of(&of, |view, context| {
                    service::port(view, &of.only, protocol, name, context)
                });
            }
            Asked::Instance(of, label) => {
                return self.of(&of, |view, context| member::member(view, label, context));
            }
        };
        set.into()
    }

    /// What a name of a service has. Where nobody is to be discoverable and that is to be NXDOMAIN, there is
    /// no name of the service at all, as such an answer says of all names below (RFC 8020).
    fn of(&self, of: &Service<'_>, f: impl FnOnce(&View, Context<'_>) -> Option<Set>) -> Found {
        let realm = self.realm;
        let Some(view) = realm.directory.service(of.namespace, of.service) else {
            return None.into();
        };
        if realm.settings.empty == Empty::NxDomain && view.discoverable().next().is_none() {
            let why = Some(Ede::empty(service::nobody(&view, &Filter::default())));
            return Found { exists: false, set: Set { why, ..Set::default() } };
        }
        let kind = self.question.query_type();
        let base = match kind {
            // Only SRV records have targets to be named.
            RecordType::SRV => realm.zone.service(of.namespace, of.service),
            _ => None,
        };
        let owner = self.question.original().name();
        let (moods, empty, ceiling) = (self.moods, realm.settings.empty, realm.settings.ceiling);
        f(&view, Context { owner, base: base.as_ref(), kind, moods, empty, ceiling }).into()
    }

    fn apex(&self) -> Set {
        let owner = self.question.original().name();
        let zone = &self.realm.zone;
        match self.question.query_type() {
            RecordType::SOA => Set::of(vec![zone.soa(owner, self.realm.directory.serial(), TTL)]),
            RecordType::NS => {
                let (name, ips) = (zone.name_server(), zone.addresses());
                let glue = ips.iter().map(|ip| records::address(name, *ip, TTL)).collect();
                Set { glue, ..Set::of(vec![zone.ns(owner)]) }
            }
            _ => Set::default(),
        }
    }

    fn name_server(&self) -> Set {
        let (owner, kind) = (self.question.original().name(), self.question.query_type());
        if !matches!(kind, RecordType::A | RecordType::AAAA) {
            return Set::default();
        }
        let ips = self.realm.zone.addresses();
        Set::of(records::addresses(owner, kind, ips.iter().copied(), TTL))
    }

    fn version(&self) -> Set {
        let asked = self.question.query_type() == RecordType::TXT;
        let text = || version(self.question.original().name());
        Set::of(asked.then(text).into_iter().collect())
    }

    fn reverse(&self, place: Place) -> Option<Set> {
        let directory = &self.realm.directory;
        let address = match place {
            Place::Apex | Place::Unknown => return None,
            Place::Below(network) => {
                return directory.has_address_below(network).then(Set::default);
            }
            Place::Address(address) => address,
        };
        let bearers = directory.members_at(address);
        if bearers.is_empty() {
            return None;
        }
        let named: Vec<_> =
            bearers.iter().filter(|member| member.phase != Phase::Expired).collect();
        if self.question.query_type() != RecordType::PTR {
            return Some(Set::default());
        }
        let ttl = records::ttl(named.iter().map(|member| &***member), self.moods.now);
        let owner = self.question.original().name();
        let pointer = |member: &&Arc<Member>| {
            let target = self.realm.zone.instance(member)?;
            Some(Record::from_rdata(owner.clone(), ttl, RData::PTR(PTR(target))))
        };
        Some(Set::of(named.iter().filter_map(pointer).collect()))
    }
}

/// The record of `dns-version`.
pub(super) fn version(owner: &Name) -> Record {
    records::text(owner, SCHEMA_VERSION, TTL)
}
