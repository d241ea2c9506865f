//! Which live instances share an endpoint (address, port and protocol), across all namespaces.
//!
//! If two instances have the same endpoint, its address has often been reassigned to another pod while the
//! lease of the previous instance still runs.
//!
//! Owns: an index from endpoints to discoverable instances, and which instances share one. The time for a
//! change is proportional to the number of endpoints of its instance (logarithmic in the number of
//! instances that share one), and affects at most two instances per endpoint. Memory: about 100 bytes per
//! endpoint, and at most `MAX_PER_INSTANCE` endpoints per instance: 10,000 instances with one port at one
//! address take 1 MB. Hostnames are ignored, because rollcall does not resolve them. Does not own: how a
//! shared endpoint is reported (`conditions`, and the server), and the answers, which it does not change.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry as MapEntry},
    fmt,
    net::{IpAddr, SocketAddr},
};

use rollcall_model::instance::{Facts, InstanceKey, Protocol};

/// Maximum number of indexed endpoints per instance. 16 addresses with 32 ports would be 512.
const MAX_PER_INSTANCE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    ip: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.ip, self.port), self.protocol)
    }
}

/// An endpoint that an instance shares, and one of the other instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedAddress {
    pub endpoint: Endpoint,
    /// The first of the other instances by name.
    pub other: InstanceKey,
}

impl SharedAddress {
    /// A sentence about the instance `key`, with the fix. Names of instances in other namespaces are not
    /// disclosed.
    #[must_use]
    pub fn sentence(&self, key: &InstanceKey) -> String {
        let Self { endpoint, other } = self;
        let other = if other.namespace == key.namespace {
            format!("the instance {}", other.name)
        } else {
            "an instance of another namespace".to_owned()
        };
        format!(
            "{endpoint} is also an endpoint of {other}: the address may have been reassigned to another pod. The answers change when a \
             lease ends; deregister the instance that is gone"
        )
    }
}

/// The instances at one endpoint, mostly one.
#[derive(Debug)]
enum EndpointInstances {
    One(InstanceKey),
    Many(BTreeSet<InstanceKey>),
}

/// The discoverable instances by endpoint.
#[derive(Debug, Default)]
pub struct EndpointIndex {
    discoverable: HashMap<Endpoint, EndpointInstances>,
    /// How many of its endpoints an instance shares; absent if none.
    sharing: HashMap<InstanceKey, usize>,
    shared: usize,
}

impl EndpointIndex {
    /// How many endpoints two or more instances share.
    #[must_use]
    pub fn shared(&self) -> usize {
        self.shared
    }

    #[must_use]
    pub fn is_shared(&self, key: &InstanceKey) -> bool {
        self.sharing.contains_key(key)
    }

    /// One of the endpoints that an instance shares.
    #[must_use]
    pub fn shared_by(&self, facts: &Facts) -> Option<SharedAddress> {
        if !self.is_shared(&facts.key) {
            return None;
        }
        endpoints(facts).find_map(|endpoint| match self.discoverable.get(&endpoint)? {
            EndpointInstances::One(_) => None,
            EndpointInstances::Many(keys) => {
                let other = keys.iter().find(|key| **key != facts.key)?.clone();
                Some(SharedAddress { endpoint, other })
            }
        })
    }

    /// Adds a discoverable instance. Returns the instances that now share an endpoint and did not before.
    pub(crate) fn add(&mut self, facts: &Facts) -> Vec<InstanceKey> {
        let mut changed = Vec::new();
        for endpoint in endpoints(facts) {
            for key in self.add_one(endpoint, &facts.key) {
                let count = self.sharing.entry(key.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    changed.push(key);
                }
            }
        }
        changed
    }

    /// Removes an instance. Returns the instances that no longer share an endpoint.
    pub(crate) fn remove(&mut self, facts: &Facts) -> Vec<InstanceKey> {
        let mut changed = Vec::new();
        for endpoint in endpoints(facts) {
            for key in self.remove_one(endpoint, &facts.key) {
                let Some(count) = self.sharing.get_mut(&key) else { continue };
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.sharing.remove(&key);
                    changed.push(key);
                }
            }
        }
        changed
    }

    /// Returns the instances that share this endpoint and did not before.
    fn add_one(&mut self, endpoint: Endpoint, key: &InstanceKey) -> Vec<InstanceKey> {
        match self.discoverable.entry(endpoint) {
            MapEntry::Vacant(entry) => {
                entry.insert(EndpointInstances::One(key.clone()));
                Vec::new()
            }
            MapEntry::Occupied(mut entry) => match entry.get_mut() {
                // The instance has two ports with the same number.
                EndpointInstances::One(one) if one == key => Vec::new(),
                EndpointInstances::One(one) => {
                    let both = vec![one.clone(), key.clone()];
                    entry.insert(EndpointInstances::Many(both.iter().cloned().collect()));
                    self.shared += 1;
                    both
                }
                EndpointInstances::Many(keys) => {
                    if keys.insert(key.clone()) {
                        vec![key.clone()]
                    } else {
                        Vec::new()
                    }
                }
            },
        }
    }

    /// Returns the instances that shared this endpoint and no longer do.
    fn remove_one(&mut self, endpoint: Endpoint, key: &InstanceKey) -> Vec<InstanceKey> {
        let MapEntry::Occupied(mut entry) = self.discoverable.entry(endpoint) else {
            return Vec::new();
        };
        match entry.get_mut() {
            EndpointInstances::One(one) => {
                if one == key {
                    entry.remove();
                }
                Vec::new()
            }
            EndpointInstances::Many(keys) => {
                if !keys.remove(key) {
                    return Vec::new();
                }
                match keys.first().filter(|_| keys.len() == 1).cloned() {
                    None => vec![key.clone()],
                    Some(last) => {
                        entry.insert(EndpointInstances::One(last.clone()));
                        self.shared -= 1;
                        vec![key.clone(), last]
                    }
                }
            }
        }
    }
}

/// Whether two versions of an instance have the same endpoints.
pub(crate) fn are_same(a: &Facts, b: &Facts) -> bool {
    a.address == b.address && a.ports == b.ports
}

fn endpoints(facts: &Facts) -> impl Iterator<Item = Endpoint> {
    let at = |ip: IpAddr| {
        let ports = facts.ports.iter();
        ports.map(move |port| Endpoint { ip, port: port.port, protocol: port.protocol })
    };
    facts.ips().iter().flat_map(move |ip| at(*ip)).take(MAX_PER_INSTANCE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rollcall_model::instance::{Address, Instance, Port};

    use super::*;

    fn facts(name: &str, ips: &[u8], ports: &[(u16, Protocol)]) -> Facts {
        let ips = ips.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        let port = |(port, protocol): &(u16, Protocol)| Port {
            name: format!("p{port}").into(),
            port: *port,
            protocol: *protocol,
            app_protocol: None,
        };
        let instance = Instance::sample("shop", name).with(|facts| {
            facts.address = Address::Ips(ips);
            facts.ports = ports.iter().map(port).collect();
        });
        Arc::unwrap_or_clone(instance.facts)
    }

    #[test]
    fn endpoint_is_shared_only_with_equal_address_port_and_protocol() {
        let mut endpoints = EndpointIndex::default();
        let a = facts("a", &[7], &[(80, Protocol::Tcp)]);
        assert_eq!(endpoints.add(&a), []);
        for other in [
            facts("port", &[7], &[(81, Protocol::Tcp)]),
            facts("protocol", &[7], &[(80, Protocol::Udp)]),
            facts("address", &[8], &[(80, Protocol::Tcp)]),
            facts("none", &[7], &[]),
        ] {
            assert_eq!(endpoints.add(&other), [], "{other:?}");
        }
        let b = facts("b", &[6, 7], &[(79, Protocol::Tcp), (80, Protocol::Tcp)]);
        assert_eq!(endpoints.add(&b), [a.key.clone(), b.key.clone()]);
        let shared = endpoints.shared_by(&a).unwrap();
        assert_eq!(
            (shared.endpoint.to_string().as_str(), &shared.other),
            ("10.0.0.7:80/TCP", &b.key)
        );
        assert!(shared.sentence(&a.key).contains("the instance b"));
        assert!(!shared.sentence(&InstanceKey::new("till", "a")).contains("shop"));
        // A third instance changes nothing for those that already share it.
        let c = facts("c", &[7], &[(80, Protocol::Tcp)]);
        let of_c = vec![c.key.clone()];
        assert_eq!(endpoints.add(&c), of_c);
        assert_eq!(endpoints.shared(), 1);
        assert_eq!(endpoints.remove(&c), of_c);
        assert_eq!(endpoints.remove(&a), [a.key.clone(), b.key.clone()]);
        assert_eq!((endpoints.shared_by(&b), endpoints.shared()), (None, 0));
    }

    #[test]
    fn instance_with_a_duplicate_port_does_not_share_with_itself() {
        let mut endpoints = EndpointIndex::default();
        let twice = facts("a", &[7], &[(80, Protocol::Tcp), (80, Protocol::Tcp)]);
        assert_eq!((endpoints.add(&twice), endpoints.add(&twice)), (vec![], vec![]));
        assert_eq!((endpoints.remove(&twice), endpoints.discoverable.len()), (vec![], 0));
    }

    #[test]
    fn indexed_endpoints_of_an_instance_are_bounded() {
        let mut endpoints = EndpointIndex::default();
        let ports: Vec<_> = (1..=32).map(|port| (port, Protocol::Tcp)).collect();
        let ips: Vec<_> = (1..=16).collect();
        let largest = facts("a", &ips, &ports);
        endpoints.add(&largest);
        assert_eq!(endpoints.discoverable.len(), MAX_PER_INSTANCE);
        endpoints.remove(&largest);
        assert!(endpoints.discoverable.is_empty());
    }

    proptest! {
        /// The index agrees with a comparison of all instances, however they come and go.
        #[test]
        fn index_agrees_with_a_comparison_of_all_instances(
            steps in prop::collection::vec((0..5_usize, 1..4_u8, 1..3_u16, any::<bool>()), 0..60),
        ) {
            let mut endpoints = EndpointIndex::default();
            let mut known: [Option<Facts>; 5] = Default::default();
            let mut flags: BTreeSet<InstanceKey> = BTreeSet::new();
            for (at, ip, port, comes) in steps {
                let name = at.to_string();
                let mut changed = Vec::new();
                if let Some(old) = known[at].take() {
                    changed.extend(endpoints.remove(&old));
                }
                if comes {
                    let new = facts(&name, &[ip, ip % 3 + 1], &[(port, Protocol::Tcp)]);
                    changed.extend(endpoints.add(&new));
                    known[at] = Some(new);
                }
                for key in changed {
                    if !flags.remove(&key) {
                        flags.insert(key);
                    }
                }
                let offers = |it: &Facts| super::endpoints(it).collect::<Vec<_>>();
                for one in known.iter().flatten() {
                    let others = known.iter().flatten().filter(|other| other.key != one.key);
                    let mut of_others = others.flat_map(offers);
                    let is_shared = of_others.any(|endpoint| offers(one).contains(&endpoint));
                    prop_assert_eq!(endpoints.is_shared(&one.key), is_shared);
                    prop_assert_eq!(endpoints.shared_by(one).is_some(), is_shared);
                    prop_assert_eq!(flags.contains(&one.key), is_shared, "each change was returned");
                }
            }
        }
    }
}
