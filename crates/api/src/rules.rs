//! The validation rules of the stored kinds that the derive cannot say alone: CEL expressions with
//! the messages a person gets, and the schemas of maps and conditions.
//!
//! Owns the wording. Each message names what is wrong and what to write instead, because the API
//! server shows it after the field's path and nothing else. Plain bounds stand beside the fields.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A label as RFC 1123 §2.1 allows it, lower case (Kubernetes writes names so). Length is bounded
/// by `maxLength`.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Dot-separated labels of at most 63 octets (RFC 1035 §2.3.4).
const HOSTNAME: &str =
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

/// A word a client can put in a query and in a log line: visible ASCII, no blanks.
const WORD: &str = "^[A-Za-z0-9][!-~]*$";

/// Keys of RFC 6763 §6.4 (printable ASCII without `=`), because attributes become TXT records.
const ATTRIBUTE_KEY: &str = "^[!-<>-~]+$";

/// Exactly one way to reach the instance.
pub(super) fn one_location() -> Rule {
    Rule::new("has(self.addresses) != has(self.hostname)").message(
        "give exactly one of addresses (IP addresses) and hostname (a DNS name that others resolve)",
    )
}

/// The service of an instance decides the names it answers to, so it is fixed.
pub(super) fn service_immutable() -> Rule {
    Rule::new("self == oldSelf").message(
        "service is immutable: delete this instance and create one under the other service",
    )
}

/// A single DNS label.
pub(super) fn label(field: &str) -> Rule {
    Rule::new(format!("self.matches('{LABEL}')")).message(format!(
        "{field} must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit"
    ).as_str())
}

/// A word without blanks.
pub(super) fn word(field: &str) -> Rule {
    Rule::new(format!("self.matches('{WORD}')")).message(
        format!("{field} must begin with a letter or digit and hold visible ASCII characters only, no blanks")
            .as_str(),
    )
}

/// A list of words without blanks.
pub(super) fn words(field: &str) -> Rule {
    Rule::new(format!("self.all(w, w.matches('{WORD}'))")).message(
        format!("each of {field} must begin with a letter or digit and hold visible ASCII characters only, no blanks")
            .as_str(),
    )
}

/// Only IP addresses among the addresses; `isIP` knows neither zone ids nor IPv4-mapped IPv6.
pub(super) fn addresses_are_ips() -> Rule {
    Rule::new("self.all(a, isIP(a))").message(
        "each address must be an IPv4 or IPv6 address such as 10.0.0.7 or fd00::7, without zone, port or prefix; a DNS name belongs in hostname",
    )
}

/// No address twice, however it is spelt.
pub(super) fn addresses_unique() -> Rule {
    Rule::new("self.all(a, !isIP(a) || self.exists_one(b, isIP(b) && ip(b) == ip(a)))")
        .message("addresses must be unique: remove the one that is there twice (fd00::7 and fd00:0::7 are the same)")
}

/// A DNS name.
pub(super) fn hostname() -> Rule {
    Rule::new(format!("self.matches('{HOSTNAME}')")).message(
        "hostname must be a DNS name in lower case without a final dot, such as db.example.com: labels of letters, digits and '-', at most 63 characters each",
    )
}

/// What ends in a number is read as an IPv4 address by many clients (WHATWG URL §3.5).
pub(super) fn hostname_is_no_ip() -> Rule {
    Rule::new("!self.matches('(^|[.])[0-9]+$')").message(
        "hostname must not be an IP address or end in a number: put IP addresses in addresses",
    )
}

/// Port names address ports in DNS (`_name._proto`), so no two may share one.
pub(super) fn port_names_unique() -> Rule {
    Rule::new("self.all(p, self.exists_one(q, q.name == p.name))")
        .message("port names must be unique: give each port a name of its own")
}

/// Keys that can stand in a TXT record.
pub(super) fn attribute_keys() -> Rule {
    Rule::new(format!("self.all(k, k.size() <= 63 && k.matches('{ATTRIBUTE_KEY}'))")).message(
        "each attribute key must have 1 to 63 visible ASCII characters, no blanks and no '='",
    )
}

/// Free strings for clients: at most 64, values of at most 1,024 characters.
pub(super) fn attributes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

/// Kubernetes' standard conditions, with the bounds that
/// `k8s.io/apimachinery/pkg/apis/meta/v1.Condition` documents and its generated schema lacks.
pub(super) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 316,
                    "description": "What the condition is about, in 1 to 316 characters; rollcall writes Ready, UnknownHealth and AddressShared.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that it was decided on: 0 or more.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "maxLength": 64,
                    "description": "When the status last changed (RFC 3339, at most 64 characters).",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "description": "Why, in one word of 1 to 1024 characters for programs.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "Why, in a sentence for people, of at most 32768 characters.",
                },
            },
        },
    })
}

/// A moment in RFC 3339, never null.
pub(super) fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}
