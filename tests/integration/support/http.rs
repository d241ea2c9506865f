//! A small HTTP client: it sends one request per connection, and returns the response unchanged.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value; empty when the header is missing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Sends a request, with a JSON body if there is one, and returns the response that came within 30 s.
pub async fn call(to: SocketAddr, method: &str, path: &str, body: Option<Value>) -> Answer {
    try_call(to, method, path, body)
        .await
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// [`call`] with a bearer token.
pub async fn call_as(
    token: &str,
    to: SocketAddr,
    (method, path): (&str, &str),
    body: Option<Value>,
) -> Answer {
    let authorization = format!("authorization: Bearer {token}\r\n");
    send_json(to, (method, path), &authorization, body)
        .await
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// [`call`] that returns an error instead of failing the test.
pub async fn try_call(
    to: SocketAddr,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> std::io::Result<Answer> {
    send_json(to, (method, path), "", body).await
}

async fn send_json(
    to: SocketAddr,
    (method, path): (&str, &str),
    headers: &str,
    body: Option<Value>,
) -> std::io::Result<Answer> {
    let body = body.map_or(String::new(), |body| body.to_string());
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    send(to, &format!("{method} {path}"), &format!("{headers}{kind}"), &body).await
}

/// Sends a request with one more header and this body, and returns the response that came within 30 s.
pub async fn call_with(
    to: SocketAddr,
    call: &str,
    (header, value): (&str, &str),
    body: &str,
) -> Answer {
    send(to, call, &format!("{header}: {value}\r\n"), body)
        .await
        .unwrap_or_else(|error| panic!("{call}: {error}"))
}

/// Each of `headers` ends with a line break.
async fn send(to: SocketAddr, call: &str, headers: &str, body: &str) -> std::io::Result<Answer> {
    let request = format!(
        "{call} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(to, request.as_bytes()).await
}

/// Sends these bytes, which must ask to close the connection, and returns the response that came within 30 s.
pub async fn exchange(to: SocketAddr, request: &[u8]) -> std::io::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // Longer than the 20 s that a batch of registrations can take.
    let bytes = timeout(Duration::from_secs(30), exchange).await??;
    parse(&bytes).ok_or_else(|| std::io::Error::other("no complete response came"))
}

/// Parses the first response in `bytes`. Everything after its head is its body.
pub fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.filter_map(header).collect();
    Some(Answer { status, headers, body: bytes.get(end + 4..)?.to_vec() })
}
