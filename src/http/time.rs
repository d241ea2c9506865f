//! Wall times in JSON.
//!
//! Owns: their serialization and their schema. Does not own: the text format (`rollcall_model::lease`).

use std::borrow::Cow;

use rollcall_model::lease::Wall;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A wall time in a response. It is formatted directly into the JSON without a temporary string, because every response
/// to a heartbeat contains one.
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
            "type": "string", "format": "date-time", "description": "An RFC 3339 time in UTC, with milliseconds.",
        })
    }
}
