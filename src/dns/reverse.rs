//! Reverse zones: from an address to the instances that bear it (RFC 1035 §3.5, RFC 3596 §2.5).
//!
//! Owns: the grammar of names below `in-addr.arpa` and `ip6.arpa` in the zones that were configured. Every
//! other part of arpa is somebody else's: answering it would hide names that the network has. Does not
//! own: who bears an address (`registry`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{LowerName, Name};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rollcall_model::naming;

/// A reverse zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    network: IpNet,
    apex: Name,
}

/// What a name in a reverse zone asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The zone itself.
    Apex,
    /// All addresses that begin so: empty, and exists while somebody bears one.
    Below(IpNet),
    /// One address.
    Address(IpAddr),
    /// Nothing that an address could have.
    Unknown,
}

impl Reverse {
    /// The zone of a network; none when its names are none ([`naming::reverse_labels`]).
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

    /// The zone's own name.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// What a name asks for; none when it is in another zone.
    #[must_use]
    pub fn place(&self, name: &LowerName) -> Option<Place> {
        let mut labels = name.iter().rev().fuse();
        if self.apex.iter().rev().any(|label| labels.next() != Some(label)) {
            return None;
        }
        let rest: Vec<&str> =
            labels.map(|label| str::from_utf8(label).unwrap_or_default()).collect();
        if rest.is_empty() {
            return Some(Place::Apex);
        }
        let place = match self.network {
            IpNet::V4(network) => v4(network, &rest),
            IpNet::V6(network) => v6(network, &rest),
        };
        Some(place.unwrap_or(Place::Unknown))
    }
}

/// An address as labels, the first octet or nibble first.
fn labels_of(address: IpAddr) -> Vec<String> {
    match address {
        IpAddr::V4(ip) => ip.octets().iter().map(u8::to_string).collect(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    }
}

fn v4(network: Ipv4Net, rest: &[&str]) -> Option<Place> {
    let mut bits = network.network().to_bits();
    let mut length = network.prefix_len();
    for label in rest {
        let octet: u8 = label.parse().ok()?;
        // One way to write a number, so that no address has two names.
        if octet.to_string() != *label || length >= 32 {
            return None;
        }
        length += 8;
        bits |= u32::from(octet) << (32 - u32::from(length));
    }
    let address = Ipv4Addr::from_bits(bits);
    Some(match length {
        32 => Place::Address(address.into()),
        _ => Place::Below(Ipv4Net::new(address, length).ok()?.into()),
    })
}

fn v6(network: Ipv6Net, rest: &[&str]) -> Option<Place> {
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
        128 => Place::Address(address.into()),
        _ => Place::Below(Ipv6Net::new(address, length).ok()?.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(network: &str, name: &str) -> Option<Place> {
        let zone = Reverse::new(network.parse().unwrap()).unwrap();
        zone.place(&LowerName::new(&Name::from_ascii(name).unwrap()))
    }

    #[test]
    fn a_zone_ends_where_a_label_does() {
        for (network, apex) in [
            ("10.0.0.0/8", "10.in-addr.arpa."),
            ("10.244.7.9/16", "244.10.in-addr.arpa."),
            ("192.168.3.0/24", "3.168.192.in-addr.arpa."),
            ("fd00::/8", "d.f.ip6.arpa."),
            ("2001:db8::/36", "0.8.b.d.0.1.0.0.2.ip6.arpa."),
        ] {
            let zone = Reverse::new(network.parse().unwrap()).unwrap();
            assert_eq!(zone.apex().to_ascii(), apex);
        }
        for network in
            ["10.0.0.0/12", "0.0.0.0/0", "10.0.0.1/32", "fd00::/7", "::/0", "fd00::1/128"]
        {
            assert_eq!(Reverse::new(network.parse().unwrap()), None, "{network}");
        }
    }

    #[test]
    fn names_are_addresses_parts_of_them_or_nothing() {
        let below = |net: &str| Some(Place::Below(net.parse().unwrap()));
        let address = |ip: &str| Some(Place::Address(ip.parse().unwrap()));
        for (name, wanted) in [
            ("10.in-addr.arpa.", Some(Place::Apex)),
            ("10.IN-ADDR.ARPA.", Some(Place::Apex)),
            ("244.10.in-addr.arpa.", below("10.244.0.0/16")),
            ("9.7.244.10.in-addr.arpa.", address("10.244.7.9")),
            ("0.0.0.10.in-addr.arpa.", address("10.0.0.0")),
            ("1.9.7.244.10.in-addr.arpa.", Some(Place::Unknown)),
            ("256.10.in-addr.arpa.", Some(Place::Unknown)),
            ("07.10.in-addr.arpa.", Some(Place::Unknown)),
            ("x.10.in-addr.arpa.", Some(Place::Unknown)),
            ("11.in-addr.arpa.", None),
            ("in-addr.arpa.", None),
            ("10.ip6.arpa.", None),
        ] {
            assert_eq!(place("10.0.0.0/8", name), wanted, "{name}");
        }
        let one = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa.", "0.".repeat(23));
        for (name, wanted) in [
            (&*one, address("2001:db8::1")),
            ("A.8.b.d.0.1.0.0.2.ip6.arpa.", below("2001:db8:a000::/36")),
            ("aa.8.b.d.0.1.0.0.2.ip6.arpa.", Some(Place::Unknown)),
            ("g.8.b.d.0.1.0.0.2.ip6.arpa.", Some(Place::Unknown)),
            ("8.b.d.0.1.0.0.2.ip6.arpa.", Some(Place::Apex)),
        ] {
            assert_eq!(place("2001:db8::/32", name), wanted, "{name}");
        }
    }
}
