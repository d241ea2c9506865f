//! Answers: what a handler gives back, before the headers that every answer carries.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    StatusCode,
    body::{Frame, SizeHint},
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
        Self { status, body, headers: Vec::new(), waited: false }
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
    pub(super) fn with_static(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// With a header; one that cannot be written is left out.
    pub(super) fn with(mut self, name: HeaderName, value: String) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.push((name, value));
        }
        self
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
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
            Self::Set(set) => Pin::new(set).poll_frame(cx),
            Self::Lines(lines) => Pin::new(lines).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Set(set) => set.is_end_stream(),
            Self::Stream(_) | Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Set(set) => set.size_hint(),
            Self::Stream(_) | Self::Lines(_) => SizeHint::default(),
        }
    }
}
