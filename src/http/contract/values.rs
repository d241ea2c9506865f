//! Schemas of single values, as types for `#[schemars(with = "…")]`.
//!
//! The fields of bodies are read as plain strings and numbers, so that all faults can be reported at once; these
//! types give them their real schemas. Does not own: bounds and patterns, which come from `rules`, `query`,
//! `validate` and the vocabularies.

use std::{borrow::Cow, iter};

use rollcall_core::slot;
use rollcall_model::naming;
use rollcall_model::{defaults, vocabulary};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::http::{query, rules};

/// Uninhabited types with a schema. A vocabulary is a named schema of the contract; the others are inlined (`true`).
macro_rules! value_types {
    ($($(#[$doc:meta])* $inline:literal $name:ident = $schema:expr;)+) => {$(
        $(#[$doc])*
        pub(in crate::http) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                $inline
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

value_types! {
    true Label = text(rules::LABEL_PATTERN, naming::MAX_LABEL);
    true Subdomain = text(rules::SUBDOMAIN_PATTERN, naming::MAX_NAME);
    true PortName = text(rules::LABEL_PATTERN, rules::MAX_PORT_NAME);
    /// A DNS name that cannot be mistaken for an IPv4 address.
    true Hostname = json_schema!({
        "type": "string", "minLength": 1, "maxLength": naming::MAX_NAME,
        "pattern": rules::SUBDOMAIN_PATTERN, "not": {"type": "string", "pattern": rules::NUMBER_LAST_PATTERN},
    });
    /// Visible ASCII.
    true VisibleText = text(rules::VISIBLE_TEXT_PATTERN, rules::MAX_SHORT_TEXT);
    /// The application protocol of a port, as in a Kubernetes Service.
    true AppProtocol = text(rules::VISIBLE_TEXT_PATTERN, naming::MAX_NAME);
    /// A 16-bit number.
    true Uint16 = integer(0, u16::MAX.into());
    true PortNumber = integer(1, u16::MAX.into());
    true LeaseSeconds = integer(rules::LEASE[0], rules::LEASE[1]);
    true EvictAfterSeconds = integer(0, rules::LEASE[1]);
    true Addresses = list(json_schema!({
        "type": "string", "pattern": rules::ADDRESS_PATTERN,
        "not": {"type": "string", "pattern": rules::MAPPED_PATTERN},
    }), 1, rules::MAX_ADDRESSES);
    true Tags = list(text(rules::VISIBLE_TEXT_PATTERN, rules::MAX_SHORT_TEXT), 0, rules::MAX_TAGS);
    true Attributes = map(
        rules::ATTRIBUTE_KEY_PATTERN,
        rules::MAX_SHORT_TEXT,
        &json_schema!({"type": "string", "maxLength": rules::MAX_ATTRIBUTE}),
        Some(rules::MAX_ATTRIBUTES),
    );
    /// A merge patch of the attributes. The number of attributes that results is checked when the patch is applied.
    true AttributesPatch = map(
        rules::ATTRIBUTE_KEY_PATTERN,
        rules::MAX_SHORT_TEXT,
        &json_schema!({"type": ["string", "null"], "maxLength": rules::MAX_ATTRIBUTE}),
        Some(rules::MAX_ATTRIBUTES),
    );
    /// The labels of a registration. The longest key is a prefix, a slash and a name.
    true Labels = map(
        rules::LABEL_KEY_PATTERN,
        naming::MAX_NAME + 1 + rules::MAX_SHORT_TEXT,
        &json_schema!({
            "type": "string", "maxLength": rules::MAX_SHORT_TEXT, "pattern": rules::LABEL_VALUE_PATTERN,
        }),
        None,
    );
    /// Text of an instance for the log.
    true Note = json_schema!({"type": "string", "maxLength": rules::MAX_NOTE});
    /// An address in a response.
    true Address = json_schema!({"type": "string", "pattern": rules::ADDRESS_PATTERN});
    true StringMap = json_schema!({"type": "object", "additionalProperties": {"type": "string"}});
    true Revision = json_schema!({
        "type": "string", "pattern": "^[0-9a-f]{16}$",
        "description": "A hash of the set: equal on every replica for the same set.",
    });
    true ResourceVersion = json_schema!({
        "type": "string", "pattern": "^[0-9]+$",
        "description": "The resourceVersion of the object in Kubernetes: its ETag without the quotes.",
    });
    true Millis = count();
    /// A third of a lease, which can be a fraction.
    true RenewSeconds = json_schema!({"type": "number", "format": "double", "exclusiveMinimum": 0});
    /// An HTTP status.
    true HttpStatus = integer(200, 599);
    /// The state of a circuit breaker.
    true BreakerState = json_schema!({"type": "string", "enum": ["closed", "open"]});
    /// The presence of the replica that answers.
    true SelfPresence = json_schema!({"type": "string", "enum": ["self"]});
    /// The presence of another replica.
    true PeerPresence = json_schema!({"type": "string", "enum": ["live", "gone", "left"]});

    false State = enumeration(
        "The operator state: an instance that is Draining or OutOfService is not discoverable.",
        vocabulary::State::ALL.iter().map(|value| value.as_str()),
    );
    false Health = enumeration(
        "The health that the instance reports: Warning is still discoverable, Critical is not.",
        vocabulary::Health::ALL.iter().map(|value| value.as_str()),
    );
    false HealthReport = enumeration(
        "The health that an instance reports: with Warning it is still discoverable, with Critical and Stopping it \
         is not. Stopping lasts until the instance reports Passing.",
        vocabulary::HealthReport::ALL.iter().map(|value| value.as_str()),
    );
    false Phase = enumeration(
        "The phase of an instance: the first in this list that applies. Instances in Ready and Warning are \
         discoverable.",
        vocabulary::Phase::ALL.iter().map(|value| value.as_str()),
    );
    false Protocol = enumeration(
        "The transport protocol of a port.",
        vocabulary::Protocol::ALL.iter().map(|value| value.as_str()),
    );
    false LeaseMode = enumeration(
        "Heartbeat: the lease must be renewed by heartbeats; Permanent: it lasts as long as the object.",
        vocabulary::LeaseMode::ALL.iter().map(|value| value.as_str()),
    );
    false OnExpiry = enumeration(
        "What happens to the object after its lease has ended: Retain keeps it in the phase Expired, Evict deletes it.",
        default_first(defaults::ON_EXPIRY_OF_REGISTRATION, vocabulary::OnExpiry::ALL)
            .map(vocabulary::OnExpiry::as_str),
    );
    false HeartbeatSource = enumeration(
        "How the last heartbeat arrived.",
        slot::Source::ALL.iter().map(|source| source.as_str()),
    );
}

/// The maximum number of registrations in one batch.
pub(in crate::http) const MAX_REGISTRATIONS: usize = rules::MAX_INSTANCES;

/// The maximum number of heartbeats in one batch.
pub(in crate::http) const MAX_HEARTBEATS: usize = rules::MAX_HEARTBEATS;

/// Non-empty text of this pattern.
pub(super) fn text(pattern: &str, max: usize) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": max, "pattern": pattern})
}

fn integer(min: i64, max: i64) -> Schema {
    json_schema!({"type": "integer", "format": integer_format(Some(max)), "minimum": min, "maximum": max})
}

/// A number that can exceed 32 bits.
pub(super) fn count() -> Schema {
    json_schema!({"type": "integer", "format": integer_format(None), "minimum": 0})
}

/// The format of integers up to `max`. Without a format, most generators use 32 bits for every integer.
pub(super) fn integer_format(max: Option<i64>) -> &'static str {
    if max.is_some_and(|max| max <= i32::MAX.into()) { "int32" } else { "int64" }
}

fn list(item: Schema, min: usize, max: usize) -> Schema {
    let mut list = json_schema!({"type": "array", "maxItems": max, "uniqueItems": true});
    list.insert("items".to_owned(), item.into());
    if min > 0 {
        list.insert("minItems".to_owned(), min.into());
    }
    list
}

fn map(pattern: &str, longest_key: usize, value: &Schema, max_entries: Option<usize>) -> Schema {
    let mut map = json_schema!({
        "type": "object",
        "propertyNames": {"minLength": 1, "maxLength": longest_key, "pattern": pattern},
        "additionalProperties": value,
    });
    if let Some(max) = max_entries {
        map.insert("maxProperties".to_owned(), max.into());
    }
    map
}

fn enumeration(description: &str, values: impl Iterator<Item = &'static str>) -> Schema {
    json_schema!({"type": "string", "enum": values.collect::<Vec<_>>(), "description": description})
}

/// The values of a vocabulary, with the default first.
fn default_first<T: Copy + PartialEq>(default: T, all: &'static [T]) -> impl Iterator<Item = T> {
    let others = all.iter().copied().filter(move |value| *value != default);
    iter::once(default).chain(others)
}

/// The schema of a query parameter.
pub(super) fn query_parameter(name: &str) -> Schema {
    match name {
        "wait" => json_schema!({"type": "string", "pattern": query::WAIT_PATTERN}),
        "selector" => json_schema!({"type": "string", "pattern": query::SELECTOR_PATTERN}),
        "limit" => integer(1, u32::MAX.into()),
        "order" => {
            json_schema!({"type": "string", "enum": query::ORDERS, "default": query::ORDERS[0]})
        }
        "health" => json_schema!({"type": "string", "enum": query::HEALTHS}),
        "port" => text(rules::LABEL_PATTERN, naming::MAX_LABEL),
        "tag" => json_schema!({"type": "array", "items": {"type": "string", "minLength": 1}}),
        "service" => json_schema!({
            "type": "array", "minItems": 1, "maxItems": query::MAX_SERVICES, "uniqueItems": true,
            "items": {"type": "string", "pattern": query::SERVICE_PATTERN},
        }),
        _ => json_schema!({"type": "string", "minLength": 1}),
    }
}
