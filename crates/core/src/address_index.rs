//! The address index: from an IP address to members, for reverse lookups in DNS.
//!
//! Owns: an index of the addresses within some networks, updated from the difference between two views of a
//! service. Does not own: the views (`publication`), and the names (`dns` in the server).
//!
//! An IPv4-mapped IPv6 address counts as an IPv6 address here, so it is in no IPv4 network. Neither the HTTP
//! API nor the CRD accepts one.

use std::{cmp::Ordering, collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use parking_lot::RwLock;
use rollcall_model::view::{Member, View};

/// Maximum number of members that are changed under one lock. A thousand members with one address each
/// take 0.5 ms.
const CHUNK: usize = 1000;

/// One address of one member.
#[derive(Debug)]
struct AddressEntry {
    ip: IpAddr,
    /// `None` for a search bound, which sorts before every member with the address.
    member: Option<Arc<Member>>,
}

impl AddressEntry {
    fn first(ip: IpAddr) -> Self {
        Self { ip, member: None }
    }

    /// The sort key, which is also the identity.
    fn position(&self) -> (IpAddr, Option<(&str, &str, &str)>) {
        let member = self.member.as_deref();
        let facts = member.map(|member| (&*member.facts, &*member.label));
        let name = facts.map(|(it, label)| (&*it.key.namespace, &*it.service, label));
        (self.ip, name)
    }
}

impl Ord for AddressEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.position().cmp(&other.position())
    }
}

impl PartialOrd for AddressEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for AddressEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for AddressEntry {}

/// The member at a label before and after, if it changed.
type Change<'a> = (Option<&'a Arc<Member>>, Option<&'a Arc<Member>>);

#[derive(Debug, Default)]
pub(super) struct AddressIndex {
    /// Other addresses are not indexed.
    networks: Box<[IpNet]>,
    /// By address, namespace, service and label. Only the catalog writes it.
    entries: RwLock<BTreeSet<AddressEntry>>,
}

impl AddressIndex {
    /// An empty index for these networks.
    pub(super) fn within(networks: &[IpNet]) -> Self {
        Self { networks: networks.into(), entries: RwLock::default() }
    }

    /// Applies the replacement of a view. The time is proportional to the size of the service, but readers
    /// wait only while differences are applied.
    pub(super) fn replace(&self, old: Option<&View>, new: Option<&View>) {
        if self.networks.is_empty() {
            return;
        }
        for chunk in changes(old, new).chunks(CHUNK) {
            let mut entries = self.entries.write();
            for (old, new) in chunk {
                for entry in old.iter().flat_map(|member| self.entries_of(member)) {
                    entries.remove(&entry);
                }
                entries.extend(new.iter().flat_map(|member| self.entries_of(member)));
            }
        }
    }

    /// The members with an address, by namespace, service and label.
    pub(super) fn members_at(&self, ip: IpAddr) -> Vec<Arc<Member>> {
        if self.networks.is_empty() {
            return Vec::new();
        }
        let entries = self.entries.read();
        let entries = entries.range(AddressEntry::first(ip)..).take_while(|entry| entry.ip == ip);
        entries.filter_map(|entry| entry.member.clone()).collect()
    }

    /// Whether any member has an address within `network`.
    pub(super) fn has_any_within(&self, network: IpNet) -> bool {
        if self.networks.is_empty() {
            return false;
        }
        let entries = self.entries.read();
        let first = entries.range(AddressEntry::first(network.network())..).next();
        first.is_some_and(|entry| network.contains(&entry.ip))
    }

    fn entries_of<'a>(
        &'a self,
        member: &'a Arc<Member>,
    ) -> impl Iterator<Item = AddressEntry> + 'a {
        let ips = member.facts.ips().iter().copied();
        let within = |ip: &IpAddr| self.networks.iter().any(|network| network.contains(ip));
        ips.filter(within).map(|ip| AddressEntry { ip, member: Some(member.clone()) })
    }
}

/// The differences between two views. Both are sorted by label, so one pass finds every difference.
fn changes<'a>(old: Option<&'a View>, new: Option<&'a View>) -> Vec<Change<'a>> {
    let mut old = old.into_iter().flat_map(View::members_by_label).peekable();
    let mut new = new.into_iter().flat_map(View::members_by_label).peekable();
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.label.cmp(&new.label),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let same = before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(before, after));
        if !same {
            changes.push((before, after));
        }
    }
}
