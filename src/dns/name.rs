//! Parses query names.
//!
//! Owns: the grammar of the names below the zone ([`QueryName`]). Does not own: whether a name exists (`answer`).

use hickory_proto::rr::LowerName;
use rollcall_model::instance::Protocol;

use crate::dns::{
    reverse::ReverseName,
    subset::{SelectorKind, Subset},
    zone::Zone,
};

/// A service as named by a query, and the subset of its instances that the name selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName<'q> {
    /// Its namespace.
    pub namespace: &'q str,
    /// Its name.
    pub service: &'q str,
    /// The selected instances.
    pub subset: Subset<'q>,
}

/// The meaning of a query name, whether or not the name exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryName<'q> {
    /// A name outside the zone.
    Outside,
    /// The apex of the zone.
    Apex,
    /// `dns.<zone>`: has no records, but has a name below it.
    NameServerParent,
    /// `ns.dns.<zone>`.
    NameServer,
    /// `dns-version.<zone>`.
    Version,
    /// `svc.<zone>`: has no records.
    Services,
    /// `<ns>.svc.<zone>`: has no records, and exists while the namespace has a service.
    Namespace(&'q str),
    /// `[<selectors>.]<svc>.<ns>.svc.<zone>`.
    Service(ServiceName<'q>),
    /// `_ver`, `_tag`, `_zone` or `_near` and a service: has no records, and exists while an instance has such a value.
    Selector(ServiceName<'q>, SelectorKind),
    /// `_<proto>` and a service: has no records, and exists while the service has such a port.
    Transport(ServiceName<'q>, Protocol),
    /// `_<port>._<proto>` and a service.
    Port(ServiceName<'q>, Protocol, &'q str),
    /// `<instance>.<svc>.<ns>.svc.<zone>`.
    Instance(ServiceName<'q>, &'q str),
    /// A name of a reverse zone.
    Reverse(ReverseName),
    /// A name below the zone that never exists.
    Unknown,
}

impl<'q> QueryName<'q> {
    /// The namespace in the name, if there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&'q str> {
        match self {
            Self::Namespace(name) => Some(name),
            Self::Service(name)
            | Self::Selector(name, _)
            | Self::Transport(name, _)
            | Self::Port(name, ..)
            | Self::Instance(name, _) => Some(name.namespace),
            Self::Outside
            | Self::Apex
            | Self::NameServerParent
            | Self::NameServer
            | Self::Version
            | Self::Services
            | Self::Reverse(_)
            | Self::Unknown => None,
        }
    }

    /// Parses a query name in lower case.
    #[must_use]
    pub fn parse(name: &'q LowerName, zone: &Zone) -> Self {
        let mut labels = name.iter().rev().fuse();
        if zone.apex().iter().rev().any(|label| labels.next() != Some(label)) {
            return Self::Outside;
        }
        // A label that is not UTF-8 becomes an empty one, which matches nothing.
        let mut labels = labels.map(|label| str::from_utf8(label).unwrap_or_default());
        Self::parse_below_zone(&mut labels)
            .filter(|_| labels.next().is_none())
            .unwrap_or(Self::Unknown)
    }

    /// Parses the labels below the zone, from right to left; leaves the labels that it does not recognize.
    fn parse_below_zone(labels: &mut impl Iterator<Item = &'q str>) -> Option<Self> {
        Some(match labels.next() {
            None => Self::Apex,
            Some("svc") => match (labels.next(), labels.next()) {
                (None, _) => Self::Services,
                (Some(namespace), None) => Self::Namespace(namespace),
                (Some(namespace), Some(service)) => {
                    let subset = Subset::default();
                    return Self::parse_below_service(
                        ServiceName { namespace, service, subset },
                        labels,
                    );
                }
            },
            Some("dns") => match labels.next() {
                None => Self::NameServerParent,
                Some("ns") => Self::NameServer,
                Some(_) => return None,
            },
            Some("dns-version") => Self::Version,
            Some(_) => return None,
        })
    }

    /// Parses the labels left of a service: selectors, then a port; or an instance.
    fn parse_below_service(
        mut name: ServiceName<'q>,
        labels: &mut impl Iterator<Item = &'q str>,
    ) -> Option<Self> {
        while let Some(label) = labels.next() {
            if let Some(kind) = SelectorKind::parse(label) {
                let Some(value) = labels.next() else {
                    return name.subset.accepts(kind).then_some(Self::Selector(name, kind));
                };
                name.subset = name.subset.with(kind, value)?;
            } else if let Some(protocol) = parse_protocol(label) {
                let Some(port) = labels.next() else {
                    return Some(Self::Transport(name, protocol));
                };
                return Some(Self::Port(name, protocol, port.strip_prefix('_')?));
            } else {
                let is_instance = name.subset.selects_all() && !label.starts_with('_');
                return is_instance.then_some(Self::Instance(name, label));
            }
        }
        Some(Self::Service(name))
    }
}

/// Parses a label `_tcp`, `_udp` or `_sctp` (RFC 2782).
fn parse_protocol(label: &str) -> Option<Protocol> {
    let name = label.strip_prefix('_')?;
    Protocol::ALL.iter().copied().find(|protocol| protocol.label() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;

    fn orders(selectors: &[(SelectorKind, &'static str)]) -> ServiceName<'static> {
        let subset = selectors.iter().try_fold(Subset::default(), |s, (k, v)| s.with(*k, v));
        ServiceName { namespace: "shop", service: "orders", subset: subset.unwrap() }
    }

    fn query(name: &str) -> LowerName {
        LowerName::new(&Name::from_ascii(name).unwrap())
    }

    #[test]
    fn every_shape_of_name_is_recognized() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        let all = || orders(&[]);
        for (name, expected) in [
            (".", QueryName::Outside),
            ("internal.", QueryName::Outside),
            ("example.com.", QueryName::Outside),
            ("xrollcall.internal.", QueryName::Outside),
            ("rollcall.internal.", QueryName::Apex),
            ("ROLLCALL.Internal.", QueryName::Apex),
            ("dns.rollcall.internal.", QueryName::NameServerParent),
            ("ns.dns.rollcall.internal.", QueryName::NameServer),
            ("x.ns.dns.rollcall.internal.", QueryName::Unknown),
            ("www.rollcall.internal.", QueryName::Unknown),
            ("dns-version.rollcall.internal.", QueryName::Version),
            ("x.dns-version.rollcall.internal.", QueryName::Unknown),
            ("svc.rollcall.internal.", QueryName::Services),
            ("shop.svc.rollcall.internal.", QueryName::Namespace("shop")),
            ("orders.shop.svc.rollcall.internal.", QueryName::Service(all())),
            ("Orders.SHOP.svc.rollcall.internal.", QueryName::Service(all())),
            ("o1.orders.shop.svc.rollcall.internal.", QueryName::Instance(all(), "o1")),
            ("x.o1.orders.shop.svc.rollcall.internal.", QueryName::Unknown),
            ("_tcp.orders.shop.svc.rollcall.internal.", QueryName::Transport(all(), Protocol::Tcp)),
            ("_quic.orders.shop.svc.rollcall.internal.", QueryName::Unknown),
            ("http._tcp.orders.shop.svc.rollcall.internal.", QueryName::Unknown),
            (
                "_HTTP._UDP.orders.shop.svc.rollcall.internal.",
                QueryName::Port(all(), Protocol::Udp, "http"),
            ),
            ("x._http._tcp.orders.shop.svc.rollcall.internal.", QueryName::Unknown),
        ] {
            assert_eq!(QueryName::parse(&query(name), &zone), expected, "{name}");
        }
    }

    #[test]
    fn selectors_come_left_of_a_service_in_any_order_and_only_tags_repeat() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        let all = || orders(&[]);
        let v231 = || orders(&[(SelectorKind::Version, "2-3-1")]);
        let two_tags = || orders(&[(SelectorKind::Tag, "b"), (SelectorKind::Tag, "a")]);
        let every_kind = || {
            let pinned = [
                (SelectorKind::Zone, "z"),
                (SelectorKind::Near, "n"),
                (SelectorKind::Version, "1"),
            ];
            orders(&[&pinned[..], &[(SelectorKind::Tag, "a")]].concat())
        };
        for (name, expected) in [
            ("_ver.orders", QueryName::Selector(all(), SelectorKind::Version)),
            ("2-3-1._Ver.orders", QueryName::Service(v231())),
            ("a._tag.b._tag.orders", QueryName::Service(two_tags())),
            ("_TAG.2-3-1._ver.orders", QueryName::Selector(v231(), SelectorKind::Tag)),
            ("a._tag.1._ver.n._near.z._zone.orders", QueryName::Service(every_kind())),
            ("_tcp.2-3-1._ver.orders", QueryName::Transport(v231(), Protocol::Tcp)),
            ("_http._tcp.2-3-1._ver.orders", QueryName::Port(v231(), Protocol::Tcp, "http")),
            ("2._ver.1._ver.orders", QueryName::Unknown),
            ("_ver.1._ver.orders", QueryName::Unknown),
            ("_tcp._ver.orders", QueryName::Unknown),
            ("*._ver.orders", QueryName::Unknown),
            ("o1.2-3-1._ver.orders", QueryName::Unknown),
            ("2-3-1._ver._http._tcp.orders", QueryName::Unknown),
            ("2-3-1._ver.o1.orders", QueryName::Unknown),
            (
                "2-3-1._ver",
                QueryName::Instance(
                    ServiceName { namespace: "shop", service: "_ver", subset: Subset::default() },
                    "2-3-1",
                ),
            ),
        ] {
            let name = format!("{name}.shop.svc.rollcall.internal.");
            assert_eq!(QueryName::parse(&query(&name), &zone), expected, "{name}");
        }
    }

    #[test]
    fn a_label_with_a_dot_or_with_invalid_utf8_stays_one_label() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        for label in [&b"orders.shop"[..], b"\xff\xfe"] {
            let labels: [&[u8]; 4] = [label, b"svc", b"rollcall", b"internal"];
            let query = LowerName::new(&Name::from_labels(labels).unwrap());
            assert!(!matches!(QueryName::parse(&query, &zone), QueryName::Service(_)));
        }
    }
}
