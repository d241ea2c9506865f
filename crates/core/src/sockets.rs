//! Sockets: which live instances offer the same address, port and protocol, whatever their namespaces.
//!
//! An address that is discoverable twice has often been given to another pod while the lease of the one before still runs.
//!
//! Owns: an index from sockets to the discoverable instances that offer them, and which instances share one. A change
//! costs time by the sockets of its instance (logarithmic in those that share one), and touches two instances a socket at
//! most. Memory: about 100 bytes a socket, and `MOST_EACH` sockets of an instance at most: 10,000 instances with one port
//! at one address take 1 MB. Hostnames are not looked at: others resolve them. Does not own: what is said of it
//! (`conditions`, and the server), and the answers, which it does not change.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry as Slot},
    fmt,
    net::{IpAddr, SocketAddr},
};

use rollcall_model::instance::{Facts, InstanceKey, Protocol};

/// Sockets of one instance that are looked at; 16 addresses with 32 ports would be 512.
const MOST_EACH: usize = 64;

/// An address, a port and its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    ip: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.ip, self.port), self.protocol)
    }
}

/// A socket that an instance shares, and one of the others that offer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The address, port and protocol.
    pub socket: Socket,
    /// The first by name of the others.
    pub other: InstanceKey,
}

impl Shared {
    /// What it means for the instance `key`, and what to do. Names of other namespaces are not told.
    #[must_use]
    pub fn sentence(&self, key: &InstanceKey) -> String {
        let Self { socket, other } = self;
        let other = if other.namespace == key.namespace {
            format!("the instance {}", other.name)
        } else {
            "an instance of another namespace".to_owned()
        };
        format!(
            "{socket} is discoverable by {other}, too: the address may have been given to another pod. The answers change when a \
             lease ends; deregister the instance that is gone"
        )
    }
}

/// The instances that offer a socket. Most are discoverable by one.
#[derive(Debug)]
enum Offerers {
    One(InstanceKey),
    Many(BTreeSet<InstanceKey>),
}

/// Which live discoverable instances offer each address and port.
#[derive(Debug, Default)]
pub struct Sockets {
    discoverable: HashMap<Socket, Offerers>,
    /// How many of its sockets an instance shares; absent when none.
    sharing: HashMap<InstanceKey, usize>,
    shared: usize,
}

impl Sockets {
    /// How many sockets are discoverable by two instances or more.
    #[must_use]
    pub fn shared(&self) -> usize {
        self.shared
    }

    /// Whether an instance shares any of its sockets.
    #[must_use]
    pub fn is_shared(&self, key: &InstanceKey) -> bool {
        self.sharing.contains_key(key)
    }

    /// One of the sockets that an instance shares; none when it shares none.
    #[must_use]
    pub fn of(&self, facts: &Facts) -> Option<Shared> {
        if !self.is_shared(&facts.key) {
            return None;
        }
        sockets(facts).find_map(|socket| match self.discoverable.get(&socket)? {
            Offerers::One(_) => None,
            Offerers::Many(keys) => {
                let other = keys.iter().find(|key| **key != facts.key)?.clone();
                Some(Shared { socket, other })
            }
        })
    }

    /// An instance is discoverable at its sockets from now on. Answers which instances share one from now on.
    pub(crate) fn add(&mut self, facts: &Facts) -> Vec<InstanceKey> {
        let mut changed = Vec::new();
        for socket in sockets(facts) {
            for key in self.add_one(socket, &facts.key) {
                let count = self.sharing.entry(key.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    changed.push(key);
                }
            }
        }
        changed
    }

    /// It is so no longer. Answers which instances share none from now on.
    pub(crate) fn remove(&mut self, facts: &Facts) -> Vec<InstanceKey> {
        let mut changed = Vec::new();
        for socket in sockets(facts) {
            for key in self.remove_one(socket, &facts.key) {
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

    /// Answers the instances that share this socket and did not before.
    fn add_one(&mut self, socket: Socket, key: &InstanceKey) -> Vec<InstanceKey> {
        match self.discoverable.entry(socket) {
            Slot::Vacant(place) => {
                place.insert(Offerers::One(key.clone()));
                Vec::new()
            }
            Slot::Occupied(mut place) => match place.get_mut() {
                // Two ports with one number.
                Offerers::One(one) if one == key => Vec::new(),
                Offerers::One(one) => {
                    let both = vec![one.clone(), key.clone()];
                    place.insert(Offerers::Many(both.iter().cloned().collect()));
                    self.shared += 1;
                    both
                }
                Offerers::Many(keys) => {
                    if keys.insert(key.clone()) {
                        vec![key.clone()]
                    } else {
                        Vec::new()
                    }
                }
            },
        }
    }

    /// Answers the instances that shared this socket and do so no longer.
    fn remove_one(&mut self, socket: Socket, key: &InstanceKey) -> Vec<InstanceKey> {
        let Slot::Occupied(mut place) = self.discoverable.entry(socket) else { return Vec::new() };
        match place.get_mut() {
            Offerers::One(one) => {
                if one == key {
                    place.remove();
                }
                Vec::new()
            }
            Offerers::Many(keys) => {
                if !keys.remove(key) {
                    return Vec::new();
                }
                match keys.first().filter(|_| keys.len() == 1).cloned() {
                    None => vec![key.clone()],
                    Some(last) => {
                        place.insert(Offerers::One(last.clone()));
                        self.shared -= 1;
                        vec![key.clone(), last]
                    }
                }
            }
        }
    }
}

/// Whether two versions of an instance are at the same sockets.
pub(crate) fn are_same(a: &Facts, b: &Facts) -> bool {
    a.address == b.address && a.ports == b.ports
}

fn sockets(facts: &Facts) -> impl Iterator<Item = Socket> {
    let at = |ip: IpAddr| {
        let ports = facts.ports.iter();
        ports.map(move |port| Socket { ip, port: port.port, protocol: port.protocol })
    };
    facts.ips().iter().flat_map(move |ip| at(*ip)).take(MOST_EACH)
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
    fn an_address_with_the_same_port_is_shared_and_with_another_port_or_protocol_is_not() {
        let mut sockets = Sockets::default();
        let a = facts("a", &[7], &[(80, Protocol::Tcp)]);
        assert_eq!(sockets.add(&a), []);
        for other in [
            facts("port", &[7], &[(81, Protocol::Tcp)]),
            facts("protocol", &[7], &[(80, Protocol::Udp)]),
            facts("address", &[8], &[(80, Protocol::Tcp)]),
            facts("none", &[7], &[]),
        ] {
            assert_eq!(sockets.add(&other), [], "{other:?}");
        }
        let b = facts("b", &[6, 7], &[(79, Protocol::Tcp), (80, Protocol::Tcp)]);
        assert_eq!(sockets.add(&b), [a.key.clone(), b.key.clone()]);
        let shared = sockets.of(&a).unwrap();
        assert_eq!(
            (shared.socket.to_string().as_str(), &shared.other),
            ("10.0.0.7:80/TCP", &b.key)
        );
        assert!(shared.sentence(&a.key).contains("the instance b"));
        assert!(!shared.sentence(&InstanceKey::new("till", "a")).contains("shop"));
        // A third changes nothing for those that share it already.
        let c = facts("c", &[7], &[(80, Protocol::Tcp)]);
        let of_c = vec![c.key.clone()];
        assert_eq!(sockets.add(&c), of_c);
        assert_eq!(sockets.shared(), 1);
        assert_eq!(sockets.remove(&c), of_c);
        assert_eq!(sockets.remove(&a), [a.key.clone(), b.key.clone()]);
        assert_eq!((sockets.of(&b), sockets.shared()), (None, 0));
    }

    #[test]
    fn an_instance_with_one_port_twice_does_not_share_it_with_itself() {
        let mut sockets = Sockets::default();
        let twice = facts("a", &[7], &[(80, Protocol::Tcp), (80, Protocol::Tcp)]);
        assert_eq!((sockets.add(&twice), sockets.add(&twice)), (vec![], vec![]));
        assert_eq!((sockets.remove(&twice), sockets.discoverable.len()), (vec![], 0));
    }

    #[test]
    fn the_sockets_of_an_instance_are_bounded() {
        let mut sockets = Sockets::default();
        let ports: Vec<_> = (1..=32).map(|port| (port, Protocol::Tcp)).collect();
        let ips: Vec<_> = (1..=16).collect();
        let largest = facts("a", &ips, &ports);
        sockets.add(&largest);
        assert_eq!(sockets.discoverable.len(), MOST_EACH);
        sockets.remove(&largest);
        assert!(sockets.discoverable.is_empty());
    }

    proptest! {
        /// However instances come and go, the index says what a look at all of them says.
        #[test]
        fn the_index_says_what_all_instances_say(
            steps in prop::collection::vec((0..5_usize, 1..4_u8, 1..3_u16, any::<bool>()), 0..60),
        ) {
            let mut sockets = Sockets::default();
            let mut known: [Option<Facts>; 5] = Default::default();
            let mut flags: BTreeSet<InstanceKey> = BTreeSet::new();
            for (at, ip, port, comes) in steps {
                let name = at.to_string();
                let mut changed = Vec::new();
                if let Some(old) = known[at].take() {
                    changed.extend(sockets.remove(&old));
                }
                if comes {
                    let new = facts(&name, &[ip, ip % 3 + 1], &[(port, Protocol::Tcp)]);
                    changed.extend(sockets.add(&new));
                    known[at] = Some(new);
                }
                for key in changed {
                    if !flags.remove(&key) {
                        flags.insert(key);
                    }
                }
                let offers = |it: &Facts| super::sockets(it).collect::<Vec<_>>();
                for one in known.iter().flatten() {
                    let others = known.iter().flatten().filter(|other| other.key != one.key);
                    let mut of_others = others.flat_map(offers);
                    let is_shared = of_others.any(|socket| offers(one).contains(&socket));
                    prop_assert_eq!(sockets.is_shared(&one.key), is_shared);
                    prop_assert_eq!(sockets.of(one).is_some(), is_shared);
                    prop_assert_eq!(flags.contains(&one.key), is_shared, "each change was told");
                }
            }
        }
    }
}
