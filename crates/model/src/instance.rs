//! The slim record of one stored instance: what everybody behind `cluster::convert` knows of it.
//!
//! Owns: the keys and the record. Does not own: the words in it (`vocabulary`), and whether the instance is alive; that is judged in `catalog` and told by `view`.

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
    /// Object name; a DNS subdomain, so not always a DNS label.
    pub name: Arc<str>,
}

impl InstanceKey {
    /// A key of these two names.
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
    /// DNS label.
    pub service: Arc<str>,
}

impl ServiceKey {
    /// A key of these two names.
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
    /// 1..=65535.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// What is spoken over it, as in a Kubernetes Service.
    pub app_protocol: Option<Arc<str>>,
}

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// By these addresses; at least one.
    Ips(Arc<[IpAddr]>),
    /// By a name that somebody else resolves.
    Hostname(Arc<str>),
}

/// Pairs of strings, sorted by the first.
pub type Pairs = Arc<[(Arc<str>, Arc<str>)]>;

/// What the leader last wrote into an object's status, as far as it decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredStatus {
    /// None until the first write.
    pub phase: Option<Phase>,
    /// Its conditions, those of other controllers among them: a write of the status keeps them.
    pub conditions: Arc<[Condition]>,
    /// `metadata.generation` that was judged.
    pub observed_generation: i64,
    /// The heartbeat annotation when the phase was decided.
    pub observed_heartbeat: Option<Arc<str>>,
    /// The checkpoint for people.
    pub last_heartbeat: Option<Wall>,
    /// The name in DNS.
    pub dns_name: Option<Arc<str>>,
    /// The column of addresses.
    pub addresses: Option<Arc<str>>,
    /// The column of ports.
    pub ports: Option<Arc<str>>,
    /// The installation that wrote it.
    pub installation: Option<Installation>,
    /// The column of health.
    pub health: Option<Health>,
}

/// What readers see of an instance, and what is decided by. Two versions that say the same share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Namespace and name.
    pub key: InstanceKey,
    /// Which incarnation of that name.
    pub uid: Arc<str>,
    /// When the object was created.
    pub created: Wall,
    /// The service it belongs to; never changes.
    pub service: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// What it offers.
    pub ports: Arc<[Port]>,
    /// Its version, if it says.
    pub version: Option<Arc<str>>,
    /// Its tags, sorted.
    pub tags: Arc<[Arc<str>]>,
    /// Its zone, if it says.
    pub zone: Option<Arc<str>>,
    /// Share of the traffic within its priority; 0 is the last resort (RFC 2782).
    pub weight: u16,
    /// Lower is asked first.
    pub priority: u16,
    /// Free strings for clients.
    pub attributes: Pairs,
    /// The object's labels.
    pub labels: Pairs,
    /// The operator's word.
    pub state: State,
    /// How it says that it is.
    pub health: Health,
    /// Whether it says that it is leaving.
    pub stopping: bool,
    /// The terms of its life.
    pub lease: Lease,
}

/// One stored instance: a pointer to its facts, and what changes without them, with every stored beat and
/// every status. Immutable: a change is a new record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What readers see.
    pub facts: Arc<Facts>,
    /// Comparable within the type since Kubernetes 1.35 (KEP-5504).
    pub resource_version: u64,
    /// Moves with the spec.
    pub generation: i64,
    /// Keys of the labels that registrations have set, and that no other field manager has: what the next registration
    /// takes away when it leaves them out.
    pub registered_labels: Arc<[Arc<str>]>,
    /// Uid of the pod that owns it, if one does; what is that pod's own depends on it, and nothing that
    /// readers see.
    pub owner_pod: Option<Arc<str>>,
    /// Uid of the pod that registered it last, with a token bound to it, as its own instance.
    pub registered_by: Option<Arc<str>>,
    /// The word of a health annotation outside the vocabulary, cut to 63 characters; it counts as Warning.
    pub unknown_health: Option<Arc<str>>,
    /// The finalizers that hold the object once it is being deleted (`metadata.deletionTimestamp`), which nothing undoes.
    pub terminating: Option<Arc<[Arc<str>]>>,
    /// The heartbeat annotation, any change of which is a beat.
    pub heartbeat: Option<Arc<str>>,
    /// The installation to which it belongs, of a replica of rollcall.
    pub installation: Option<Installation>,
    /// The status as stored.
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

/// A change is made on a copy where the facts are shared.
impl DerefMut for Instance {
    fn deref_mut(&mut self) -> &mut Facts {
        Arc::make_mut(&mut self.facts)
    }
}

impl Facts {
    /// Of an instance that registers over HTTP and says no more than where it is; what the API server gives (uid,
    /// creation) is left out.
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

    /// The IP addresses; none for an instance that has a hostname.
    #[must_use]
    pub fn ips(&self) -> &[IpAddr] {
        match &self.address {
            Address::Ips(ips) => ips,
            Address::Hostname(_) => &[],
        }
    }
}

impl Instance {
    /// An object with these facts, of whose life nothing is stored yet; for tests and simulations, as [`Facts::new`] is.
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

    /// What the instance is: the first that applies. `expired`: its lease has ended.
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

    /// Whether the instance already reports this, so that reporting it again changes nothing. A health that is not
    /// Passing is recorded behind the leaving.
    #[must_use]
    pub fn reports(&self, report: HealthReport) -> bool {
        let is_same = |health| self.health == health && self.unknown_health.is_none();
        match (report, report.health()) {
            (_, None) => self.stopping,
            (HealthReport::Passing, Some(health)) => !self.stopping && is_same(health),
            (_, Some(health)) => is_same(health),
        }
    }

    /// Whether a pod with this uid would take the instance over from another one: from the one that registered it last,
    /// or else from the one that owns the object. Where neither is known, no pod has it.
    #[must_use]
    pub fn is_of_another_pod(&self, uid: &str) -> bool {
        let pod = self.registered_by.as_deref().or(self.owner_pod.as_deref());
        pod.is_some_and(|pod| pod != uid)
    }

    /// Whether the object says `Expired` and no beat has come since it was said.
    ///
    /// This outlives restarts: the verdict stands until the annotation differs from the one that
    /// it was decided on.
    #[must_use]
    pub fn is_stored_expired(&self) -> bool {
        self.lease.is_leased()
            && self.stored.phase == Some(Phase::Expired)
            && self.stored.observed_heartbeat == self.heartbeat
    }

    /// The same with other facts.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self);
        self
    }

    /// The same, with the facts of an `old` version where those are equal: what stays for long is in memory once,
    /// however often the rest of it changes.
    #[must_use]
    pub fn sharing(mut self, old: &Self) -> Self {
        if self.facts == old.facts {
            self.facts = old.facts.clone();
        }
        self
    }
}

impl Instance {
    /// One of the service `orders` at 10.0.0.7, for tests: each changes what matters to it.
    #[must_use]
    pub fn sample(namespace: &str, name: &str) -> Self {
        let address = Address::Ips(Arc::new([IpAddr::from([10, 0, 0, 7])]));
        let key = InstanceKey::new(namespace, name);
        Self::new(Facts { uid: "u".into(), ..Facts::new(key, "orders".into(), address) })
    }
}
