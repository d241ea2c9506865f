//! A small directory of instances, and a responder that answers from it.

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
use crate::dns::context::QueryContext;
use crate::dns::cookie::Secret;
use crate::dns::limit::ErrorLimits;
use crate::dns::respond::{Client, Responder, Response, Transport};
use crate::dns::zones::Zones;

/// The time at which a world is created: so soon after the boot that the world is not stale without a self-beat.
pub(super) const START: Moment = Moment(10_000);

/// The wall-clock time of the last change of every world.
pub(super) const CHANGED: Wall = Wall(1_700_000_000_500);

pub(super) const ZONE: &str = "rollcall.internal.";

/// The networks that have reverse zones.
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
    /// A world before the first list of instances.
    pub(super) fn unsynced() -> Self {
        let networks: Vec<IpNet> = NETWORKS.split(',').map(|net| net.parse().unwrap()).collect();
        let directory = Arc::new(Directory::default().with_networks(&networks));
        let flags = ["--dns-reverse-zones", NETWORKS, "--dns-name-servers", NAME_SERVERS];
        let settings = ServeArgs::from_flags(&flags).validate().unwrap().dns;
        let zones = Arc::new(Zones::new(ZONE, settings, directory.clone()).unwrap());
        let responder = Responder {
            zones,
            secret: Secret::new(*b"known in advance"),
            limits: ErrorLimits::new(0, 0),
            replica: "rollcall-0".into(),
        };
        let own = InstanceKey::new("rollcall-system", "rollcall-0");
        let (boot, zone) = ("b".into(), ZONE.into());
        let settings = Settings { own, boot, zone, ledger: None };
        let catalog = Catalog::new(settings, directory);
        let from = "192.0.2.1".parse().unwrap();
        Self { responder, now: START, seed: 7, from, catalog }
    }

    /// A world with these instances.
    pub(super) fn with_instances(instances: impl IntoIterator<Item = Instance>) -> Self {
        let mut world = Self::unsynced();
        let instances = instances.into_iter().map(Arc::new).collect();
        world.apply([Fact::Listed { instances, index: 1_000_000 }]);
        world
    }

    /// Applies facts to the catalog.
    pub(super) fn apply(&mut self, facts: impl IntoIterator<Item = Fact>) {
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
        &self.responder.zones.directory
    }

    /// Changes the zones.
    pub(super) fn with_zones(mut self, change: impl FnOnce(&mut Zones)) -> Self {
        let mut zones = (*self.responder.zones).clone();
        change(&mut zones);
        self.responder.zones = Arc::new(zones);
        self
    }

    /// Changes the DNS settings.
    pub(super) fn with_settings(self, change: impl FnOnce(&mut DnsSettings)) -> Self {
        self.with_zones(|zones| change(&mut zones.settings))
    }

    /// Sets the rate limit of errors and negative answers.
    pub(super) fn with_limits(mut self, limits: ErrorLimits) -> Self {
        self.responder.limits = limits;
        self
    }

    /// The answer to a question; `svc.<zone>` is appended to a name without a final dot.
    pub(super) fn ask(&self, name: &str, kind: RecordType) -> Answer {
        let name = absolute_name(name);
        let question = LowerQuery::query(Query::query(Name::from_ascii(&name).unwrap(), kind));
        let query = QueryContext { now: self.now, seed: self.seed, choice: 0 };
        self.responder.zones.answer(&question, query)
    }

    /// The response to a message.
    pub(super) fn send(&self, bytes: &[u8], transport: Transport) -> Response {
        let client = Client { address: self.from, transport };
        self.responder.respond(bytes, client, self.both_clocks(), self.seed)
    }
}

/// Appends `svc.<zone>` to a name without a final dot.
pub(super) fn absolute_name(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.svc.{ZONE}") }
}

/// A permanent instance in namespace `shop` with a port `http` 8080/TCP.
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

/// Builder methods for instances.
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

/// The data of records in presentation format.
pub(super) fn data(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.data.to_string()).collect()
}

/// The sorted data of records in presentation format.
pub(super) fn sorted_data(records: &[Record]) -> Vec<String> {
    let mut data = data(records);
    data.sort();
    data
}

/// TTL and MINIMUM of the SOA in a negative answer.
pub(super) fn negative_ttls(answer: &Answer) -> (u32, u32) {
    match &answer.authority[..] {
        [Record { data: RData::SOA(soa), ttl, .. }] => (*ttl, soa.minimum),
        other => panic!("expected one SOA: {other:?}"),
    }
}
