//! Scenes: where a world begins, which actions can come in any order, and how many of each are allowed.
//!
//! A scene begins in a prepared world, shortly before the moment under test: the number of paths grows with
//! every step, and from an empty world that moment is many steps away. Owns: which actions are possible. Does
//! not own: their effect (`world`), and the scenes themselves (`scenes`).

use rollcall_core::slot::Source;
use rollcall_model::lease::{Lease, LeaseMode, OnExpiry};

use crate::{
    Time,
    explore::ExpectedEvents,
    mutants::BuildMachine,
    promises::ExtraPromises,
    replica::Delivery,
    watches::RESOURCES,
    world::{Action, INSTANCES, LEASE, REPLICAS, World},
};

/// How often each action is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    pub ticks: u8,
    /// Heartbeats over HTTP, in total.
    pub beats: u8,
    pub annotations: u8,
    pub timeouts: u8,
    pub crashes: u8,
    pub freezes: u8,
    pub reconnects: u8,
    pub relists: u8,
}

pub struct Scene {
    pub name: &'static str,
    /// How long an expired object stays before it is evicted.
    pub evict_after: Time,
    /// Prepares the world without choices. Its last step sets what can be delayed from then on.
    pub prepare: fn(&mut World),
    /// Which heartbeats are possible: instance and replica.
    pub http_heartbeats: &'static [(usize, usize)],
    pub budget: Budget,
    pub extra_promises: ExtraPromises,
    /// Events that must occur.
    pub expected_events: &'static [&'static str],
}

impl Budget {
    /// Subtracts one from the budget of an action.
    pub fn subtract(&mut self, action: Action) {
        match action {
            Action::Tick => self.ticks -= 1,
            Action::Beat { .. } => self.beats -= 1,
            Action::Annotate { .. } => self.annotations -= 1,
            Action::Timeout { .. } => self.timeouts -= 1,
            Action::Crash { .. } => self.crashes -= 1,
            Action::Freeze { .. } => self.freezes -= 1,
            Action::Reconnect { .. } => self.reconnects -= 1,
            Action::Relist { .. } => self.relists -= 1,
            Action::Deliver { .. }
            | Action::Resume { .. }
            | Action::Execute { .. }
            | Action::Start { .. }
            | Action::Unfreeze { .. } => {}
        }
    }
}

impl Scene {
    /// Builds the world in which the scene begins.
    pub fn begin(&self, make: BuildMachine, journal: bool) -> World {
        let millis = std::time::Duration::from_millis;
        let (mode, on_expiry) = (LeaseMode::Heartbeat, OnExpiry::Evict);
        let lease = Lease {
            mode,
            on_expiry,
            duration: millis(LEASE),
            evict_after: millis(self.evict_after),
        };
        let mut world = World::new(make, lease, journal);
        (self.prepare)(&mut world);
        world.extra_promises = self.extra_promises;
        world.log(|| format!("--- {}", self.name));
        world
    }

    /// The budget of a scene that is `deeper` steps longer. Actions that are allowed only once stay so, because
    /// where every order is possible, one more step would make far too many states.
    pub fn budget(&self, deeper: u8) -> Budget {
        let more = |budget| if budget > 1 { budget + deeper } else { budget };
        Budget { ticks: more(self.budget.ticks), beats: more(self.budget.beats), ..self.budget }
    }

    /// The actions that are possible next.
    pub fn actions(&self, world: &World, budget: &Budget) -> Vec<Action> {
        let mut actions = Vec::new();
        for replica in 0..REPLICAS {
            for resource in RESOURCES {
                let process = &world.replicas[replica];
                match process.deliveries[resource as usize] {
                    _ if !process.runs() => {}
                    Delivery::OneByOne | Delivery::WithinStep
                        if world.is_behind(replica, resource) =>
                    {
                        actions.push(Action::Deliver { replica, resource });
                    }
                    Delivery::Stopped if budget.relists > 0 => {
                        actions.push(Action::Relist { replica, resource });
                    }
                    Delivery::Stopped => actions.push(Action::Resume { replica, resource }),
                    _ => {}
                }
            }
            self.replica_actions(world, budget, replica, &mut actions);
        }
        for (call, waiting) in world.calls.iter().enumerate() {
            let runs = waiting.timed_out || world.replicas[waiting.replica].runs();
            if runs && (waiting.timed_out || !world.fails(waiting)) {
                actions.push(Action::Execute { call });
            }
            if runs && !waiting.timed_out && budget.timeouts > 0 {
                actions.push(Action::Timeout { call });
            }
        }
        if budget.beats > 0 {
            let http_heartbeats = self.http_heartbeats.iter().filter(|(instance, replica)| {
                let process = &world.replicas[*replica];
                process.runs()
                    && process.directory.is_synced()
                    && !process.heartbeat_taken[*instance]
            });
            actions.extend(
                http_heartbeats.map(|&(instance, replica)| Action::Beat { instance, replica }),
            );
        }
        if budget.annotations > 0 {
            actions.push(Action::Annotate { instance: 0 });
        }
        if budget.ticks > 0 {
            actions.push(Action::Tick);
        }
        actions
    }

    fn replica_actions(
        &self,
        world: &World,
        budget: &Budget,
        replica: usize,
        to: &mut Vec<Action>,
    ) {
        let process = &world.replicas[replica];
        if !process.up {
            return to.push(Action::Start { replica });
        }
        if process.frozen {
            return to.push(Action::Unfreeze { replica });
        }
        // Promises are checked on both replicas, so it is enough that one of them can have faults.
        if replica == 1 {
            if budget.crashes > 0 {
                to.push(Action::Crash { replica });
            }
            if budget.freezes > 0 {
                to.push(Action::Freeze { replica });
            }
        }
        if process.failing_calls.contains(&true) && budget.reconnects > 0 {
            to.push(Action::Reconnect { replica });
        }
    }
}

impl World {
    /// Which of the expected events have occurred.
    pub fn expected_events(&self) -> ExpectedEvents {
        let mut expected_events = ExpectedEvents::default();
        for (replica, process) in self.replicas.iter().enumerate().filter(|(_, process)| process.up)
        {
            let counts = process.catalog.counts();
            expected_events.expired |= counts.expired > 0;
            expected_events.revived |= counts.revived > 0;
            let fenced = process.directory.is_fenced(self.now(replica).moment);
            expected_events.fenced |= fenced && process.directory.horizon().0 > 0;
            for instance in 0..INSTANCES {
                let source = self.slot(replica, instance).map(|slot| slot.source());
                expected_events.kept_by_ledger |= source == Some(Source::Ledger)
                    && self.is_discoverable(replica, instance)
                    && self.time > process.direct_lease_end[instance];
            }
        }
        expected_events.evicted = self.promises.iter().any(|promises| promises.evicted);
        expected_events
    }
}
