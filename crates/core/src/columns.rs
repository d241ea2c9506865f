//! Columns: the addresses and ports of an instance, short enough for `kubectl get`.
//!
//! A printer column shows one field and cannot join a list, so the leader stores joined text in the
//! status. The functions here are pure. Does not own: when the columns are written (`outbox`).

use std::fmt::Display;

use rollcall_model::instance::{Address, Instance, Port};

/// Maximum number of items that are listed. Further items are only counted.
const SHOWN: usize = 3;

/// `10.0.0.7,fd00::7`, or the hostname: at most 253 bytes.
#[must_use]
pub fn addresses(instance: &Instance) -> String {
    match &instance.address {
        Address::Ips(ips) => joined(ips.iter()).unwrap_or_default(),
        Address::Hostname(name) => name.to_string(),
    }
}

/// `http:8080/TCP,dns:53/UDP`: at most 229 bytes; `None` without ports.
#[must_use]
pub fn ports(instance: &Instance) -> Option<String> {
    let port = |port: &Port| format!("{}:{}/{}", port.name, port.port, port.protocol);
    joined(instance.ports.iter().map(port))
}

/// The first items, and how many more there are.
fn joined(items: impl ExactSizeIterator<Item = impl Display>) -> Option<String> {
    let more = items.len().saturating_sub(SHOWN);
    let shown: Vec<_> = items.take(SHOWN).map(|item| item.to_string()).collect();
    let shown = Some(shown.join(",")).filter(|shown| !shown.is_empty())?;
    Some(if more == 0 { shown } else { format!("{shown} +{more} more") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: usize) -> Option<String> {
        joined((0..count).map(|item| format!("10.0.0.{}", item + 1)))
    }

    #[test]
    fn column_lists_three_items_and_counts_the_rest() {
        assert_eq!(of(0), None);
        assert_eq!(of(1).as_deref(), Some("10.0.0.1"));
        assert_eq!(of(3).as_deref(), Some("10.0.0.1,10.0.0.2,10.0.0.3"));
        assert_eq!(of(5).as_deref(), Some("10.0.0.1,10.0.0.2,10.0.0.3 +2 more"));
    }

    #[test]
    fn longest_column_fits_into_the_field() {
        let longest = ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"; 16];
        assert!(joined(longest.iter()).unwrap().len() <= 253);
        let port = format!("{}:65535/SCTP", "a".repeat(62));
        assert!(joined(vec![port; 32].iter()).unwrap().len() <= 253);
    }
}
