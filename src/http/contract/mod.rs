//! The contract: the HTTP API as OpenAPI 3.1, made from what answers it.
//!
//! Owns: `GET /openapi.json`, and the document that `rollcall openapi` prints. Does not own: any bound, pattern or
//! word of the API; they come from where they are acted on (docs/decisions/0014).
//!
//! It is made once, when somebody asks first.

mod document;
mod examples;
#[cfg(test)]
mod generators;
mod headers;
mod names;
pub(in crate::http) mod operations;
mod parameters;
pub(in crate::http) mod problems;
mod schemas;
mod table;
#[cfg(test)]
mod walk;
pub(in crate::http) mod words;

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, ETAG},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::{answer::Answer, discover, door::Given, query};

/// The document with its tag.
struct Made {
    text: Bytes,
    tag: String,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        // Maps with string keys cannot fail to be written.
        let mut text = serde_json::to_vec_pretty(&document::document()).unwrap_or_default();
        text.push(b'\n');
        let tag = format!("\"{:016x}\"", xxh3_64(&text));
        Made { text: text.into(), tag }
    })
}

/// The document, as it is committed and served.
#[must_use]
pub fn text() -> &'static [u8] {
    &made().text
}

/// `GET /openapi.json`
pub(super) fn contract(query: Option<&str>, headers: &HeaderMap) -> Given {
    query::none(query)?;
    let Made { text, tag } = made();
    let answer = if discover::is_known(headers, tag.as_bytes()) {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Answer::bytes(StatusCode::OK, text.clone())
    };
    Ok(answer.with(ETAG, tag.clone()).with_static(CACHE_CONTROL, "no-cache"))
}
