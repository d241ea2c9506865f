//! Successful responses, as handlers return them.
//!
//! Owns: [`Answer`], a response under construction, and the markers that it carries for the layers around a handler.
//! Does not own: the headers that every response carries (`observe`), problems (`problem`), and long bodies (`set`,
//! `snapshot`, `stream`).

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

/// The approximate number of bytes of a body that are produced at a time. For a client that does not read, no more than
/// that waits in this process.
pub(super) const PIECE: usize = 16 * 1024;

/// The result of a handler.
pub(super) type HandlerResult = Result<Answer, Problem>;

/// A successful response.
#[derive(Debug)]
pub(super) struct Answer(Response);

/// Marks a response that waited for a change: its duration says nothing about performance.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitedForChange;

/// Marks the response to a write whose index this replica does not know: it gets no `Rollcall-Index` header.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithoutIndex;

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: Body) -> Self {
        Self::with_body(status, body).with_static(CONTENT_TYPE, content_type)
    }

    /// A response of encoded JSON.
    pub(super) fn bytes(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", Body::from(body.into()))
    }

    /// Encodes a value as JSON.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        // Response types consist of strings, numbers and lists, and encoding those cannot fail.
        Self::bytes(status, serde_json::to_vec(value).unwrap_or_default())
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self::with_body(status, Body::empty())
    }

    fn with_body(status: StatusCode, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().reserve(headers::USUAL_COUNT);
        Self(response)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Marks the response with [`WaitedForChange`].
    pub(super) fn waited(mut self) -> Self {
        self.0.extensions_mut().insert(WaitedForChange);
        self
    }

    /// Marks the response with [`WithoutIndex`].
    pub(super) fn without_index(mut self) -> Self {
        self.0.extensions_mut().insert(WithoutIndex);
        self
    }

    /// Adds a header with a constant value.
    pub(super) fn with_static(self, name: HeaderName, value: &'static str) -> Self {
        self.with_value(name, HeaderValue::from_static(value))
    }

    pub(super) fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// Adds a header, unless its value contains characters that are not allowed in headers.
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
