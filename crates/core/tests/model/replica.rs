//! One replica: a real catalog and directory, where its watches stand, and what keeps it from being
//! prompt. Does not own what happens to it (`world`).

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
    machine::{Machine, Make},
    world::{self, INSTANCES, World},
};

/// How far the clocks of two replicas are apart, at least.
pub const APART: Time = 1_000_000;

/// When a watch tells what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Prompt,
    /// One by one, at any time within a step.
    Soon,
    /// One by one, at any time.
    Single,
    /// Not before it goes on, or begins anew.
    Stopped,
}

pub struct Replica {
    pub own: InstanceKey,
    pub boot: u64,
    pub up: bool,
    pub frozen: bool,
    /// Which of its calls fail, by kind (`Call::kind`); what it is told, it is told.
    pub cut: [bool; 3],
    /// Which wait to be carried out, one by one.
    pub free_calls: [bool; 3],
    /// Of its watches.
    pub paces: [Pace; 2],
    /// How much of each log it was told; none before a list.
    pub positions: [Option<usize>; 2],
    pub leads: bool,
    pub catalog: Box<dyn Machine>,
    pub directory: Arc<Directory>,
    /// Its clock is the world's, moved by this.
    pub offset: Time,
    /// Who has beaten here in this step.
    pub beaten: [bool; INSTANCES],
    /// Until when each is alive by what was heard here, ledgers aside. Only for signs.
    pub first_hand: [Time; INSTANCES],
    make: Make,
}

impl Replica {
    pub fn new(index: usize, make: Make) -> Self {
        let own = InstanceKey::new("rollcall", &format!("r{index}"));
        let (catalog, directory) = fresh(&own, 0, make);
        Self {
            own,
            boot: 0,
            up: false,
            frozen: false,
            cut: [false; 3],
            free_calls: [false; 3],
            paces: [Pace::Prompt; 2],
            positions: [None; 2],
            leads: false,
            catalog,
            directory,
            offset: APART * (1 + 4 * index as Time),
            beaten: [false; INSTANCES],
            first_hand: [0; INSTANCES],
            make,
        }
    }

    /// Whether it does anything.
    pub fn runs(&self) -> bool {
        self.up && !self.frozen
    }

    /// Another process in its place, which has seen nothing.
    pub fn start(&mut self) {
        (self.up, self.frozen) = (true, false);
        self.boot += 1;
        self.positions = [None; 2];
        (self.catalog, self.directory) = fresh(&self.own, self.boot, self.make);
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

fn fresh(own: &InstanceKey, boot: u64, make: Make) -> (Box<dyn Machine>, Arc<Directory>) {
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

    /// Whether readers of this replica are discoverable an instance.
    pub fn is_discoverable(&self, replica: usize, instance: usize) -> bool {
        let key = world::key(instance);
        let service = world::SERVICES[instance];
        let view = self.replicas[replica].directory.service(&key.namespace, service);
        let member = view.as_ref().and_then(|view| view.by_label(&key.name));
        member.is_some_and(|member| member.phase.is_discoverable())
    }

    /// Everything that the future of this world depends on, as text.
    pub fn describe(&self, to: &mut impl fmt::Write) -> fmt::Result {
        write!(to, "{}, {:?}, {:?}, {:?}", self.time, self.calls, self.promised, self.broken)?;
        for api in [&self.objects, &self.ledgers] {
            write!(to, ", {}, {:?}, {:?}", api.version, api.objects, api.ledgers)?;
        }
        for one in &self.replicas {
            let [instances, ledgers] = one.positions;
            // Of the logs, what it is still to be told.
            let instances = instances.map(|position| &self.objects.log[position..]);
            let ledgers = ledgers.map(|position| &self.ledgers.ledger_log[position..]);
            let switches =
                (one.boot, one.up, one.frozen, one.cut, one.free_calls, one.paces, one.beaten);
            write!(to, ", {instances:?}, {ledgers:?}, {switches:?}")?;
            if one.up {
                write!(to, ", {:?}", one.catalog)?;
            }
        }
        Ok(())
    }
}
