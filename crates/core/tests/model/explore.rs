//! Exploring: a scene as a model that the checker walks through, way by way.
//!
//! A catalog cannot be copied, but it is pure and quick: a state is the list of the actions that led to it,
//! and to take a step the world is built anew and led along. Two states are one if the digests of
//! their worlds are. What a state shows is kept beside it, so that a world is built once.
//!
//! Owns: states, properties, and how a scene is run. Does not own: what happens (`world`) and what is
//! free (`scene`).

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    hash::{Hash, Hasher},
    time::Instant,
};

use rollcall_core::rules::AllRules;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::{
    digest::Digest,
    machine::Make,
    scene::{Budget, Scene},
    world::{Action, World},
};

/// What is seen of a world.
#[derive(Clone)]
pub struct State {
    /// The way to it.
    way: Vec<Action>,
    digest: u64,
    /// What can happen next.
    next: Vec<Action>,
    broken: Option<&'static str>,
    signs: Signs,
}

/// What shows that a scene was worth something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// Somebody was judged dead.
    pub judged: bool,
    /// An object was evicted.
    pub evicted: bool,
    /// Somebody is discoverable where it would not be, but for a ledger.
    pub saved: bool,
    /// A replica that has seen its ledger answers 202.
    pub fenced: bool,
    /// Somebody is discoverable again.
    pub revived: bool,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        to.write_u64(self.digest);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.digest)
    }
}

/// A scene under some rules.
#[derive(Clone)]
pub struct Play {
    pub scene: &'static Scene,
    pub make: Make,
    /// How much longer than written in the scene.
    pub deeper: u8,
}

/// What came of it.
pub struct Outcome {
    pub states: usize,
    /// How often a step was taken.
    pub steps: usize,
    pub depth: usize,
    /// The promise that was broken, and the way there.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// The signs that were seen.
    pub signs: Vec<&'static str>,
    pub seconds: f64,
}

impl Play {
    /// The world at the end of a way.
    fn world(&self, way: &[Action], journal: bool) -> (World, Budget) {
        let mut world = self.scene.begin(self.make, journal);
        let mut budget = self.scene.budget(self.deeper);
        for action in way {
            budget.pay(*action);
            let (time, describe) = (world.time as f64 / 1000.0, *action);
            world.note(|| format!("{time:>7.3} {describe:?}"));
            world.step(*action);
        }
        (world, budget)
    }

    fn state(&self, way: Vec<Action>) -> State {
        let (world, budget) = self.world(&way, false);
        let digest = Digest::of(|to| {
            use fmt::Write;
            world.describe(to)?;
            write!(to, ", {budget:?}")
        });
        let next = match world.broken {
            Some(_) => Vec::new(),
            None => self.scene.actions(&world, &budget),
        };
        State { way, digest, next, broken: world.broken, signs: world.signs() }
    }

    /// A way in words, with what came of each action.
    pub fn tell(&self, way: &[Action]) -> String {
        let (mut world, _) = self.world(way, true);
        let journal = world.journal.take().unwrap_or_default();
        let from = journal.iter().position(|line| line.starts_with("---")).unwrap_or(0);
        journal[from..].join("\n")
    }

    /// Walks every way of the scene; until one breaks a promise, if one does.
    #[expect(clippy::disallowed_methods, reason = "how long the walk took, for the reader alone")]
    pub fn run(&self) -> Outcome {
        let begun = Instant::now();
        let checker = self.clone().checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let discoveries = checker.discoveries();
        let broken = discoveries.get("kept").map(|path| {
            let state = path.last_state();
            (state.broken.unwrap(), state.way.clone())
        });
        let signs = discoveries.into_keys().filter(|name| *name != "kept").collect();
        Outcome {
            states: checker.unique_state_count(),
            steps: checker.state_count(),
            depth: checker.max_depth(),
            broken,
            signs,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

impl Model for Play {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.state(Vec::new())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(&state.next);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut way = last.way.clone();
        way.push(action);
        Some(self.state(way))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("kept", |_, state: &State| state.broken.is_none()),
            Property::sometimes("judged", |_, state: &State| state.signs.judged),
            Property::sometimes("evicted", |_, state: &State| state.signs.evicted),
            Property::sometimes("saved", |_, state: &State| state.signs.saved),
            Property::sometimes("fenced", |_, state: &State| state.signs.fenced),
            Property::sometimes("revived", |_, state: &State| state.signs.revived),
        ]
    }
}

/// Two ways to one digest have to go on alike: the same actions, to the same digests.
#[test]
fn worlds_that_are_taken_for_one_go_on_alike() {
    const STATES: usize = 500;
    let scene = &crate::scenes::FREE;
    let play = Play { scene, make: crate::machine::machine::<AllRules>, deeper: 0 };
    let after = |state: &State| -> Vec<(Action, State)> {
        let step = |action: &Action| (*action, play.next_state(state, *action).unwrap());
        state.next.iter().map(step).collect()
    };
    let digests = |after: &[(Action, State)]| -> Vec<_> {
        after.iter().map(|(action, state)| (*action, state.digest)).collect()
    };
    let (mut known, mut merged) = (HashMap::new(), 0);
    let mut queue = VecDeque::from(play.init_states());
    while let Some(state) = queue.pop_front().filter(|_| known.len() < STATES) {
        let after = after(&state);
        match known.entry(state.digest) {
            Entry::Occupied(before) => {
                merged += 1;
                assert_eq!(*before.get(), digests(&after), "{}", play.tell(&state.way));
            }
            Entry::Vacant(place) => {
                place.insert(digests(&after));
                queue.extend(after.into_iter().map(|(_, state)| state));
            }
        }
    }
    println!("{} states, {merged} more that were taken for one of them", known.len());
    assert!(merged > STATES / 2, "too few are taken for one");
}
