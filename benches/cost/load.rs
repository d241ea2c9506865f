//! Load generators on the loopback interface. They are blocking threads: the load runs on one core, the server on the
//! other.

use std::{net::SocketAddr, time::Duration};

use crate::common::ask::{eventually, socket};

/// The number of concurrent sockets.
const CLIENTS: usize = 8;

/// The number of queries that each socket sends in one round.
const DNS_QUERIES: usize = 12_000;

/// Repeats the query until the response is final: not SERVFAIL, and not empty unless the name is unknown. Returns the
/// size of the response.
pub fn wait_for_answer(address: SocketAddr, query: &[u8], bound: Duration) -> usize {
    let socket = socket(address, Duration::from_secs(1));
    let mut buffer = [0; 4096];
    let unknown = query.windows(7).any(|part| part == b"unknown");
    eventually(bound, || {
        socket.send(query).unwrap();
        let size = socket.recv(&mut buffer).ok()?;
        let (rcode, answers) = (buffer[3] & 15, buffer[7]);
        ((unknown && rcode == 3) || (rcode == 0 && answers > 0)).then_some(size)
    })
}

/// Sends queries, one at a time from each socket. Returns the number of responses.
pub fn dns(address: SocketAddr, query: &[u8]) -> usize {
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| run_client(address, query))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

fn run_client(address: SocketAddr, query: &[u8]) -> usize {
    let socket = socket(address, Duration::from_secs(1));
    let mut buffer = [0; 4096];
    let mut answered = 0;
    for _ in 0..DNS_QUERIES {
        socket.send(query).unwrap();
        answered += usize::from(socket.recv(&mut buffer).is_ok());
    }
    answered
}
