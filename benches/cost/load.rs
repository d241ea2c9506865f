//! Load generators on loopback, and small helpers. Blocking threads: the load is on one core, the
//! server on the other.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

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
            let mut buffer = vec![0; 65_536];
            stream.write_all(&self.bytes).unwrap();
            let (head, body) = exchange(&mut stream, &mut buffer);
            std::str::from_utf8(&buffer[..head])
                .unwrap()
                .contains(&status.to_string())
                .then_some(body)
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
                let mut buffer = vec![0; 65_536];
                for _ in 0..HTTP_REQUESTS {
                    stream.write_all(&request.bytes).unwrap();
                    exchange(&mut stream, &mut buffer);
                }
            });
        }
    });
    CLIENTS * HTTP_REQUESTS
}

/// Reads one answer. Answers the lengths of its head and its body.
fn exchange(stream: &mut TcpStream, buffer: &mut [u8]) -> (usize, usize) {
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..]).unwrap();
        assert!(read > 0, "the server hung up");
        have += read;
        let Some(head) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
        let length = text
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().trim().parse::<usize>().unwrap());
        while have < head + 4 + length {
            have += stream.read(&mut buffer[have..]).unwrap();
        }
        return (head, length);
    }
}

/// A DNS query with EDNS, 1232 octets.
pub fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    query
}

/// Asks until the answer is final (not SERVFAIL, and not empty unless the name is unknown).
/// Answers its size.
pub fn wait_for_answer(address: SocketAddr, query: &[u8], bound: Duration) -> usize {
    let socket = socket(address);
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
    let socket = socket(address);
    let mut buffer = [0; 4096];
    let mut answered = 0;
    for _ in 0..DNS_QUERIES {
        socket.send(query).unwrap();
        answered += usize::from(socket.recv(&mut buffer).is_ok());
    }
    answered
}

fn socket(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// A loopback address that is free for TCP now.
pub fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Polls until there is something, or panics.
pub fn eventually<T>(bound: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(began.elapsed() < bound, "not within {bound:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
