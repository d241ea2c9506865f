//! The world: two replicas with real catalogs, two instances, an API server, and one clock that moves in steps.
//! Owns: the effect of each action, and its order. Calls are in `calls`, watches in `watches`. Does not own:
//! the promises (`promises`), and which actions a scene allows (`scene`).
//!
//! A replica settles at every step of time and after every fact, as soon as the engine of the server would.
//! Rounds of the engine between steps in which no fact arrives are left out.
//!
//! What cannot be delayed in a scene happens at once: calls are executed and answered, watches deliver every
//! change. A scene thus determines what can be late, and the checker tries every order.

use std::fmt;

use rollcall_core::{directory::Heartbeat, fact::Fact};
use rollcall_model::{
    instance::InstanceKey,
    lease::{Lease, Moment, Now, Wall},
};

use crate::{
    Time,
    api::{Api, ApiOperation, HeartbeatChange},
    calls::{Call, Caller},
    mutants::BuildMachine,
    promises::{ExtraPromises, InstancePromises},
    replica::{Delivery, Replica},
    watches::{RESOURCES, Resource},
};

/// The duration of a lease. A step of time is a quarter of that, and shorter than what counts as a stall.
pub const LEASE: Time = 2_000;
const STEP: Time = LEASE / 4;

/// The first version of ledgers: above all versions of instances, which are counted separately.
const LEDGERS_FROM: u64 = 1_000_000;

pub const REPLICAS: usize = 2;
pub const INSTANCES: usize = 2;

const NAMESPACE: &str = "shop";
/// Each instance has its own service, so that the guard holds none of them: a hold would hide broken promises.
pub const SERVICES: [&str; INSTANCES] = ["s0", "s1"];

/// One step of the world.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A step of time passes, then every replica settles.
    Tick,
    Beat {
        instance: usize,
        replica: usize,
    },
    /// A client stores a heartbeat annotation.
    Annotate {
        instance: usize,
    },
    /// A watch delivers the next change, or its first list.
    Deliver {
        replica: usize,
        resource: Resource,
    },
    /// A stopped watch resumes.
    Resume {
        replica: usize,
        resource: Resource,
    },
    /// A watch lists again, and continues from there.
    Relist {
        replica: usize,
        resource: Resource,
    },
    /// A call is executed, and answered if its caller still waits.
    Execute {
        call: usize,
    },
    /// The deadline of a caller passes and its call counts as failed; the call can still be executed.
    Timeout {
        call: usize,
    },
    Crash {
        replica: usize,
    },
    Start {
        replica: usize,
    },
    Freeze {
        replica: usize,
    },
    Unfreeze {
        replica: usize,
    },
    /// The calls of a replica reach the API server again.
    Reconnect {
        replica: usize,
    },
}

pub struct World {
    pub time: Time,
    /// The versions of instances and ledgers are counted separately, ledgers from [`LEDGERS_FROM`]: a ledger's
    /// version is above all versions of instances that it reports.
    pub objects: Api,
    pub ledgers: Api,
    pub replicas: [Replica; REPLICAS],
    pub calls: Vec<Call>,
    pub promises: [InstancePromises; INSTANCES],
    pub lease: Lease,
    /// The heartbeats in every step: instance and replica.
    pub steady: &'static [(usize, usize)],
    pub extra_promises: ExtraPromises,
    /// The first broken promise.
    pub broken: Option<&'static str>,
    pub journal: Option<Vec<String>>,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => write!(f, "time passes"),
            Self::Beat { instance, replica } => {
                write!(f, "{} sends a heartbeat to r{replica}", name(*instance))
            }
            Self::Annotate { instance } => write!(f, "{} stores a heartbeat", name(*instance)),
            Self::Deliver { replica, resource } => {
                write!(f, "r{replica} receives a change of {resource:?}")
            }
            Self::Resume { replica, resource } => {
                write!(f, "the watch of {resource:?} at r{replica} resumes")
            }
            Self::Relist { replica, resource } => write!(f, "r{replica} lists {resource:?} again"),
            Self::Execute { call } => write!(f, "call {call} is executed"),
            Self::Timeout { call } => write!(f, "call {call} times out"),
            Self::Crash { replica } => write!(f, "r{replica} crashes"),
            Self::Start { replica } => write!(f, "r{replica} starts"),
            Self::Freeze { replica } => write!(f, "r{replica} is frozen"),
            Self::Unfreeze { replica } => write!(f, "r{replica} continues"),
            Self::Reconnect { replica } => write!(f, "calls of r{replica} arrive again"),
        }
    }
}

pub fn name(instance: usize) -> &'static str {
    ["a", "b"][instance]
}

pub fn key(instance: usize) -> InstanceKey {
    InstanceKey::new(NAMESPACE, name(instance))
}

impl World {
    /// The instances are registered, and no replica runs yet.
    pub fn new(make: BuildMachine, lease: Lease, journal: bool) -> Self {
        let mut world = Self {
            time: 0,
            objects: Api::default(),
            ledgers: Api::from(LEDGERS_FROM),
            replicas: [0, 1].map(|index| Replica::new(index, make)),
            calls: Vec::new(),
            promises: [InstancePromises::new(lease), InstancePromises::new(lease)],
            lease,
            steady: &[],
            extra_promises: ExtraPromises::default(),
            broken: None,
            journal: journal.then(Vec::new),
        };
        for (instance, service) in SERVICES.into_iter().enumerate() {
            world.register(key(instance), service, lease);
        }
        for replica in 0..REPLICAS {
            world.register(world.replicas[replica].own.clone(), "rollcall", Lease::default());
        }
        world
    }

    fn register(&mut self, key: InstanceKey, service: &str, lease: Lease) {
        let op = ApiOperation::Register { key, service: service.into(), lease, beat: "0".into() };
        self.objects.execute(&op, self.time).unwrap();
    }

    pub fn log(&mut self, text: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(text());
        }
    }

    /// The clocks of a replica: with an offset to those of the other one, and equally fast.
    pub fn now(&self, replica: usize) -> Now {
        let moment = Moment(self.time + self.replicas[replica].offset);
        Now { moment, wall: Wall(1_700_000_000_000 + self.time as i64) }
    }

    /// Executes an action, and then everything that cannot be delayed.
    pub fn step(&mut self, action: Action) {
        match action {
            Action::Tick => {
                self.tick();
                self.run_undelayed();
                for &(instance, replica) in self.steady {
                    self.beat(instance, replica);
                }
            }
            Action::Beat { instance, replica } => self.beat(instance, replica),
            Action::Annotate { instance } => self.annotate(instance),
            Action::Deliver { replica, resource } => self.deliver(replica, resource),
            Action::Resume { replica, resource } => {
                self.replicas[replica].deliveries[resource as usize] = Delivery::AtOnce;
            }
            Action::Relist { replica, resource } => {
                self.replicas[replica].deliveries[resource as usize] = Delivery::AtOnce;
                self.replicas[replica].positions[resource as usize] = None;
                self.deliver(replica, resource);
            }
            Action::Execute { call } => self.execute_call(call),
            Action::Timeout { call } => self.time_out(call),
            Action::Crash { replica } => self.crash(replica),
            Action::Start { replica } => self.start(replica),
            Action::Freeze { replica } => self.replicas[replica].frozen = true,
            Action::Unfreeze { replica } => {
                self.replicas[replica].frozen = false;
                self.settle(replica);
            }
            Action::Reconnect { replica } => self.replicas[replica].failing_calls = [false; 3],
        }
        self.run_undelayed();
    }

    fn tick(&mut self) {
        self.time += STEP;
        self.replicas.iter_mut().for_each(|process| process.heartbeat_taken = Default::default());
        for replica in 0..REPLICAS {
            for resource in RESOURCES {
                while self.replicas[replica].deliveries[resource as usize] == Delivery::WithinStep
                    && self.is_behind(replica, resource)
                {
                    self.deliver(replica, resource);
                }
            }
            self.settle(replica);
        }
    }

    /// Starts a new process, without any state.
    pub fn start(&mut self, replica: usize) {
        self.replicas[replica].start();
        self.forget_promises(replica);
        self.settle(replica);
    }

    fn crash(&mut self, replica: usize) {
        self.replicas[replica].up = false;
        for call in self.calls.iter_mut().filter(|call| call.replica == replica) {
            call.timed_out = true;
        }
    }

    /// Runs one round of the engine without facts.
    pub fn settle(&mut self, replica: usize) {
        if !self.replicas[replica].runs() {
            return;
        }
        let now = self.now(replica);
        let duties = self.replicas[replica].catalog.settle(now, 64);
        // As the engine does, which notifies subscribers.
        drop(self.replicas[replica].catalog.take_revised());
        for duty in duties {
            self.start_duty(replica, duty);
        }
        self.check(replica);
    }

    /// Runs one round of the engine with these facts.
    pub fn apply_facts(&mut self, replica: usize, facts: impl IntoIterator<Item = Fact>) {
        let now = self.now(replica);
        for fact in facts {
            self.replicas[replica].catalog.apply(fact, now);
        }
        self.settle(replica);
    }

    /// Executes everything that cannot be delayed, until nothing is left to execute.
    pub fn run_undelayed(&mut self) {
        loop {
            let prompt = |call: &Call| {
                let replica = &self.replicas[call.replica];
                !call.timed_out && !replica.delayed_calls[call.kind()] && replica.runs()
            };
            if let Some(call) = self.calls.iter().position(prompt) {
                if self.fails(&self.calls[call]) {
                    self.time_out(call);
                    self.calls.remove(call);
                } else {
                    self.execute_call(call);
                }
                continue;
            }
            let all =
                (0..REPLICAS).flat_map(|replica| RESOURCES.map(|resource| (replica, resource)));
            let behind = |(replica, resource): &(usize, Resource)| {
                self.replicas[*replica].deliveries[*resource as usize] == Delivery::AtOnce
                    && self.is_behind(*replica, *resource)
            };
            let Some((replica, resource)) = all.into_iter().find(behind) else { return };
            self.catch_up(replica, resource);
        }
    }

    fn beat(&mut self, instance: usize, replica: usize) {
        let (now, key) = (self.now(replica).moment, key(instance));
        let directory = self.replicas[replica].directory.clone();
        match directory.heartbeat(&key.namespace, &key.name, None, None, now) {
            Heartbeat::Renewed(slot) => {
                self.record_possible_heartbeat(instance);
                self.replicas[replica].heartbeat_taken[instance] = true;
                let fenced = directory.is_fenced(now);
                self.log(|| format!("    answered {}", if fenced { 202 } else { 200 }));
                if !fenced {
                    self.promise(instance, replica, &slot.record());
                }
                self.check(replica);
            }
            Heartbeat::Write(slot) => {
                self.replicas[replica].heartbeat_taken[instance] = true;
                let record = slot.record();
                let value = format!("{}/{replica}", self.time).into();
                let change = HeartbeatChange { value, health: None, duration: None };
                let op = ApiOperation::Beat { key, uid: Some(record.uid.clone()), change };
                self.call(replica, op, Caller::HttpServer { instance, arrived: self.time });
            }
            other => self.log(|| format!("    refused: {other:?}")),
        }
    }

    fn annotate(&mut self, instance: usize) {
        let value = format!("{}/client", self.time).into();
        let change = HeartbeatChange { value, health: None, duration: None };
        let op = ApiOperation::Beat { key: key(instance), uid: None, change };
        if let Ok(Some(stored)) = self.objects.execute(&op, self.time) {
            self.record_possible_heartbeat(instance);
            self.promise_stored(instance, None, self.time, &stored);
        }
    }
}
