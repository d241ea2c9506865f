//! A test rig: a catalog that receives facts from the test and runs on a clock that the test advances. The
//! watch reports its self-beats at once, unless the test makes the API server unavailable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rollcall_core::{
    catalog::{Catalog, Settings},
    directory::{Directory, Heartbeat},
    fact::{Duty, Fact, SelfBeat, Version, WriteOutcome},
    leadership::Leadership,
};
use rollcall_model::{
    condition::{Condition, ConditionType},
    instance::{Address, Facts, Instance, InstanceKey, Phase, StoredStatus},
    lease::{Lease, LeaseMode, Moment, Now, OnExpiry, Wall},
    view::View,
};

pub const ZONE: &str = "rollcall.internal";

pub struct Rig {
    pub catalog: Catalog,
    pub directory: Arc<Directory>,
    /// Milliseconds on the replica's clock.
    pub time: u64,
    /// Offset of the wall clock in milliseconds.
    pub wall_shift: i64,
    /// The newest resourceVersion that was given out.
    pub version: u64,
    /// Whether self-beats are written and come back.
    pub api_is_up: bool,
    pub capacity: usize,
    own: InstanceKey,
    /// Duties that the test has not taken yet.
    pending_duties: Vec<Duty>,
    /// Unreadable objects by name; a list reports them as well.
    unreadable: BTreeMap<InstanceKey, Fact>,
}

pub fn lease(seconds: u64) -> Lease {
    Lease {
        mode: LeaseMode::Heartbeat,
        duration: Duration::from_secs(seconds),
        on_expiry: OnExpiry::Evict,
        evict_after: Duration::from_secs(10),
    }
}

/// An instance of service `orders` with a lease of 10 s.
pub fn instance(name: &str) -> Instance {
    let address = Address::Ips(Arc::new(["10.0.0.7".parse().unwrap()]));
    let facts = Facts::new(InstanceKey::new("shop", name), "orders".into(), address);
    let facts = Facts { uid: format!("uid-{name}").into(), lease: lease(10), ..facts };
    Instance { heartbeat: Some("first".into()), ..Instance::new(facts) }
}

impl Rig {
    /// A replica whose first list had no instances.
    pub fn new() -> Self {
        let mut rig = Self::unlisted();
        rig.list(Vec::new());
        rig
    }

    pub fn unlisted() -> Self {
        Self::with_directory(Directory::default())
    }

    /// A replica that has not listed yet and publishes into this directory.
    pub fn with_directory(directory: Directory) -> Self {
        let directory = Arc::new(directory);
        let own = InstanceKey::new("rollcall-system", "r0");
        let (boot, zone) = ("b".into(), ZONE.into());
        let settings = Settings { own: own.clone(), boot, zone, ledger: None };
        let mut catalog = Catalog::new(settings, directory.clone());
        let leader = Some("r0".into());
        let leadership =
            Leadership { leader, since: None, tenure: Moment(u64::MAX), ..Leadership::default() };
        catalog.apply(Fact::Leadership(leadership), Now::default());
        Self {
            catalog,
            directory,
            time: 1_000_000,
            wall_shift: 0,
            version: 100,
            api_is_up: true,
            capacity: 64,
            own,
            pending_duties: Vec::new(),
            unreadable: BTreeMap::new(),
        }
    }

    pub fn now(&self) -> Now {
        let wall = Wall(i64::try_from(self.time).unwrap() + self.wall_shift);
        Now { moment: Moment(self.time), wall }
    }

    pub fn apply(&mut self, fact: Fact) {
        match &fact {
            Fact::Unreadable { on, .. } => {
                self.unreadable.insert(on.key.clone(), fact.clone());
            }
            Fact::Upserted(instance) => {
                self.unreadable.remove(&instance.key);
            }
            Fact::Removed { key, .. } => {
                self.unreadable.remove(key);
            }
            _ => {}
        }
        self.catalog.apply(fact, self.now());
    }

    /// Settles once and keeps the duties for [`Rig::pass`]. The self-beat comes back at once.
    pub fn settle(&mut self) {
        let mut duties = self.catalog.settle(self.now(), self.capacity);
        let self_beat = duties.iter().position(|duty| matches!(duty, Duty::SelfBeat(_)));
        if let Some(Duty::SelfBeat(SelfBeat { value, .. })) = self_beat.map(|at| duties.remove(at))
        {
            let mut answer = Err("away".into());
            if self.api_is_up {
                let mut own = instance("r0");
                own.key = self.own.clone();
                own.service = "rollcall".into();
                own.heartbeat = Some(value.into());
                answer = Ok(self.store(own).resource_version);
            }
            self.apply(Fact::SelfBeatWritten { answer });
            duties.extend(self.catalog.settle(self.now(), self.capacity));
        }
        if let Some(at) = duties.iter().position(|duty| *duty == Duty::Relist) {
            duties.remove(at);
            self.relist();
            duties.extend(self.catalog.settle(self.now(), self.capacity));
        }
        self.pending_duties.extend(duties);
    }

    /// Applies a list of all stored objects, unchanged.
    fn relist(&mut self) {
        let views = self.directory.views_in(None);
        let members = views.iter().flat_map(|view| view.members.iter());
        let slots = members
            .map(|member| &member.facts.key)
            .filter_map(|key| self.directory.slot(&key.namespace, &key.name));
        let instances = slots.map(|slot| slot.record()).collect();
        let index = self.version;
        self.apply(Fact::Listed { instances, index });
        for fact in self.unreadable.values().cloned().collect::<Vec<_>>() {
            self.apply(fact);
        }
    }

    /// Returns the new duties since the last call, without those on the replica's own instance other than Events.
    pub fn take_duties(&mut self) -> Vec<Duty> {
        let own = |duty: &Duty| object_version(duty).is_some_and(|on| *on.key.name == *"r0");
        self.pending_duties.retain(|duty| matches!(duty, Duty::Announce { .. }) || !own(duty));
        std::mem::take(&mut self.pending_duties)
    }

    /// Lets time pass, settles as the engine does, and returns all duties but those on the replica's own
    /// instance.
    pub fn advance(&mut self, seconds: f64) -> Vec<Duty> {
        let end = self.time + (seconds * 1000.0) as u64;
        while self.time < end {
            let next = self.catalog.next_settle(Moment(self.time)).0;
            self.time = next.min(end);
            self.settle();
        }
        self.take_duties()
    }

    pub fn list(&mut self, instances: Vec<Instance>) {
        let instances = instances.into_iter().map(Arc::new).collect();
        let index = self.version;
        self.apply(Fact::Listed { instances, index });
        self.settle();
    }

    /// The watch reports a new version of this instance. Returns the stored record.
    pub fn store(&mut self, mut instance: Instance) -> Instance {
        self.version += 1;
        instance.resource_version = self.version;
        self.apply(Fact::Upserted(Arc::new(instance.clone())));
        instance
    }

    /// Like [`Rig::store`], and then settles, so that readers see the new version.
    pub fn put(&mut self, instance: Instance) -> Instance {
        let stored = self.store(instance);
        self.settle();
        stored
    }

    /// The watch reports another value of the heartbeat annotation.
    pub fn annotate(&mut self, name: &str) -> Instance {
        let mut next = self.record(name);
        next.heartbeat = Some(format!("beat {}", self.version).into());
        self.put(next)
    }

    /// Writes statuses as the controller does, and returns the other duties.
    pub fn carry_out(&mut self, duties: Vec<Duty>) -> Vec<Duty> {
        let mut others = Vec::new();
        for duty in duties {
            let Duty::WriteStatus { on, desired, .. } = duty else {
                others.push(duty);
                continue;
            };
            let mut next = self.record(&on.key.name);
            next.stored = StoredStatus {
                phase: Some(desired.phase),
                conditions: desired
                    .conditions
                    .iter()
                    .map(|condition| condition.stored("t"))
                    .collect(),
                observed_generation: desired.observed_generation,
                observed_heartbeat: desired.observed_heartbeat,
                last_heartbeat: desired.last_heartbeat,
                dns_name: Some(desired.dns_name.into()),
                addresses: Some(desired.addresses.into()),
                ports: desired.ports.map(Into::into),
                installation: desired.installation,
                health: Some(desired.health),
            };
            self.put(next);
            self.attempted(&on, WriteOutcome::Done);
        }
        others
    }

    pub fn attempted(&mut self, on: &Version, outcome: WriteOutcome) {
        let (key, uid) = (on.key.clone(), on.uid.clone());
        self.apply(Fact::Attempted { key, uid, outcome });
    }

    /// Lets time pass as [`Rig::pass`], and writes the statuses.
    pub fn run(&mut self, seconds: f64) -> Vec<Duty> {
        let mut others = Vec::new();
        for _ in 0..(seconds * 10.0) as u64 {
            let duties = self.advance(0.1);
            others.extend(self.carry_out(duties));
        }
        others
    }

    pub fn record(&self, name: &str) -> Instance {
        (*self.directory.slot("shop", name).unwrap().record()).clone()
    }

    pub fn heartbeat(&self, name: &str) -> Heartbeat {
        self.directory.heartbeat("shop", name, None, None, Moment(self.time))
    }

    pub fn view(&self) -> Arc<View> {
        self.directory.service("shop", "orders").unwrap()
    }

    /// The phase that readers see, or `None` when the instance is not in the view.
    pub fn phase(&self, name: &str) -> Option<Phase> {
        let view = self.directory.service("shop", "orders")?;
        view.by_label(name).map(|member| member.phase)
    }

    /// The revision of every service, to compare what replicas publish.
    pub fn shown(&self) -> BTreeMap<String, u64> {
        let views = self.directory.views_in(Some("shop"));
        views.iter().map(|view| (view.key.to_string(), view.revision.0)).collect()
    }
}

/// The stored condition `Ready`.
pub fn ready(status: &str, reason: &str) -> Condition {
    Condition {
        type_: ConditionType::Ready.as_str().into(),
        status: status.into(),
        reason: reason.into(),
        message: "m".into(),
        transition: "t".into(),
        observed_generation: Some(1),
    }
}

/// The object version that a duty is about.
pub fn object_version(duty: &Duty) -> Option<&Version> {
    match duty {
        Duty::SelfBeat(_) | Duty::Relist | Duty::WriteLedger(_) | Duty::DeleteLedger { .. } => None,
        Duty::WriteStatus { on, .. }
        | Duty::Checkpoint { on, .. }
        | Duty::Evict { on, .. }
        | Duty::Announce { on, .. } => Some(on),
    }
}

pub fn evictions(duties: &[Duty]) -> Vec<Version> {
    let evict = |duty: &Duty| match duty {
        Duty::Evict { on, .. } => Some(on.clone()),
        _ => None,
    };
    duties.iter().filter_map(evict).collect()
}
