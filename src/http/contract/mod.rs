//! The contract: the HTTP API as OpenAPI 3.1, generated from the table of operations.
//!
//! Owns: `GET /openapi.json`, and the document that `rollcall openapi` prints. Does not own: the bounds, patterns and
//! vocabularies of the API; they come from the code that enforces them (docs/decisions/0014).

mod document;
mod examples;
#[cfg(test)]
mod generators;
mod headers;
mod names;
mod parameters;
mod problems;
mod schemas;
pub(in crate::http) mod values;
#[cfg(test)]
mod walk;

use std::sync::Arc;

use axum::extract::State;
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, ETAG},
};

use crate::http::{
    answer::{Answer, HandlerResult},
    app::AppState,
    discover,
    document::RenderedDocument,
    operation::Operation,
    query::Query,
};

/// The document as text, as it is committed and served.
pub(super) fn text(operations: &'static [Operation]) -> Vec<u8> {
    // Serializing maps with string keys cannot fail.
    let mut text = serde_json::to_vec_pretty(&document::document(operations)).unwrap_or_default();
    text.push(b'\n');
    text
}

/// `GET /openapi.json`
pub(super) async fn contract(
    State(app): State<Arc<AppState>>,
    Query(()): Query<()>,
    headers: HeaderMap,
) -> HandlerResult {
    let RenderedDocument { text, tag } = app.document.rendered();
    let answer = if discover::is_known(&headers, tag.as_bytes()) {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Answer::bytes(StatusCode::OK, text.clone())
    };
    Ok(answer.with(ETAG, tag.clone()).with_static(CACHE_CONTROL, "no-cache"))
}
