//! The OpenAPI document as it is served: rendered at the first request, and stored with its entity tag.
//!
//! Does not own: its contents (`contract`).

use std::sync::OnceLock;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

pub(super) struct Document {
    render: fn() -> Vec<u8>,
    rendered: OnceLock<RenderedDocument>,
}

/// The text of the document, and its entity tag.
pub(super) struct RenderedDocument {
    pub(super) text: Bytes,
    pub(super) tag: String,
}

impl Document {
    pub(super) const fn new(render: fn() -> Vec<u8>) -> Self {
        Self { render, rendered: OnceLock::new() }
    }

    pub(super) fn rendered(&self) -> &RenderedDocument {
        self.rendered.get_or_init(|| {
            let text = (self.render)();
            let tag = format!("\"{:016x}\"", xxh3_64(&text));
            RenderedDocument { text: text.into(), tag }
        })
    }
}
