//! What a query name asks for.
//!
//! Owns: the grammar of the names below the zone ([`Asked`]). Does not own: whether anything of
//! that name exists (`answer`).

use hickory_proto::rr::LowerName;

use crate::dns::zone::Zone;
use crate::registry::instance::Protocol;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service<'q> {
    /// Its namespace.
    pub namespace: &'q str,
    /// Its name.
    pub service: &'q str,
}

/// What a name asks for, if it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'q> {
    /// A name of somebody else's zone.
    Outside,
    /// The zone itself.
    Apex,
    /// `dns.<zone>`: empty, but there is a name below it.
    NameServerParent,
    /// `ns.dns.<zone>`.
    NameServer,
    /// `svc.<zone>`: empty.
    Services,
    /// `<ns>.svc.<zone>`: empty, and exists while the namespace has a service.
    Namespace(&'q str),
    /// `<svc>.<ns>.svc.<zone>`.
    Service(Service<'q>),
    /// `_<proto>.<svc>.<ns>.svc.<zone>`: empty, and exists while the service has such a port.
    Transport(Service<'q>, Protocol),
    /// `_<port>._<proto>.<svc>.<ns>.svc.<zone>`.
    Port(Service<'q>, Protocol, &'q str),
    /// `<instance>.<svc>.<ns>.svc.<zone>`.
    Instance(Service<'q>, &'q str),
    /// A name below the zone that never exists.
    Unknown,
}

/// The most labels below the zone that mean anything.
const DEPTH: usize = 5;

impl<'q> Asked<'q> {
    /// The namespace that the name lies in, if any.
    #[must_use]
    pub fn namespace(self) -> Option<&'q str> {
        match self {
            Self::Namespace(name) => Some(name),
            Self::Service(of)
            | Self::Transport(of, _)
            | Self::Port(of, ..)
            | Self::Instance(of, _) => Some(of.namespace),
            Self::Outside
            | Self::Apex
            | Self::NameServerParent
            | Self::NameServer
            | Self::Services
            | Self::Unknown => None,
        }
    }

    /// Reads a query name, whose case is folded already.
    #[must_use]
    pub fn parse(name: &'q LowerName, zone: &Zone) -> Self {
        let mut labels = name.iter().rev();
        if zone.apex().iter().rev().any(|label| labels.next() != Some(label)) {
            return Self::Outside;
        }
        let (mut below, mut depth) = ([""; DEPTH], 0);
        for label in labels {
            let (Some(place), Ok(text)) = (below.get_mut(depth), str::from_utf8(label)) else {
                return Self::Unknown;
            };
            *place = text;
            depth += 1;
        }
        Self::below(below.get(..depth).unwrap_or_default())
    }

    /// Reads the labels below the zone, the last one first.
    fn below(labels: &[&'q str]) -> Self {
        match *labels {
            [] => Self::Apex,
            ["dns"] => Self::NameServerParent,
            ["dns", "ns"] => Self::NameServer,
            ["svc"] => Self::Services,
            ["svc", namespace] => Self::Namespace(namespace),
            ["svc", namespace, service] => Self::Service(Service { namespace, service }),
            ["svc", namespace, service, label] => {
                let service = Service { namespace, service };
                if !label.starts_with('_') {
                    return Self::Instance(service, label);
                }
                protocol(label).map_or(Self::Unknown, |p| Self::Transport(service, p))
            }
            ["svc", namespace, service, transport, port] => {
                let service = Service { namespace, service };
                match (protocol(transport), port.strip_prefix('_')) {
                    (Some(protocol), Some(port)) => Self::Port(service, protocol, port),
                    _ => Self::Unknown,
                }
            }
            _ => Self::Unknown,
        }
    }
}

/// The protocol of a label `_tcp`, `_udp` or `_sctp` (RFC 2782).
fn protocol(label: &str) -> Option<Protocol> {
    let word = label.strip_prefix('_')?;
    Protocol::ALL.iter().copied().find(|protocol| protocol.label() == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;

    const ORDERS: Service<'_> = Service { namespace: "shop", service: "orders" };

    #[test]
    fn every_shape_of_name_is_told_apart() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        for (name, asked) in [
            (".", Asked::Outside),
            ("internal.", Asked::Outside),
            ("example.com.", Asked::Outside),
            ("xrollcall.internal.", Asked::Outside),
            ("rollcall.internal.", Asked::Apex),
            ("ROLLCALL.Internal.", Asked::Apex),
            ("dns.rollcall.internal.", Asked::NameServerParent),
            ("ns.dns.rollcall.internal.", Asked::NameServer),
            ("x.ns.dns.rollcall.internal.", Asked::Unknown),
            ("www.rollcall.internal.", Asked::Unknown),
            ("dns-version.rollcall.internal.", Asked::Unknown),
            ("svc.rollcall.internal.", Asked::Services),
            ("shop.svc.rollcall.internal.", Asked::Namespace("shop")),
            ("orders.shop.svc.rollcall.internal.", Asked::Service(ORDERS)),
            ("Orders.SHOP.svc.rollcall.internal.", Asked::Service(ORDERS)),
            ("o1.orders.shop.svc.rollcall.internal.", Asked::Instance(ORDERS, "o1")),
            ("x.o1.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            ("_tcp.orders.shop.svc.rollcall.internal.", Asked::Transport(ORDERS, Protocol::Tcp)),
            ("_quic.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            ("_ver.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            ("2-3-1._ver.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            ("http._tcp.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            (
                "_HTTP._UDP.orders.shop.svc.rollcall.internal.",
                Asked::Port(ORDERS, Protocol::Udp, "http"),
            ),
            ("x._http._tcp.orders.shop.svc.rollcall.internal.", Asked::Unknown),
        ] {
            let query = LowerName::new(&Name::from_ascii(name).unwrap());
            assert_eq!(Asked::parse(&query, &zone), asked, "{name}");
        }
    }

    #[test]
    fn a_label_that_holds_a_dot_or_is_no_text_is_not_taken_apart() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        for label in [&b"orders.shop"[..], b"\xff\xfe"] {
            let labels: [&[u8]; 4] = [label, b"svc", b"rollcall", b"internal"];
            let query = LowerName::new(&Name::from_labels(labels).unwrap());
            assert!(!matches!(Asked::parse(&query, &zone), Asked::Service(_)));
        }
    }
}
