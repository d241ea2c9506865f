//! The scenes. Each one tests some clauses of the protocol, and has as many steps as it takes to break a promise
//! without these clauses. Owns: where scenes begin and how long they are. Does not own: how they are explored.
//!
//! Not covered here, but by the simulation: `AGEING` (clocks that drift apart need minutes to have an effect)
//! and `LATEST_GRACE_COUNTS` (two replicas must be cut off while a third one decides).

use crate::{
    promises::ExtraPromises,
    replica::Delivery,
    scene::{Budget, Scene},
    watches::Resource,
    world::{Action, REPLICAS, World},
};

const NO_ACTIONS: Budget = Budget {
    ticks: 0,
    beats: 0,
    annotations: 0,
    timeouts: 0,
    crashes: 0,
    freezes: 0,
    reconnects: 0,
    relists: 0,
};

/// P1 and P3 only.
const P1_AND_P3: ExtraPromises = ExtraPromises { late_heartbeats: false, expiry_in_time: false };

impl World {
    /// Lets time pass without choices.
    fn pass(&mut self, steps: usize) {
        (0..steps).for_each(|_| self.step(Action::Tick));
    }

    /// Starts both replicas until they know each other and answer heartbeats. In every step, the `steady`
    /// heartbeats are sent.
    fn begin(&mut self, steady: &'static [(usize, usize)]) {
        self.steady = steady;
        self.start(0);
        self.start(1);
        self.run_undelayed();
        self.pass(4);
        for replica in 0..REPLICAS {
            let fenced = self.replicas[replica].directory.is_fenced(self.now(replica).moment);
            assert!(!fenced, "r{replica} is still fenced");
        }
    }

    fn set_delivery(&mut self, replica: usize, resource: Resource, delivery: Delivery) {
        self.replicas[replica].deliveries[resource as usize] = delivery;
    }
}

/// Ledgers of r1 always take at least a step to be stored.
pub const LATE_LEDGERS: Scene = Scene {
    name: "ledgers of r1 are late",
    evict_after: 60_000,
    prepare: |world| {
        world.steady = &[(0, 0), (1, 1)];
        world.start(0);
        world.start(1);
        world.replicas[1].delayed_calls[1] = true;
        world.run_undelayed();
        for _ in 0..6 {
            world.pass(1);
            if let Some(call) = world.calls.iter().position(|call| call.is_ledger()) {
                world.step(Action::Execute { call });
            }
        }
        world.steady = &[(1, 1)];
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 5, beats: 2, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired", "kept by ledger"],
};

/// r1 has started, and r0 does not know it yet.
pub const NEW_REPLICA: Scene = Scene {
    name: "r1 is new",
    evict_after: 60_000,
    prepare: |world| {
        world.steady = &[(0, 0), (1, 0)];
        world.start(0);
        world.run_undelayed();
        world.pass(3);
        world.steady = &[(1, 0)];
        world.set_delivery(0, Resource::Ledgers, Delivery::OneByOne);
        world.start(1);
        world.run_undelayed();
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 5, beats: 2, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired"],
};

/// r1 can crash and return at any time.
pub const RESTART: Scene = Scene {
    name: "r1 is restarted",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[(1, 0)];
    },
    http_heartbeats: &[(0, 0), (0, 1)],
    budget: Budget { ticks: 6, beats: 2, crashes: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired"],
};

/// Requests of r1 have failed for almost as long as the others wait.
pub const SILENCE: Scene = Scene {
    name: "requests of r1 do not arrive",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.replicas[1].failing_calls = [true; 3];
        world.pass(17);
        world.steady = &[(1, 0)];
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 8, beats: 3, reconnects: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired", "fenced"],
};

/// r1 has stored no ledger for almost too long, and its own last ledger has not come back.
pub const OWN_LEDGER_LATE: Scene = Scene {
    name: "r1 observes its own ledger late",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.set_delivery(1, Resource::Ledgers, Delivery::Stopped);
        world.pass(2);
        world.replicas[1].failing_calls = [true; 3];
        world.pass(17);
        world.steady = &[(1, 0)];
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 9, beats: 3, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired", "fenced"],
};

/// r1 was disconnected, its instance watch is late, and it can reconnect. r0 leads and is about to expire an
/// instance that sends heartbeats to r1, where they are answered 202.
pub const RETURNED: Scene = Scene {
    name: "r1 returns",
    evict_after: 0,
    prepare: |world| {
        world.replicas[0].lead();
        world.begin(&[(0, 1), (1, 0)]);
        world.replicas[1].failing_calls = [true; 3];
        world.pass(23);
        world.set_delivery(1, Resource::Instances, Delivery::OneByOne);
        world.pass(1);
        world.replicas[0].delayed_calls[2] = true;
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 4, beats: 1, reconnects: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired", "fenced", "evicted"],
};

/// r1 learns late of a stored heartbeat and of later changes. r0 leads.
pub const INSTANCES_LATE: Scene = Scene {
    name: "r1 observes instances late",
    evict_after: 0,
    prepare: |world| {
        world.replicas[0].lead();
        world.begin(&[(0, 0), (1, 0)]);
        world.steady = &[(1, 0)];
        world.set_delivery(1, Resource::Instances, Delivery::OneByOne);
        world.step(Action::Annotate { instance: 0 });
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 7, beats: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired", "evicted", "revived"],
};

/// The instance watch of r0 is late, and an instance is due there.
pub const SELF_BEATS_LATE: Scene = Scene {
    name: "r0 observes its self-beats late",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 0), (1, 0)]);
        world.steady = &[(0, 0)];
        world.pass(2);
        world.steady = &[];
        world.pass(2);
        world.set_delivery(0, Resource::Instances, Delivery::OneByOne);
    },
    http_heartbeats: &[],
    budget: Budget { ticks: 6, annotations: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired"],
};

/// r1 can be frozen. It then gives time back, and r0 does not.
pub const GRACE: Scene = Scene {
    name: "r1 gives time back",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[(1, 0)];
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 7, beats: 2, freezes: 1, ..NO_ACTIONS },
    extra_promises: ExtraPromises { late_heartbeats: true, expiry_in_time: false },
    expected_events: &["expired", "revived"],
};

/// r1 considers r0 gone, because its ledgers were not stored for long, and reports nothing to it any more. The
/// ledger watch of r0 is stopped and is about to list again.
pub const LEDGERS_MISSED: Scene = Scene {
    name: "r0 misses ledgers",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 1)]);
        world.replicas[0].failing_calls[1] = true;
        world.pass(22);
        world.steady = &[(1, 1)];
        world.set_delivery(0, Resource::Ledgers, Delivery::Stopped);
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 8, beats: 2, reconnects: 1, relists: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired"],
};

/// There is no fault, except that r0 observes instances up to a step late.
pub const ALL_WELL: Scene = Scene {
    name: "all is well",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 0)]);
        world.pass(6);
        world.steady = &[];
        world.set_delivery(0, Resource::Instances, Delivery::WithinStep);
    },
    http_heartbeats: &[],
    budget: Budget { ticks: 12, annotations: 1, ..NO_ACTIONS },
    extra_promises: ExtraPromises { late_heartbeats: false, expiry_in_time: true },
    expected_events: &["expired", "revived"],
};

/// Ledgers of r1 wait to be executed, and their responses can be lost.
pub const RESPONSES_LOST: Scene = Scene {
    name: "responses to r1 are lost",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[(1, 0)];
        world.replicas[1].delayed_calls[1] = true;
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 6, beats: 1, timeouts: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired", "kept by ledger"],
};

/// Every order is possible on both replicas, around the moment at which both instances are due.
pub const EVERY_ORDER: Scene = Scene {
    name: "every order is possible",
    evict_after: 60_000,
    prepare: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[];
        world.pass(4);
        for replica in 0..REPLICAS {
            world.set_delivery(replica, Resource::Instances, Delivery::OneByOne);
            world.set_delivery(replica, Resource::Ledgers, Delivery::OneByOne);
            world.replicas[replica].delayed_calls = [true; 3];
        }
    },
    http_heartbeats: &[(0, 1)],
    budget: Budget { ticks: 1, beats: 1, ..NO_ACTIONS },
    extra_promises: P1_AND_P3,
    expected_events: &["expired"],
};
