//! Instances: the compact record of one stored instance, which everything after `kubernetes::convert` in the
//! server uses.
//!
//! Owns: the keys and the record. Does not own: the vocabulary of its fields (`vocabulary`), and whether the
//! instance is live, which `rollcall-core` decides.

use std::{
    fmt,
    net::IpAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
};

pub use crate::vocabulary::{Health, HealthReport, Phase, Protocol, State};
use crate::{
    condition::{self, Condition, ConditionType},
    defaults,
    installation::Installation,
    lease::{Lease, Wall},
};

/// The name of an instance: namespace and object name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Object name; a DNS subdomain, and therefore not always a DNS label.
    pub name: Arc<str>,
}

impl InstanceKey {
    /// A key with these two names.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The name of a service: namespace and `spec.service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// `spec.service`, a DNS label.
    pub service: Arc<str>,
}

impl ServiceKey {
    /// A key with these two names.
    #[must_use]
    pub fn new(namespace: &str, service: &str) -> Self {
        Self { namespace: namespace.into(), service: service.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)
    }
}

/// One named port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Unique within the instance; a DNS label.
    pub name: Arc<str>,
    /// From 1 to 65535.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The application protocol, as in a Kubernetes Service.
    pub app_protocol: Option<Arc<str>>,
}

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// At these IP addresses; at least one.
    Ips(Arc<[IpAddr]>),
    /// At a hostname that clients resolve themselves.
    Hostname(Arc<str>),
}

/// Pairs of strings, sorted by their first string.
pub type Pairs = Arc<[(Arc<str>, Arc<str>)]>;

/// What the leader last wrote into an object's status, as far as decisions depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredStatus {
    /// The stored phase; `None` until the first write.
    pub phase: Option<Phase>,
    /// The conditions, including those of other controllers, which a write of the status keeps.
    pub conditions: Arc<[Condition]>,
    /// The `metadata.generation` that the status is based on.
    pub observed_generation: i64,
    /// The heartbeat annotation that the phase is based on.
    pub observed_heartbeat: Option<Arc<str>>,
    /// The checkpoint of the last heartbeat.
    pub last_heartbeat: Option<Wall>,
    /// The DNS name.
    pub dns_name: Option<Arc<str>>,
    /// The addresses, for a column.
    pub addresses: Option<Arc<str>>,
    /// The ports, for a column.
    pub ports: Option<Arc<str>>,
    /// The installation that wrote the status.
    pub installation: Option<Installation>,
    /// The health, for a column.
    pub health: Option<Health>,
}

/// The facts that readers see of an instance and that decisions are based on. Versions with equal facts share
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Namespace and name.
    pub key: InstanceKey,
    /// The incarnation of that name.
    pub uid: Arc<str>,
    /// When the object was created.
    pub created: Wall,
    /// The service it belongs to; never changes.
    pub service: Arc<str>,
    /// Where it is reached.
    pub address: Address,
    /// Its named ports.
    pub ports: Arc<[Port]>,
    /// Its version, if it has one.
    pub version: Option<Arc<str>>,
    /// Its tags, sorted.
    pub tags: Arc<[Arc<str>]>,
    /// Its zone, if it has one.
    pub zone: Option<Arc<str>>,
    /// Share of the traffic within its priority; 0 is the last resort (RFC 2782).
    pub weight: u16,
    /// Instances with a lower number are called first.
    pub priority: u16,
    /// Free-form strings for clients.
    pub attributes: Pairs,
    /// The object's labels.
    pub labels: Pairs,
    /// The state that the operator set.
    pub state: State,
    /// The health that it reports.
    pub health: Health,
    /// Whether it reports that it is leaving.
    pub stopping: bool,
    /// The terms of its lease.
    pub lease: Lease,
}

/// One stored instance: a pointer to its facts, and the fields that change with every stored heartbeat and
/// every write of the status although the facts stay the same. Immutable: a change makes a new record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The facts that readers see.
    pub facts: Arc<Facts>,
    /// The resourceVersion; comparable within one type since Kubernetes 1.35 (KEP-5504).
    pub resource_version: u64,
    /// `metadata.generation`, which rises with each change of the spec.
    pub generation: i64,
    /// Keys of the labels that registrations have set and that no other field manager owns: the next
    /// registration removes them if it leaves them out.
    pub registered_labels: Arc<[Arc<str>]>,
    /// Uid of the pod that owns the object, if there is one. It decides which pod the instance belongs to.
    /// Readers cannot see it.
    pub owner_pod: Option<Arc<str>>,
    /// Uid of the pod that last registered the instance as its own, with a token bound to the pod.
    pub registered_by: Option<Arc<str>>,
    /// The value of the health annotation, cut to 63 characters, if it is outside the vocabulary; it counts
    /// as Warning.
    pub unknown_health: Option<Arc<str>>,
    /// The finalizers that keep the object, if it is being deleted (`metadata.deletionTimestamp`). A
    /// deletion cannot be undone.
    pub terminating: Option<Arc<[Arc<str>]>>,
    /// The heartbeat annotation; every change of it is a heartbeat.
    pub heartbeat: Option<Arc<str>>,
    /// The installation that it belongs to, for the instance of a replica of rollcall.
    pub installation: Option<Installation>,
    /// The stored status.
    pub stored: StoredStatus,
}

impl StoredStatus {
    /// The reason of the condition `Ready`.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        condition::find(&self.conditions, ConditionType::Ready).map(|ready| &*ready.reason)
    }
}

impl Deref for Instance {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// Copies the facts first if they are shared.
impl DerefMut for Instance {
    fn deref_mut(&mut self) -> &mut Facts {
        Arc::make_mut(&mut self.facts)
    }
}

impl Facts {
    /// The facts of an instance that registers over HTTP with an address and nothing else, without what the
    /// API server assigns (uid, creation time).
    #[must_use]
    pub fn new(key: InstanceKey, service: Arc<str>, address: Address) -> Self {
        Self {
            key,
            uid: "".into(),
            created: Wall(0),
            service,
            address,
            ports: Arc::new([]),
            version: None,
            tags: Arc::new([]),
            zone: None,
            weight: defaults::WEIGHT,
            priority: defaults::PRIORITY,
            attributes: Arc::new([]),
            labels: Arc::new([]),
            state: State::default(),
            health: Health::default(),
            stopping: false,
            lease: Lease::default(),
        }
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service_key(&self) -> ServiceKey {
        ServiceKey { namespace: self.key.namespace.clone(), service: self.service.clone() }
    }

    /// The IP addresses; empty for an instance with a hostname.
    #[must_use]
    pub fn ips(&self) -> &[IpAddr] {
        match &self.address {
            Address::Ips(ips) => ips,
            Address::Hostname(_) => &[],
        }
    }
}

impl Instance {
    /// An object with these facts and an empty status, for tests and simulations.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self {
            facts: Arc::new(facts),
            resource_version: 1,
            generation: 1,
            registered_labels: Arc::new([]),
            owner_pod: None,
            registered_by: None,
            unknown_health: None,
            terminating: None,
            heartbeat: None,
            installation: None,
            stored: StoredStatus::default(),
        }
    }

    /// The phase: the first that applies. `expired`: its lease has ended.
    #[must_use]
    pub fn phase(&self, expired: bool) -> Phase {
        match (self.state, self.health) {
            _ if self.is_terminating() => Phase::Terminating,
            _ if expired => Phase::Expired,
            (State::OutOfService, _) => Phase::OutOfService,
            (State::Draining, _) => Phase::Draining,
            _ if self.stopping => Phase::Stopping,
            (_, Health::Critical) => Phase::Critical,
            (_, Health::Warning) => Phase::Warning,
            (_, Health::Passing) => Phase::Ready,
        }
    }

    /// Whether its object is being deleted.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.terminating.is_some()
    }

    /// Whether the instance already reports this, so that repeating it changes nothing. Warning and Critical
    /// are stored even while the instance is stopping.
    #[must_use]
    pub fn reports(&self, report: HealthReport) -> bool {
        let is_same = |health| self.health == health && self.unknown_health.is_none();
        match (report, report.health()) {
            (_, None) => self.stopping,
            (HealthReport::Passing, Some(health)) => !self.stopping && is_same(health),
            (_, Some(health)) => is_same(health),
        }
    }

    /// Whether a pod with this uid would take the instance over from another one: from the pod that last
    /// registered it or, if that is not known, from the pod that owns the object. If neither is known, the
    /// instance belongs to no pod.
    #[must_use]
    pub fn is_of_another_pod(&self, uid: &str) -> bool {
        let pod = self.registered_by.as_deref().or(self.owner_pod.as_deref());
        pod.is_some_and(|pod| pod != uid)
    }

    /// Whether the object is stored as `Expired`, with no heartbeat since.
    ///
    /// This survives restarts: the verdict stands until the heartbeat annotation differs from the one that it
    /// is based on.
    #[must_use]
    pub fn is_stored_expired(&self) -> bool {
        self.lease.is_leased()
            && self.stored.phase == Some(Phase::Expired)
            && self.stored.observed_heartbeat == self.heartbeat
    }

    /// The same instance with changed facts.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self);
        self
    }

    /// The same instance, sharing the facts of an `old` version if they are equal: long-lived facts are in
    /// memory once, however often the rest changes.
    #[must_use]
    pub fn sharing(mut self, old: &Self) -> Self {
        if self.facts == old.facts {
            self.facts = old.facts.clone();
        }
        self
    }
}

impl Instance {
    /// An instance of the service `orders` at 10.0.0.7, which tests then change.
    #[must_use]
    pub fn sample(namespace: &str, name: &str) -> Self {
        let address = Address::Ips(Arc::new([IpAddr::from([10, 0, 0, 7])]));
        let key = InstanceKey::new(namespace, name);
        Self::new(Facts { uid: "u".into(), ..Facts::new(key, "orders".into(), address) })
    }
}
