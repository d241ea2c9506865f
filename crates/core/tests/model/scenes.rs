//! The scenes: each where some clauses of the protocol bite, and with just as many steps as it takes to break
//! a promise without them. Owns where they begin and how long they are; not how they are walked.
//!
//! Out of reach here, and left to the simulation: `ageing` (clocks that run apart need minutes to
//! show), `floors_add_up` (it takes two that fall silent, and a third that judges).

use crate::{
    promise::Asserts,
    replica::Pace,
    scene::{Budget, Scene},
    watches::Feed,
    world::{Action, REPLICAS, World},
};

const NONE: Budget = Budget {
    ticks: 0,
    beats: 0,
    stored: 0,
    given_up: 0,
    crashes: 0,
    freezes: 0,
    mends: 0,
    relists: 0,
};

/// P1 and P3.
const PLAIN: Asserts = Asserts { late: false, leaving: false };

impl World {
    /// Time passes, and everything goes by itself.
    fn pass(&mut self, steps: usize) {
        (0..steps).for_each(|_| self.step(Action::Tick));
    }

    /// Both replicas know each other, and answer beats; in every step those beat of whom it is said.
    fn begin(&mut self, steady: &'static [(usize, usize)]) {
        self.steady = steady;
        self.start(0);
        self.start(1);
        self.flow();
        self.pass(4);
        for replica in 0..REPLICAS {
            let fenced = self.replicas[replica].directory.is_fenced(self.now(replica).moment);
            assert!(!fenced, "r{replica} is not warm");
        }
    }

    fn pace(&mut self, replica: usize, feed: Feed, pace: Pace) {
        self.replicas[replica].paces[feed as usize] = pace;
    }
}

/// Ledgers of r1 take at least a step to be stored, and always have.
pub const LATE_LEDGERS: Scene = Scene {
    name: "ledgers of r1 are late",
    evict_after: 60_000,
    warm: |world| {
        world.steady = &[(0, 0), (1, 1)];
        world.start(0);
        world.start(1);
        world.replicas[1].free_calls[1] = true;
        world.flow();
        for _ in 0..6 {
            world.pass(1);
            if let Some(call) = world.calls.iter().position(|call| call.is_ledger()) {
                world.step(Action::Land { call });
            }
        }
        world.steady = &[(1, 1)];
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 5, beats: 2, ..NONE },
    asserts: PLAIN,
    signs: &["judged", "saved"],
};

/// r1 has just come, and r0 has not heard of it.
pub const NEWCOMER: Scene = Scene {
    name: "r1 is new",
    evict_after: 60_000,
    warm: |world| {
        world.steady = &[(0, 0), (1, 0)];
        world.start(0);
        world.flow();
        world.pass(3);
        world.steady = &[(1, 0)];
        world.pace(0, Feed::Ledgers, Pace::Single);
        world.start(1);
        world.flow();
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 5, beats: 2, ..NONE },
    asserts: PLAIN,
    signs: &["judged"],
};

/// r1 may crash and be back at any time.
pub const RESTART: Scene = Scene {
    name: "r1 is restarted",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[(1, 0)];
    },
    doors: &[(0, 0), (0, 1)],
    budget: Budget { ticks: 6, beats: 2, crashes: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged"],
};

/// r1 has not been heard for almost as long as the others wait.
pub const SILENCE: Scene = Scene {
    name: "r1 is not heard",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.replicas[1].cut = [true; 3];
        world.pass(17);
        world.steady = &[(1, 0)];
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 8, beats: 3, mends: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged", "fenced"],
};

/// r1 is about to be silent for too long, and has not seen its own last ledger.
pub const OWN_LATE: Scene = Scene {
    name: "r1 sees its own ledger late",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.pace(1, Feed::Ledgers, Pace::Stopped);
        world.pass(2);
        world.replicas[1].cut = [true; 3];
        world.pass(17);
        world.steady = &[(1, 0)];
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 9, beats: 3, ..NONE },
    asserts: PLAIN,
    signs: &["judged", "fenced"],
};

/// r1 was gone, its instance watch is late, and it may be back. r0 leads, and is about to expire an
/// instance that beats at r1, where that is answered 202.
pub const RETURN: Scene = Scene {
    name: "r1 comes back",
    evict_after: 0,
    warm: |world| {
        world.replicas[0].lead();
        world.begin(&[(0, 1), (1, 0)]);
        world.replicas[1].cut = [true; 3];
        world.pass(23);
        world.pace(1, Feed::Instances, Pace::Single);
        world.pass(1);
        world.replicas[0].free_calls[2] = true;
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 4, beats: 1, mends: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged", "fenced", "evicted"],
};

/// r1 learns late of a beat that was stored, and of what was stored after it. r0 leads.
pub const BLIND: Scene = Scene {
    name: "r1 sees instances late",
    evict_after: 0,
    warm: |world| {
        world.replicas[0].lead();
        world.begin(&[(0, 0), (1, 0)]);
        world.steady = &[(1, 0)];
        world.pace(1, Feed::Instances, Pace::Single);
        world.step(Action::Annotate { instance: 0 });
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 7, beats: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged", "evicted", "revived"],
};

/// The instance watch of r0 is late; somebody is due there.
pub const ATTEMPTS: Scene = Scene {
    name: "r0 sees its self-beats late",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 0), (1, 0)]);
        world.steady = &[(0, 0)];
        world.pass(2);
        world.steady = &[];
        world.pass(2);
        world.pace(0, Feed::Instances, Pace::Single);
    },
    doors: &[],
    budget: Budget { ticks: 6, stored: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged"],
};

/// r1 may be frozen, which gives everybody there more time than elsewhere.
pub const FLOORS: Scene = Scene {
    name: "r1 gives time back",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[(1, 0)];
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 7, beats: 2, freezes: 1, ..NONE },
    asserts: Asserts { late: true, leaving: false },
    signs: &["judged", "revived"],
};

/// r1 takes r0 for gone, whose ledgers were not stored for long, and keeps nothing for it; r0 is not told
/// of ledgers, and is about to list them.
pub const MISSED: Scene = Scene {
    name: "r0 misses ledgers",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 1)]);
        world.replicas[0].cut[1] = true;
        world.pass(22);
        world.steady = &[(1, 1)];
        world.pace(0, Feed::Ledgers, Pace::Stopped);
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 8, beats: 2, mends: 1, relists: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged"],
};

/// All is well, but for r0 seeing instances up to a step late.
pub const WELL: Scene = Scene {
    name: "all is well",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 0)]);
        world.pass(6);
        world.steady = &[];
        world.pace(0, Feed::Instances, Pace::Soon);
    },
    doors: &[],
    budget: Budget { ticks: 12, stored: 1, ..NONE },
    asserts: Asserts { late: false, leaving: true },
    signs: &["judged", "revived"],
};

/// Ledgers of r1 wait to be carried out, and their answers may be lost.
pub const LOST: Scene = Scene {
    name: "answers to r1 are lost",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[(1, 0)];
        world.replicas[1].free_calls[1] = true;
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 6, beats: 1, given_up: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged", "saved"],
};

/// Everything is free, of both, around the moment at which both instances are due.
pub const FREE: Scene = Scene {
    name: "everything is free",
    evict_after: 60_000,
    warm: |world| {
        world.begin(&[(0, 1), (1, 0)]);
        world.steady = &[];
        world.pass(4);
        for replica in 0..REPLICAS {
            world.pace(replica, Feed::Instances, Pace::Single);
            world.pace(replica, Feed::Ledgers, Pace::Single);
            world.replicas[replica].free_calls = [true; 3];
        }
    },
    doors: &[(0, 1)],
    budget: Budget { ticks: 1, beats: 1, ..NONE },
    asserts: PLAIN,
    signs: &["judged"],
};
