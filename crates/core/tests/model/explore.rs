//! A scene as a model that the checker explores path by path.
//!
//! A catalog cannot be cloned, but it is pure and fast. A state is therefore the list of actions that led to
//! it, and each step rebuilds the world and replays them. Two states are equal if the digests of their worlds
//! are equal. A state keeps what the checker needs of its world, so that each world is built only once.
//!
//! Owns: states, properties, and how a scene is explored. Does not own: the effect of actions (`world`), and
//! which actions are possible (`scene`).

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
    mutants::BuildMachine,
    scene::{Budget, Scene},
    world::{Action, World},
};

/// A state of the model.
#[derive(Clone)]
pub struct State {
    /// The actions that led to it.
    path: Vec<Action>,
    digest: u64,
    /// The actions that are possible next.
    next: Vec<Action>,
    broken: Option<&'static str>,
    expected_events: ExpectedEvents,
}

/// Events that must occur in a scene, to show that it tests something.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpectedEvents {
    /// An instance expired.
    pub expired: bool,
    /// An object was evicted.
    pub evicted: bool,
    /// An instance is discoverable only because of a ledger.
    pub kept_by_ledger: bool,
    /// A replica is fenced again after its ledger had come back.
    pub fenced: bool,
    /// An instance was revived.
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

/// A scene under a set of rules.
#[derive(Clone)]
pub struct SceneModel {
    pub scene: &'static Scene,
    pub make: BuildMachine,
    /// The number of steps that are added to the scene.
    pub deeper: u8,
}

/// The result of an exploration.
pub struct Exploration {
    pub states: usize,
    /// The number of steps.
    pub steps: usize,
    pub depth: usize,
    /// The broken promise, and the path to it.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// The events that occurred.
    pub expected_events: Vec<&'static str>,
    pub seconds: f64,
}

impl SceneModel {
    /// The world at the end of a path.
    fn world(&self, path: &[Action], journal: bool) -> (World, Budget) {
        let mut world = self.scene.begin(self.make, journal);
        let mut budget = self.scene.budget(self.deeper);
        for action in path {
            budget.subtract(*action);
            let (time, described) = (world.time as f64 / 1000.0, *action);
            world.log(|| format!("{time:>7.3} {described:?}"));
            world.step(*action);
        }
        (world, budget)
    }

    fn state(&self, path: Vec<Action>) -> State {
        let (world, budget) = self.world(&path, false);
        let digest = Digest::of(|to| {
            use fmt::Write;
            world.describe(to)?;
            write!(to, ", {budget:?}")
        });
        let next = match world.broken {
            Some(_) => Vec::new(),
            None => self.scene.actions(&world, &budget),
        };
        State { path, digest, next, broken: world.broken, expected_events: world.expected_events() }
    }

    /// Describes a path, with the effect of each action.
    pub fn describe_path(&self, path: &[Action]) -> String {
        let (mut world, _) = self.world(path, true);
        let journal = world.journal.take().unwrap_or_default();
        let from = journal.iter().position(|line| line.starts_with("---")).unwrap_or(0);
        journal[from..].join("\n")
    }

    /// Explores every path of the scene, until one breaks a promise.
    #[expect(clippy::disallowed_methods, reason = "the duration is only printed")]
    pub fn run(&self) -> Exploration {
        let begun = Instant::now();
        let checker = self.clone().checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let discoveries = checker.discoveries();
        let broken = discoveries.get("promises hold").map(|path| {
            let state = path.last_state();
            (state.broken.unwrap(), state.path.clone())
        });
        let expected_events =
            discoveries.into_keys().filter(|name| *name != "promises hold").collect();
        Exploration {
            states: checker.unique_state_count(),
            steps: checker.state_count(),
            depth: checker.max_depth(),
            broken,
            expected_events,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

impl Model for SceneModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.state(Vec::new())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(&state.next);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut path = last.path.clone();
        path.push(action);
        Some(self.state(path))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("promises hold", |_, state: &State| state.broken.is_none()),
            Property::sometimes("expired", |_, state: &State| state.expected_events.expired),
            Property::sometimes("evicted", |_, state: &State| state.expected_events.evicted),
            Property::sometimes("kept by ledger", |_, state: &State| {
                state.expected_events.kept_by_ledger
            }),
            Property::sometimes("fenced", |_, state: &State| state.expected_events.fenced),
            Property::sometimes("revived", |_, state: &State| state.expected_events.revived),
        ]
    }
}

/// Two paths to one digest must have equal successors: the same actions, with the same digests.
#[test]
fn worlds_with_equal_digests_have_equal_successors() {
    const STATES: usize = 500;
    let scene = &crate::scenes::EVERY_ORDER;
    let model = SceneModel { scene, make: crate::mutants::build::<AllRules>, deeper: 0 };
    let after = |state: &State| -> Vec<(Action, State)> {
        let step = |action: &Action| (*action, model.next_state(state, *action).unwrap());
        state.next.iter().map(step).collect()
    };
    let digests = |after: &[(Action, State)]| -> Vec<_> {
        after.iter().map(|(action, state)| (*action, state.digest)).collect()
    };
    let (mut known, mut merged) = (HashMap::new(), 0);
    let mut queue = VecDeque::from(model.init_states());
    while let Some(state) = queue.pop_front().filter(|_| known.len() < STATES) {
        let after = after(&state);
        match known.entry(state.digest) {
            Entry::Occupied(before) => {
                merged += 1;
                assert_eq!(*before.get(), digests(&after), "{}", model.describe_path(&state.path));
            }
            Entry::Vacant(place) => {
                place.insert(digests(&after));
                queue.extend(after.into_iter().map(|(_, state)| state));
            }
        }
    }
    println!("{} states, {merged} more with the digest of one of them", known.len());
    assert!(merged > STATES / 2, "too few states have equal digests");
}
