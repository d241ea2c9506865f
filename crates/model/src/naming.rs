//! Names: how namespaces, services, instances and versions become DNS labels.
//!
//! Pure functions. Every replica and every version must give the same results, because users have written
//! these names into configuration.

use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64;

/// Maximum length of a DNS label in bytes (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;

/// Maximum length of a DNS name in text form, in bytes (RFC 1035 §2.3.4, without the dot of the root).
pub const MAX_NAME: usize = 253;

/// Letters of the hash suffix: base 32 without letters that are easily confused.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Length of the suffix of a name that had to be changed, without its hyphen: 30 bits, enough for the
/// instances of one service whose readable parts are the same.
const SUFFIX: usize = 6;

/// Length of the suffix that distinguishes the derived names of one service: 50 bits. Among services with
/// 10,000 instances, one in 20 million has two instances with the same name.
const DERIVED_SUFFIX: usize = 10;

/// Whether `name` is a DNS label as Kubernetes defines it (RFC 1123: lower case, digits, inner hyphens).
#[must_use]
pub fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=MAX_LABEL).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Whether `name` is a DNS subdomain as Kubernetes defines it (RFC 1123: labels joined by dots).
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// The DNS label of a name: the name itself if it is a label, otherwise a readable form with a hash of the
/// whole name, so that two names do not share a label by accident.
#[must_use]
pub fn label(name: &str) -> String {
    if is_label(name) {
        return name.to_owned();
    }
    let mut readable = simplify(name, MAX_LABEL - SUFFIX - 1);
    if !readable.is_empty() {
        readable.push('-');
    }
    readable.push_str(&hash_suffix(name, SUFFIX));
    readable
}

/// The name of an instance that registers without one: its service, and a hash of the service and of `place`,
/// the endpoint of the instance. The result is a DNS label.
#[must_use]
pub fn derived_name(service: &str, place: &str) -> String {
    let mut name = simplify(service, MAX_LABEL - DERIVED_SUFFIX - 1);
    name.push('-');
    name.push_str(&hash_suffix(&format!("{service} {place}"), DERIVED_SUFFIX));
    name
}

/// The DNS label that selects a version, tag or zone: simplified and without a hash, so that users can write
/// it themselves (`2.3.1` is `2-3-1`).
#[must_use]
pub fn selector_label(value: &str) -> String {
    simplify(value, MAX_LABEL)
}

/// The full DNS name of an instance, without the dot of the root.
#[must_use]
pub fn instance_name(name: &str, service: &str, namespace: &str, zone: &str) -> String {
    format!("{}.{service}.{namespace}.svc.{}", label(name), zone.trim_end_matches('.'))
}

/// How many labels of `in-addr.arpa` or `ip6.arpa` a network corresponds to (RFC 1035 §3.5, RFC 3596 §2.5).
/// `None` if it does not end at a label boundary (every 8 bits of IPv4, every 4 of IPv6), or if it is a whole
/// address family or a single address.
#[must_use]
pub fn reverse_labels(network: IpNet) -> Option<usize> {
    let per_label = if network.addr().is_ipv4() { 8 } else { 4 };
    let length = network.prefix_len();
    let is_zone =
        length > 0 && length < network.max_prefix_len() && length.is_multiple_of(per_label);
    is_zone.then(|| usize::from(length / per_label))
}

/// Converts to lower case and replaces each run of characters that a label cannot contain by one hyphen; at
/// most `max` bytes.
fn simplify(name: &str, max: usize) -> String {
    let mut out = String::with_capacity(name.len().min(max));
    for c in name.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
        if out.len() == max {
            break;
        }
    }
    out.trim_matches('-').to_owned()
}

/// The first letters of a 64-bit hash, five bits each.
fn hash_suffix(name: &str, letters: usize) -> String {
    let mut hash = xxh3_64(name.as_bytes());
    let mut out = String::with_capacity(letters);
    for _ in 0..letters {
        let letter = ALPHABET.get(usize::try_from(hash % 32).unwrap_or(0)).unwrap_or(&b'a');
        out.push(char::from(*letter));
        hash /= 32;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_label_is_unchanged() {
        assert_eq!(label("orders-1"), "orders-1");
    }

    #[test]
    fn other_names_get_a_readable_label_with_a_stable_hash() {
        assert_eq!(label("orders.v2"), format!("orders-v2-{}", hash_suffix("orders.v2", SUFFIX)));
        assert_eq!(label("orders.v2"), label("orders.v2"));
        assert_ne!(label("orders.v2"), label("orders_v2"));
    }

    #[test]
    fn selector_label_is_what_users_would_write() {
        assert_eq!(selector_label("2.3.1"), "2-3-1");
        assert_eq!(selector_label("EU_1a"), "eu-1a");
    }

    #[test]
    fn derived_name_begins_with_its_service_and_is_stable() {
        assert_eq!(derived_name("orders", "10.0.0.7 8080/TCP"), "orders-7punzt668m");
    }

    proptest! {
        #[test]
        fn every_derived_name_is_a_label(service in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let name = derived_name(&service, "10.0.0.7 8080/TCP");
            prop_assert!(is_label(&name), "{name}");
            prop_assert_ne!(name, derived_name(&service, "10.0.0.8 8080/TCP"));
        }

        #[test]
        fn every_name_maps_to_a_label(name in "\\PC{0,300}") {
            prop_assert!(is_label(&label(&name)), "{:?}", label(&name));
        }

        #[test]
        fn different_names_have_different_labels(a in "[a-zA-Z0-9._-]{1,80}", b in "[a-zA-Z0-9._-]{1,80}") {
            prop_assume!(a != b);
            prop_assert_ne!(label(&a), label(&b));
        }
    }
}
