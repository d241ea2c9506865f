//! What somebody has to mend before this replica works as it should: found by the preflight or refused at run time, shown
//! by `/readyz` and `/v1/cluster`.
//!
//! Owns: what is shown, and how long a refusal is. It is shown from the first on, and goes with the first success of the
//! same call, or with a look that began later and did not find it. Does not own: looking, and the words
//! (`cluster::preflight`).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

/// What is missing, each with what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Without these there is nothing to answer from.
    pub blocking: Vec<String>,
    /// Without these it works, but not as it should.
    pub limiting: Vec<String>,
}

impl Problems {
    /// All of them, the worst first.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.blocking.iter().chain(&self.limiting)
    }

    fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    fn remove(&mut self, sentence: &str) {
        self.blocking.retain(|it| it != sentence);
        self.limiting.retain(|it| it != sentence);
    }
}

/// What is missing, as a refusal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// A right.
    Right,
    /// The definition of the type.
    Type,
}

/// What was refused: the verb in the words of RBAC, and the resource.
type Refused = (Lack, String, String);

/// The sentence for what was refused, and what to do about it.
type Explain = Box<dyn Fn(Lack, &str, &str) -> String + Send + Sync>;

/// The problems of a replica. Clones share them.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

struct Shared {
    explain: Explain,
    state: Mutex<State>,
    /// Whether there are any: a success, of which there are many, asks no more.
    any: AtomicBool,
    shown: ArcSwap<Problems>,
    look: Notify,
}

#[derive(Default)]
struct State {
    found: Problems,
    /// With the number of looks that had begun by the last refusal.
    refused: BTreeMap<Refused, (String, u64)>,
    looks: u64,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Board").field(&self.shown()).finish()
    }
}

impl Default for Board {
    /// Without words of its own: the right or the type that is missing.
    fn default() -> Self {
        Self::new(|lack, verb, resource| format!("{lack:?}: {verb} {resource}"))
    }
}

impl Board {
    /// None known yet; `explain` says what follows from a refusal, and what to do about it.
    #[must_use]
    pub fn new(explain: impl Fn(Lack, &str, &str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            explain: Box::new(explain),
            state: Mutex::default(),
            any: AtomicBool::default(),
            shown: ArcSwap::default(),
            look: Notify::new(),
        }))
    }

    /// All that is known.
    #[must_use]
    pub fn shown(&self) -> Arc<Problems> {
        self.0.shown.load_full()
    }

    /// A look begins. Answers its number, which is given back with what it finds.
    #[must_use]
    pub fn begin_look(&self) -> u64 {
        let mut state = self.0.state.lock();
        state.looks += 1;
        state.looks
    }

    /// The look of this number has found these.
    pub fn found(&self, found: Problems, look: u64) {
        let mut state = self.0.state.lock();
        state.found = found;
        state.refused.retain(|_, (_, looks)| *looks >= look);
        self.show(&state);
    }

    /// A call was refused for what is missing. Said at once; a look that follows soon finds out the rest.
    pub fn refused(&self, lack: Lack, verb: &str, resource: &str) {
        let key = (lack, verb.to_owned(), resource.to_owned());
        let mut state = self.0.state.lock();
        let begun = state.looks;
        if let Some((_, looks)) = state.refused.get_mut(&key) {
            *looks = begun;
            return;
        }
        let sentence = (self.0.explain)(lack, verb, resource);
        if !state.found.all().any(|it| *it == sentence) {
            warn!("refused: {sentence}");
        }
        state.refused.insert(key, (sentence, begun));
        self.show(&state);
        self.0.look.notify_one();
    }

    /// A call went well: what it needs is there.
    pub fn succeeded(&self, verb: &str, resource: &str) {
        if !self.0.any.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.0.state.lock();
        let sentence = (self.0.explain)(Lack::Right, verb, resource);
        let type_sentence = (self.0.explain)(Lack::Type, verb, resource);
        let before = state.refused.len();
        state.refused.retain(|(lack, v, r), _| match lack {
            Lack::Right => (&**v, &**r) != (verb, resource),
            // A subresource is of the same type.
            Lack::Type => r.split('/').next() != resource.split('/').next(),
        });
        let is_found = |it: &str| state.found.all().any(|found| found == it);
        let (right, of_type) = (is_found(&sentence), is_found(&type_sentence));
        if state.refused.len() == before && !right && !of_type {
            return;
        }
        if right || state.refused.len() < before {
            info!(verb, resource, "granted: what was missing is there");
        }
        state.found.remove(&sentence);
        self.show(&state);
        // One type may be served again and the other not yet.
        if of_type || right {
            self.0.look.notify_one();
        }
    }

    /// Waits, without a deadline, until a look is worth while.
    pub async fn is_to_be_looked_at(&self) {
        self.0.look.notified().await;
    }

    fn show(&self, state: &State) {
        let mut shown = state.found.clone();
        for (sentence, _) in state.refused.values() {
            if !shown.all().any(|it| it == sentence) {
                shown.limiting.push(sentence.clone());
            }
        }
        self.0.any.store(!shown.is_empty(), Ordering::Release);
        if **self.0.shown.load() != shown {
            self.0.shown.store(Arc::new(shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(|lack, verb, resource| match lack {
            Lack::Right => format!("may not {verb} {resource}"),
            Lack::Type => "the type is missing".to_owned(),
        })
    }

    fn shown(board: &Board) -> Vec<String> {
        board.shown().all().cloned().collect()
    }

    fn limiting(sentence: &str) -> Problems {
        Problems { limiting: vec![sentence.to_owned()], ..Problems::default() }
    }

    #[test]
    fn a_refusal_shows_at_once_and_goes_with_the_first_success_of_the_same_call() {
        let board = board();
        board.refused(Lack::Right, "patch", "serviceinstances");
        board.refused(Lack::Right, "patch", "serviceinstances");
        assert_eq!(shown(&board), ["may not patch serviceinstances"]);
        board.succeeded("get", "serviceinstances");
        assert_eq!(shown(&board).len(), 1, "another right");
        board.succeeded("patch", "serviceinstances");
        assert!(shown(&board).is_empty());
    }

    #[test]
    fn a_look_takes_away_what_was_refused_before_it_began() {
        let board = board();
        let look = board.begin_look();
        board.refused(Lack::Right, "delete", "serviceinstances");
        board.found(Problems::default(), look);
        assert_eq!(shown(&board).len(), 1, "it was refused while the look was under way");
        let look = board.begin_look();
        board.found(Problems::default(), look);
        assert!(shown(&board).is_empty());
    }

    #[test]
    fn what_a_look_found_is_shown_once_and_goes_with_a_success_too() {
        let board = board();
        board.found(limiting("may not get leases"), board.begin_look());
        board.refused(Lack::Right, "get", "leases");
        assert_eq!(shown(&board), ["may not get leases"]);
        board.succeeded("get", "leases");
        assert!(shown(&board).is_empty());
    }

    #[test]
    fn a_type_that_is_missing_is_one_problem_for_all_calls_on_it() {
        let board = board();
        board.refused(Lack::Type, "patch", "serviceinstances");
        board.refused(Lack::Type, "patch", "serviceinstances/status");
        board.refused(Lack::Type, "list", "heartbeatledgers");
        assert_eq!(shown(&board), ["the type is missing"]);
        board.succeeded("list", "serviceinstances");
        assert_eq!(shown(&board), ["the type is missing"], "of the other type");
        board.succeeded("patch", "heartbeatledgers");
        assert!(shown(&board).is_empty());
    }
}
