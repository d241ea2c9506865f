//! A client that sends octets as they are, as slowly as wanted, and takes whatever comes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::http::{Answer, parse};

/// Longer than any deadline of a connection.
const BOUND: Duration = Duration::from_secs(60);

/// One thing that the client does.
pub enum Sent {
    Bytes(Vec<u8>),
    /// An octet at a time, with a pause after each.
    Dripping(Vec<u8>, Duration),
    /// It says that it has no more to say.
    HalfClose,
}

/// What came of it.
pub struct Talk {
    pub came: Vec<u8>,
    /// From the first octet sent to the end of the connection.
    pub took: Duration,
    /// Whether the server ended the connection.
    pub has_ended: bool,
}

impl Talk {
    /// The first final answer: what goes on before it (100 Continue) is none.
    pub fn answer(&self) -> Option<Answer> {
        let mut came = self.came.as_slice();
        loop {
            let answer = parse(came)?;
            if answer.status != 100 {
                return Some(answer);
            }
            came = came.get(came.len() - answer.body.len()..)?;
        }
    }

    /// How many answers came.
    pub fn answers(&self) -> usize {
        self.came.windows(9).filter(|window| window == b"HTTP/1.1 ").count()
    }
}

/// Sends, and reads until the server ends the connection.
pub async fn talk(to: SocketAddr, sent: &[Sent]) -> Talk {
    let (mut from, mut into) = TcpStream::connect(to).await.unwrap().into_split();
    let started = Instant::now();
    let send = async {
        for one in sent {
            // Who is refused may be cut off while sending: what came before counts.
            let sent = match one {
                Sent::Bytes(bytes) => into.write_all(bytes).await,
                Sent::HalfClose => into.shutdown().await,
                Sent::Dripping(bytes, pause) => {
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
            if sent.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut came = Vec::new();
    let has_ended = tokio::select! {
        () = send => false,
        ended = timeout(BOUND, from.read_to_end(&mut came)) => ended.is_ok(),
    };
    Talk { came, took: started.elapsed(), has_ended }
}

/// A request that asks for the end of the connection; `headers` each end with their line.
pub fn request(method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The same with a JSON body.
pub fn json(method: &str, path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request(method, path, "content-type: application/json\r\n", body)
}
