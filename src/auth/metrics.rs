//! What is counted about callers.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::auth::memory::Source;

/// One of the two questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Whose token it is.
    Token,
    /// Whether they may.
    Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    step: &'static str,
    result: &'static str,
    source: &'static str,
}

/// The families of this room.
#[derive(Clone, Debug)]
pub struct AuthMetrics {
    checks: Family<Check, Counter>,
    remembered: Counter,
    /// What tells whose a token is.
    tokens_by: &'static str,
}

impl AuthMetrics {
    /// Registers the families; whose a token is is told by keys, or else asked.
    pub fn new(registry: &mut Registry, by_keys: bool) -> Self {
        let tokens_by = if by_keys { "keys" } else { "asked" };
        let new = Self { checks: Family::default(), remembered: Counter::default(), tokens_by };
        registry.register(
            "auth_checks",
            "Questions about callers (token: whose is it, access: may they) that were not answered at \
             once: yes, no or unknown; asked of the API server, told by its keys, from memory after a wait for \
             somebody else's question, or (outage) the last yes repeated",
            new.checks.clone(),
        );
        registry.register(
            "auth_admitted_from_memory",
            "Calls of callers who were let in at once, from memory",
            new.remembered.clone(),
        );
        for (step, by) in [("token", tokens_by), ("access", "asked")] {
            for (result, source) in [("yes", by), ("no", by), ("unknown", by), ("yes", "outage")] {
                new.checks.get_or_create(&Check { step, result, source }).inc_by(0);
            }
        }
        new
    }

    /// A call was admitted with what was known.
    pub(super) fn remembered(&self) {
        self.remembered.inc();
    }

    /// A question was answered.
    pub(super) fn checked(&self, step: Step, result: &'static str, source: Source) {
        let (step, asked) = match step {
            Step::Token => ("token", self.tokens_by),
            Step::Access => ("access", "asked"),
        };
        let source = match source {
            Source::Memory => "memory",
            Source::Asked => asked,
            Source::Outage => "outage",
        };
        self.checks.get_or_create(&Check { step, result, source }).inc();
    }
}
