//! Load generators on loopback. Blocking threads: the load is on one core, the server on the other.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::common::ask::{eventually, exchange, socket};

/// Connections, or sockets, that ask at once.
const CLIENTS: usize = 8;

/// Requests of each client in one round.
const HTTP_REQUESTS: usize = 8_000;
const DNS_QUERIES: usize = 12_000;

/// A request with no body.
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        let length = if method == "GET" { "" } else { "content-length: 0\r\n" };
        Self {
            bytes: format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{length}\r\n").into(),
        }
    }

    /// Asks until the answer has this status. Answers how many octets its body has.
    pub fn wait_for(&self, address: SocketAddr, status: u16, bound: Duration) -> usize {
        eventually(bound, || {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(&self.bytes).unwrap();
            let answer = exchange(&mut stream, &mut Vec::new()).unwrap();
            (answer.status == status).then_some(answer.body.len())
        })
    }
}

/// Sends requests over kept connections. Answers how many were answered.
pub fn http(address: SocketAddr, request: &Request) -> usize {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = Vec::new();
                for _ in 0..HTTP_REQUESTS {
                    stream.write_all(&request.bytes).unwrap();
                    exchange(&mut stream, &mut buffer).unwrap();
                }
            });
        }
    });
    CLIENTS * HTTP_REQUESTS
}

/// Asks until the answer is final (not SERVFAIL, and not empty unless the name is unknown).
/// Answers its size.
pub fn wait_for_answer(address: SocketAddr, query: &[u8], bound: Duration) -> usize {
    let socket = socket(address, Duration::from_secs(1));
    let mut buffer = [0; 4096];
    let unknown = query.windows(6).any(|part| part == b"nobody");
    eventually(bound, || {
        socket.send(query).unwrap();
        let size = socket.recv(&mut buffer).ok()?;
        let (rcode, answers) = (buffer[3] & 15, buffer[7]);
        ((unknown && rcode == 3) || (rcode == 0 && answers > 0)).then_some(size)
    })
}

/// Sends queries, one at a time from each socket. Answers how many were answered.
pub fn dns(address: SocketAddr, query: &[u8]) -> usize {
    let answered: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask(address, query))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    answered
}

fn ask(address: SocketAddr, query: &[u8]) -> usize {
    let socket = socket(address, Duration::from_secs(1));
    let mut buffer = [0; 4096];
    let mut answered = 0;
    for _ in 0..DNS_QUERIES {
        socket.send(query).unwrap();
        answered += usize::from(socket.recv(&mut buffer).is_ok());
    }
    answered
}
