//! The model of the API server: objects with uid and resourceVersion, preconditions, and the log that feeds the
//! watches. Owns: the effect of a request. Does not own: how long it takes (`world`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rollcall_core::{fact::Version, ledger::Ledger, status::DesiredStatus};
use rollcall_model::{
    instance::{Address, Facts, HealthReport, Instance, InstanceKey, StoredStatus},
    lease::{Lease, Wall},
};

use crate::Time;

/// A request to the API server.
#[derive(Clone, Debug)]
pub enum ApiOperation {
    /// A forced server-side apply of the facts, with a new heartbeat annotation.
    Register { key: InstanceKey, service: Arc<str>, lease: Lease, beat: Arc<str> },
    /// A merge patch of the heartbeat annotation, and of the health and lease that come with it.
    Beat { key: InstanceKey, uid: Option<Arc<str>>, change: HeartbeatChange },
    /// A status write, for one version of the object.
    Status { on: Version, desired: DesiredStatus },
    /// A write of `status.lastHeartbeatTime`, for one version. Under a mutation it counts as a heartbeat.
    Checkpoint { on: Version, beat: Wall, beats: bool },
    /// A delete, with the uid and the version as optional preconditions.
    Delete { key: InstanceKey, uid: Option<Arc<str>>, version: Option<u64>, evicts: bool },
    /// A read.
    Get { key: InstanceKey },
    /// A write of a ledger, which replaces the previous one.
    Flush { key: InstanceKey, ledger: Arc<Ledger> },
    /// A delete of a ledger, with the version as an optional precondition.
    DeleteLedger { key: InstanceKey, version: Option<u64> },
}

/// What a heartbeat changes.
#[derive(Clone, Debug)]
pub struct HeartbeatChange {
    pub value: Arc<str>,
    pub health: Option<HealthReport>,
    pub duration: Option<Duration>,
}

/// Why a call failed. There are only the kinds that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiError {
    Unavailable,
    NotFound,
    Conflict,
}

/// The response to a call. A delete returns no object.
pub type ApiResponse = Result<Option<Arc<Instance>>, ApiError>;

/// One change of an instance, as a watch reports it.
#[derive(Clone, Debug)]
pub enum Event {
    Upserted(Arc<Instance>),
    Removed { key: InstanceKey, uid: Arc<str>, index: u64 },
}

/// One change of a ledger, as a watch reports it.
#[derive(Clone, Debug)]
pub enum LedgerEvent {
    Written(Arc<Ledger>),
    Deleted { replica: Arc<str>, version: u64 },
}

#[derive(Clone, Debug, Default)]
pub struct Api {
    pub ledgers: BTreeMap<Arc<str>, Arc<Ledger>>,
    pub ledger_log: Vec<LedgerEvent>,
    pub objects: BTreeMap<InstanceKey, Arc<Instance>>,
    pub log: Vec<Event>,
    pub version: u64,
    uids: u64,
}

impl Event {
    pub fn version(&self) -> u64 {
        match self {
            Self::Upserted(instance) => instance.resource_version,
            Self::Removed { index, .. } => *index,
        }
    }
}

impl LedgerEvent {
    pub fn version(&self) -> u64 {
        match self {
            Self::Written(ledger) => ledger.version,
            Self::Deleted { version, .. } => *version,
        }
    }
}

impl ApiOperation {
    pub fn key(&self) -> &InstanceKey {
        match self {
            Self::Register { key, .. }
            | Self::Beat { key, .. }
            | Self::Delete { key, .. }
            | Self::Flush { key, .. }
            | Self::DeleteLedger { key, .. }
            | Self::Get { key } => key,
            Self::Status { on, .. } | Self::Checkpoint { on, .. } => &on.key,
        }
    }

    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Get { .. })
    }

    /// The name of the request in the timeline.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Beat { .. } => "annotate",
            Self::Status { .. } => "status",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Delete { evicts: true, .. } => "evict",
            Self::Delete { .. } => "delete",
            Self::Get { .. } => "get",
            Self::Flush { .. } => "ledger",
            Self::DeleteLedger { .. } => "delete ledger",
        }
    }
}

impl Api {
    /// An empty store whose last version is `version`.
    pub fn from(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// Executes a request atomically.
    pub fn execute(&mut self, op: &ApiOperation, now: Time) -> ApiResponse {
        match op {
            ApiOperation::Register { key, service, lease, beat } => {
                let fresh = || new_instance(key, service, *lease, now);
                let mut next = self.objects.get(key).map_or_else(fresh, |old| (**old).clone());
                if next.uid.is_empty() {
                    self.uids += 1;
                    next.uid = format!("u{}", self.uids).into();
                }
                next.generation += i64::from(next.lease != *lease);
                next.lease = *lease;
                next.heartbeat = Some(beat.clone());
                Ok(Some(self.store(next)))
            }
            ApiOperation::Beat { key, uid, change } => {
                let old = self.objects.get(key).ok_or(ApiError::NotFound)?;
                if uid.as_ref().is_some_and(|uid| *uid != old.uid) {
                    return Err(ApiError::Conflict);
                }
                let mut next = (**old).clone();
                next.heartbeat = Some(change.value.clone());
                let health = change.health.and_then(HealthReport::health);
                next.health = health.unwrap_or(next.health);
                let duration = change.duration.unwrap_or(next.lease.duration);
                next.generation += i64::from(next.lease.duration != duration);
                next.lease.duration = duration;
                Ok(Some(self.store(next)))
            }
            ApiOperation::Status { on, desired } => {
                let mut next = (*self.object_in_version(on)?).clone();
                next.stored = stored(desired, now);
                Ok(Some(self.store(next)))
            }
            ApiOperation::Checkpoint { on, beat, beats } => {
                let mut next = (*self.object_in_version(on)?).clone();
                next.stored.last_heartbeat = Some(*beat);
                if *beats {
                    next.heartbeat = Some(beat.0.to_string().into());
                }
                Ok(Some(self.store(next)))
            }
            ApiOperation::Delete { key, uid, version, .. } => {
                let old = self.objects.get(key).ok_or(ApiError::NotFound)?;
                let other = uid.as_ref().is_some_and(|uid| *uid != old.uid)
                    || version.is_some_and(|version| version != old.resource_version);
                if other {
                    return Err(ApiError::Conflict);
                }
                let uid = old.uid.clone();
                self.objects.remove(key);
                self.version += 1;
                self.log.push(Event::Removed { key: key.clone(), uid, index: self.version });
                Ok(None)
            }
            ApiOperation::Flush { ledger, .. } => Ok(self.flush(ledger)),
            ApiOperation::DeleteLedger { key, version } => self.delete_ledger(&key.name, *version),
            ApiOperation::Get { key } => {
                self.objects.get(key).cloned().map(Some).ok_or(ApiError::NotFound)
            }
        }
    }

    /// Restores the store to `back` versions ago. The next versions are above the restored one plus `leap`.
    pub fn restore(&mut self, back: u64, leap: u64) {
        let version = self.version.saturating_sub(back);
        self.log.retain(|event| event.version() <= version);
        self.ledger_log.retain(|event| event.version() <= version);
        let objects = objects_of(&self.log).0;
        self.objects = objects.into_iter().map(|object| (object.key.clone(), object)).collect();
        let ledgers = ledgers_of(&self.ledger_log);
        self.ledgers = ledgers.into_iter().map(|it| (it.replica.clone(), it)).collect();
        self.version = version + leap;
    }

    /// Whether this record was stored in this version, and no restore has removed it since.
    pub fn has_stored(&self, record: &Instance) -> bool {
        let version = record.resource_version;
        let at = self.log.binary_search_by_key(&version, Event::version);
        at.is_ok_and(|at| matches!(&self.log[at], Event::Upserted(stored) if **stored == *record))
    }

    fn flush(&mut self, ledger: &Ledger) -> Option<Arc<Instance>> {
        self.version += 1;
        let ledger = Arc::new(Ledger { version: self.version, ..ledger.clone() });
        self.ledgers.insert(ledger.replica.clone(), ledger.clone());
        self.ledger_log.push(LedgerEvent::Written(ledger));
        None
    }

    fn delete_ledger(&mut self, replica: &Arc<str>, version: Option<u64>) -> ApiResponse {
        let stored = self.ledgers.get(replica).ok_or(ApiError::NotFound)?;
        if version.is_some_and(|version| version != stored.version) {
            return Err(ApiError::Conflict);
        }
        self.ledgers.remove(replica);
        self.version += 1;
        let (replica, version) = (replica.clone(), self.version);
        self.ledger_log.push(LedgerEvent::Deleted { replica, version });
        Ok(None)
    }

    fn object_in_version(&self, on: &Version) -> Result<Arc<Instance>, ApiError> {
        let old = self.objects.get(&on.key).ok_or(ApiError::NotFound)?;
        let same = old.uid == on.uid && old.resource_version == on.resource_version;
        same.then(|| old.clone()).ok_or(ApiError::Conflict)
    }

    /// Stores a new version, unless nothing changes.
    fn store(&mut self, mut next: Instance) -> Arc<Instance> {
        if let Some(old) = self.objects.get(&next.key).filter(|old| ***old == next) {
            return old.clone();
        }
        self.version += 1;
        next.resource_version = self.version;
        let next = Arc::new(next);
        self.objects.insert(next.key.clone(), next.clone());
        self.log.push(Event::Upserted(next.clone()));
        next
    }
}

/// The objects after these changes, and the last version.
pub fn objects_of(log: &[Event]) -> (Vec<Arc<Instance>>, u64) {
    let (mut objects, mut version) = (BTreeMap::new(), 0);
    for event in log {
        match event {
            Event::Upserted(instance) => {
                version = instance.resource_version;
                objects.insert(instance.key.clone(), instance.clone());
            }
            Event::Removed { key, index, .. } => {
                version = *index;
                objects.remove(key);
            }
        }
    }
    (objects.into_values().collect(), version)
}

/// The ledgers after these changes.
pub fn ledgers_of(log: &[LedgerEvent]) -> Vec<Arc<Ledger>> {
    let mut ledgers = BTreeMap::new();
    for event in log {
        match event {
            LedgerEvent::Written(ledger) => {
                ledgers.insert(ledger.replica.clone(), ledger.clone());
            }
            LedgerEvent::Deleted { replica, .. } => {
                ledgers.remove(replica);
            }
        }
    }
    ledgers.into_values().collect()
}

fn new_instance(key: &InstanceKey, service: &Arc<str>, lease: Lease, now: Time) -> Instance {
    let address = Address::Ips(Arc::new(["10.0.0.1".parse().unwrap()]));
    let created = Wall(i64::try_from(now / 1000 * 1000).unwrap());
    let facts = Facts { created, lease, ..Facts::new(key.clone(), service.clone(), address) };
    Instance { resource_version: 0, ..Instance::new(facts) }
}

fn stored(desired: &DesiredStatus, now: Time) -> StoredStatus {
    StoredStatus {
        phase: Some(desired.phase),
        conditions: desired.conditions.iter().map(|it| it.stored(&now.to_string())).collect(),
        observed_generation: desired.observed_generation,
        observed_heartbeat: desired.observed_heartbeat.clone(),
        last_heartbeat: desired.last_heartbeat,
        dns_name: Some(desired.dns_name.as_str().into()),
        addresses: Some(desired.addresses.as_str().into()),
        ports: desired.ports.as_deref().map(Into::into),
        installation: desired.installation.clone(),
        health: Some(desired.health),
    }
}
