//! The world that is asked: one of every kind of instance, and a crowd.
//!
//! Owns: what is registered, and what a mode says of how it is asked. Does not own: what must hold
//! of the answers (`query`, `name`).

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, LazyLock},
    time::Duration,
};

use ipnet::IpNet;
use rollcall::config::{DnsSettings, Empty, NameServer};
use rollcall::dns::{
    cookie::Secret,
    limit::Limits,
    realm::Realm,
    respond::{Client, Responder, Transport},
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
    lease::{Lease, LeaseMode as Life, Moment, Now, OnExpiry, Wall},
};

pub(crate) const ZONE: &str = "rollcall.internal.";

/// As long as a zone may be: names below it can be too long to be any.
const LONG_ZONE: &str = "long-zone-01234567890123456789012345678901234567890123.\
                         rollcall-012345678901234567890123456.internal.";

/// A namespace and a service of the longest names, and an instance so named.
pub(crate) const LONG: &str = "n23456789012345678901234567890123456789012345678901234567890123";

/// What cookies are made by.
pub(crate) const SECRET: [u8; 16] = *b"known in advance";

/// When everything was listed, and when it is asked: while leases run, or long after.
const START: Now = Now { moment: Moment(10_000), wall: Wall(1_700_000_000_500) };
const LATER: Now = Now { moment: Moment(3_610_000), wall: Wall(1_700_003_600_500) };

/// Errors and negative answers a second, where they are bounded: two can be had at once.
pub(crate) const RATE: u32 = 1;

/// How many instances an answer has at most, where there is a ceiling.
pub(crate) const CEILING: usize = 3;

/// What is said to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Everything, to everybody.
    Open,
    /// Not much, to whom shows no cookie.
    Short,
    /// Not many errors.
    Bounded,
    /// Nothing, to this client.
    Closed,
}

/// How the world is asked: one octet says all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode(pub(crate) u8);

impl Mode {
    pub(crate) fn transport(self) -> Transport {
        if self.0 & 1 == 0 { Transport::Udp } else { Transport::Tcp }
    }

    fn is_of_the_long_zone(self) -> bool {
        self.0 & 6 == 6
    }

    pub(crate) fn empty(self) -> Empty {
        match self.0 & 6 {
            2 => Empty::NxDomain,
            4 => Empty::Last,
            _ => Empty::NoData,
        }
    }

    pub(crate) fn has_ceiling(self) -> bool {
        self.0 & 8 != 0
    }

    pub(crate) fn manners(self) -> Manners {
        match self.0 & 0x30 {
            0 => Manners::Open,
            0x10 => Manners::Short,
            0x20 => Manners::Bounded,
            _ => Manners::Closed,
        }
    }

    pub(crate) fn client(self) -> IpAddr {
        let text = if self.0 & 0x40 == 0 { "192.0.2.1" } else { "2001:db8::1" };
        text.parse().unwrap()
    }

    pub(crate) fn asks(self, transport: Transport) -> Client {
        Client { address: self.client(), transport }
    }

    pub(crate) fn now(self) -> Now {
        if self.0 & 0x80 == 0 { START } else { LATER }
    }

    pub(crate) fn realm(self) -> Arc<Realm> {
        // One for each mode but for its transport and its moment: the bits 1 to 6.
        static REALMS: LazyLock<Vec<Arc<Realm>>> = LazyLock::new(|| {
            let known = directory();
            (0..64).map(|at| Arc::new(Mode(at << 1).make_realm(&known))).collect()
        });
        REALMS[usize::from(self.0 >> 1 & 63)].clone()
    }

    fn make_realm(self, directory: &Arc<Directory>) -> Realm {
        let zone = if self.is_of_the_long_zone() { LONG_ZONE } else { ZONE };
        Realm::new(zone, self.settings(), directory.clone()).unwrap()
    }

    fn settings(self) -> DnsSettings {
        let manners = self.manners();
        let everybody: IpNet =
            if self.client().is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().unwrap();
        let others: IpNet = "198.51.100.0/24".parse().unwrap();
        let (allow, transfer) = match manners {
            Manners::Closed => (vec![others], vec![]),
            Manners::Short => (vec![everybody, others], vec![others]),
            _ => (vec![], vec![everybody]),
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
            error_rate: if manners == Manners::Bounded { RATE } else { 0 },
            cookie_secret: Some(SECRET),
            cookieless: if manners == Manners::Short { 512 } else { 1232 },
            connections: 1024,
            idle: Duration::from_secs(10),
            log_every: 100,
        }
    }

    /// A responder that nobody has asked yet: its bound on errors is untouched.
    pub(crate) fn responder(self) -> Responder {
        let realm = self.realm();
        let limits = Limits::new(realm.settings.error_rate, 0);
        Responder { realm, secret: Secret::new(SECRET), limits, replica: "rollcall-0".into() }
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
        // No label: its name in DNS is made.
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
    all.extend(selected());
    all.extend((0..300).map(|i| {
        let ip = format!("10.1.{}.{}", i / 250, i % 250);
        instance("crowd", &format!("crowd-{i}"), &[&*ip])
    }));
    all
}

/// Those with something to be selected by, and the dead.
fn selected() -> [Instance; 5] {
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

/// A permanent instance of namespace `shop` with a port `http` 8080/TCP.
fn instance(service: &str, name: &str, ips: &[&str]) -> Instance {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let key = InstanceKey::new("shop", name);
    Instance::new(Facts {
        uid: format!("uid-{service}-{name}").into(),
        ports: [port("http", 8080, Protocol::Tcp)].into(),
        lease: Lease { mode: Life::Permanent, ..leased() },
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
        mode: Life::Heartbeat,
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
