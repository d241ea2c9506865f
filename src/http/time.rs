//! Wall times in JSON.
//!
//! Owns: how they are written and what the contract says of them. Does not own: the text itself
//! (`rollcall_model::lease`).

use std::borrow::Cow;

use rollcall_model::lease::Wall;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A wall time in an answer. It is formatted straight into the JSON, without a string of its own: the
/// answer to every heartbeat has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Wall);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "date-time", "description": "RFC 3339, in UTC, to the millisecond.",
        })
    }
}
