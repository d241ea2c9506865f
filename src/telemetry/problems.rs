//! Problems that an operator must fix before this replica works as it should. `/readyz` and `/v1/cluster` report them.
//!
//! Owns: the current problems. The preflight finds problems in checks, and a refused call adds one at run time. The
//! problem of a refused call is reported at once. It ends with the first success of the same call, or with a check that
//! began later and did not find it. Does not own: the checks and the sentences (`kubernetes::preflight`).

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

/// Sentences about missing parts, each with its fix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Problems that keep the replica from being ready, because it has no data to answer with.
    pub blocking: Vec<String>,
    /// Problems with which the replica works, but not completely.
    pub limiting: Vec<String>,
}

impl Problems {
    /// All problems, the blocking ones first.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.blocking.iter().chain(&self.limiting)
    }

    fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    fn remove(&mut self, sentence: &str) {
        self.blocking.retain(|problem| problem != sentence);
        self.limiting.retain(|problem| problem != sentence);
    }
}

/// The kind of part that is missing according to a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissingKind {
    /// An RBAC right.
    Right,
    /// The custom resource definition.
    Type,
}

/// A refused call: its RBAC verb and its resource.
type RefusedCall = (MissingKind, String, String);

/// Returns the sentence about a refused call, with the fix.
type Explain = Box<dyn Fn(MissingKind, &str, &str) -> String + Send + Sync>;

/// The current problems of a replica. Clones share them.
#[derive(Clone)]
pub struct ProblemTracker(Arc<TrackerState>);

struct TrackerState {
    explain: Explain,
    sources: Mutex<Sources>,
    /// Whether there are any problems. Successful calls are frequent, and while there are no problems they read only
    /// this flag.
    any: AtomicBool,
    /// The problems of both sources, for readers.
    shown: ArcSwap<Problems>,
    check_wanted: Notify,
}

/// Where problems come from.
#[derive(Default)]
struct Sources {
    /// The findings of the last check.
    found: Problems,
    /// The sentence about each refused call, with the number of checks that had begun by its last refusal.
    refused: BTreeMap<RefusedCall, (String, u64)>,
    checks: u64,
}

impl fmt::Debug for ProblemTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProblemTracker").field(&self.shown()).finish()
    }
}

impl Default for ProblemTracker {
    /// With short sentences that name the missing right or type only.
    fn default() -> Self {
        Self::new(|lack, verb, resource| format!("{lack:?}: {verb} {resource}"))
    }
}

impl ProblemTracker {
    /// Starts without problems. `explain` returns the consequence of a refused call and its fix.
    #[must_use]
    pub fn new(
        explain: impl Fn(MissingKind, &str, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(TrackerState {
            explain: Box::new(explain),
            sources: Mutex::default(),
            any: AtomicBool::default(),
            shown: ArcSwap::default(),
            check_wanted: Notify::new(),
        }))
    }

    /// The current problems.
    #[must_use]
    pub fn shown(&self) -> Arc<Problems> {
        self.0.shown.load_full()
    }

    /// Begins a check. Returns its number, which [`Self::found`] takes together with the findings.
    #[must_use]
    pub fn begin_check(&self) -> u64 {
        let mut sources = self.0.sources.lock();
        sources.checks += 1;
        sources.checks
    }

    /// Records the findings of the check with this number.
    pub fn found(&self, found: Problems, check: u64) {
        let mut sources = self.0.sources.lock();
        sources.found = found;
        sources.refused.retain(|_, (_, checks)| *checks >= check);
        self.publish(&sources);
    }

    /// Reports at once that a call was refused because something is missing, and asks for a check, which finds the
    /// rest.
    pub fn refused(&self, lack: MissingKind, verb: &str, resource: &str) {
        let key = (lack, verb.to_owned(), resource.to_owned());
        let mut sources = self.0.sources.lock();
        let begun = sources.checks;
        if let Some((_, checks)) = sources.refused.get_mut(&key) {
            *checks = begun;
            return;
        }
        let sentence = (self.0.explain)(lack, verb, resource);
        if !sources.found.all().any(|problem| *problem == sentence) {
            warn!("refused: {sentence}");
        }
        sources.refused.insert(key, (sentence, begun));
        self.publish(&sources);
        self.0.check_wanted.notify_one();
    }

    /// Ends the problems about the right and the type that a successful call needs.
    pub fn succeeded(&self, verb: &str, resource: &str) {
        if !self.0.any.load(Ordering::Acquire) {
            return;
        }
        let mut sources = self.0.sources.lock();
        let sentence = (self.0.explain)(MissingKind::Right, verb, resource);
        let type_sentence = (self.0.explain)(MissingKind::Type, verb, resource);
        let before = sources.refused.len();
        sources.refused.retain(|(lack, v, r), _| match lack {
            MissingKind::Right => (&**v, &**r) != (verb, resource),
            // A subresource belongs to the same type.
            MissingKind::Type => r.split('/').next() != resource.split('/').next(),
        });
        let is_found = |sentence: &str| sources.found.all().any(|problem| problem == sentence);
        let (right, of_type) = (is_found(&sentence), is_found(&type_sentence));
        if sources.refused.len() == before && !right && !of_type {
            return;
        }
        if right || sources.refused.len() < before {
            info!(verb, resource, "a call that was refused before has succeeded");
        }
        sources.found.remove(&sentence);
        self.publish(&sources);
        // One type can be served again while the other is not yet.
        if of_type || right {
            self.0.check_wanted.notify_one();
        }
    }

    /// Waits, without a deadline, until a check is useful.
    pub async fn check_wanted(&self) {
        self.0.check_wanted.notified().await;
    }

    fn publish(&self, sources: &Sources) {
        let mut shown = sources.found.clone();
        for (sentence, _) in sources.refused.values() {
            if !shown.all().any(|problem| problem == sentence) {
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

    fn tracker() -> ProblemTracker {
        ProblemTracker::new(|lack, verb, resource| match lack {
            MissingKind::Right => format!("may not {verb} {resource}"),
            MissingKind::Type => "the type is missing".to_owned(),
        })
    }

    fn shown(tracker: &ProblemTracker) -> Vec<String> {
        tracker.shown().all().cloned().collect()
    }

    fn limiting(sentence: &str) -> Problems {
        Problems { limiting: vec![sentence.to_owned()], ..Problems::default() }
    }

    #[test]
    fn refusal_is_reported_at_once_and_ends_with_success_of_the_same_call() {
        let tracker = tracker();
        tracker.refused(MissingKind::Right, "patch", "serviceinstances");
        tracker.refused(MissingKind::Right, "patch", "serviceinstances");
        assert_eq!(shown(&tracker), ["may not patch serviceinstances"]);
        tracker.succeeded("get", "serviceinstances");
        assert_eq!(shown(&tracker).len(), 1, "success of another right does not end it");
        tracker.succeeded("patch", "serviceinstances");
        assert!(shown(&tracker).is_empty());
    }

    #[test]
    fn check_ends_refusals_from_before_it_began() {
        let tracker = tracker();
        let check = tracker.begin_check();
        tracker.refused(MissingKind::Right, "delete", "serviceinstances");
        tracker.found(Problems::default(), check);
        assert_eq!(shown(&tracker).len(), 1, "it was refused while the check ran");
        let check = tracker.begin_check();
        tracker.found(Problems::default(), check);
        assert!(shown(&tracker).is_empty());
    }

    #[test]
    fn problem_from_check_and_refusal_is_reported_once_and_ends_with_success() {
        let tracker = tracker();
        tracker.found(limiting("may not get leases"), tracker.begin_check());
        tracker.refused(MissingKind::Right, "get", "leases");
        assert_eq!(shown(&tracker), ["may not get leases"]);
        tracker.succeeded("get", "leases");
        assert!(shown(&tracker).is_empty());
    }

    #[test]
    fn missing_type_is_one_problem_for_all_calls_on_it() {
        let tracker = tracker();
        tracker.refused(MissingKind::Type, "patch", "serviceinstances");
        tracker.refused(MissingKind::Type, "patch", "serviceinstances/status");
        tracker.refused(MissingKind::Type, "list", "heartbeatledgers");
        assert_eq!(shown(&tracker), ["the type is missing"]);
        tracker.succeeded("list", "serviceinstances");
        assert_eq!(shown(&tracker), ["the type is missing"], "the other type is still missing");
        tracker.succeeded("patch", "heartbeatledgers");
        assert!(shown(&tracker).is_empty());
    }
}
