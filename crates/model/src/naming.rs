//! Names: how namespaces, services, instances and versions become DNS labels.
//!
//! Pure functions, the same on every replica and for ever: names that people have written into
//! configuration must not move.

use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64;

/// The most octets in a DNS label (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;

/// The most octets in a DNS name in text form (RFC 1035 §2.3.4, without the root's dot).
pub const MAX_NAME: usize = 253;

/// Letters of the hash suffix: base 32 without letters that are read for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Length of the suffix of a name that had to be changed, without its hyphen: 30 bits, enough
/// among the instances of one service whose likenesses are the same.
const SUFFIX: usize = 6;

/// Length of the suffix that tells the derived names of one service apart: 50 bits, so that among
/// 10,000 instances two share a name once in 20 million services.
const DERIVED_SUFFIX: usize = 10;

/// Whether `name` is a DNS label as Kubernetes has them (RFC 1123: lower case, digits, inner
/// hyphens).
#[must_use]
pub fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=MAX_LABEL).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Whether `name` is a DNS subdomain as Kubernetes has them (RFC 1123: labels joined by dots).
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// The DNS label of a name: itself where it is one, else a readable likeness with a hash of the
/// whole name, so that two names never share a label by accident.
#[must_use]
pub fn label(name: &str) -> String {
    if is_label(name) {
        return name.to_owned();
    }
    let mut likeness = squash(name, MAX_LABEL - SUFFIX - 1);
    if !likeness.is_empty() {
        likeness.push('-');
    }
    likeness.push_str(&suffix(name, SUFFIX));
    likeness
}

/// The name of an instance that brings none of its own: its service, and a hash of the whole
/// service and of `place`, where it is reached. A DNS label.
#[must_use]
pub fn derived_name(service: &str, place: &str) -> String {
    let mut name = squash(service, MAX_LABEL - DERIVED_SUFFIX - 1);
    name.push('-');
    name.push_str(&suffix(&format!("{service} {place}"), DERIVED_SUFFIX));
    name
}

/// The DNS label by which a version, tag or zone is selected: squashed, without a hash, so that a
/// person can write it down (`2.3.1` is `2-3-1`).
#[must_use]
pub fn selector_label(value: &str) -> String {
    squash(value, MAX_LABEL)
}

/// The full name of an instance, without the root's dot.
#[must_use]
pub fn instance_name(name: &str, service: &str, namespace: &str, zone: &str) -> String {
    format!("{}.{service}.{namespace}.svc.{}", label(name), zone.trim_end_matches('.'))
}

/// How many labels of `in-addr.arpa` or `ip6.arpa` a network is (RFC 1035 §3.5, RFC 3596 §2.5); none when it does
/// not end where a label does: every 8 bits of IPv4, every 4 of IPv6; nor for a whole family or a single address.
#[must_use]
pub fn reverse_labels(network: IpNet) -> Option<usize> {
    let per_label = if network.addr().is_ipv4() { 8 } else { 4 };
    let length = network.prefix_len();
    let is_zone =
        length > 0 && length < network.max_prefix_len() && length.is_multiple_of(per_label);
    is_zone.then(|| usize::from(length / per_label))
}

/// Lower case, anything that no label may hold to one hyphen a run, at most `max` octets.
fn squash(name: &str, max: usize) -> String {
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

/// Letters of a 64-bit hash, five bits each.
fn suffix(name: &str, letters: usize) -> String {
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
    fn a_label_is_left_alone() {
        assert_eq!(label("orders-1"), "orders-1");
    }

    #[test]
    fn another_name_gets_a_readable_likeness_and_a_hash_that_never_moves() {
        assert_eq!(label("orders.v2"), format!("orders-v2-{}", suffix("orders.v2", SUFFIX)));
        assert_eq!(label("orders.v2"), label("orders.v2"));
        assert_ne!(label("orders.v2"), label("orders_v2"));
    }

    #[test]
    fn a_version_is_selected_by_what_a_person_would_write() {
        assert_eq!(selector_label("2.3.1"), "2-3-1");
        assert_eq!(selector_label("EU_1a"), "eu-1a");
    }

    #[test]
    fn a_derived_name_begins_with_its_service_and_never_moves() {
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
