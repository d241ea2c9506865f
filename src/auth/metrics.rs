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
#[derive(Clone, Debug, Default)]
pub struct AuthMetrics {
    checks: Family<Check, Counter>,
    remembered: Counter,
}

impl AuthMetrics {
    /// Registers the families.
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "auth_checks",
            "Questions about callers (token: whose is it, access: may they) that were not answered at \
             once: yes, no or unknown; asked of the API server, from memory after a wait for somebody \
             else's question, or (outage) its last yes repeated",
            new.checks.clone(),
        );
        registry.register(
            "auth_admitted_from_memory",
            "Calls of callers who were let in at once, from memory",
            new.remembered.clone(),
        );
        for step in ["token", "access"] {
            for (result, source) in
                [("yes", "asked"), ("no", "asked"), ("unknown", "asked"), ("yes", "outage")]
            {
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
        let step = match step {
            Step::Token => "token",
            Step::Access => "access",
        };
        let source = match source {
            Source::Memory => "memory",
            Source::Asked => "asked",
            Source::Outage => "outage",
        };
        self.checks.get_or_create(&Check { step, result, source }).inc();
    }
}
