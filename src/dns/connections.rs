//! How many TCP connections are open at once, in all and from one address.
//!
//! Owns: the count, and the bound on both. Does not own: what is done on a connection (`tcp`).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// The connections of all listeners.
#[derive(Debug)]
pub(super) struct Connections {
    /// In all, and of one address a quarter of it: an attacker's do not shut out everybody else's.
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts one connection until it is dropped.
pub(super) struct Permit {
    connections: Arc<Connections>,
    peer: IpAddr,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.open.lock().values().sum()
    }

    /// Counts one more from this address; none when there are as many as may be.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Permit> {
        let mut open = self.open.lock();
        let (all, own) = (open.values().sum::<usize>(), open.get(&peer).copied().unwrap_or(0));
        if all >= self.most || own >= self.most.div_ceil(4) {
            return None;
        }
        open.insert(peer, own + 1);
        drop(open);
        Some(Permit { connections: self.clone(), peer })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        match open.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_quarter_of_the_places_and_gives_them_back() {
        let connections = Connections::new(8);
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let places: Vec<_> = (0..3).map(|_| connections.enter(ip(1))).collect();
        assert_eq!(places.iter().flatten().count(), 2);
        let others: Vec<_> = (2..10).map(|last| connections.enter(ip(last))).collect();
        assert_eq!(others.iter().flatten().count(), 6);
        assert_eq!(connections.open(), 8);
        drop(places);
        assert_eq!(connections.open(), 6);
        assert!(connections.enter(ip(1)).is_some());
        drop(others);
        assert_eq!(connections.open(), 0);
    }
}
