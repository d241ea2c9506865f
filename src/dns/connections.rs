//! Counts the open TCP connections, in total and per client address.
//!
//! Owns: the count and its limits. Does not own: serving a connection (`tcp`).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// The open connections of all listeners.
#[derive(Debug)]
pub(super) struct Connections {
    /// The limit on all connections together. One address can have a quarter of it, so that one client cannot lock out
    /// the others.
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts as one connection until it is dropped.
pub(super) struct Permit {
    connections: Arc<Connections>,
    peer: IpAddr,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    pub(super) fn open(&self) -> usize {
        self.open.lock().values().sum()
    }

    /// Counts one more connection from this address. `None` when a limit is reached.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Permit> {
        let mut open = self.open.lock();
        let (total, own) = (open.values().sum::<usize>(), open.get(&peer).copied().unwrap_or(0));
        if total >= self.limit || own >= self.limit.div_ceil(4) {
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
    fn one_address_gets_a_quarter_of_the_connections_and_releases_them() {
        let connections = Connections::new(8);
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let permits: Vec<_> = (0..3).map(|_| connections.admit(ip(1))).collect();
        assert_eq!(permits.iter().flatten().count(), 2);
        let others: Vec<_> = (2..10).map(|last| connections.admit(ip(last))).collect();
        assert_eq!(others.iter().flatten().count(), 6);
        assert_eq!(connections.open(), 8);
        drop(permits);
        assert_eq!(connections.open(), 6);
        assert!(connections.admit(ip(1)).is_some());
        drop(others);
        assert_eq!(connections.open(), 0);
    }
}
