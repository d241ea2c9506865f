//! A request of the recording, as the tables write it.
//!
//! Owns: the kinds of requests, and how a request is displayed. Does not own: sending (`client`), the placeholders in a
//! request (`world`).

use serde_json::Value;

/// The replica that a request goes to. Each has a namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replica {
    /// With `--auth none`.
    Open,
    /// With `--auth token`.
    Tokens,
    /// With `--auth token --read-auth`.
    ReadTokens,
    /// With `--http-caller-rate 1`: the bucket holds two requests.
    CallerRate,
    /// With `--http-namespace-rate 1`: the bucket holds two writes.
    NamespaceRate,
}

/// How a request is sent, and how its response is read.
#[derive(Clone, Debug)]
pub(super) enum PairKind {
    /// Over HTTP/1.1 with `Connection: close`, until the server closes the connection.
    Http1,
    /// These bytes, until this many responses have arrived.
    Raw { responses: usize },
    /// Over HTTP/2 with prior knowledge.
    Http2,
    /// A stream: reads `first` events, then sends another request, then reads `then` more events.
    Stream { first: usize, during: Option<(&'static str, &'static str)>, then: usize },
    /// Waits until the leader has stored the status of every instance. Not recorded.
    Settle,
    /// Waits until the answer to a GET meets the condition. Not recorded.
    Until(fn(u16, &Value) -> bool),
}

/// A request with its name.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) replica: Replica,
    pub(super) kind: PairKind,
    /// Method and target, separated by a space; not used by [`PairKind::Raw`].
    pub(super) line: String,
    /// Each without its line break.
    pub(super) headers: Vec<String>,
    /// With [`PairKind::Raw`] the whole request.
    pub(super) body: Vec<u8>,
    /// Whether it runs in parallel with the others, because the server answers it only after seconds.
    pub(super) is_slow: bool,
}

/// A request without a body.
pub(super) fn pair(name: impl Into<String>, line: impl Into<String>) -> Pair {
    Pair {
        name: name.into(),
        replica: Replica::Open,
        kind: PairKind::Http1,
        line: line.into(),
        headers: Vec::new(),
        body: Vec::new(),
        is_slow: false,
    }
}

/// A request with a JSON body.
pub(super) fn json(
    name: impl Into<String>,
    line: impl Into<String>,
    body: impl Into<Vec<u8>>,
) -> Pair {
    pair(name, line).header("content-type: application/json").body(body)
}

/// A request of these bytes, and the number of expected responses.
pub(super) fn raw(name: impl Into<String>, bytes: impl Into<Vec<u8>>, responses: usize) -> Pair {
    Pair { kind: PairKind::Raw { responses }, body: bytes.into(), ..pair(name, "") }
}

/// The first events of a stream.
pub(super) fn events(name: impl Into<String>, line: impl Into<String>, first: usize) -> Pair {
    Pair { kind: PairKind::Stream { first, during: None, then: 0 }, ..pair(name, line) }
}

/// Waits until the status of every instance is stored.
pub(super) fn settle() -> Pair {
    Pair { kind: PairKind::Settle, ..pair("", "") }
}

/// Waits until the response to a GET of this path meets the condition.
pub(super) fn until(path: &str, holds: fn(u16, &Value) -> bool) -> Pair {
    Pair { kind: PairKind::Until(holds), ..pair("", format!("GET {path}")) }
}

/// Method and path of a call on an instance. `rest` begins with its name.
pub(super) fn instance(method: &str, rest: &str) -> String {
    format!("{method} /v1/namespaces/<<ns>>/instances/{rest}")
}

/// Method and path of a call on a service. `rest` begins with its name.
pub(super) fn service(method: &str, rest: &str) -> String {
    format!("{method} /v1/namespaces/<<ns>>/services/{rest}")
}

/// Text padded with spaces to this length.
pub(super) fn padded(text: &str, length: usize) -> String {
    format!("{text}{}", " ".repeat(length - text.len()))
}

impl Pair {
    /// Whether it only waits and sends no request.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self.kind, PairKind::Settle | PairKind::Until(_))
    }

    pub(super) fn header(mut self, header: impl Into<String>) -> Self {
        self.headers.push(header.into());
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn to(mut self, replica: Replica) -> Self {
        self.replica = replica;
        self
    }

    /// Adds the token of a ServiceAccount of the replica's namespace.
    pub(super) fn with_token(self, account: &str) -> Self {
        self.header(format!("authorization: Bearer <<token {account}>>"))
    }

    pub(super) fn http2(mut self) -> Self {
        self.kind = PairKind::Http2;
        self
    }

    /// Sends another request with a JSON body after the first events of a stream, and reads more events.
    pub(super) fn during(
        mut self,
        line: &'static str,
        body: &'static str,
        more_events: usize,
    ) -> Self {
        if let PairKind::Stream { during, then, .. } = &mut self.kind {
            (*during, *then) = (Some((line, body)), more_events);
        }
        self
    }

    pub(super) fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    pub(super) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The request as the fixture shows it, with its placeholders.
    pub(super) fn displayed(&self) -> String {
        let how = match &self.kind {
            PairKind::Http1 | PairKind::Settle | PairKind::Until(_) => String::new(),
            PairKind::Raw { responses } => format!("(raw bytes, {responses} responses)\n"),
            PairKind::Http2 => "(HTTP/2)\n".to_owned(),
            PairKind::Stream { first, during: None, .. } => format!("(a stream, {first} events)\n"),
            PairKind::Stream { first, during: Some((line, body)), then } => {
                format!("(a stream, {first} events; then {line} {body}; then {then} events)\n")
            }
        };
        let mut text = how;
        if !matches!(self.kind, PairKind::Raw { .. }) {
            text.push_str(&shown(self.line.as_bytes()));
            for header in &self.headers {
                text.push('\n');
                text.push_str(&shown(header.as_bytes()));
            }
        }
        if !self.body.is_empty() {
            text.push('\n');
            text.push_str(&shown(&self.body));
        }
        text.trim_matches('\n').to_owned()
    }
}

/// Bytes as text in which every line is visible. The middle of long text is left out.
fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 700;
    let text = bytes.escape_ascii().to_string();
    let text = text.replace("\\\"", "\"").replace("\\'", "'").replace("\\r\\n", "\\r\\n\n");
    if text.len() <= LONGEST {
        return text;
    }
    let (begin, end) = (text.get(..300).unwrap_or(""), text.get(text.len() - 60..).unwrap_or(""));
    format!("{begin} … {} bytes in all … {end}", bytes.len())
}
