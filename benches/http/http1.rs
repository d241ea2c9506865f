//! Load over HTTP/1.1: a few persistent connections, each with a thread that waits for its response.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    Request,
    common::ask::{eventually, exchange},
};

/// The number of concurrent connections.
const CLIENTS: usize = 8;

/// The number of requests on each connection in one round.
const REQUESTS: usize = 6_000;

impl Request {
    /// The request as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, path, token, body } = self;
        let token = token
            .as_ref()
            .map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
        let content_type = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = if *method == "GET" {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{token}{content_type}{length}\r\n{body}"
        )
        .into()
    }
}

/// Repeats the request until the response has this status. Returns the size of the response, head and body.
pub fn until(address: SocketAddr, request: &Request, status: u16) -> usize {
    eventually(Duration::from_secs(60), || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(&request.bytes()).unwrap();
        let answer = exchange(&mut stream, &mut Vec::new()).unwrap();
        (answer.status == status).then_some(answer.body.end)
    })
}

/// Sends one request, and returns the body of the response.
pub fn once(address: SocketAddr, request: &Request) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&request.bytes()).unwrap();
    let mut buffer = Vec::new();
    let answer = exchange(&mut stream, &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[answer.body]).into_owned()
}

/// The time between two requests of a client with which a server has half of its maximum load.
pub fn half_pace(address: SocketAddr, request: &Request) -> Duration {
    let began = Instant::now();
    let answered = run(address, request, None);
    began.elapsed() * 2 * CLIENTS as u32 / answered as u32
}

/// Runs one round, at full speed or at a pace. Returns the number of responses.
pub fn run(address: SocketAddr, request: &Request, pace: Option<Duration>) -> usize {
    clients(address, request, (REQUESTS, pace))
}

/// Runs a round of `count` requests in total.
pub fn run_some(address: SocketAddr, request: &Request, count: usize) -> usize {
    clients(address, request, (count / CLIENTS, None))
}

fn clients(address: SocketAddr, request: &Request, rounds: (usize, Option<Duration>)) -> usize {
    let bytes = request.bytes();
    std::thread::scope(|scope| {
        for at in 0..CLIENTS {
            let bytes = &bytes;
            scope.spawn(move || run_client(address, bytes, (at, rounds)));
        }
    });
    CLIENTS * rounds.0
}

fn run_client(
    address: SocketAddr,
    bytes: &[u8],
    (at, (count, pace)): (usize, (usize, Option<Duration>)),
) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    // Spreads the first requests of the clients over one pace interval.
    let began = Instant::now() + pace.unwrap_or_default() * at as u32 / CLIENTS as u32;
    for i in 0..count {
        if let Some(pace) = pace {
            std::thread::sleep((began + pace * i as u32).saturating_duration_since(Instant::now()));
        }
        stream.write_all(bytes).unwrap();
        let answer = exchange(&mut stream, &mut buffer).unwrap();
        assert_eq!(answer.status, 200);
    }
}
