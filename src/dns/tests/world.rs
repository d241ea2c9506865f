//! A small world to ask questions in.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{LowerQuery, Query},
    rr::{Name, RData, Record, RecordType},
};
use ipnet::IpNet;
use rollcall_core::catalog::{Catalog, Settings};
use rollcall_core::directory::Directory;
use rollcall_core::fact::Fact;
use rollcall_model::instance::{
    Address, Facts, Instance, InstanceKey, Phase, Port, Protocol, State,
};
use rollcall_model::lease::{Lease, LeaseMode, Moment, Now, OnExpiry, Wall};

use crate::config::{DnsSettings, ServeArgs};
use crate::dns::answer::Answer;
use crate::dns::context::Moods;
use crate::dns::cookie::Secret;
use crate::dns::limit::Limits;
use crate::dns::realm::Realm;
use crate::dns::respond::{Client, Outcome, Responder, Transport};

/// When a world is made: recent enough after boot not to be stale without any self-beat.
pub(super) const START: Moment = Moment(10_000);

/// When every world last changed.
pub(super) const CHANGED: Wall = Wall(1_700_000_000_500);

pub(super) const ZONE: &str = "rollcall.internal.";

/// Those with reverse zones.
const NETWORKS: &str = "10.0.0.0/8,2001:db8::/32";

const NAME_SERVERS: &str = "192.0.2.53,2001:db8::53";

pub(super) struct World {
    pub(super) responder: Responder,
    pub(super) now: Moment,
    pub(super) seed: u64,
    pub(super) from: IpAddr,
    catalog: Catalog,
}

impl World {
    /// A world that has not been listed.
    pub(super) fn unsynced() -> Self {
        let networks: Vec<IpNet> = NETWORKS.split(',').map(|net| net.parse().unwrap()).collect();
        let directory = Arc::new(Directory::default().with_networks(&networks));
        let flags = ["--dns-reverse-zones", NETWORKS, "--dns-name-servers", NAME_SERVERS];
        let settings = ServeArgs::of(&flags).validate().unwrap().dns;
        let realm = Arc::new(Realm::new(ZONE, settings, directory.clone()).unwrap());
        let responder = Responder {
            realm,
            secret: Secret::new(*b"known in advance"),
            limits: Limits::new(0, 0),
            replica: "rollcall-0".into(),
        };
        let own = InstanceKey::new("rollcall-system", "rollcall-0");
        let (boot, zone) = ("b".into(), ZONE.into());
        let settings = Settings { own, boot, zone, ledger: None };
        let catalog = Catalog::new(settings, directory);
        let from = "192.0.2.1".parse().unwrap();
        Self { responder, now: START, seed: 7, from, catalog }
    }

    /// A world of these instances.
    pub(super) fn of(instances: impl IntoIterator<Item = Instance>) -> Self {
        let mut world = Self::unsynced();
        let instances = instances.into_iter().map(Arc::new).collect();
        world.happens([Fact::Listed { instances, index: 1_000_000 }]);
        world
    }

    /// Lets something happen.
    pub(super) fn happens(&mut self, facts: impl IntoIterator<Item = Fact>) {
        let now = self.both_clocks();
        for fact in facts {
            self.catalog.apply(fact, now);
        }
        self.catalog.settle(now, 0);
    }

    fn both_clocks(&self) -> Now {
        let past = i64::try_from(self.now.0 - START.0).unwrap();
        Now { moment: self.now, wall: Wall(CHANGED.0 + past) }
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.responder.realm.directory
    }

    /// Changes what is answered for.
    pub(super) fn realm(mut self, change: impl FnOnce(&mut Realm)) -> Self {
        let mut realm = (*self.responder.realm).clone();
        change(&mut realm);
        self.responder.realm = Arc::new(realm);
        self
    }

    /// Changes how it is answered, and to which networks.
    pub(super) fn settings(self, change: impl FnOnce(&mut DnsSettings)) -> Self {
        self.realm(|realm| change(&mut realm.settings))
    }

    /// Changes the bound on errors and denials.
    pub(super) fn limits(mut self, limits: Limits) -> Self {
        self.responder.limits = limits;
        self
    }

    /// Asks; a name without a final dot is completed by `svc.<zone>`.
    pub(super) fn ask(&self, name: &str, kind: RecordType) -> Answer {
        let name = full(name);
        let query = LowerQuery::query(Query::query(Name::from_ascii(&name).unwrap(), kind));
        let moods = Moods { now: self.now, seed: self.seed, choice: 0 };
        self.responder.realm.answer(&query, moods)
    }

    /// What becomes of these octets.
    pub(super) fn send(&self, octets: &[u8], transport: Transport) -> Outcome {
        let client = Client { address: self.from, transport };
        self.responder.respond(octets, client, self.both_clocks(), self.seed)
    }
}

/// A name without a final dot is completed by `svc.<zone>`.
pub(super) fn full(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.svc.{ZONE}") }
}

/// A permanent instance of namespace `shop` with a port `http` 8080/TCP.
pub(super) fn instance(service: &str, name: &str, ips: &[&str]) -> Instance {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let sample = Instance { resource_version: 1, ..Instance::sample("shop", name) };
    sample.with(|facts| {
        facts.uid = format!("uid-{service}-{name}").into();
        facts.service = service.into();
        facts.address = Address::Ips(ips.into());
        facts.ports = [port("http", 8080, Protocol::Tcp)].into();
        facts.lease = Lease {
            mode: LeaseMode::Permanent,
            duration: Duration::from_secs(30),
            on_expiry: OnExpiry::Retain,
            evict_after: Duration::from_secs(60),
        };
    })
}

pub(super) fn port(name: &str, port: u16, protocol: Protocol) -> Port {
    Port { name: name.into(), port, protocol, app_protocol: None }
}

/// Small changes to an instance, one after another.
pub(super) trait With: Sized {
    fn with(self, change: impl FnOnce(&mut Facts)) -> Instance;

    fn hostname(self, hostname: &str) -> Instance {
        self.with(|i| i.address = Address::Hostname(hostname.into()))
    }

    fn ports(self, ports: &[Port]) -> Instance {
        self.with(|i| i.ports = ports.into())
    }

    fn priority(self, priority: u16) -> Instance {
        self.with(|i| i.priority = priority)
    }

    fn version(self, version: &str) -> Instance {
        self.with(|i| i.version = Some(version.into()))
    }

    fn tags(self, tags: &[&str]) -> Instance {
        self.with(|i| i.tags = tags.iter().map(|tag| (*tag).into()).collect())
    }

    fn zone(self, zone: &str) -> Instance {
        self.with(|i| i.zone = Some(zone.into()))
    }

    fn state(self, state: State) -> Instance {
        self.with(|i| i.state = state)
    }

    fn leased(self, seconds: u64) -> Instance {
        self.with(|i| {
            i.lease.mode = LeaseMode::Heartbeat;
            i.lease.duration = Duration::from_secs(seconds);
        })
    }

    fn expired(self) -> Instance {
        let mut leased = self.leased(30);
        leased.stored.phase = Some(Phase::Expired);
        leased
    }
}

impl With for Instance {
    fn with(self, change: impl FnOnce(&mut Facts)) -> Self {
        Self::with(self, change)
    }
}

/// Records as people write them: data alone.
pub(super) fn data(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.data.to_string()).collect()
}

/// The same, sorted.
pub(super) fn sorted(records: &[Record]) -> Vec<String> {
    let mut data = data(records);
    data.sort();
    data
}

/// The SOA of a negative answer: its own TTL and MINIMUM.
pub(super) fn negative_ttls(answer: &Answer) -> (u32, u32) {
    match &answer.authority[..] {
        [Record { data: RData::SOA(soa), ttl, .. }] => (*ttl, soa.minimum),
        other => panic!("not one SOA: {other:?}"),
    }
}
