//! Rules for single values: the bounds of the stored objects, checked here so that a client learns of all its mistakes
//! at once, before a request is sent to Kubernetes.
//!
//! Owns: each rule as a function, as a sentence for errors, and as a regular expression for the contract, with the same
//! meaning in ECMA-262, RE2 and Python. Does not own: the authoritative rules, which are in the CRD (`api::rules`).
//! Labels have the bounds of Kubernetes ("Labels and Selectors: syntax and character set").

use std::net::IpAddr;

use rollcall_model::naming;

/// The maximum length of a version, a zone, a tag, an attribute's key and a label's value, in characters.
pub(super) const MAX_SHORT_TEXT: usize = 63;

/// The maximum number of heartbeats in one body.
pub(super) const MAX_HEARTBEATS: usize = 10_000;
/// The maximum length of a note, in characters.
pub(super) const MAX_NOTE: usize = 256;
/// The maximum number of registrations in one body.
pub(super) const MAX_INSTANCES: usize = 1_000;
pub(super) const MAX_ADDRESSES: usize = 16;
pub(super) const MAX_PORTS: usize = 32;
pub(super) const MAX_TAGS: usize = 32;
pub(super) const MAX_ATTRIBUTES: usize = 64;
pub(super) const MAX_ATTRIBUTE: usize = 1024;

/// The maximum length of a port name: `_name` must fit into a DNS label.
pub(super) const MAX_PORT_NAME: usize = naming::MAX_LABEL - 1;

/// The shortest and the longest lease, in seconds.
pub(super) const LEASE: [i64; 2] = [2, 86_400];

pub(super) const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
pub(super) const SUBDOMAIN_PATTERN: &str =
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
/// Matches a name that ends in a number. A hostname is a subdomain that does not match this pattern.
pub(super) const NUMBER_LAST_PATTERN: &str = "(^|[.])[0-9]+$";
pub(super) const VISIBLE_TEXT_PATTERN: &str = "^[A-Za-z0-9][!-~]*$";
pub(super) const ATTRIBUTE_KEY_PATTERN: &str = "^[!-<>-~]+$";
pub(super) const LABEL_KEY_PATTERN: &str = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*/)?\
     [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
pub(super) const LABEL_VALUE_PATTERN: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// An IPv4 address, or an IPv6 address in groups of hexadecimal digits. [`parse_ip`] also accepts IPv6 with the last 32
/// bits written as IPv4; a pattern for that would be four times as long.
pub(super) const ADDRESS_PATTERN: &str = concat!(
    "^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
    "|([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}",
    "|([0-9a-fA-F]{1,4}:){1,7}:",
    "|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}",
    "|([0-9a-fA-F]{1,4}:){1,5}(:[0-9a-fA-F]{1,4}){1,2}",
    "|([0-9a-fA-F]{1,4}:){1,4}(:[0-9a-fA-F]{1,4}){1,3}",
    "|([0-9a-fA-F]{1,4}:){1,3}(:[0-9a-fA-F]{1,4}){1,4}",
    "|([0-9a-fA-F]{1,4}:){1,2}(:[0-9a-fA-F]{1,4}){1,5}",
    "|[0-9a-fA-F]{1,4}:(:[0-9a-fA-F]{1,4}){1,6}",
    "|:((:[0-9a-fA-F]{1,4}){1,7}|:))$",
);
/// An IPv4-mapped IPv6 address.
pub(super) const MAPPED_PATTERN: &str =
    "^[0:]+:[fF]{4}:([0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}|[0-9]+[.][0-9.]+)$";

pub(super) const LABEL: &str = "must be a DNS label: at most 63 lower-case letters, digits and \
                                '-', starting and ending with a letter or digit";
pub(super) const SUBDOMAIN: &str = "must be a DNS subdomain: at most 253 characters, labels of lower-case letters, \
                         digits and '-' joined by '.'";
pub(super) const SHORT_TEXT: &str = "must have 1 to 63 visible ASCII characters without blanks, \
                               starting with a letter or digit";
pub(super) const APP_PROTOCOL: &str = "must have 1 to 253 visible ASCII characters without \
                                       blanks, starting with a letter or digit";
pub(super) const HOSTNAME: &str = "must be a DNS name in lower case without a final dot, such as \
                                   db.example.com; IP addresses belong in addresses";
pub(super) const IP: &str = "must be an IPv4 or IPv6 address such as 10.0.0.7 or fd00::7, without \
                             zone, port or prefix; a DNS name belongs in hostname";
pub(super) const ATTRIBUTE_KEY: &str =
    "the key must have 1 to 63 visible ASCII characters, without blanks and '='";
pub(super) const LABEL_KEY: &str = "the key must be a name of at most 63 letters, digits, '-', '_' \
                                    and '.', starting and ending with a letter or digit, \
                                    optionally after a DNS subdomain and '/'";
pub(super) const LABEL_VALUE: &str = "must be empty or at most 63 letters, digits, '-', '_' and \
                                      '.', starting and ending with a letter or digit";

/// Visible ASCII, beginning with a letter or digit.
pub(super) fn is_visible_text(text: &str, max: usize) -> bool {
    text.len() <= max
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A DNS name that cannot be mistaken for an IPv4 address (WHATWG URL §3.5: a host that ends in a number is one).
pub(super) fn is_hostname(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or("");
    naming::is_subdomain(name) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses an address as the API server does, which refuses IPv4-mapped IPv6.
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    match text.parse().ok()? {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        ip => Some(ip),
    }
}

/// Whether this is a valid key by RFC 6763 §6.4, because attributes become TXT records.
pub(super) fn is_attribute_key(key: &str) -> bool {
    (1..=MAX_SHORT_TEXT).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

/// Whether this is a valid key of a Kubernetes label.
pub(super) fn is_label_key(key: &str) -> bool {
    let (prefix, word) = match key.split_once('/') {
        Some((prefix, word)) => (Some(prefix), word),
        None => (None, key),
    };
    prefix.is_none_or(naming::is_subdomain) && !word.is_empty() && is_label_value(word)
}

/// Whether this is a valid value of a Kubernetes label.
pub(super) fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    value.len() <= MAX_SHORT_TEXT
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, SchemaGenerator};
    use serde_json::Value;

    use super::*;
    use crate::http::contract::values;

    fn schema_of<T: JsonSchema>() -> Value {
        T::json_schema(&mut SchemaGenerator::default()).into()
    }

    fn part_of<T: JsonSchema>(part: &str) -> Value {
        schema_of::<T>()[part].clone()
    }

    fn keys_of<T: JsonSchema>() -> Value {
        part_of::<T>("propertyNames")
    }

    #[test]
    fn rules_and_contract_accept_the_same_values() {
        let long = "a".repeat(64);
        for (admitted, refused, rule, contract) in [
            (
                vec!["2.3.1", "v1+build", "1"],
                vec!["", "-1", "a b", "é", &*long],
                (|w: &str| is_visible_text(w, MAX_SHORT_TEXT)) as fn(&str) -> bool,
                schema_of::<values::VisibleText>(),
            ),
            (
                vec!["db.example.com", "db", "10.example"],
                vec!["", "Db", "10.0.0.1", "a.1", "a.", "a_b"],
                is_hostname,
                schema_of::<values::Hostname>(),
            ),
            (
                vec!["10.0.0.7", "fd00::7"],
                vec!["", "10.0.0", "010.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "10.0.0.1:80"],
                |text| parse_ip(text).is_some(),
                part_of::<values::Addresses>("items"),
            ),
            (
                vec!["team", "a.b/c"],
                vec!["", "a=b", "a b", &*long],
                is_attribute_key,
                keys_of::<values::Attributes>(),
            ),
            (
                vec!["track", "example.com/track", "A_b.c"],
                vec!["", "/a", "a/", "Ex.com/a", "-a", "a/b/c", &*long],
                is_label_key,
                keys_of::<values::Labels>(),
            ),
            (
                vec!["", "canary", "A.b_c-1"],
                vec!["-", "a b", "a/", &*long],
                is_label_value,
                part_of::<values::Labels>("additionalProperties"),
            ),
        ] {
            let contract =
                jsonschema::options().should_validate_formats(true).build(&contract).unwrap();
            for value in admitted {
                assert!(rule(value), "{value:?} must be admitted");
                assert!(contract.is_valid(&value.into()), "{value:?}: the contract refuses it");
            }
            for value in refused {
                assert!(!rule(value), "{value:?} must be refused");
                assert!(!contract.is_valid(&value.into()), "{value:?}: the contract admits it");
            }
        }
    }

    #[test]
    fn rules_and_contract_accept_the_same_addresses() {
        let contract = jsonschema::validator_for(&part_of::<values::Addresses>("items")).unwrap();
        for admitted in [
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "1::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1::3:4:5:6:7:8",
            "1:2:3::6:7:8",
            "FD00::A",
        ] {
            assert!(parse_ip(admitted).is_some(), "{admitted:?} must be admitted");
            assert!(contract.is_valid(&admitted.into()), "{admitted:?}: the contract refuses it");
        }
        for refused in [
            "256.0.0.1",
            "1.2.3.4.5",
            "::ffff:a00:1",
            ":",
            ":::",
            "1:",
            ":1",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7:8::",
            "1::2::3",
            "1:2:3:4::5:6:7:8",
            "12345::",
            "g::",
        ] {
            assert!(parse_ip(refused).is_none(), "{refused:?} must be refused");
            assert!(!contract.is_valid(&refused.into()), "{refused:?}: the contract admits it");
        }
    }
}
