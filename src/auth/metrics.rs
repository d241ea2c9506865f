//! The metrics about callers.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::auth::cache::AnswerSource;

/// One of the two checks of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CheckKind {
    /// Authentication of the token.
    Token,
    /// Authorization of the caller.
    Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    step: &'static str,
    result: &'static str,
    source: &'static str,
}

/// The metric families of this module.
#[derive(Clone, Debug)]
pub struct AuthMetrics {
    checks: Family<Check, Counter>,
    admitted_from_memory: Counter,
    /// The label `source` of authentications.
    token_source: &'static str,
}

impl AuthMetrics {
    /// Registers the families. `by_keys`: tokens are authenticated with the cluster's keys, not by reviews.
    pub fn new(registry: &mut Registry, by_keys: bool) -> Self {
        let token_source = if by_keys { "keys" } else { "asked" };
        let new = Self {
            checks: Family::default(),
            admitted_from_memory: Counter::default(),
            token_source,
        };
        registry.register(
            "auth_checks",
            "Checks of callers (token: authentication, access: authorization) that were not answered at once from \
             memory. Result: yes, no or unknown. Source: asked (the API server), keys (of the cluster), memory (after a \
             wait for the same check of another call) or outage (the last result, repeated)",
            new.checks.clone(),
        );
        registry.register(
            "auth_admitted_from_memory",
            "Calls that were admitted at once, from memory",
            new.admitted_from_memory.clone(),
        );
        for (step, by) in [("token", token_source), ("access", "asked")] {
            for (result, source) in [("yes", by), ("no", by), ("unknown", by), ("yes", "outage")] {
                new.checks.get_or_create(&Check { step, result, source }).inc_by(0);
            }
        }
        new
    }

    /// Counts a call that was admitted from memory.
    pub(super) fn count_admitted_from_memory(&self) {
        self.admitted_from_memory.inc();
    }

    /// Counts a check.
    pub(super) fn count_check(&self, kind: CheckKind, result: &'static str, source: AnswerSource) {
        let (step, asked) = match kind {
            CheckKind::Token => ("token", self.token_source),
            CheckKind::Access => ("access", "asked"),
        };
        let source = match source {
            AnswerSource::Cache => "memory",
            AnswerSource::Fetched => asked,
            AnswerSource::Outage => "outage",
        };
        self.checks.get_or_create(&Check { step, result, source }).inc();
    }
}
