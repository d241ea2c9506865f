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

/// An answer as asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// Beyond those of every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// A whole body in one piece.
#[derive(Debug)]
pub(super) struct Body(Option<Bytes>);

impl Answer {
    /// JSON that is ready.
    pub(super) fn bytes(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, body: body.into(), headers: Vec::new() }
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
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
