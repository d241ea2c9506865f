//! The validation rules of the stored kinds that the derive cannot express: CEL expressions with messages for
//! users, and the schemas of maps and conditions.
//!
//! Owns: the wording. Each message names what is wrong and what to write instead, because the API server
//! shows only the field's path and the message. Does not own: plain bounds, which are next to the fields.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A label according to RFC 1123 §2.1, in lower case as Kubernetes writes names. `maxLength` bounds the
/// length.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Dot-separated labels of at most 63 bytes (RFC 1035 §2.3.4).
const HOSTNAME: &str =
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

/// A value that fits into a query and a log line: visible ASCII, no blanks.
const WORD: &str = "^[A-Za-z0-9][!-~]*$";

/// Keys according to RFC 6763 §6.4 (printable ASCII without `=`), because attributes become TXT records.
const ATTRIBUTE_KEY: &str = "^[!-<>-~]+$";

/// Requires either addresses or a hostname.
pub(super) fn one_location() -> Rule {
    Rule::new("has(self.addresses) != has(self.hostname)").message(
        "give exactly one of addresses (IP addresses) and hostname (a DNS name that clients resolve)",
    )
}

/// The service of an instance determines its DNS names, so it is fixed.
pub(super) fn service_immutable() -> Rule {
    Rule::new("self == oldSelf").message(
        "service is immutable: delete this instance and create one under the other service",
    )
}

/// Requires a single DNS label.
pub(super) fn label(field: &str) -> Rule {
    Rule::new(format!("self.matches('{LABEL}')")).message(format!(
        "{field} must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit"
    ).as_str())
}

/// Requires a value without blanks.
pub(super) fn word(field: &str) -> Rule {
    Rule::new(format!("self.matches('{WORD}')")).message(
        format!("{field} must begin with a letter or digit and contain only visible ASCII characters, no blanks")
            .as_str(),
    )
}

/// Requires a list of values without blanks.
pub(super) fn words(field: &str) -> Rule {
    Rule::new(format!("self.all(w, w.matches('{WORD}'))")).message(
        format!("each of {field} must begin with a letter or digit and contain only visible ASCII characters, no blanks")
            .as_str(),
    )
}

/// Requires IP addresses; `isIP` accepts neither zone ids nor IPv4-mapped IPv6.
pub(super) fn addresses_are_ips() -> Rule {
    Rule::new("self.all(a, isIP(a))").message(
        "each address must be an IPv4 or IPv6 address such as 10.0.0.7 or fd00::7, without zone, port or prefix; a DNS name belongs in hostname",
    )
}

/// Rejects an address that occurs twice, in any spelling.
pub(super) fn addresses_unique() -> Rule {
    Rule::new("self.all(a, !isIP(a) || self.exists_one(b, isIP(b) && ip(b) == ip(a)))").message(
        "addresses must be unique: remove the duplicate (fd00::7 and fd00:0::7 are the same)",
    )
}

/// Requires a DNS name.
pub(super) fn hostname() -> Rule {
    Rule::new(format!("self.matches('{HOSTNAME}')")).message(
        "hostname must be a DNS name in lower case without a final dot, such as db.example.com: labels of letters, digits and '-', at most 63 characters each",
    )
}

/// Rejects a name that ends in a number, which many clients read as an IPv4 address (WHATWG URL §3.5).
pub(super) fn hostname_is_not_ip() -> Rule {
    Rule::new("!self.matches('(^|[.])[0-9]+$')").message(
        "hostname must not be an IP address or end in a number: put IP addresses in addresses",
    )
}

/// Requires unique port names, because they identify ports in DNS (`_name._proto`).
pub(super) fn port_names_unique() -> Rule {
    Rule::new("self.all(p, self.exists_one(q, q.name == p.name))")
        .message("port names must be unique: give each port a different name")
}

/// Requires keys that fit into a TXT record.
pub(super) fn attribute_keys() -> Rule {
    Rule::new(format!("self.all(k, k.size() <= 63 && k.matches('{ATTRIBUTE_KEY}'))")).message(
        "each attribute key must have 1 to 63 visible ASCII characters, no blanks and no '='",
    )
}

/// Attributes: at most 64, with values of at most 1,024 characters.
pub(super) fn attributes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

/// Kubernetes' standard conditions, with the bounds that `k8s.io/apimachinery/pkg/apis/meta/v1.Condition`
/// documents and its generated schema lacks.
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
                    "description": "The type of the condition, of 1 to 316 characters. Rollcall writes Ready, UnknownHealth and AddressShared.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether the condition holds.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that the condition is based on: 0 or more.",
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
                    "description": "The reason, in one word of 1 to 1024 characters.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "The reason, in a sentence of at most 32768 characters.",
                },
            },
        },
    })
}

/// A time in RFC 3339, never null.
pub(super) fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}
