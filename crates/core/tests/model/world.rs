//! The world: two replicas with real catalogs, two instances, an API server, and one clock that moves in
//! steps. Owns what each action does, and in what order. Its calls are in `calls`, its watches in `watches`;
//! it does not own what is promised (`promise`), and which actions a scene allows (`scene`).
//!
//! A replica settles at every step, and after everything that it is told: as soon as the engine of the
//! program would, but for the rounds between steps, in which it is told nothing.
//!
//! What is not free in a scene happens at once: calls are carried out and answered, watches tell what
//! there is. So a scene says what may be late, and the checker tries all of its ways of being late.

use std::fmt;

use rollcall_core::{directory::Heartbeat, fact::Fact};
use rollcall_model::{
    instance::InstanceKey,
    lease::{Lease, Moment, Now, Wall},
};

use crate::{
    Time,
    api::{Api, Change, Op},
    calls::{Call, Caller},
    machine::Make,
    promise::{Asserts, Promised},
    replica::{Pace, Replica},
    watches::{FEEDS, Feed},
};

/// How long an instance is believed alive after a beat, and what one step of time is: a quarter of that, and
/// less than what counts as a stall.
pub const LEASE: Time = 2_000;
const STEP: Time = LEASE / 4;

/// The first version of ledgers: above all of instances, which are counted apart.
const LEDGERS_FROM: u64 = 1_000_000;

pub const REPLICAS: usize = 2;
pub const INSTANCES: usize = 2;

const NAMESPACE: &str = "shop";
/// Each in a service of its own, so that the guard, which only ever keeps somebody longer, hides nothing.
pub const SERVICES: [&str; INSTANCES] = ["s0", "s1"];

/// One step of the world.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A step of time, after which every replica settles.
    Tick,
    Beat {
        instance: usize,
        replica: usize,
    },
    /// A client stores a beat itself.
    Annotate {
        instance: usize,
    },
    /// A watch tells the next thing, or lists when it has not yet.
    Deliver {
        replica: usize,
        feed: Feed,
    },
    /// A watch that was stopped goes on.
    Resume {
        replica: usize,
        feed: Feed,
    },
    /// A watch begins anew with a list, and goes on.
    Relist {
        replica: usize,
        feed: Feed,
    },
    /// A call is carried out, and answered if its caller still waits.
    Land {
        call: usize,
    },
    /// A caller waits no longer, and takes its call for failed; it may still be carried out.
    GiveUp {
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
    Thaw {
        replica: usize,
    },
    /// The calls of a replica reach the API server again.
    Mend {
        replica: usize,
    },
}

pub struct World {
    pub time: Time,
    /// Instances and ledgers are counted apart, ledgers from [`LEDGERS_FROM`]: a ledger's version is above all that it
    /// says of instances.
    pub objects: Api,
    pub ledgers: Api,
    pub replicas: [Replica; REPLICAS],
    pub calls: Vec<Call>,
    pub promised: [Promised; INSTANCES],
    pub lease: Lease,
    /// Who beats where in every step: instance and replica.
    pub steady: &'static [(usize, usize)],
    pub asserts: Asserts,
    /// The first promise that was broken.
    pub broken: Option<&'static str>,
    pub journal: Option<Vec<String>>,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => write!(f, "time passes"),
            Self::Beat { instance, replica } => {
                write!(f, "{} beats at r{replica}", name(*instance))
            }
            Self::Annotate { instance } => write!(f, "{} stores a beat", name(*instance)),
            Self::Deliver { replica, feed } => write!(f, "r{replica} is told of {feed:?}"),
            Self::Resume { replica, feed } => write!(f, "r{replica} is told of {feed:?} again"),
            Self::Relist { replica, feed } => write!(f, "r{replica} lists {feed:?} anew"),
            Self::Land { call } => write!(f, "call {call} is carried out"),
            Self::GiveUp { call } => write!(f, "call {call} is given up"),
            Self::Crash { replica } => write!(f, "r{replica} crashes"),
            Self::Start { replica } => write!(f, "r{replica} starts"),
            Self::Freeze { replica } => write!(f, "r{replica} is frozen"),
            Self::Thaw { replica } => write!(f, "r{replica} goes on"),
            Self::Mend { replica } => write!(f, "calls of r{replica} arrive again"),
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
    /// The instances are registered, and nobody has started.
    pub fn new(make: Make, lease: Lease, journal: bool) -> Self {
        let mut world = Self {
            time: 0,
            objects: Api::default(),
            ledgers: Api::from(LEDGERS_FROM),
            replicas: [0, 1].map(|index| Replica::new(index, make)),
            calls: Vec::new(),
            promised: [Promised::new(lease), Promised::new(lease)],
            lease,
            steady: &[],
            asserts: Asserts::default(),
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
        let op = Op::Register { key, service: service.into(), lease, beat: "0".into() };
        self.objects.execute(&op, self.time).unwrap();
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(text());
        }
    }

    /// The clocks of a replica: apart from the other's, and as fast.
    pub fn now(&self, replica: usize) -> Now {
        let moment = Moment(self.time + self.replicas[replica].offset);
        Now { moment, wall: Wall(1_700_000_000_000 + self.time as i64) }
    }

    /// Does what an action says, and then all that is not free.
    pub fn step(&mut self, action: Action) {
        match action {
            Action::Tick => {
                self.tick();
                self.flow();
                for &(instance, replica) in self.steady {
                    self.beat(instance, replica);
                }
            }
            Action::Beat { instance, replica } => self.beat(instance, replica),
            Action::Annotate { instance } => self.annotate(instance),
            Action::Deliver { replica, feed } => self.deliver(replica, feed),
            Action::Resume { replica, feed } => {
                self.replicas[replica].paces[feed as usize] = Pace::Prompt;
            }
            Action::Relist { replica, feed } => {
                self.replicas[replica].paces[feed as usize] = Pace::Prompt;
                self.replicas[replica].positions[feed as usize] = None;
                self.deliver(replica, feed);
            }
            Action::Land { call } => self.land(call),
            Action::GiveUp { call } => self.give_up(call),
            Action::Crash { replica } => self.crash(replica),
            Action::Start { replica } => self.start(replica),
            Action::Freeze { replica } => self.replicas[replica].frozen = true,
            Action::Thaw { replica } => {
                self.replicas[replica].frozen = false;
                self.settle(replica);
            }
            Action::Mend { replica } => self.replicas[replica].cut = [false; 3],
        }
        self.flow();
    }

    fn tick(&mut self) {
        self.time += STEP;
        self.replicas.iter_mut().for_each(|one| one.beaten = Default::default());
        for replica in 0..REPLICAS {
            for feed in FEEDS {
                while self.replicas[replica].paces[feed as usize] == Pace::Soon
                    && self.is_behind(replica, feed)
                {
                    self.deliver(replica, feed);
                }
            }
            self.settle(replica);
        }
    }

    /// A new process, which knows nothing.
    pub fn start(&mut self, replica: usize) {
        self.replicas[replica].start();
        self.forget_promises(replica);
        self.settle(replica);
    }

    fn crash(&mut self, replica: usize) {
        self.replicas[replica].up = false;
        for call in self.calls.iter_mut().filter(|call| call.replica == replica) {
            call.given_up = true;
        }
    }

    /// One round of the engine without facts.
    pub fn settle(&mut self, replica: usize) {
        if !self.replicas[replica].runs() {
            return;
        }
        let now = self.now(replica);
        let duties = self.replicas[replica].catalog.settle(now, 64);
        // As the engine does, which tells those who wait.
        drop(self.replicas[replica].catalog.take_revised());
        for duty in duties {
            self.hand_on(replica, duty);
        }
        self.check(replica);
    }

    /// One round of the engine with these.
    pub fn tell(&mut self, replica: usize, facts: impl IntoIterator<Item = Fact>) {
        let now = self.now(replica);
        for fact in facts {
            self.replicas[replica].catalog.apply(fact, now);
        }
        self.settle(replica);
    }

    /// All that is not free, until nothing is left of it.
    pub fn flow(&mut self) {
        loop {
            let prompt = |call: &Call| {
                let replica = &self.replicas[call.replica];
                !call.given_up && !replica.free_calls[call.kind()] && replica.runs()
            };
            if let Some(call) = self.calls.iter().position(prompt) {
                if self.is_cut(&self.calls[call]) {
                    self.give_up(call);
                    self.calls.remove(call);
                } else {
                    self.land(call);
                }
                continue;
            }
            let all = (0..REPLICAS).flat_map(|replica| FEEDS.map(|feed| (replica, feed)));
            let behind = |(replica, feed): &(usize, Feed)| {
                self.replicas[*replica].paces[*feed as usize] == Pace::Prompt
                    && self.is_behind(*replica, *feed)
            };
            let Some((replica, feed)) = all.into_iter().find(behind) else { return };
            self.catch_up(replica, feed);
        }
    }

    fn beat(&mut self, instance: usize, replica: usize) {
        let (now, key) = (self.now(replica).moment, key(instance));
        let directory = self.replicas[replica].directory.clone();
        match directory.heartbeat(&key.namespace, &key.name, None, None, now) {
            Heartbeat::Renewed(slot) => {
                self.touch(instance);
                self.replicas[replica].beaten[instance] = true;
                let fenced = directory.is_fenced(now);
                self.note(|| format!("    answered {}", if fenced { 202 } else { 200 }));
                if !fenced {
                    self.promise(instance, replica, &slot.record());
                }
                self.check(replica);
            }
            Heartbeat::Write(slot) => {
                self.replicas[replica].beaten[instance] = true;
                let record = slot.record();
                let value = format!("{}/{replica}", self.time).into();
                let change = Change { value, health: None, duration: None };
                let op = Op::Beat { key, uid: Some(record.uid.clone()), change };
                self.call(replica, op, Caller::Door { instance, arrived: self.time });
            }
            other => self.note(|| format!("    refused: {other:?}")),
        }
    }

    fn annotate(&mut self, instance: usize) {
        let value = format!("{}/client", self.time).into();
        let change = Change { value, health: None, duration: None };
        let op = Op::Beat { key: key(instance), uid: None, change };
        if let Ok(Some(stored)) = self.objects.execute(&op, self.time) {
            self.touch(instance);
            self.promise_stored(instance, None, self.time, &stored);
        }
    }
}
