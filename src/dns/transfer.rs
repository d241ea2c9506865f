//! Zone transfers for secondaries (RFC 5936, RFC 1995).
//!
//! Owns: the records of a transfer, and their division into messages. A secondary answers as rollcall does, with three
//! exceptions: it has no names with selectors, does not order addresses by weight, and has one TTL for all records,
//! because TTLs that depend on leases would change with every heartbeat. Does not own: which clients may transfer the
//! zone (`respond`).

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use hickory_proto::rr::{Name, Record, RecordType};
use rollcall_model::{
    instance::Protocol,
    lease::Moment,
    view::{Member, View},
};

use crate::config::EmptyAnswer;
use crate::dns::{
    answer::version_record,
    context::{NameContext, QueryContext},
    ede::Ede,
    member,
    records::{self, RecordSet},
    service,
    subset::Subset,
    wire::{Header, Question, Section, Writer},
    zone::TTL,
    zones::Zones,
};

/// The maximum size of a message in bytes. Small messages need little memory, and the secondary can process one while
/// the next is encoded.
const MAX_MESSAGE: usize = 16_384;

/// The types that a name can have. CNAME comes first: a name with a CNAME has no other records (RFC 1034 §3.6.2).
const TYPES: [RecordType; 5] =
    [RecordType::CNAME, RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT];

/// A running transfer; iterates over its messages.
#[derive(Debug)]
pub struct Transfer {
    zones: Arc<Zones>,
    header: Header,
    /// The question; `None` once the first message has repeated it.
    question: Option<(Name, Vec<u8>)>,
    opt: Option<Vec<u8>>,
    views: std::vec::IntoIter<Arc<View>>,
    pending: VecDeque<Record>,
    /// The SOA that ends the transfer; `None` once it is queued.
    soa: Option<Record>,
    now: Moment,
}

impl Transfer {
    /// Starts a transfer of the current zone. Later changes have a newer serial.
    #[must_use]
    pub fn new(
        zones: Arc<Zones>,
        header: Header,
        question: Question<'_>,
        opt: Option<Vec<u8>>,
        now: Moment,
    ) -> Self {
        let zone = &zones.zone;
        // Read before the views, so that a change in between has a newer serial.
        let serial = zones.directory.serial_for_transfer();
        let mut views = zones.directory.views_in(None);
        views.sort_by(|a, b| a.key.cmp(&b.key));
        let soa = zone.soa(zone.apex(), serial, TTL);
        let mut pending = VecDeque::from([soa.clone(), zone.ns(zone.apex())]);
        let ips = zone.addresses();
        pending.extend(ips.iter().map(|ip| records::address(zone.name_server(), *ip, TTL)));
        pending.extend(
            zone.apex().prepend_label("dns-version").ok().map(|name| version_record(&name)),
        );
        let question = Some((question.name.clone(), question.bytes.to_vec()));
        let views = views.into_iter();
        Self { zones, header, question, opt, views, pending, soa: Some(soa), now }
    }

    /// Queues records until one is pending or the transfer is complete.
    fn refill(&mut self) {
        while self.pending.is_empty() {
            match self.views.next() {
                Some(view) => self.pending.extend(service_records(&self.zones, &view, self.now)),
                None => return self.pending.extend(self.soa.take()),
            }
        }
    }
}

impl Iterator for Transfer {
    type Item = Vec<u8>;

    /// Encodes the next message. `None` when all are encoded.
    fn next(&mut self) -> Option<Vec<u8>> {
        let question = self.question.take();
        let question = question.as_ref().map(|(name, bytes)| Question { name, bytes });
        let limit = MAX_MESSAGE - self.opt.as_ref().map_or(0, Vec::len);
        let mut writer = Writer::new(question, limit);
        loop {
            self.refill();
            let Some(record) = self.pending.pop_front() else { break };
            if !writer.write_record(Section::Answer, &record) {
                // A record is never larger than a message, because attributes are bounded.
                if !writer.is_empty() {
                    self.pending.push_front(record);
                }
                break;
            }
        }
        (!writer.is_empty()).then(|| writer.finish(self.header, self.opt.as_deref()))
    }
}

/// All records at the name of a service and at the names below it.
fn service_records(zones: &Zones, view: &View, now: Moment) -> Vec<Record> {
    let mut all = Vec::new();
    let is_empty = view.discoverable().next().is_none();
    let Some(base) = zones.zone.service(&view.key.namespace, &view.key.service) else { return all };
    if zones.settings.empty == EmptyAnswer::NxDomain && is_empty {
        return all;
    }
    let all_instances = Subset::default();
    let shared = ServiceContext { zones, base: &base, now };
    add_records(&mut all, &base, |at| service::service(view, &all_instances, at), shared);
    for ((protocol, port), members) in ports(view) {
        let labels = [format!("_{port}"), format!("_{}", protocol.label())];
        let labels = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
        let Ok(owner) = labels.and_then(|name| name.append_domain(&base)) else { continue };
        // A view of only the instances with this port: if each port visited all instances, the cost would be quadratic.
        let part = View::new(view.key.clone(), members.into());
        add_records(
            &mut all,
            &owner,
            |at| service::port(&part, &all_instances, protocol, port, at),
            shared,
        );
    }
    for member in view.members_by_label() {
        let Ok(owner) = base.prepend_label(member.label.as_bytes()) else { continue };
        add_records(&mut all, &owner, |at| member::member(view, &member.label, at), shared);
    }
    all
}

type Ports<'v> = BTreeMap<(Protocol, &'v str), Vec<Arc<Member>>>;

/// All ports of the service, each with the instances that have it, in any phase. An instance whose label resolves to
/// another instance cannot be an SRV target.
fn ports(view: &View) -> Ports<'_> {
    let mut ports = Ports::new();
    for member in view.members.iter().filter(|member| service::has_name(view, member)) {
        let mut own: Vec<_> =
            member.facts.ports.iter().map(|port| (port.protocol, &*port.name)).collect();
        own.sort_unstable();
        own.dedup();
        for port in own {
            ports.entry(port).or_default().push(member.clone());
        }
    }
    ports
}

/// The part of the context that all names of a service share.
#[derive(Clone, Copy)]
struct ServiceContext<'a> {
    zones: &'a Zones,
    base: &'a Name,
    now: Moment,
}

impl ServiceContext<'_> {
    fn for_name<'a>(&'a self, owner: &'a Name, kind: RecordType) -> NameContext<'a> {
        let query = QueryContext { now: self.now, seed: 0, choice: 0 };
        let (base, empty) = (Some(self.base), self.zones.settings.empty);
        NameContext { owner, base, kind, query, empty, ceiling: None }
    }
}

/// Adds the records of a name. A name that exists without records gets a TXT with the reason, because otherwise the
/// secondary would answer NXDOMAIN.
fn add_records(
    all: &mut Vec<Record>,
    owner: &Name,
    find: impl Fn(NameContext<'_>) -> Option<RecordSet>,
    shared: ServiceContext<'_>,
) {
    let (first, mut exists, mut ede) = (all.len(), false, None::<Ede>);
    for kind in TYPES {
        let Some(set) = find(shared.for_name(owner, kind)) else { continue };
        exists = true;
        ede = ede.or(set.ede);
        all.extend(set.answers.into_iter().map(|mut record| {
            record.ttl = TTL;
            record
        }));
        if kind == RecordType::CNAME && all.len() > first {
            return;
        }
    }
    if exists && all.len() == first {
        let reason = ede.map_or(Cow::Borrowed("this name has no records"), |ede| ede.text);
        all.push(records::text(owner, &reason, TTL));
    }
}
