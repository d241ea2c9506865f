//! Scenes: where a world begins, what is free in it, and how much of each may happen.
//!
//! A scene begins warmed up, shortly before something interesting, because a world that begins with
//! nothing is far from there, and the number of ways grows with every step. Owns what may happen;
//! not what it does (`world`). The scenes themselves are in `scenes`.

use rollcall_core::slot::Source;
use rollcall_model::lease::{Lease, LeaseMode, OnExpiry};

use crate::{
    Time,
    explore::Signs,
    machine::Make,
    promise::Asserts,
    replica::Pace,
    watches::FEEDS,
    world::{Action, INSTANCES, LEASE, REPLICAS, World},
};

/// What may happen, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    pub ticks: u8,
    /// How many beats at doors, in all.
    pub beats: u8,
    pub stored: u8,
    pub given_up: u8,
    pub crashes: u8,
    pub freezes: u8,
    pub mends: u8,
    pub relists: u8,
}

pub struct Scene {
    pub name: &'static str,
    /// How long an expired object stays.
    pub evict_after: Time,
    /// Until where everything goes by itself; ends with what is free from then on.
    pub warm: fn(&mut World),
    /// Who may beat where: instance and replica.
    pub doors: &'static [(usize, usize)],
    pub budget: Budget,
    pub asserts: Asserts,
    /// Signs that have to be seen.
    pub signs: &'static [&'static str],
}

impl Budget {
    /// Takes what an action costs.
    pub fn pay(&mut self, action: Action) {
        match action {
            Action::Tick => self.ticks -= 1,
            Action::Beat { .. } => self.beats -= 1,
            Action::Annotate { .. } => self.stored -= 1,
            Action::GiveUp { .. } => self.given_up -= 1,
            Action::Crash { .. } => self.crashes -= 1,
            Action::Freeze { .. } => self.freezes -= 1,
            Action::Mend { .. } => self.mends -= 1,
            Action::Relist { .. } => self.relists -= 1,
            Action::Deliver { .. }
            | Action::Resume { .. }
            | Action::Land { .. }
            | Action::Start { .. }
            | Action::Thaw { .. } => {}
        }
    }
}

impl Scene {
    /// The world in which the scene begins.
    pub fn begin(&self, make: Make, journal: bool) -> World {
        let of = std::time::Duration::from_millis;
        let (mode, on_expiry) = (LeaseMode::Heartbeat, OnExpiry::Evict);
        let lease =
            Lease { mode, on_expiry, duration: of(LEASE), evict_after: of(self.evict_after) };
        let mut world = World::new(make, lease, journal);
        (self.warm)(&mut world);
        world.asserts = self.asserts;
        world.note(|| format!("--- {}", self.name));
        world
    }

    /// What may happen in a scene that is made longer. What may happen once only is kept so: where
    /// everything is free, another step is out of reach.
    pub fn budget(&self, deeper: u8) -> Budget {
        let more = |budget| if budget > 1 { budget + deeper } else { budget };
        Budget { ticks: more(self.budget.ticks), beats: more(self.budget.beats), ..self.budget }
    }

    /// What can happen next.
    pub fn actions(&self, world: &World, budget: &Budget) -> Vec<Action> {
        let mut actions = Vec::new();
        for replica in 0..REPLICAS {
            for feed in FEEDS {
                let one = &world.replicas[replica];
                match one.paces[feed as usize] {
                    _ if !one.runs() => {}
                    Pace::Single | Pace::Soon if world.is_behind(replica, feed) => {
                        actions.push(Action::Deliver { replica, feed });
                    }
                    Pace::Stopped if budget.relists > 0 => {
                        actions.push(Action::Relist { replica, feed });
                    }
                    Pace::Stopped => actions.push(Action::Resume { replica, feed }),
                    _ => {}
                }
            }
            self.of_replica(world, budget, replica, &mut actions);
        }
        for (call, waiting) in world.calls.iter().enumerate() {
            let runs = waiting.given_up || world.replicas[waiting.replica].runs();
            if runs && (waiting.given_up || !world.is_cut(waiting)) {
                actions.push(Action::Land { call });
            }
            if runs && !waiting.given_up && budget.given_up > 0 {
                actions.push(Action::GiveUp { call });
            }
        }
        if budget.beats > 0 {
            let doors = self.doors.iter().filter(|(instance, replica)| {
                let one = &world.replicas[*replica];
                one.runs() && one.directory.is_synced() && !one.beaten[*instance]
            });
            actions.extend(doors.map(|&(instance, replica)| Action::Beat { instance, replica }));
        }
        if budget.stored > 0 {
            actions.push(Action::Annotate { instance: 0 });
        }
        if budget.ticks > 0 {
            actions.push(Action::Tick);
        }
        actions
    }

    fn of_replica(&self, world: &World, budget: &Budget, replica: usize, to: &mut Vec<Action>) {
        let one = &world.replicas[replica];
        if !one.up {
            return to.push(Action::Start { replica });
        }
        if one.frozen {
            return to.push(Action::Thaw { replica });
        }
        // Promises are checked at both; mishaps of one of the two are enough.
        if replica == 1 {
            if budget.crashes > 0 {
                to.push(Action::Crash { replica });
            }
            if budget.freezes > 0 {
                to.push(Action::Freeze { replica });
            }
        }
        if one.cut.contains(&true) && budget.mends > 0 {
            to.push(Action::Mend { replica });
        }
    }
}

impl World {
    /// What shows that something happened.
    pub fn signs(&self) -> Signs {
        let mut signs = Signs::default();
        for (replica, one) in self.replicas.iter().enumerate().filter(|(_, one)| one.up) {
            let counts = one.catalog.counts();
            signs.judged |= counts.expired > 0;
            signs.revived |= counts.revived > 0;
            let fenced = one.directory.is_fenced(self.now(replica).moment);
            signs.fenced |= fenced && one.directory.horizon().0 > 0;
            for instance in 0..INSTANCES {
                let told = self.slot(replica, instance).map(|slot| slot.source());
                signs.saved |= told == Some(Source::Ledger)
                    && self.is_discoverable(replica, instance)
                    && self.time > one.first_hand[instance];
            }
        }
        signs.evicted = self.promised.iter().any(|promised| promised.evicted);
        signs
    }
}
