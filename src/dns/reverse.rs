//! Reverse zones: names that stand for addresses (RFC 1035 §3.5, RFC 3596 §2.5).
//!
//! Owns: the grammar of names below `in-addr.arpa` and `ip6.arpa` in the configured zones. Other parts of `arpa` belong
//! to other servers: answers for them would hide names of the network. Does not own: which instances have an address
//! (`rollcall_core`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{LowerName, Name};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rollcall_model::naming;

/// The reverse zone of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseZone {
    network: IpNet,
    apex: Name,
}

/// The meaning of a name in a reverse zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReverseName {
    /// The apex of the zone.
    Apex,
    /// A prefix of addresses: has no records, and exists while an instance has an address with that prefix.
    Network(IpNet),
    /// One address.
    Address(IpAddr),
    /// A name that no address can have.
    Unknown,
}

impl ReverseZone {
    /// The zone of a network; `None` when the network does not end at a label boundary ([`naming::reverse_labels`]).
    #[must_use]
    pub fn new(network: IpNet) -> Option<Self> {
        let network = network.trunc();
        let suffix = if network.addr().is_ipv4() { "in-addr" } else { "ip6" };
        let mut labels = labels_of(network.addr());
        labels.truncate(naming::reverse_labels(network)?);
        labels.reverse();
        labels.extend([suffix.to_owned(), "arpa".to_owned()]);
        let apex = Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?;
        Some(Self { network, apex })
    }

    /// The name of the zone.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// Parses a name; `None` when it is outside this zone.
    #[must_use]
    pub fn parse_name(&self, name: &LowerName) -> Option<ReverseName> {
        let mut labels = name.iter().rev().fuse();
        if self.apex.iter().rev().any(|label| labels.next() != Some(label)) {
            return None;
        }
        let rest: Vec<&str> =
            labels.map(|label| str::from_utf8(label).unwrap_or_default()).collect();
        if rest.is_empty() {
            return Some(ReverseName::Apex);
        }
        let name = match self.network {
            IpNet::V4(network) => parse_v4(network, &rest),
            IpNet::V6(network) => parse_v6(network, &rest),
        };
        Some(name.unwrap_or(ReverseName::Unknown))
    }
}

/// The labels of an address, in the order of its bytes or nibbles.
fn labels_of(address: IpAddr) -> Vec<String> {
    match address {
        IpAddr::V4(ip) => ip.octets().iter().map(u8::to_string).collect(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    }
}

fn parse_v4(network: Ipv4Net, rest: &[&str]) -> Option<ReverseName> {
    let mut bits = network.network().to_bits();
    let mut length = network.prefix_len();
    for label in rest {
        let byte: u8 = label.parse().ok()?;
        // Leading zeros are invalid, so that no address has two names.
        if byte.to_string() != *label || length >= 32 {
            return None;
        }
        length += 8;
        bits |= u32::from(byte) << (32 - u32::from(length));
    }
    let address = Ipv4Addr::from_bits(bits);
    Some(match length {
        32 => ReverseName::Address(address.into()),
        _ => ReverseName::Network(Ipv4Net::new(address, length).ok()?.into()),
    })
}

fn parse_v6(network: Ipv6Net, rest: &[&str]) -> Option<ReverseName> {
    let mut bits = network.network().to_bits();
    let mut length = network.prefix_len();
    for label in rest {
        let nibble = u8::from_str_radix(label, 16).ok()?;
        if label.len() != 1 || length >= 128 {
            return None;
        }
        length += 4;
        bits |= u128::from(nibble) << (128 - u32::from(length));
    }
    let address = Ipv6Addr::from_bits(bits);
    Some(match length {
        128 => ReverseName::Address(address.into()),
        _ => ReverseName::Network(Ipv6Net::new(address, length).ok()?.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(network: &str, name: &str) -> Option<ReverseName> {
        let zone = ReverseZone::new(network.parse().unwrap()).unwrap();
        zone.parse_name(&LowerName::new(&Name::from_ascii(name).unwrap()))
    }

    #[test]
    fn reverse_zone_ends_at_a_label_boundary() {
        for (network, apex) in [
            ("10.0.0.0/8", "10.in-addr.arpa."),
            ("10.244.7.9/16", "244.10.in-addr.arpa."),
            ("192.168.3.0/24", "3.168.192.in-addr.arpa."),
            ("fd00::/8", "d.f.ip6.arpa."),
            ("2001:db8::/36", "0.8.b.d.0.1.0.0.2.ip6.arpa."),
        ] {
            let zone = ReverseZone::new(network.parse().unwrap()).unwrap();
            assert_eq!(zone.apex().to_ascii(), apex);
        }
        for network in
            ["10.0.0.0/12", "0.0.0.0/0", "10.0.0.1/32", "fd00::/7", "::/0", "fd00::1/128"]
        {
            assert_eq!(ReverseZone::new(network.parse().unwrap()), None, "{network}");
        }
    }

    #[test]
    fn reverse_name_is_an_address_a_prefix_or_unknown() {
        let prefix = |net: &str| Some(ReverseName::Network(net.parse().unwrap()));
        let address = |ip: &str| Some(ReverseName::Address(ip.parse().unwrap()));
        for (name, expected) in [
            ("10.in-addr.arpa.", Some(ReverseName::Apex)),
            ("10.IN-ADDR.ARPA.", Some(ReverseName::Apex)),
            ("244.10.in-addr.arpa.", prefix("10.244.0.0/16")),
            ("9.7.244.10.in-addr.arpa.", address("10.244.7.9")),
            ("0.0.0.10.in-addr.arpa.", address("10.0.0.0")),
            ("1.9.7.244.10.in-addr.arpa.", Some(ReverseName::Unknown)),
            ("256.10.in-addr.arpa.", Some(ReverseName::Unknown)),
            ("07.10.in-addr.arpa.", Some(ReverseName::Unknown)),
            ("x.10.in-addr.arpa.", Some(ReverseName::Unknown)),
            ("11.in-addr.arpa.", None),
            ("in-addr.arpa.", None),
            ("10.ip6.arpa.", None),
        ] {
            assert_eq!(parse("10.0.0.0/8", name), expected, "{name}");
        }
        let full = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa.", "0.".repeat(23));
        for (name, expected) in [
            (&*full, address("2001:db8::1")),
            ("A.8.b.d.0.1.0.0.2.ip6.arpa.", prefix("2001:db8:a000::/36")),
            ("aa.8.b.d.0.1.0.0.2.ip6.arpa.", Some(ReverseName::Unknown)),
            ("g.8.b.d.0.1.0.0.2.ip6.arpa.", Some(ReverseName::Unknown)),
            ("8.b.d.0.1.0.0.2.ip6.arpa.", Some(ReverseName::Apex)),
        ] {
            assert_eq!(parse("2001:db8::/32", name), expected, "{name}");
        }
    }
}
