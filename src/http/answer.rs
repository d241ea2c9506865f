//! Answers: what a handler gives back, before the headers that every answer carries.

use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::Serialize;

use crate::http::{set::Set, snapshot::Snapshot, stream::Stream};

/// About how much of a body is made at a time. It is all that waits in this process for a client that does not read.
pub(super) const PIECE: usize = 16 * 1024;

/// An answer as asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Body,
    /// Beyond those of every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// It came late because there was nothing new: how long it took says nothing.
    pub(super) waited: bool,
    /// Whether the index of this replica covers what was written: else the answer bears none.
    pub(super) index_is_known: bool,
}

/// What comes after the headers.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it in one piece; none when there is nothing.
    Whole(Option<Bytes>),
    /// Events, for as long as the client wants them.
    Stream(Box<Stream>),
    /// A large set of instances, made as it is taken.
    Set(Box<Set>),
    /// Lines, made as they are taken.
    Lines(Box<Snapshot>),
}

impl Answer {
    /// With this body.
    pub(super) fn of(status: StatusCode, body: Body) -> Self {
        Self { status, body, headers: Vec::new(), waited: false, index_is_known: true }
    }

    /// JSON that is ready.
    pub(super) fn bytes(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::of(status, Body::new(body.into()))
    }

    /// Events.
    pub(super) fn stream(stream: Stream) -> Self {
        Self::of(StatusCode::OK, Body::Stream(Box::new(stream)))
    }

    /// Lines of JSON.
    pub(super) fn lines(lines: Snapshot) -> Self {
        Self::of(StatusCode::OK, Body::Lines(Box::new(lines)))
    }

    /// JSON of a value.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        // Our own types are strings, numbers and lists: they cannot fail to be written.
        Self::bytes(status, serde_json::to_vec(value).unwrap_or_default())
    }

    /// No body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self::bytes(status, Bytes::new())
    }

    /// With a header that is always the same.
    pub(super) fn with_static(self, name: HeaderName, value: &'static str) -> Self {
        self.with_value(name, HeaderValue::from_static(value))
    }

    /// With a header.
    pub(super) fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a header; one that cannot be written is left out.
    pub(super) fn with(self, name: HeaderName, value: String) -> Self {
        match HeaderValue::try_from(value) {
            Ok(value) => self.with_value(name, value),
            Err(_) => self,
        }
    }
}

impl Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Whether it goes on.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Whether it goes on, and has nothing to say now that is known already.
    pub(super) fn has_told_all(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.has_told_all())
    }

    /// What it is; nothing has no type.
    pub(super) const fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Whole(None) => None,
            Self::Whole(Some(_)) | Self::Set(_) => Some("application/json"),
            Self::Stream(_) => Some("text/event-stream"),
            Self::Lines(_) => Some("application/x-ndjson"),
        }
    }

    /// The next bytes when there are some; none at the end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(match self {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(stream) => return stream.poll_piece(cx),
            Self::Set(set) => set.write(),
            Self::Lines(lines) => lines.write(),
        })
    }

    /// Whether nothing is to come, as far as that is known.
    pub(super) fn is_over(&self) -> bool {
        self.length() == Some(0)
    }

    /// Octets to come, where that is known.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Self::Whole(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Self::Set(set) => Some(set.left()),
            Self::Stream(_) | Self::Lines(_) => None,
        }
    }
}
