//! The directory that the fuzzer queries: instances of every kind, and a service with many.
//!
//! Owns: the instances, and the meaning of a mode. Does not own: the invariants (`query`, `name`).

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, LazyLock},
    time::Duration,
};

use ipnet::IpNet;
use rollcall::config::{DnsSettings, EmptyAnswer, NameServer};
use rollcall::dns::{
    cookie::Secret,
    limit::ErrorLimits,
    respond::{Client, Responder, Transport},
    zones::Zones,
};
use rollcall_core::{
    catalog::{Catalog, Settings},
    directory::Directory,
    fact::Fact,
};
use rollcall_model::{
    instance::{
        Address, Facts, Health, Instance, InstanceKey, Phase, Port, Protocol, State, StoredStatus,
    },
    lease::{Lease, LeaseMode, Moment, Now, OnExpiry, Wall},
};

pub(crate) const ZONE: &str = "rollcall.internal.";

/// The longest possible zone, so that names below it can be too long.
const LONG_ZONE: &str = "long-zone-01234567890123456789012345678901234567890123.\
                         rollcall-012345678901234567890123456.internal.";

/// The longest label: the name of a namespace, a service and an instance.
pub(crate) const LONG: &str = "n23456789012345678901234567890123456789012345678901234567890123";

/// The secret of the cookies.
pub(crate) const SECRET: [u8; 16] = *b"known in advance";

/// The moment of the list, and a moment long after the end of all leases.
const START: Now = Now { moment: Moment(10_000), wall: Wall(1_700_000_000_500) };
const LATER: Now = Now { moment: Moment(3_610_000), wall: Wall(1_700_003_600_500) };

/// The rate limit of errors and negative answers with [`Policy::RateLimited`]; the burst is two.
pub(crate) const RATE: u32 = 1;

/// The most instances in an answer, in modes with a ceiling.
pub(crate) const CEILING: usize = 3;

/// The access and rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// No limits.
    Open,
    /// UDP answers to clients without a valid cookie have at most 512 bytes.
    SmallCookieless,
    /// Errors are rate limited.
    RateLimited,
    /// The client is not allowed.
    Prohibited,
}

/// The settings, client, transport and moment of a query, in one byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode(pub(crate) u8);

impl Mode {
    pub(crate) fn transport(self) -> Transport {
        if self.0 & 1 == 0 { Transport::Udp } else { Transport::Tcp }
    }

    fn has_long_zone(self) -> bool {
        self.0 & 6 == 6
    }

    pub(crate) fn empty(self) -> EmptyAnswer {
        match self.0 & 6 {
            2 => EmptyAnswer::NxDomain,
            4 => EmptyAnswer::Last,
            _ => EmptyAnswer::NoData,
        }
    }

    pub(crate) fn has_ceiling(self) -> bool {
        self.0 & 8 != 0
    }

    pub(crate) fn policy(self) -> Policy {
        match self.0 & 0x30 {
            0 => Policy::Open,
            0x10 => Policy::SmallCookieless,
            0x20 => Policy::RateLimited,
            _ => Policy::Prohibited,
        }
    }

    pub(crate) fn client(self) -> IpAddr {
        let text = if self.0 & 0x40 == 0 { "192.0.2.1" } else { "2001:db8::1" };
        text.parse().unwrap()
    }

    pub(crate) fn client_over(self, transport: Transport) -> Client {
        Client { address: self.client(), transport }
    }

    pub(crate) fn now(self) -> Now {
        if self.0 & 0x80 == 0 { START } else { LATER }
    }

    pub(crate) fn zones(self) -> Arc<Zones> {
        // The zones depend on the bits 1 to 6 of the mode; the others are the transport and the moment.
        static ZONES: LazyLock<Vec<Arc<Zones>>> = LazyLock::new(|| {
            let directory = directory();
            (0..64).map(|at| Arc::new(Mode(at << 1).make_zones(&directory))).collect()
        });
        ZONES[usize::from(self.0 >> 1 & 63)].clone()
    }

    fn make_zones(self, directory: &Arc<Directory>) -> Zones {
        let zone = if self.has_long_zone() { LONG_ZONE } else { ZONE };
        Zones::new(zone, self.settings(), directory.clone()).unwrap()
    }

    fn settings(self) -> DnsSettings {
        let policy = self.policy();
        let all_clients: IpNet =
            if self.client().is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().unwrap();
        let others: IpNet = "198.51.100.0/24".parse().unwrap();
        let (allow, transfer) = match policy {
            Policy::Prohibited => (vec![others], vec![]),
            Policy::SmallCookieless => (vec![all_clients, others], vec![others]),
            _ => (vec![], vec![all_clients]),
        };
        let name_server = |ip: &str| NameServer::Address(ip.parse().unwrap());
        DnsSettings {
            name_servers: ["192.0.2.53", "2001:db8::53"].map(name_server).into(),
            reverse: networks(),
            empty: self.empty(),
            ceiling: NonZeroUsize::new(CEILING).filter(|_| self.has_ceiling()),
            allow,
            transfer,
            notify: Vec::new(),
            error_rate: if policy == Policy::RateLimited { RATE } else { 0 },
            cookie_secret: Some(SECRET),
            cookieless: if policy == Policy::SmallCookieless { 512 } else { 1232 },
            connections: 1024,
            idle: Duration::from_secs(10),
            log_every: 100,
        }
    }

    /// A new responder, with full token buckets.
    pub(crate) fn responder(self) -> Responder {
        let zones = self.zones();
        let limits = ErrorLimits::new(zones.settings.error_rate, 0);
        Responder { zones, secret: Secret::new(SECRET), limits, replica: "rollcall-0".into() }
    }
}

fn networks() -> Vec<IpNet> {
    ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap()).into()
}

fn directory() -> Arc<Directory> {
    let directory = Arc::new(Directory::default().with_networks(&networks()));
    let settings = Settings {
        own: InstanceKey::new("rollcall-system", "rollcall-0"),
        boot: "b".into(),
        zone: ZONE.into(),
        ledger: None,
    };
    let mut catalog: Catalog = Catalog::new(settings, directory.clone());
    let instances = instances().into_iter().map(Arc::new).collect();
    catalog.apply(Fact::Listed { instances, index: 1_000_000 }, START);
    catalog.settle(START, 0);
    directory
}

fn instances() -> Vec<Instance> {
    let mut all = vec![
        instance("orders", "o1", &["10.0.0.1"]),
        instance("orders", "o2", &["10.0.0.2", "2001:db8::2"]).with(|facts| {
            facts.ports =
                [port("http", 8080, Protocol::Tcp), port("dns", 53, Protocol::Udp)].into();
            facts.attributes =
                pairs(&[("team", "blue"), ("long", &"x".repeat(600)), ("utf8", "grün")]);
            facts.priority = 1;
        }),
        // Not a DNS label, so that its name in DNS has a hash.
        instance("orders", "o.3", &["10.0.0.3"]).with(|facts| facts.weight = 0),
        instance("orders", "o4", &["10.0.0.2", "10.0.0.4"]).with(|facts| facts.lease = leased()),
        instance("drained", "d1", &["10.0.1.1"]).with(|facts| facts.state = State::Draining),
        instance("ill", "c1", &["10.0.1.2"]).with(|facts| facts.health = Health::Critical),
        hostname("db", "db1", "db.example.com"),
        hostname("dbs", "db2", "a.example.com"),
        hostname("dbs", "db3", "b.example.com"),
        hostname("half", "h1", "h.example.com"),
        instance("half", "h2", &["2001:db8::f"]),
        instance("portless", "p1", &["10.0.1.3"]).with(|facts| facts.ports = [].into()),
        in_namespace(LONG, instance(LONG, LONG, &["10.9.0.1"])),
        in_namespace("shop-2", instance("svc", "svc", &["10.0.0.1", "10.255.255.255"])),
    ];
    all.extend(selectable());
    all.extend((0..300).map(|i| {
        let ip = format!("10.1.{}.{}", i / 250, i % 250);
        instance("crowd", &format!("crowd-{i}"), &[&*ip])
    }));
    all
}

/// Instances with versions, tags and zones, and expired instances.
fn selectable() -> [Instance; 5] {
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).into()).collect();
    [
        instance("mixed", "m1", &["10.0.3.1"]).with(|facts| {
            facts.version = Some("2.3.1".into());
            facts.tags = tags(&["canary", "eu"]);
        }),
        instance("mixed", "m2", &["10.0.3.2", "2001:db8:1::2"]).with(|facts| {
            facts.version = Some("2.4.0".into());
            facts.zone = Some("EU_1a".into());
            facts.ports = [port("grpc", 90, Protocol::Sctp), port("web", 91, Protocol::Tcp)].into();
        }),
        instance("mixed", "m3", &["10.0.3.3"]).with(|facts| {
            facts.tags = tags(&["old"]);
            facts.state = State::OutOfService;
        }),
        expired(instance("dead", "x1", &["10.0.2.1"])).with(|facts| {
            facts.version = Some("0.9".into());
            facts.zone = Some("EU_1a".into());
        }),
        expired(instance("mixed", "m4", &["10.0.2.2"])),
    ]
}

/// A permanent instance in namespace `shop` with a port `http` 8080/TCP.
fn instance(service: &str, name: &str, ips: &[&str]) -> Instance {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let key = InstanceKey::new("shop", name);
    Instance::new(Facts {
        uid: format!("uid-{service}-{name}").into(),
        ports: [port("http", 8080, Protocol::Tcp)].into(),
        lease: Lease { mode: LeaseMode::Permanent, ..leased() },
        ..Facts::new(key, service.into(), Address::Ips(ips.into()))
    })
}

fn in_namespace(namespace: &str, instance: Instance) -> Instance {
    instance.with(|facts| facts.key.namespace = namespace.into())
}

fn hostname(service: &str, name: &str, hostname: &str) -> Instance {
    instance(service, name, &[]).with(|facts| facts.address = Address::Hostname(hostname.into()))
}

fn expired(instance: Instance) -> Instance {
    let stored = StoredStatus { phase: Some(Phase::Expired), ..StoredStatus::default() };
    Instance { stored, ..instance }.with(|facts| {
        facts.lease = leased();
    })
}

fn leased() -> Lease {
    Lease {
        mode: LeaseMode::Heartbeat,
        duration: Duration::from_secs(30),
        on_expiry: OnExpiry::Retain,
        evict_after: Duration::from_secs(60),
    }
}

fn port(name: &str, port: u16, protocol: Protocol) -> Port {
    Port { name: name.into(), port, protocol, app_protocol: None }
}

fn pairs(pairs: &[(&str, &str)]) -> rollcall_model::instance::Pairs {
    let mut pairs: Vec<_> =
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    pairs.sort();
    pairs.into()
}
