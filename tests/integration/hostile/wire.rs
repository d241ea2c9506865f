//! A client that sends raw bytes, at any speed, and records the response.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::http::{Answer, parse};

/// Longer than any deadline of a connection.
const BOUND: Duration = Duration::from_secs(60);

/// One step of the client.
pub enum ClientStep {
    Bytes(Vec<u8>),
    /// One byte at a time, with a pause after each.
    Dripping(Vec<u8>, Duration),
    /// Shuts down the sending side.
    HalfClose,
}

/// The result of a connection.
pub struct Exchange {
    pub received: Vec<u8>,
    /// From the first byte sent to the end of the connection.
    pub duration: Duration,
    /// Whether the server ended the connection.
    pub is_closed: bool,
}

impl Exchange {
    /// The first answer other than 100 Continue.
    pub fn answer(&self) -> Option<Answer> {
        let mut rest = self.received.as_slice();
        loop {
            let answer = parse(rest)?;
            if answer.status != 100 {
                return Some(answer);
            }
            rest = rest.get(rest.len() - answer.body.len()..)?;
        }
    }

    /// The number of answers, including 100 Continue.
    pub fn answers(&self) -> usize {
        self.received.windows(9).filter(|window| window == b"HTTP/1.1 ").count()
    }
}

/// Runs the steps, and reads until the server closes the connection.
pub async fn run_steps(to: SocketAddr, steps: &[ClientStep]) -> Exchange {
    let (mut from, mut into) = TcpStream::connect(to).await.unwrap().into_split();
    let started = Instant::now();
    let send = async {
        for step in steps {
            // A refused client can be disconnected while it sends; only the answer counts.
            let result = match step {
                ClientStep::Bytes(bytes) => into.write_all(bytes).await,
                ClientStep::HalfClose => into.shutdown().await,
                ClientStep::Dripping(bytes, pause) => {
                    let mut result = Ok(());
                    for byte in bytes {
                        result = into.write_all(&[*byte]).await;
                        if result.is_err() {
                            break;
                        }
                        sleep(*pause).await;
                    }
                    result
                }
            };
            if result.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut received = Vec::new();
    let is_closed = tokio::select! {
        () = send => false,
        ended = timeout(BOUND, from.read_to_end(&mut received)) => ended.is_ok(),
    };
    Exchange { received, duration: started.elapsed(), is_closed }
}

/// A request with `Connection: close`; each line of `headers` ends with CRLF.
pub fn request(method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request with a JSON body.
pub fn json(method: &str, path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request(method, path, "content-type: application/json\r\n", body)
}
