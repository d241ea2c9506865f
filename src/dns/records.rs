//! Records of members, and how long they may be believed.
//!
//! Owns: the TTL rule, and the order and uniqueness of records within a set. Does not own: which
//! members are asked for (`service`, `member`).

use std::{collections::HashSet, net::IpAddr};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME, SRV, TXT},
};
use rollcall_model::{
    instance::{Address, Pairs, Phase, Port},
    lease::{Moment, millis},
    view::Member,
};

use crate::dns::{ede::Ede, zone::TTL};

/// The most octets in a character-string (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// The records at a name that exists.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// What was asked for; empty when there is nothing of that type.
    pub(super) answers: Vec<Record>,
    /// Addresses of the targets in `answers`; those of one target stand together.
    pub(super) glue: Vec<Record>,
    /// What is to be said of them: why there is nothing, or something else than usual.
    pub(super) why: Option<Ede>,
}

impl Set {
    /// These records.
    pub(super) fn of(answers: Vec<Record>) -> Self {
        Self { answers, ..Self::default() }
    }

    /// Nothing but a pointer to another name.
    pub(super) fn alias(owner: &Name, hostname: &str, ttl: u32) -> Self {
        let record = |target| Record::from_rdata(owner.clone(), ttl, RData::CNAME(CNAME(target)));
        Self::of(target(hostname).map(record).into_iter().collect())
    }
}

/// Whole seconds for which records of all these members may be believed: [`TTL`], but never
/// beyond the soonest end of a lease; 0 when one has ended.
pub(super) fn ttl<'m>(members: impl IntoIterator<Item = &'m Member>, now: Moment) -> u32 {
    let leased = members.into_iter().filter(|member| member.facts.lease.is_leased());
    let left = leased.map(|member| {
        if member.phase == Phase::Expired {
            return 0;
        }
        let end = member.lease_end();
        millis(end.since(now)) / 1000
    });
    left.fold(TTL, |least, left| least.min(u32::try_from(left).unwrap_or(TTL)))
}

/// A hostname as an absolute name; none when it is none.
pub(super) fn target(hostname: &str) -> Option<Name> {
    let mut name = Name::from_ascii(hostname).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The record of one address.
pub(super) fn address(owner: &Name, ip: IpAddr, ttl: u32) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(owner.clone(), ttl, data)
}

/// The addresses that a query type asks for, each once (RFC 2181 §5: a set has no duplicates).
pub(super) fn addresses(
    owner: &Name,
    kind: RecordType,
    ips: impl Iterator<Item = IpAddr>,
    ttl: u32,
) -> Vec<Record> {
    let mut seen = HashSet::new();
    let wanted = ips.filter(|ip| ip.is_ipv6() == (kind == RecordType::AAAA));
    wanted.filter(|ip| seen.insert(*ip)).map(|ip| address(owner, ip, ttl)).collect()
}

/// One TXT record an attribute, `key=value` (RFC 1464; no key holds a `=`). What is longer than a
/// character-string goes on in further ones of the same record, to be joined without anything
/// between (as RFC 7208 §3.3 reads them); so attributes cannot share a record (RFC 6763 §6).
pub(super) fn attributes(owner: &Name, attributes: &Pairs, ttl: u32) -> Vec<Record> {
    attributes.iter().map(|(key, value)| text(owner, &format!("{key}={value}"), ttl)).collect()
}

/// A TXT record of one text.
pub(super) fn text(owner: &Name, text: &str, ttl: u32) -> Record {
    let strings = text.as_bytes().chunks(MAX_STRING).collect();
    Record::from_rdata(owner.clone(), ttl, RData::TXT(TXT::from_bytes(strings)))
}

/// The SRV records of members, in their order, with glue.
pub(super) struct Targets<'a> {
    /// The name asked for.
    pub(super) owner: &'a Name,
    /// `<svc>.<ns>.svc.<zone>`, below which instances have their names.
    pub(super) base: &'a Name,
    /// For all of them.
    pub(super) ttl: u32,
}

impl Targets<'_> {
    /// A record for each port that `wanted` admits, each once.
    pub(super) fn of<'m>(
        &self,
        members: impl IntoIterator<Item = &'m Member>,
        wanted: impl Fn(&Port) -> bool,
    ) -> Set {
        let mut set = Set::default();
        // Two instances may share a hostname; two ports of one may share a number.
        let mut hostnames = HashSet::new();
        for member in members {
            let facts = &member.facts;
            let Some(target) = self.target(member) else { continue };
            let first = set.answers.len();
            for port in facts.ports.iter().filter(|port| wanted(port)) {
                let srv = SRV::new(facts.priority, facts.weight, port.port, target.clone());
                let record = Record::from_rdata(self.owner.clone(), self.ttl, RData::SRV(srv));
                let shared = matches!(facts.address, Address::Hostname(_));
                let key = || (target.clone(), port.port, facts.priority, facts.weight);
                let own = set.answers.get(first..).unwrap_or_default();
                if !own.contains(&record) && (!shared || hostnames.insert(key())) {
                    set.answers.push(record);
                }
            }
            if set.answers.len() > first {
                let ips = facts.ips().iter();
                set.glue.extend(ips.map(|ip| address(&target, *ip, self.ttl)));
            }
        }
        set
    }

    /// An instance's own name, or its hostname; none when that is no name.
    fn target(&self, member: &Member) -> Option<Name> {
        match &member.facts.address {
            Address::Ips(_) => self.base.prepend_label(member.label.as_bytes()).ok(),
            Address::Hostname(hostname) => target(hostname),
        }
    }
}
