//! What a query name asks for.
//!
//! Owns: the grammar of the names below the zone ([`Asked`]). Does not own: whether anything of
//! that name exists (`answer`).

use hickory_proto::rr::LowerName;
use rollcall_model::instance::Protocol;

use crate::dns::{
    reverse::Place,
    subset::{Kind, Subset},
    zone::Zone,
};

/// Which service, and who of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service<'q> {
    /// Its namespace.
    pub namespace: &'q str,
    /// Its name.
    pub service: &'q str,
    /// Those who are meant.
    pub only: Subset<'q>,
}

/// What a name asks for, if it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'q> {
    /// A name of somebody else's zone.
    Outside,
    /// The zone itself.
    Apex,
    /// `dns.<zone>`: empty, but there is a name below it.
    NameServerParent,
    /// `ns.dns.<zone>`.
    NameServer,
    /// `dns-version.<zone>`.
    Version,
    /// `svc.<zone>`: empty.
    Services,
    /// `<ns>.svc.<zone>`: empty, and exists while the namespace has a service.
    Namespace(&'q str),
    /// `[<selectors>.]<svc>.<ns>.svc.<zone>`.
    Service(Service<'q>),
    /// `_ver`, `_tag`, `_zone` or `_near` and a service: empty, and exists while there is a value.
    Selector(Service<'q>, Kind),
    /// `_<proto>` and a service: empty, and exists while the service has such a port.
    Transport(Service<'q>, Protocol),
    /// `_<port>._<proto>` and a service.
    Port(Service<'q>, Protocol, &'q str),
    /// `<instance>.<svc>.<ns>.svc.<zone>`.
    Instance(Service<'q>, &'q str),
    /// A name of a reverse zone.
    Reverse(Place),
    /// A name below the zone that never exists.
    Unknown,
}

impl<'q> Asked<'q> {
    /// The namespace that the name lies in, if any.
    #[must_use]
    pub fn namespace(&self) -> Option<&'q str> {
        match self {
            Self::Namespace(name) => Some(name),
            Self::Service(of)
            | Self::Selector(of, _)
            | Self::Transport(of, _)
            | Self::Port(of, ..)
            | Self::Instance(of, _) => Some(of.namespace),
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

    /// Reads a query name, whose case is folded already.
    #[must_use]
    pub fn parse(name: &'q LowerName, zone: &Zone) -> Self {
        let mut labels = name.iter().rev().fuse();
        if zone.apex().iter().rev().any(|label| labels.next() != Some(label)) {
            return Self::Outside;
        }
        // A label that is no text is nobody's, as is an empty one.
        let mut labels = labels.map(|label| str::from_utf8(label).unwrap_or_default());
        Self::below(&mut labels).filter(|_| labels.next().is_none()).unwrap_or(Self::Unknown)
    }

    /// Reads labels below the zone, the last one first, as far as they mean anything.
    fn below(labels: &mut impl Iterator<Item = &'q str>) -> Option<Self> {
        Some(match labels.next() {
            None => Self::Apex,
            Some("svc") => match (labels.next(), labels.next()) {
                (None, _) => Self::Services,
                (Some(namespace), None) => Self::Namespace(namespace),
                (Some(namespace), Some(service)) => {
                    let only = Subset::default();
                    return Self::of(Service { namespace, service, only }, labels);
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

    /// Reads labels left of a service: its selectors, then a port; or an instance.
    fn of(mut of: Service<'q>, labels: &mut impl Iterator<Item = &'q str>) -> Option<Self> {
        while let Some(label) = labels.next() {
            if let Some(kind) = Kind::parse(label) {
                let Some(value) = labels.next() else {
                    return of.only.takes(kind).then_some(Self::Selector(of, kind));
                };
                of.only = of.only.and(kind, value)?;
            } else if let Some(protocol) = protocol(label) {
                let Some(port) = labels.next() else { return Some(Self::Transport(of, protocol)) };
                return Some(Self::Port(of, protocol, port.strip_prefix('_')?));
            } else {
                let bare = of.only.is_everybody() && !label.starts_with('_');
                return bare.then_some(Self::Instance(of, label));
            }
        }
        Some(Self::Service(of))
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

    fn orders(selectors: &[(Kind, &'static str)]) -> Service<'static> {
        let only = selectors.iter().try_fold(Subset::default(), |s, (k, v)| s.and(*k, v));
        Service { namespace: "shop", service: "orders", only: only.unwrap() }
    }

    fn query(name: &str) -> LowerName {
        LowerName::new(&Name::from_ascii(name).unwrap())
    }

    #[test]
    fn every_shape_of_name_is_told_apart() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        let all = || orders(&[]);
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
            ("dns-version.rollcall.internal.", Asked::Version),
            ("x.dns-version.rollcall.internal.", Asked::Unknown),
            ("svc.rollcall.internal.", Asked::Services),
            ("shop.svc.rollcall.internal.", Asked::Namespace("shop")),
            ("orders.shop.svc.rollcall.internal.", Asked::Service(all())),
            ("Orders.SHOP.svc.rollcall.internal.", Asked::Service(all())),
            ("o1.orders.shop.svc.rollcall.internal.", Asked::Instance(all(), "o1")),
            ("x.o1.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            ("_tcp.orders.shop.svc.rollcall.internal.", Asked::Transport(all(), Protocol::Tcp)),
            ("_quic.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            ("http._tcp.orders.shop.svc.rollcall.internal.", Asked::Unknown),
            (
                "_HTTP._UDP.orders.shop.svc.rollcall.internal.",
                Asked::Port(all(), Protocol::Udp, "http"),
            ),
            ("x._http._tcp.orders.shop.svc.rollcall.internal.", Asked::Unknown),
        ] {
            assert_eq!(Asked::parse(&query(name), &zone), asked, "{name}");
        }
    }

    #[test]
    fn selectors_are_read_left_of_a_service_in_any_order_each_but_tags_once() {
        let zone = Zone::parse("rollcall.internal", &[]).unwrap();
        let all = || orders(&[]);
        let v231 = || orders(&[(Kind::Version, "2-3-1")]);
        let two_tags = || orders(&[(Kind::Tag, "b"), (Kind::Tag, "a")]);
        let every_kind = || {
            let pinned = [(Kind::Zone, "z"), (Kind::Near, "n"), (Kind::Version, "1")];
            orders(&[&pinned[..], &[(Kind::Tag, "a")]].concat())
        };
        for (name, asked) in [
            ("_ver.orders", Asked::Selector(all(), Kind::Version)),
            ("2-3-1._Ver.orders", Asked::Service(v231())),
            ("a._tag.b._tag.orders", Asked::Service(two_tags())),
            ("_TAG.2-3-1._ver.orders", Asked::Selector(v231(), Kind::Tag)),
            ("a._tag.1._ver.n._near.z._zone.orders", Asked::Service(every_kind())),
            ("_tcp.2-3-1._ver.orders", Asked::Transport(v231(), Protocol::Tcp)),
            ("_http._tcp.2-3-1._ver.orders", Asked::Port(v231(), Protocol::Tcp, "http")),
            ("2._ver.1._ver.orders", Asked::Unknown),
            ("_ver.1._ver.orders", Asked::Unknown),
            ("_tcp._ver.orders", Asked::Unknown),
            ("*._ver.orders", Asked::Unknown),
            ("o1.2-3-1._ver.orders", Asked::Unknown),
            ("2-3-1._ver._http._tcp.orders", Asked::Unknown),
            ("2-3-1._ver.o1.orders", Asked::Unknown),
            (
                "2-3-1._ver",
                Asked::Instance(
                    Service { namespace: "shop", service: "_ver", only: Subset::default() },
                    "2-3-1",
                ),
            ),
        ] {
            let name = format!("{name}.shop.svc.rollcall.internal.");
            assert_eq!(Asked::parse(&query(&name), &zone), asked, "{name}");
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
