//! One replica: a real catalog and directory, the positions of its watches, and what can delay it. Does not
//! own: the effect of actions (`world`).

use std::{fmt, sync::Arc};

use rollcall_core::{
    catalog::Settings, directory::Directory, fact::Fact, leadership::Leadership, slot::Slot,
};
use rollcall_model::{
    instance::InstanceKey,
    lease::{Moment, Now},
};

use crate::{
    Time,
    mutants::{BuildMachine, StateMachine},
    world::{self, INSTANCES, World},
};

/// The least difference between the clocks of two replicas.
pub const CLOCK_DISTANCE: Time = 1_000_000;

/// When a watch delivers its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    AtOnce,
    /// One by one, at any time within a step of time.
    WithinStep,
    /// One by one, at any time.
    OneByOne,
    /// Not before the watch resumes or lists again.
    Stopped,
}

pub struct Replica {
    pub own: InstanceKey,
    pub boot: u64,
    pub up: bool,
    pub frozen: bool,
    /// Which of its calls fail, by kind (`Call::kind`). Watches still deliver.
    pub failing_calls: [bool; 3],
    /// Which of its calls wait to be executed one by one, by kind.
    pub delayed_calls: [bool; 3],
    /// By watch.
    pub deliveries: [Delivery; 2],
    /// The length of each log's delivered part; `None` before the first list.
    pub positions: [Option<usize>; 2],
    pub leads: bool,
    pub catalog: Box<dyn StateMachine>,
    pub directory: Arc<Directory>,
    /// The offset of its clock from the clock of the world.
    pub offset: Time,
    /// Which instances sent a heartbeat here in this step.
    pub heartbeat_taken: [bool; INSTANCES],
    /// The end of each lease by what this replica observed itself, without ledgers. Only for `ExpectedEvents`.
    pub direct_lease_end: [Time; INSTANCES],
    make: BuildMachine,
}

impl Replica {
    pub fn new(index: usize, make: BuildMachine) -> Self {
        let own = InstanceKey::new("rollcall", &format!("r{index}"));
        let (catalog, directory) = new_catalog(&own, 0, make);
        Self {
            own,
            boot: 0,
            up: false,
            frozen: false,
            failing_calls: [false; 3],
            delayed_calls: [false; 3],
            deliveries: [Delivery::AtOnce; 2],
            positions: [None; 2],
            leads: false,
            catalog,
            directory,
            offset: CLOCK_DISTANCE * (1 + 4 * index as Time),
            heartbeat_taken: [false; INSTANCES],
            direct_lease_end: [0; INSTANCES],
            make,
        }
    }

    /// Whether the process runs and is not frozen.
    pub fn runs(&self) -> bool {
        self.up && !self.frozen
    }

    /// Starts a new process of this replica, without any state.
    pub fn start(&mut self) {
        (self.up, self.frozen) = (true, false);
        self.boot += 1;
        self.positions = [None; 2];
        (self.catalog, self.directory) = new_catalog(&self.own, self.boot, self.make);
        if self.leads {
            self.lead();
        }
    }

    pub fn lead(&mut self) {
        self.leads = true;
        let leader = Some(self.own.name.clone());
        let leadership =
            Leadership { leader, since: None, tenure: Moment(u64::MAX), ..Leadership::default() };
        self.catalog.apply(Fact::Leadership(leadership), Now::default());
    }
}

fn new_catalog(
    own: &InstanceKey,
    boot: u64,
    make: BuildMachine,
) -> (Box<dyn StateMachine>, Arc<Directory>) {
    let directory = Arc::new(Directory::default());
    let (boot, zone, ledger) = (format!("b{boot}"), "z".to_owned(), Some(own.name.clone()));
    let settings = Settings { own: own.clone(), boot, zone, ledger };
    (make(settings, directory.clone()), directory)
}

impl World {
    pub fn slot(&self, replica: usize, instance: usize) -> Option<Arc<Slot>> {
        let key = world::key(instance);
        self.replicas[replica].directory.slot(&key.namespace, &key.name)
    }

    /// Whether this replica publishes an instance as discoverable.
    pub fn is_discoverable(&self, replica: usize, instance: usize) -> bool {
        let key = world::key(instance);
        let service = world::SERVICES[instance];
        let view = self.replicas[replica].directory.service(&key.namespace, service);
        let member = view.as_ref().and_then(|view| view.by_label(&key.name));
        member.is_some_and(|member| member.phase.is_discoverable())
    }

    /// Writes all state of the replica that the future of the world depends on.
    pub fn describe(&self, to: &mut impl fmt::Write) -> fmt::Result {
        write!(to, "{}, {:?}, {:?}, {:?}", self.time, self.calls, self.promises, self.broken)?;
        for api in [&self.objects, &self.ledgers] {
            write!(to, ", {}, {:?}, {:?}", api.version, api.objects, api.ledgers)?;
        }
        for process in &self.replicas {
            let [instances, ledgers] = process.positions;
            // The parts of the logs that are not delivered yet.
            let instances = instances.map(|position| &self.objects.log[position..]);
            let ledgers = ledgers.map(|position| &self.ledgers.ledger_log[position..]);
            let switches = (
                process.boot,
                process.up,
                process.frozen,
                process.failing_calls,
                process.delayed_calls,
                process.deliveries,
                process.heartbeat_taken,
            );
            write!(to, ", {instances:?}, {ledgers:?}, {switches:?}")?;
            if process.up {
                write!(to, ", {:?}", process.catalog)?;
            }
        }
        Ok(())
    }
}
