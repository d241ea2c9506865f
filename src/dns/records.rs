//! Builds the records of instances.
//!
//! Owns: the TTL rule, and the order and uniqueness of records within a set. Does not own: selecting instances
//! (`service`, `member`).

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

/// The maximum length of a character-string in bytes (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// The records at a name that exists.
#[derive(Debug, Default)]
pub(super) struct RecordSet {
    /// The answer section; empty when the name has no records of the queried type.
    pub(super) answers: Vec<Record>,
    /// Addresses of the SRV targets in `answers`. The addresses of one target are adjacent.
    pub(super) glue: Vec<Record>,
    /// Why `answers` is empty, or contains instances that are not discoverable.
    pub(super) ede: Option<Ede>,
}

impl RecordSet {
    pub(super) fn from_answers(answers: Vec<Record>) -> Self {
        Self { answers, ..Self::default() }
    }

    /// Only a CNAME; empty when the hostname is not a valid name.
    pub(super) fn alias(owner: &Name, hostname: &str, ttl: u32) -> Self {
        let cname = |target| Record::from_rdata(owner.clone(), ttl, RData::CNAME(CNAME(target)));
        Self::from_answers(parse_hostname(hostname).map(cname).into_iter().collect())
    }
}

/// The TTL of the records of these instances: [`TTL`], or the whole seconds until the first of their leases ends if
/// that is less; 0 when one has expired.
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

/// Parses a hostname as an absolute name.
pub(super) fn parse_hostname(hostname: &str) -> Option<Name> {
    let mut name = Name::from_ascii(hostname).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The A or AAAA record of an address.
pub(super) fn address(owner: &Name, ip: IpAddr, ttl: u32) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(owner.clone(), ttl, data)
}

/// The A or AAAA records of these addresses, without duplicates (RFC 2181 §5).
pub(super) fn addresses(
    owner: &Name,
    kind: RecordType,
    ips: impl Iterator<Item = IpAddr>,
    ttl: u32,
) -> Vec<Record> {
    let mut seen = HashSet::new();
    let of_family = ips.filter(|ip| ip.is_ipv6() == (kind == RecordType::AAAA));
    of_family.filter(|ip| seen.insert(*ip)).map(|ip| address(owner, ip, ttl)).collect()
}

/// One TXT record for each attribute, `key=value` (RFC 1464; a key cannot contain `=`). An attribute longer than a
/// character-string continues in further strings of its record, which readers concatenate (as in RFC 7208 §3.3). So two
/// attributes cannot share a record, as they do in RFC 6763 §6.
pub(super) fn attributes(owner: &Name, attributes: &Pairs, ttl: u32) -> Vec<Record> {
    attributes.iter().map(|(key, value)| text(owner, &format!("{key}={value}"), ttl)).collect()
}

/// A TXT record that contains one text, split into character-strings.
pub(super) fn text(owner: &Name, text: &str, ttl: u32) -> Record {
    let strings = text.as_bytes().chunks(MAX_STRING).collect();
    Record::from_rdata(owner.clone(), ttl, RData::TXT(TXT::from_bytes(strings)))
}

/// Builds SRV records and their glue.
pub(super) struct SrvTargets<'a> {
    /// The queried name.
    pub(super) owner: &'a Name,
    /// `<svc>.<ns>.svc.<zone>`, the parent of the names of its instances.
    pub(super) base: &'a Name,
    /// The TTL of all records.
    pub(super) ttl: u32,
}

impl SrvTargets<'_> {
    /// SRV records of `members` in their order, for the ports that `wanted` accepts, without duplicates.
    pub(super) fn records<'m>(
        &self,
        members: impl IntoIterator<Item = &'m Member>,
        wanted: impl Fn(&Port) -> bool,
    ) -> RecordSet {
        let mut set = RecordSet::default();
        // Two instances can share a hostname; two ports of one instance can share a number.
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

    /// The name of the instance, or its hostname; `None` when that is not a valid name.
    fn target(&self, member: &Member) -> Option<Name> {
        match &member.facts.address {
            Address::Ips(_) => self.base.prepend_label(member.label.as_bytes()).ok(),
            Address::Hostname(hostname) => parse_hostname(hostname),
        }
    }
}
