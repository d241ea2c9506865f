//! What single values look like, as types that stand for them in the contract.
//!
//! The fields of bodies are read as plain text and plain numbers, so that all that is wrong can be said at
//! once; what they have to be says here `#[schemars(with = "…")]`. Owns: no bound and no pattern; they are
//! those of the readers (`rules`, `query`, `validate`) and of the vocabularies.

use std::{borrow::Cow, iter};

use rollcall_core::slot;
use rollcall_model::naming;
use rollcall_model::{defaults, vocabulary};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::http::{query, rules};

/// Types that are never values. A vocabulary has a name of its own in the contract, the others stand where they are used.
macro_rules! words {
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

words! {
    /// A DNS label.
    true Label = text(rules::LABEL_PATTERN, naming::MAX_LABEL);
    /// A DNS subdomain.
    true Subdomain = text(rules::SUBDOMAIN_PATTERN, naming::MAX_NAME);
    /// The name of a port.
    true PortName = text(rules::LABEL_PATTERN, rules::MAX_PORT_NAME);
    /// A DNS name that nobody takes for an address.
    true Hostname = json_schema!({
        "type": "string", "minLength": 1, "maxLength": naming::MAX_NAME,
        "pattern": rules::SUBDOMAIN_PATTERN, "not": {"type": "string", "pattern": rules::NUMBER_LAST_PATTERN},
    });
    /// Visible ASCII.
    true Word = text(rules::WORD_PATTERN, rules::MAX_WORD);
    /// What is spoken on a port.
    true AppProtocol = text(rules::WORD_PATTERN, naming::MAX_NAME);
    /// A number of 16 bits.
    true Short = whole(0, u16::MAX.into());
    /// A port.
    true PortNumber = whole(1, u16::MAX.into());
    /// How long a lease is.
    true LeaseSeconds = whole(rules::LEASE[0], rules::LEASE[1]);
    /// How long an expired object stays.
    true EvictAfterSeconds = whole(0, rules::LEASE[1]);
    /// The addresses of a registration.
    true Addresses = list(json_schema!({
        "type": "string", "pattern": rules::ADDRESS_PATTERN,
        "not": {"type": "string", "pattern": rules::MAPPED_PATTERN},
    }), 1, rules::MAX_ADDRESSES);
    /// The tags of a registration.
    true Tags = list(text(rules::WORD_PATTERN, rules::MAX_WORD), 0, rules::MAX_TAGS);
    /// The attributes of a registration.
    true Attributes = map(
        rules::ATTRIBUTE_KEY_PATTERN,
        rules::MAX_WORD,
        &json_schema!({"type": "string", "maxLength": rules::MAX_ATTRIBUTE}),
        Some(rules::MAX_ATTRIBUTES),
    );
    /// A merge patch of the attributes. How many there are is seen when it is applied.
    true AttributesPatch = map(
        rules::ATTRIBUTE_KEY_PATTERN,
        rules::MAX_WORD,
        &json_schema!({"type": ["string", "null"], "maxLength": rules::MAX_ATTRIBUTE}),
        Some(rules::MAX_ATTRIBUTES),
    );
    /// The labels of a registration. A key is a prefix, a slash and a word.
    true Labels = map(
        rules::LABEL_KEY_PATTERN,
        naming::MAX_NAME + 1 + rules::MAX_WORD,
        &json_schema!({
            "type": "string", "maxLength": rules::MAX_WORD, "pattern": rules::LABEL_VALUE_PATTERN,
        }),
        None,
    );
    /// What an instance says to the log.
    true Note = json_schema!({"type": "string", "maxLength": rules::MAX_NOTE});
    /// What is shown of it.
    true Address = json_schema!({"type": "string", "pattern": rules::ADDRESS_PATTERN});
    /// Strings by keys.
    true Strings = json_schema!({"type": "object", "additionalProperties": {"type": "string"}});
    /// A hash of a set.
    true Revision = json_schema!({
        "type": "string", "pattern": "^[0-9a-f]{16}$",
        "description": "A hash of what the set shows: the same on every replica for the same set.",
    });
    /// A version of an object in Kubernetes.
    true ResourceVersion = json_schema!({
        "type": "string", "pattern": "^[0-9]+$",
        "description": "The version of the object in Kubernetes: its ETag, without the quotes.",
    });
    /// Milliseconds.
    true Millis = count();
    /// A third of a lease.
    true RenewSeconds = json_schema!({"type": "number", "format": "double", "exclusiveMinimum": 0});
    /// A status over HTTP.
    true Status = whole(200, 599);
    /// Whether calls go out.
    true Breaker = json_schema!({"type": "string", "enum": ["closed", "open"]});
    /// This replica.
    true Oneself = json_schema!({"type": "string", "enum": ["self"]});
    /// Another replica.
    true Presence = json_schema!({"type": "string", "enum": ["live", "gone", "left"]});

    /// The operator's word.
    false State = one_of(
        "The operator's word: Draining and OutOfService are not discoverable.",
        vocabulary::State::ALL.iter().map(|word| word.as_str()),
    );
    /// What an instance says of itself.
    false Health = one_of(
        "What an instance says of itself: Warning is still discoverable, Critical is not.",
        vocabulary::Health::ALL.iter().map(|word| word.as_str()),
    );
    /// What an instance reports.
    false HealthReport = one_of(
        "What an instance reports of itself: Warning is still discoverable, Critical is not; Stopping is not either, and stays \
         until it says Passing.",
        vocabulary::HealthReport::ALL.iter().map(|word| word.as_str()),
    );
    /// What becomes of all of it.
    false Phase = one_of(
        "What an instance is: the first that applies. Ready and Warning are discoverable.",
        vocabulary::Phase::ALL.iter().map(|word| word.as_str()),
    );
    /// A transport.
    false Protocol = one_of(
        "The transport of a port.",
        vocabulary::Protocol::ALL.iter().map(|word| word.as_str()),
    );
    /// Which life.
    false LeaseMode = one_of(
        "Heartbeat: it is there as long as it beats; Permanent: as long as its object is.",
        vocabulary::LeaseMode::ALL.iter().map(|word| word.as_str()),
    );
    /// What becomes of the object.
    false OnExpiry = one_of(
        "What becomes of the object when the lease has ended: Retain keeps it, as Expired; Evict deletes it.",
        default_first(defaults::ON_EXPIRY_OF_REGISTRATION, vocabulary::OnExpiry::ALL)
            .map(vocabulary::OnExpiry::as_str),
    );
    /// The way of a heartbeat.
    false HeartbeatSource = one_of(
        "By which way the last heartbeat came.",
        slot::Source::ALL.iter().map(|source| source.as_str()),
    );
}

/// The most of a batch of registrations.
pub(in crate::http) const REGISTRATIONS: usize = rules::MAX_INSTANCES;

/// The most of a batch of heartbeats.
pub(in crate::http) const BEATS: usize = rules::MAX_BEATS;

/// Text of this form.
pub(super) fn text(pattern: &str, max: usize) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": max, "pattern": pattern})
}

fn whole(min: i64, max: i64) -> Schema {
    json_schema!({"type": "integer", "format": width(Some(max)), "minimum": min, "maximum": max})
}

/// A number that only grows: many pass 32 bits.
pub(super) fn count() -> Schema {
    json_schema!({"type": "integer", "format": width(None), "minimum": 0})
}

/// The format of whole numbers up to this one. Without it, most generators take 32 bits for every number.
pub(super) fn width(max: Option<i64>) -> &'static str {
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

fn map(pattern: &str, longest: usize, value: &Schema, most: Option<usize>) -> Schema {
    let mut map = json_schema!({
        "type": "object",
        "propertyNames": {"minLength": 1, "maxLength": longest, "pattern": pattern},
        "additionalProperties": value,
    });
    if let Some(most) = most {
        map.insert("maxProperties".to_owned(), most.into());
    }
    map
}

fn one_of(says: &str, words: impl Iterator<Item = &'static str>) -> Schema {
    json_schema!({"type": "string", "enum": words.collect::<Vec<_>>(), "description": says})
}

/// A vocabulary that begins with its default.
fn default_first<T: Copy + PartialEq>(default: T, all: &'static [T]) -> impl Iterator<Item = T> {
    let others = all.iter().copied().filter(move |word| *word != default);
    iter::once(default).chain(others)
}

/// The form of `wait`, `service` and `selector` in a query.
pub(super) fn of_query(name: &str) -> Schema {
    match name {
        "wait" => json_schema!({"type": "string", "pattern": query::WAIT_PATTERN}),
        "selector" => json_schema!({"type": "string", "pattern": query::SELECTOR_PATTERN}),
        "limit" => whole(1, u32::MAX.into()),
        "order" => {
            json_schema!({"type": "string", "enum": query::ORDERS, "default": query::ORDERS[0]})
        }
        "health" => json_schema!({"type": "string", "enum": query::HEALTHS}),
        "port" => text(rules::LABEL_PATTERN, naming::MAX_LABEL),
        "tag" => json_schema!({"type": "array", "items": {"type": "string", "minLength": 1}}),
        "service" => json_schema!({
            "type": "array", "minItems": 1, "maxItems": query::MOST_SERVICES, "uniqueItems": true,
            "items": {"type": "string", "pattern": query::SERVICE_PATTERN},
        }),
        _ => json_schema!({"type": "string", "minLength": 1}),
    }
}
