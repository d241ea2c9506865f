//! Zone transfers: everything that the zone says, for secondaries (RFC 5936, RFC 1995).
//!
//! Owns: which records a transfer has, and cutting them into messages. A secondary answers what we answer, but
//! for selectors, weights in the order of addresses, and TTLs, which are the same for all records: they would
//! otherwise change with each beat. Does not own: who may have it (`respond`).

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

use crate::config::Empty;
use crate::dns::{
    answer::version,
    context::{Context, Moods},
    ede::Ede,
    member,
    realm::Realm,
    records::{self, Set},
    service,
    subset::Subset,
    wire::{Head, Question, Section, Writer},
    zone::TTL,
};

/// Octets of a message: the reader can work while the next one is made, and none is large to hold.
const MESSAGE: usize = 16_384;

/// Types that a name may have, an alias first: what has one has nothing else (RFC 1034 §3.6.2).
const KINDS: [RecordType; 5] =
    [RecordType::CNAME, RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT];

/// One transfer under way.
#[derive(Debug)]
pub struct Transfer {
    realm: Arc<Realm>,
    head: Head,
    /// For the first message.
    question: Option<(Name, Vec<u8>)>,
    opt: Option<Vec<u8>>,
    views: std::vec::IntoIter<Arc<View>>,
    pending: VecDeque<Record>,
    /// The first record, and the last one.
    soa: Option<Record>,
    now: Moment,
}

impl Transfer {
    /// Everything as it is now. What changes meanwhile has a newer serial.
    #[must_use]
    pub fn new(
        realm: Arc<Realm>,
        head: Head,
        question: Question<'_>,
        opt: Option<Vec<u8>>,
        now: Moment,
    ) -> Self {
        let zone = &realm.zone;
        // Before the views are read.
        let serial = realm.directory.serial_for_transfer();
        let mut views = realm.directory.all_services(None);
        views.sort_by(|a, b| a.key.cmp(&b.key));
        let soa = zone.soa(zone.apex(), serial, TTL);
        let mut pending = VecDeque::from([soa.clone(), zone.ns(zone.apex())]);
        let ips = zone.addresses();
        pending.extend(ips.iter().map(|ip| records::address(zone.name_server(), *ip, TTL)));
        pending.extend(zone.apex().prepend_label("dns-version").ok().map(|name| version(&name)));
        let question = Some((question.name.clone(), question.octets.to_vec()));
        let views = views.into_iter();
        Self { realm, head, question, opt, views, pending, soa: Some(soa), now }
    }

    fn refill(&mut self) {
        while self.pending.is_empty() {
            match self.views.next() {
                Some(view) => self.pending.extend(of_service(&self.realm, &view, self.now)),
                None => return self.pending.extend(self.soa.take()),
            }
        }
    }
}

impl Iterator for Transfer {
    type Item = Vec<u8>;

    /// The next message; none when all are written.
    fn next(&mut self) -> Option<Vec<u8>> {
        let question = self.question.take();
        let asked = question.as_ref().map(|(name, octets)| Question { name, octets });
        let room = MESSAGE - self.opt.as_ref().map_or(0, Vec::len);
        let mut writer = Writer::new(asked, room);
        loop {
            self.refill();
            let Some(record) = self.pending.pop_front() else { break };
            if !writer.record(Section::Answer, &record) {
                // A record that is larger than a message cannot be: attributes are bounded.
                if !writer.is_empty() {
                    self.pending.push_front(record);
                }
                break;
            }
        }
        (!writer.is_empty()).then(|| writer.finish(self.head, self.opt.as_deref()))
    }
}

/// All records of a service, and of the names below it.
fn of_service(realm: &Realm, view: &View, now: Moment) -> Vec<Record> {
    let mut all = Vec::new();
    let nobody = view.discoverable().next().is_none();
    let Some(base) = realm.zone.service(&view.key.namespace, &view.key.service) else { return all };
    if realm.settings.empty == Empty::NxDomain && nobody {
        return all;
    }
    let everybody = Subset::default();
    let names = Names { realm, base: &base, now };
    add(&mut all, &base, |at| service::service(view, &everybody, at), names);
    for ((protocol, port), members) in ports(view) {
        let labels = [format!("_{port}"), format!("_{}", protocol.label())];
        let labels = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
        let Ok(owner) = labels.and_then(|name| name.append_domain(&base)) else { continue };
        // Only those who have it: looking at all of them for each port would be quadratic.
        let part = View::new(view.key.clone(), members.into());
        add(&mut all, &owner, |at| service::port(&part, &everybody, protocol, port, at), names);
    }
    for member in view.members_by_label() {
        let Ok(owner) = base.prepend_label(member.label.as_bytes()) else { continue };
        add(&mut all, &owner, |at| member::member(view, &member.label, at), names);
    }
    all
}

type Ports<'v> = BTreeMap<(Protocol, &'v str), Vec<Arc<Member>>>;

/// The ports that anybody has, whatever the phase, and who has them. Who cannot be found by his label is no target.
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

/// What the names of a service have in common.
#[derive(Clone, Copy)]
struct Names<'a> {
    realm: &'a Realm,
    base: &'a Name,
    now: Moment,
}

impl Names<'_> {
    fn at<'a>(&'a self, owner: &'a Name, kind: RecordType) -> Context<'a> {
        let moods = Moods { now: self.now, seed: 0, choice: 0 };
        let (base, empty) = (Some(self.base), self.realm.settings.empty);
        Context { owner, base, kind, moods, empty, ceiling: None }
    }
}

/// The records of a name. Where it exists without any, a text says why: else the secondary would say that
/// there is no such name.
fn add(
    all: &mut Vec<Record>,
    owner: &Name,
    find: impl Fn(Context<'_>) -> Option<Set>,
    names: Names<'_>,
) {
    let (first, mut exists, mut why) = (all.len(), false, None::<Ede>);
    for kind in KINDS {
        let Some(set) = find(names.at(owner, kind)) else { continue };
        exists = true;
        why = why.or(set.why);
        all.extend(set.answers.into_iter().map(|mut record| {
            record.ttl = TTL;
            record
        }));
        if kind == RecordType::CNAME && all.len() > first {
            return;
        }
    }
    if exists && all.len() == first {
        let why = why.map_or(Cow::Borrowed("no record of any type"), |why| why.text);
        all.push(records::text(owner, &why, TTL));
    }
}
