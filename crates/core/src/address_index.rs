//! Who bears an address: from an IP address back to members, for names in DNS.
//!
//! Owns: an index of the addresses within some networks, kept up by the difference between two
//! views of a service. Does not own: the views (`publication`), and the names (`dns`).
//!
//! An IPv4-mapped IPv6 address, which neither the HTTP API nor the rules of the definition let in,
//! is an IPv6 address here: in no IPv4 network.

use std::{cmp::Ordering, collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use parking_lot::RwLock;
use rollcall_model::view::{Member, View};

/// Members that are changed before readers have their turn: a thousand with one address take 0.5 ms.
const TURN: usize = 1000;

/// One address of one member.
#[derive(Debug)]
struct AddressEntry {
    ip: IpAddr,
    /// None: a bound, before every bearer of the address.
    member: Option<Arc<Member>>,
}

impl AddressEntry {
    fn first(ip: IpAddr) -> Self {
        Self { ip, member: None }
    }

    /// What decides over the order, and whether two are the same.
    fn place(&self) -> (IpAddr, Option<(&str, &str, &str)>) {
        let member = self.member.as_deref();
        let facts = member.map(|member| (&*member.facts, &*member.label));
        let name = facts.map(|(it, label)| (&*it.key.namespace, &*it.service, label));
        (self.ip, name)
    }
}

impl Ord for AddressEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
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

/// The member at a label before and after, where it is not the same.
type Change<'a> = (Option<&'a Arc<Member>>, Option<&'a Arc<Member>>);

/// The index.
#[derive(Debug, Default)]
pub(super) struct AddressIndex {
    /// Addresses elsewhere are not looked at.
    networks: Box<[IpNet]>,
    /// In order of address, namespace, service and label. Written by the catalog alone.
    entries: RwLock<BTreeSet<AddressEntry>>,
}

impl AddressIndex {
    /// An empty index of these networks.
    pub(super) fn within(networks: &[IpNet]) -> Self {
        Self { networks: networks.into(), entries: RwLock::default() }
    }

    /// Takes in that a view of a service was replaced by another. Costs time by the size of the
    /// service; only what has changed keeps readers waiting.
    pub(super) fn replace(&self, old: Option<&View>, new: Option<&View>) {
        if self.networks.is_empty() {
            return;
        }
        for turn in changes(old, new).chunks(TURN) {
            let mut entries = self.entries.write();
            for (old, new) in turn {
                for one in old.iter().flat_map(|member| self.entries_of(member)) {
                    entries.remove(&one);
                }
                entries.extend(new.iter().flat_map(|member| self.entries_of(member)));
            }
        }
    }

    /// Who bears an address, by namespace, service and label.
    pub(super) fn of(&self, ip: IpAddr) -> Vec<Arc<Member>> {
        if self.networks.is_empty() {
            return Vec::new();
        }
        let entries = self.entries.read();
        let bearers = entries.range(AddressEntry::first(ip)..).take_while(|one| one.ip == ip);
        bearers.filter_map(|one| one.member.clone()).collect()
    }

    /// Whether anybody has an address within `network`.
    pub(super) fn is_any_within(&self, network: IpNet) -> bool {
        if self.networks.is_empty() {
            return false;
        }
        let entries = self.entries.read();
        let first = entries.range(AddressEntry::first(network.network())..).next();
        first.is_some_and(|one| network.contains(&one.ip))
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

/// Both views are sorted by label, so one walk along them finds every difference.
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
