//! Answers that are no problem, as handlers give them.
//!
//! Owns: [`Answer`], a response under construction, and what the layers around a handler have to know of it. Does not own:
//! the headers that every answer carries (`observe`), problems (`problem`), and long bodies (`set`, `snapshot`, `stream`).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Serialize;

use crate::http::{headers, problem::Problem};

/// About how much of a body is made at a time. It is all that waits in this process for a client that does not read.
pub(super) const PIECE: usize = 16 * 1024;

/// What a handler gives.
pub(super) type Answered = Result<Answer, Problem>;

/// An answer as asked for.
#[derive(Debug)]
pub(super) struct Answer(Response);

/// Of an answer that came late because there was nothing new: how long it took says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited;

/// Of an answer to a write that no index of this replica is known to cover: it bears none.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithoutIndex;

impl Answer {
    /// With a body of this media type.
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: Body) -> Self {
        Self::of(status, body).with_static(CONTENT_TYPE, content_type)
    }

    /// JSON that is encoded already.
    pub(super) fn bytes(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", Body::from(body.into()))
    }

    /// JSON of a value.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        // Our own types are strings, numbers and lists: they cannot fail to be written.
        Self::bytes(status, serde_json::to_vec(value).unwrap_or_default())
    }

    /// No body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self::of(status, Body::empty())
    }

    fn of(status: StatusCode, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().reserve(headers::USUAL);
        Self(response)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// It waited for a change.
    pub(super) fn waited(mut self) -> Self {
        self.0.extensions_mut().insert(Waited);
        self
    }

    /// No index of this replica is known to cover what was written.
    pub(super) fn without_index(mut self) -> Self {
        self.0.extensions_mut().insert(WithoutIndex);
        self
    }

    /// With a header that is always the same.
    pub(super) fn with_static(self, name: HeaderName, value: &'static str) -> Self {
        self.with_value(name, HeaderValue::from_static(value))
    }

    /// With a header.
    pub(super) fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
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

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}
