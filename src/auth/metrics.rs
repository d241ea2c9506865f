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
            "Questions about callers: token (whose is it) or access (may they); answered yes, no or \
             unknown; from memory, by asking the API server, or (outage) by repeating its last yes",
            new.checks.clone(),
        );
        registry.register(
            "auth_admitted_from_memory",
            "Calls admitted without waiting for anybody",
            new.remembered.clone(),
        );
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
