//! The forward zone: its name, and the names and records that depend only on that.
//!
//! Owns: [`Zone`]. Does not own: the meaning of names below it (`name`).

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{NS, SOA},
};
use rollcall_model::{naming, view::Member};

/// The TTL of records in seconds, when no lease ends sooner.
pub const TTL: u32 = 5;

/// The TTL of negative answers in seconds. RFC 2308 §5 takes the lesser of the SOA's TTL and its MINIMUM, so both have
/// this value.
pub const NEGATIVE_TTL: u32 = 2;

/// The longest zone, in bytes of text. With the longest question, a SOA and an OPT must fit into 512 bytes: 12 header +
/// 259 question + the zone as owner + 10 + 9 (`ns.dns` and a pointer) + 13 (`hostmaster` and a pointer) + 20 + 80 OPT =
/// 403 + zone.
pub const MAX_ZONE: usize = 100;

/// SOA timers for secondaries, in seconds. A secondary asks for the serial every REFRESH even without a NOTIFY, and
/// every RETRY while rollcall does not answer. It continues to answer for a day (EXPIRE) without rollcall, which is the
/// purpose of a secondary.
const REFRESH: i32 = 30;
const RETRY: i32 = 10;
const EXPIRE: i32 = 86_400;

/// A forward zone.
#[derive(Clone, Debug)]
pub struct Zone {
    apex: Name,
    services: Name,
    name_server: Name,
    mailbox: Name,
    addresses: Arc<ArcSwap<Vec<IpAddr>>>,
}

impl Zone {
    /// Parses a zone name with or without a final dot. `addresses` are the addresses of its name server. `None` when
    /// the name is not a DNS subdomain or is longer than [`MAX_ZONE`].
    #[must_use]
    pub fn parse(text: &str, addresses: &[IpAddr]) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.len() > MAX_ZONE || !naming::is_subdomain(&text) {
            return None;
        }
        let mut apex = Name::from_ascii(text).ok()?;
        apex.set_fqdn(true);
        let below = |labels: &[&str]| {
            Name::from_labels(labels.iter().map(|label| label.as_bytes()))
                .ok()?
                .append_domain(&apex)
                .ok()
        };
        Some(Self {
            services: below(&["svc"])?,
            name_server: below(&["ns", "dns"])?,
            mailbox: below(&["hostmaster"])?,
            addresses: Arc::new(ArcSwap::from_pointee(addresses.to_vec())),
            apex,
        })
    }

    /// The name of the zone, in lower case.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// `ns.dns.<zone>`.
    #[must_use]
    pub fn name_server(&self) -> &Name {
        &self.name_server
    }

    /// The addresses of the name server; empty until its host name is resolved.
    #[must_use]
    pub fn addresses(&self) -> Arc<Vec<IpAddr>> {
        self.addresses.load_full()
    }

    /// Replaces the addresses of the name server, in all clones of this zone.
    pub fn set_addresses(&self, addresses: Vec<IpAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// `<service>.<namespace>.svc.<zone>`; `None` when that is longer than a name can be.
    #[must_use]
    pub fn service(&self, namespace: &str, service: &str) -> Option<Name> {
        let labels = [service.as_bytes(), namespace.as_bytes()];
        Name::from_labels(labels).ok()?.append_domain(&self.services).ok()
    }

    /// The name of an instance; `None` when that is longer than a name can be.
    #[must_use]
    pub fn instance(&self, member: &Member) -> Option<Name> {
        let base = self.service(&member.facts.key.namespace, &member.facts.service)?;
        base.prepend_label(member.label.as_bytes()).ok()
    }

    /// The SOA record with this serial.
    #[must_use]
    pub fn soa(&self, owner: &Name, serial: u32, ttl: u32) -> Record {
        let (mname, rname) = (self.name_server.clone(), self.mailbox.clone());
        let soa = SOA::new(mname, rname, serial, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL);
        Record::from_rdata(owner.clone(), ttl, RData::SOA(soa))
    }

    /// The NS record.
    #[must_use]
    pub fn ns(&self, owner: &Name) -> Record {
        let ns = RData::NS(NS(self.name_server.clone()));
        Record::from_rdata(owner.clone(), TTL, ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_is_a_dns_subdomain_of_bounded_length_in_any_case() {
        for text in ["rollcall.internal.", "Rollcall.Internal", "x"] {
            assert!(Zone::parse(text, &[]).is_some(), "{text}");
        }
        let long = format!("{}.{}", "a".repeat(50), "b".repeat(50));
        for text in ["", ".", "a..b", "a_b.c", "-a.b", "rollcall internal", "ä.de", &*long] {
            assert!(Zone::parse(text, &[]).is_none(), "{text}");
        }
    }

    #[test]
    fn name_too_long_for_dns_is_none() {
        let zone = Zone::parse(&format!("{}.{}", "a".repeat(50), "b".repeat(49)), &[]).unwrap();
        assert!(zone.service(&"n".repeat(63), &"s".repeat(63)).is_some());
        assert!(zone.service(&"n".repeat(63), &"s".repeat(64)).is_none());
    }
}
