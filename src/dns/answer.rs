//! The answer to one question: a pure function of the directory, the moment and a seed.
//!
//! Owns: which names exist, exact negative answers (RFC 2308, RFC 8020), and the answer before the first list of
//! instances arrives. Does not own: the message around it (`respond`) and its size (`fit`).

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

use crate::config::EmptyAnswer;
use crate::dns::{
    context::{NameContext, QueryContext},
    ede::Ede,
    member,
    name::{QueryName, ServiceName},
    records::{self, RecordSet},
    reverse::ReverseName,
    service,
    zone::{NEGATIVE_TTL, TTL},
    zones::Zones,
};

/// The code, records and extended errors that answer one question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response code, with its extended bits.
    pub code: ResponseCode,
    /// Whether AA is set: the name is in a zone of this server, and the directory is synced.
    pub authoritative: bool,
    /// The whole answer section. If it does not fit into the message, records are dropped from its end.
    pub answers: Vec<Record>,
    /// The SOA, when `answers` is empty.
    pub authority: Vec<Record>,
    /// Addresses of SRV targets. The addresses of one target are adjacent.
    pub glue: Vec<Record>,
    /// Extended errors (RFC 8914).
    pub edes: Vec<Ede>,
}

impl Answer {
    /// An answer without records.
    #[must_use]
    pub fn bare(code: ResponseCode, ede: Option<Ede>) -> Self {
        let (answers, authority, glue) = (Vec::new(), Vec::new(), Vec::new());
        let edes = ede.into_iter().collect();
        Self { code, authoritative: false, answers, authority, glue, edes }
    }
}

impl Zones {
    /// Answers a question of class IN that does not ask for a zone transfer.
    #[must_use]
    pub fn answer(&self, question: &LowerQuery, query: QueryContext) -> Answer {
        let Some((name, apex)) = self.classify(question.name()) else {
            return Answer::bare(ResponseCode::Refused, Some(Ede::NOT_AUTHORITATIVE));
        };
        if !self.directory.is_synced() {
            return Answer::bare(ResponseCode::ServFail, Some(Ede::NOT_READY));
        }
        let lookup = Lookup { zones: self, question, query };
        let found = lookup.find(name);
        let code = if found.exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let mut set = found.set;
        let any = question.query_type() == RecordType::ANY;
        if found.exists && any && set.answers.is_empty() {
            set.answers.push(any_placeholder(question));
        }
        let soa = || self.zone.soa(apex, self.directory.serial(), NEGATIVE_TTL);
        let stale = self.directory.is_stale(query.now).then_some(Ede::STALE);
        Answer {
            code,
            authoritative: true,
            authority: set.answers.is_empty().then(soa).into_iter().collect(),
            answers: set.answers,
            glue: set.glue,
            edes: stale.into_iter().chain(set.ede).collect(),
        }
    }

    /// Parses a name and finds its zone. `None` when this server has no zone that contains the name.
    fn classify<'a>(&'a self, name: &'a LowerName) -> Option<(QueryName<'a>, &'a Name)> {
        let parsed = match QueryName::parse(name, &self.zone) {
            QueryName::Outside => {
                let mut parsed =
                    self.reverse.iter().map(|zone| (zone.parse_name(name), zone.apex()));
                return parsed.find_map(|(name, apex)| Some((QueryName::Reverse(name?), apex)));
            }
            inside => inside,
        };
        let is_covered = |namespace| self.directory.covers(namespace);
        parsed.namespace().is_none_or(is_covered).then_some((parsed, self.zone.apex()))
    }
}

/// The single small record that answers a query for ANY (RFC 8482 §4.2).
fn any_placeholder(question: &LowerQuery) -> Record {
    let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
    Record::from_rdata(question.original().name().clone(), TTL, RData::HINFO(hinfo))
}

/// The version of the Kubernetes specification "DNS-Based Service Discovery" that this server implements. Its §2.2
/// defines the record `dns-version`.
const SCHEMA_VERSION: &str = "1.1.0";

struct Lookup<'a> {
    zones: &'a Zones,
    question: &'a LowerQuery,
    query: QueryContext,
}

/// Whether a name exists, and its records.
struct Found {
    exists: bool,
    set: RecordSet,
}

impl From<Option<RecordSet>> for Found {
    fn from(set: Option<RecordSet>) -> Self {
        Self { exists: set.is_some(), set: set.unwrap_or_default() }
    }
}

impl Lookup<'_> {
    fn find(&self, name: QueryName<'_>) -> Found {
        let directory = &self.zones.directory;
        let set = match name {
            QueryName::Outside | QueryName::Unknown => None,
            QueryName::Services | QueryName::NameServerParent => Some(RecordSet::default()),
            QueryName::Apex | QueryName::Reverse(ReverseName::Apex) => Some(self.apex_records()),
            QueryName::NameServer => Some(self.name_server_records()),
            QueryName::Version => Some(self.version_records()),
            QueryName::Namespace(name) => directory.has_namespace(name).then(RecordSet::default),
            QueryName::Reverse(name) => self.reverse_records(name),
            QueryName::Service(service) => {
                return self.service_records(&service, |view, context| {
                    service::service(view, &service.subset, context)
                });
            }
            QueryName::Selector(service, kind) => {
                return self.service_records(&service, |view, context| {
                    service::selector(view, &service.subset, kind, context)
                });
            }
            QueryName::Transport(service, protocol) => {
                return self.service_records(&service, |view, context| {
                    service::transport(view, &service.subset, protocol, context)
                });
            }
            QueryName::Port(service, protocol, name) => {
                return self.service_records(&service, |view, context| {
                    service::port(view, &service.subset, protocol, name, context)
                });
            }
            QueryName::Instance(service, label) => {
                return self.service_records(&service, |view, context| {
                    member::member(view, label, context)
                });
            }
        };
        set.into()
    }

    /// The records at a name of a service. With `--dns-empty nxdomain`, a service without a discoverable instance has
    /// no names at all: an NXDOMAIN also covers every name below it (RFC 8020).
    fn service_records(
        &self,
        name: &ServiceName<'_>,
        find: impl FnOnce(&View, NameContext<'_>) -> Option<RecordSet>,
    ) -> Found {
        let zones = self.zones;
        let Some(view) = zones.directory.service(name.namespace, name.service) else {
            return None.into();
        };
        if zones.settings.empty == EmptyAnswer::NxDomain && view.discoverable().next().is_none() {
            let ede =
                Some(Ede::empty(service::no_discoverable_instance(&view, &Filter::default())));
            return Found { exists: false, set: RecordSet { ede, ..RecordSet::default() } };
        }
        let kind = self.question.query_type();
        let base = match kind {
            // Only SRV records name their targets.
            RecordType::SRV => zones.zone.service(name.namespace, name.service),
            _ => None,
        };
        let owner = self.question.original().name();
        let (query, empty, ceiling) = (self.query, zones.settings.empty, zones.settings.ceiling);
        find(&view, NameContext { owner, base: base.as_ref(), kind, query, empty, ceiling }).into()
    }

    fn apex_records(&self) -> RecordSet {
        let owner = self.question.original().name();
        let zone = &self.zones.zone;
        match self.question.query_type() {
            RecordType::SOA => {
                RecordSet::from_answers(vec![zone.soa(owner, self.zones.directory.serial(), TTL)])
            }
            RecordType::NS => {
                let (name, ips) = (zone.name_server(), zone.addresses());
                let glue = ips.iter().map(|ip| records::address(name, *ip, TTL)).collect();
                RecordSet { glue, ..RecordSet::from_answers(vec![zone.ns(owner)]) }
            }
            _ => RecordSet::default(),
        }
    }

    fn name_server_records(&self) -> RecordSet {
        let (owner, kind) = (self.question.original().name(), self.question.query_type());
        if !matches!(kind, RecordType::A | RecordType::AAAA) {
            return RecordSet::default();
        }
        let ips = self.zones.zone.addresses();
        RecordSet::from_answers(records::addresses(owner, kind, ips.iter().copied(), TTL))
    }

    fn version_records(&self) -> RecordSet {
        let is_txt = self.question.query_type() == RecordType::TXT;
        let text = || version_record(self.question.original().name());
        RecordSet::from_answers(is_txt.then(text).into_iter().collect())
    }

    fn reverse_records(&self, name: ReverseName) -> Option<RecordSet> {
        let directory = &self.zones.directory;
        let address = match name {
            ReverseName::Apex | ReverseName::Unknown => return None,
            ReverseName::Network(network) => {
                return directory.has_address_within(network).then(RecordSet::default);
            }
            ReverseName::Address(address) => address,
        };
        let members = directory.members_at(address);
        if members.is_empty() {
            return None;
        }
        let unexpired: Vec<_> =
            members.iter().filter(|member| member.phase != Phase::Expired).collect();
        if self.question.query_type() != RecordType::PTR {
            return Some(RecordSet::default());
        }
        let ttl = records::ttl(unexpired.iter().map(|member| &***member), self.query.now);
        let owner = self.question.original().name();
        let pointer = |member: &&Arc<Member>| {
            let target = self.zones.zone.instance(member)?;
            Some(Record::from_rdata(owner.clone(), ttl, RData::PTR(PTR(target))))
        };
        Some(RecordSet::from_answers(unexpired.iter().filter_map(pointer).collect()))
    }
}

/// The TXT record at `dns-version.<zone>`.
pub(super) fn version_record(owner: &Name) -> Record {
    records::text(owner, SCHEMA_VERSION, TTL)
}
