//! The OpenAPI document as it is served: made when it is first asked for, and kept with its entity tag.
//!
//! Does not own: what it says (`contract`).

use std::sync::OnceLock;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// The document.
pub(super) struct Document {
    make: fn() -> Vec<u8>,
    made: OnceLock<Made>,
}

/// Its text and its tag.
pub(super) struct Made {
    pub(super) text: Bytes,
    pub(super) tag: String,
}

impl Document {
    pub(super) const fn new(make: fn() -> Vec<u8>) -> Self {
        Self { make, made: OnceLock::new() }
    }

    pub(super) fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let text = (self.make)();
            let tag = format!("\"{:016x}\"", xxh3_64(&text));
            Made { text: text.into(), tag }
        })
    }
}
