//! Sends requests over raw sockets and HTTP/2, and reads whole responses.
//!
//! Owns: the bytes on the wire, dividing them into responses, and decoding chunks. Does not own: the comparison (`normal`).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pair::{Pair, PairKind};
use crate::support::http;

/// Longer than any deadline that a recorded request runs into.
const BOUND: Duration = Duration::from_secs(30);

/// How long a connection is observed that is expected to stay open.
const QUIET: Duration = Duration::from_millis(100);

/// The bound for closing a connection after a response announced that.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// A response, unchanged.
#[derive(Debug)]
pub(super) struct Response {
    /// `HTTP/1.1 200 OK`, or `HTTP/2 200`.
    pub(super) status: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether it answers HEAD. Its Content-Length is then that of a body that is not sent.
    pub(super) is_head: bool,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// `Content-Length`, if present.
    pub(super) fn length(&self) -> Option<usize> {
        self.header("content-length").and_then(|length| length.parse().ok())
    }
}

/// The responses to a request, and the end of the connection.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) responses: Vec<Response>,
    /// How the connection ended, and other facts to record.
    pub(super) end: String,
}

/// Sends a request without placeholders.
pub(super) async fn exchange(to: SocketAddr, pair: &Pair) -> Received {
    let sent = async {
        match &pair.kind {
            PairKind::Http1 => {
                let mut received =
                    exchange_raw(to, &request(pair), usize::MAX, pair.method() == "HEAD").await?;
                received.end = String::new();
                Ok(received)
            }
            PairKind::Raw { responses } => {
                exchange_raw(to, &pair.body, *responses, pair.body.starts_with(b"HEAD ")).await
            }
            PairKind::Http2 => exchange_http2(to, pair).await,
            PairKind::Stream { first, during, then } => {
                exchange_stream(to, &request(pair), *first, *during, *then).await
            }
            PairKind::Settle | PairKind::Until(_) => Ok(Received::default()),
        }
    };
    match timeout(BOUND, sent).await {
        Ok(Ok(received)) => received,
        Ok(Err(error)) => ended(format!("error: {error}")),
        Err(_) => ended(format!("no whole response within {BOUND:?}")),
    }
}

fn ended(end: String) -> Received {
    Received { responses: Vec::new(), end }
}

fn request(pair: &Pair) -> Vec<u8> {
    let mut head = format!("{} HTTP/1.1\r\nhost: rollcall\r\n", pair.line);
    if !matches!(pair.kind, PairKind::Stream { .. }) {
        head.push_str("connection: close\r\n");
    }
    for header in &pair.headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !pair.body.is_empty() || matches!(pair.method(), "PUT" | "POST" | "PATCH") {
        head.push_str(&format!("content-length: {}\r\n", pair.body.len()));
    }
    [head.as_bytes(), b"\r\n", &pair.body].concat()
}

/// Sends bytes, and reads until this many responses have come or the connection is closed.
async fn exchange_raw(
    to: SocketAddr,
    request: &[u8],
    responses: usize,
    is_head: bool,
) -> std::io::Result<Received> {
    let (mut from, mut into) = TcpStream::connect(to).await?.into_split();
    let request = request.to_vec();
    // The server may close the connection before it has read everything; responses sent before that count.
    let sending = tokio::spawn(async move {
        let _ = into.write_all(&request).await;
        into
    });
    let (mut bytes, mut is_closed) = (Vec::new(), false);
    while !is_closed && split_responses(&bytes, is_head, false).len() < responses {
        is_closed = !read_more(&mut from, &mut bytes).await;
    }
    let so_far = split_responses(&bytes, is_head, false);
    let announced = so_far.last().is_none_or(|last| {
        last.header("connection") == Some("close") || last.status.starts_with("HTTP/1.0")
    });
    let patience = if announced { CLOSES_WITHIN } else { QUIET };
    if !is_closed {
        let rest = async { while read_more(&mut from, &mut bytes).await {} };
        is_closed = timeout(patience, rest).await.is_ok();
    }
    sending.abort();
    let end = if is_closed { "the connection is closed" } else { "the connection stays open" };
    Ok(Received { responses: split_responses(&bytes, is_head, true), end: end.to_owned() })
}

/// Returns whether more bytes came. A reset is an end like any other.
async fn read_more(from: &mut (impl tokio::io::AsyncRead + Unpin), bytes: &mut Vec<u8>) -> bool {
    matches!(from.read_buf(bytes).await, Ok(read) if read > 0)
}

/// The complete responses in these bytes. At the end of a connection, the remaining bytes are shown too.
fn split_responses(mut bytes: &[u8], is_head: bool, is_end: bool) -> Vec<Response> {
    let mut responses = Vec::new();
    while let Some((response, rest)) = parse_response(bytes, is_head, is_end) {
        responses.push(response);
        bytes = rest;
    }
    if is_end && !bytes.is_empty() {
        let status = format!("no HTTP: {}", bytes.escape_ascii());
        responses.push(Response { status, headers: Vec::new(), body: Vec::new(), is_head });
    }
    responses
}

fn parse_response(bytes: &[u8], is_head: bool, is_end: bool) -> Option<(Response, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.to_owned();
    if !status.starts_with("HTTP/") {
        return None;
    }
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.filter_map(header).collect();
    let mut response = Response { status, headers, body: Vec::new(), is_head };
    let rest = &bytes[end + 4..];
    let code: u16 = response.status.split(' ').nth(1)?.parse().ok()?;
    if is_head || code < 200 || code == 204 || code == 304 {
        return Some((response, rest));
    }
    let length = response.length();
    let (body, rest) = if response.header("transfer-encoding") == Some("chunked") {
        let (body, rest, is_whole) = chunks(rest);
        if !is_whole {
            return None;
        }
        (body, rest)
    } else if let Some(length) = length {
        (rest.get(..length)?.to_vec(), &rest[length..])
    } else if is_end {
        (rest.to_vec(), &[][..])
    } else {
        return None;
    };
    response.body = body;
    Some((response, rest))
}

/// The decoded body, the bytes after it, and whether the last chunk has come.
fn chunks(mut bytes: &[u8]) -> (Vec<u8>, &[u8], bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
            return (body, bytes, false);
        };
        let size = std::str::from_utf8(&bytes[..end]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return (body, bytes, false);
        };
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else { return (body, bytes, false) };
        let Some(rest) = bytes.get(end + 4 + size..) else { return (body, bytes, false) };
        body.extend_from_slice(chunk);
        bytes = rest;
        if size == 0 {
            return (body, bytes, true);
        }
    }
}

/// Reads events, sends another request in between, and reads more events.
async fn exchange_stream(
    to: SocketAddr,
    request: &[u8],
    first_events: usize,
    during: Option<(&str, &str)>,
    then: usize,
) -> std::io::Result<Received> {
    let mut exchange_stream = TcpStream::connect(to).await?;
    exchange_stream.write_all(request).await?;
    let mut bytes = Vec::new();
    let mut response = until_events(&mut exchange_stream, &mut bytes, first_events).await?;
    let mut end = String::new();
    if let Some((line, body)) = during {
        let (method, path) = line.split_once(' ').unwrap_or((line, ""));
        let body = (!body.is_empty()).then(|| serde_json::from_str(body)).transpose()?;
        let answer = http::try_call(to, method, path, body).await?;
        end = format!("{line} was answered {}", answer.status);
        response = until_events(&mut exchange_stream, &mut bytes, first_events + then).await?;
    }
    Ok(Received { responses: vec![response], end })
}

/// Reads until this many events have arrived since the beginning.
async fn until_events(
    exchange_stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    events: usize,
) -> std::io::Result<Response> {
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = &bytes[..end + 4];
            let (body, _, is_whole) = chunks(&bytes[end + 4..]);
            let text = String::from_utf8_lossy(&body).into_owned();
            let whole = text.split_inclusive("\n\n").filter(|part| part.ends_with("\n\n"));
            if is_whole || whole.filter(|part| part.contains("event: ")).count() >= events {
                let head_only = [head, b""].concat();
                let mut response = parse_response(&head_only, true, true)
                    .map(|(response, _)| response)
                    .ok_or_else(|| std::io::Error::other("no head"))?;
                (response.body, response.is_head) = (body, false);
                return Ok(response);
            }
        }
        if exchange_stream.read_buf(bytes).await? == 0 {
            let parsed = split_responses(bytes, false, true).into_iter().next();
            return parsed.ok_or_else(|| std::io::Error::other("the stream ended"));
        }
    }
}

async fn exchange_http2(to: SocketAddr, pair: &Pair) -> std::io::Result<Received> {
    let failed = |error: h2::Error| std::io::Error::other(error);
    let exchange_stream = TcpStream::connect(to).await?;
    let (send, connection) = h2::client::handshake(exchange_stream).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let (method, target) = pair.line.split_once(' ').unwrap_or((&pair.line, "/"));
    let uri = format!("http://rollcall{target}");
    let mut request = hyper::Request::builder().method(method).uri(uri);
    for header in &pair.headers {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        request = request.header(name, value.trim());
    }
    let request = request.body(()).map_err(std::io::Error::other)?;
    let mut send = send.ready().await.map_err(failed)?;
    let is_empty = pair.body.is_empty();
    let (response, mut body) = send.send_request(request, is_empty).map_err(failed)?;
    if !is_empty {
        body.send_data(Bytes::from(pair.body.clone()), true).map_err(failed)?;
    }
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return Ok(ended(format!("HTTP/2 error: {error}"))),
    };
    let (parts, mut body) = response.into_parts();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut all = Vec::new();
    let mut end = String::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                all.extend_from_slice(&data);
            }
            Err(error) => {
                end = format!("HTTP/2 error in the body: {error}");
                break;
            }
        }
    }
    connection.abort();
    let response = Response {
        status: format!("HTTP/2 {}", parts.status.as_u16()),
        headers: parts.headers.iter().map(header).collect(),
        body: all,
        is_head: pair.method() == "HEAD",
    };
    Ok(Received { responses: vec![response], end })
}
