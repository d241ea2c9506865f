//! A client of Server-Sent Events that reads only as much as a test asks for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// An open stream of Server-Sent Events.
pub struct EventStream {
    stream: TcpStream,
    /// Status line and headers, in lower case.
    pub head: String,
    raw: Vec<u8>,
    /// The text of the chunks, not yet parsed as events.
    text: String,
    has_ended: bool,
    ready: VecDeque<Event>,
    /// Lines outside events: `retry:` hints and comments.
    pub non_events: Vec<String>,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: String,
    /// Empty when the event has none.
    pub id: String,
    pub data: Value,
}

impl EventStream {
    /// Opens a stream, and waits for its head. Each of `headers` ends with a line break.
    pub async fn open(to: SocketAddr, path: &str, headers: &str) -> Self {
        Self::try_open(to, path, headers).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Opens a stream, and returns an error when that fails.
    pub async fn try_open(to: SocketAddr, path: &str, headers: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut raw = Vec::new();
        let head = loop {
            if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&raw[..end]).to_ascii_lowercase();
                raw.drain(..end + 4);
                break head;
            }
            if timeout(BOUND, stream.read_buf(&mut raw)).await?? == 0 {
                return Err(std::io::Error::other("the connection ended before the head"));
            }
        };
        let (text, ready, non_events) = (String::new(), VecDeque::new(), Vec::new());
        Ok(Self { stream, head, raw, text, has_ended: false, ready, non_events })
    }

    /// The next event; `None` when the stream ended properly, with its last chunk.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            self.take_chunks();
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.has_ended {
                return None;
            }
            let read = timeout(BOUND, self.stream.read_buf(&mut self.raw)).await;
            let read = read.expect("no event within the bound").expect("the stream broke");
            assert!(read > 0, "the stream ended without its last chunk");
        }
    }

    /// Whether no event comes within this time.
    pub async fn is_quiet(&mut self, span: Duration) -> bool {
        timeout(span, self.next()).await.is_err()
    }

    fn take_chunks(&mut self) {
        while let Some(end) = self.raw.windows(2).position(|window| window == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if self.raw.len() < end + 2 + size + 2 {
                break;
            }
            let chunk = self.raw[end + 2..end + 2 + size].to_vec();
            self.raw.drain(..end + 2 + size + 2);
            self.has_ended |= size == 0;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        while let Some(end) = self.text.find("\n\n") {
            let lines: String = self.text.drain(..end + 2).collect();
            let is_outside = |line: &&str| line.starts_with("retry: ") || line.starts_with(':');
            self.non_events.extend(lines.lines().filter(is_outside).map(str::to_owned));
            // Many clients dispatch an event at every blank line, so every block must be an event.
            self.ready.push_back(
                parse_event(&lines).unwrap_or_else(|| panic!("not an event: {lines:?}")),
            );
        }
    }
}

/// Parses an event; `None` when the lines have no data.
fn parse_event(lines: &str) -> Option<Event> {
    let field = |name: &str| {
        let found = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_default().to_owned()
    };
    let data = field("data");
    let data = (!data.is_empty()).then(|| serde_json::from_str(&data).unwrap())?;
    Some(Event { kind: field("event"), id: field("id"), data })
}
