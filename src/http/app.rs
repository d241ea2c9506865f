//! The state that all handlers share.
//!
//! Owns: [`AppState`], which axum passes to every handler as `State`. Does not own: the handlers of the routes
//! (`table`).

use std::sync::{Arc, atomic::AtomicU64};

use hyper::header::HeaderValue;
use rollcall_model::lease::Now;

use crate::auth::Authorizer;
use crate::config::Rates;
use crate::heartbeat::Intake;
use crate::http::{
    access::Authorization, document::Document, encoded_views::Views, limits::Limits,
    metrics::HttpMetrics, problem::Problem, subscribers::Subscribers, write_log::WriteLog,
};
use crate::telemetry::{metrics::BreakerMetrics, problems::ProblemTracker, traces::Traces};

/// The number of counters for `order=roundrobin`. Each service is hashed to one of them. When two services share a
/// counter, an instance is sometimes skipped in a round.
const ROUND_ROBIN_COUNTERS: usize = 1024;

/// The parts of the server that come from other modules.
pub struct AppParts {
    /// Takes heartbeats and registrations, and provides the directory.
    pub intake: Intake,
    /// Authentication and authorization; `None` with `--auth none`.
    pub authorizer: Option<Authorizer>,
    /// Problems of the cluster that an operator must fix.
    pub problems: ProblemTracker,
    /// Whether the Kubernetes API answers.
    pub breakers: BreakerMetrics,
    /// The encoded views.
    pub views: Arc<Views>,
    /// The subscribers, which the engine wakes.
    pub subscribers: Arc<Subscribers>,
    /// Exports the spans of requests, if that is configured.
    pub traces: Option<Traces>,
}

/// The settings of the server.
pub(super) struct AppSettings {
    /// Whether reads also need a token (`--read-auth`).
    pub(super) read_auth: bool,
    pub(super) rates: Rates,
    /// The identity of this replica.
    pub(super) identity: String,
    /// The DNS zone.
    pub(super) zone: String,
    /// Generates the OpenAPI document.
    pub(super) document: fn() -> Vec<u8>,
    /// Lists the operations, as HTML.
    pub(super) calls: fn() -> String,
}

/// The state that all handlers share.
pub(super) struct AppState {
    pub(super) intake: Intake,
    pub(super) authorization: Authorization,
    pub(super) problems: ProblemTracker,
    pub(super) breakers: BreakerMetrics,
    pub(super) views: Arc<Views>,
    pub(super) subscribers: Arc<Subscribers>,
    pub(super) traces: Option<Traces>,
    pub(super) metrics: HttpMetrics,
    pub(super) limits: Limits,
    pub(super) writes: WriteLog,
    /// The OpenAPI document.
    pub(super) document: Document,
    /// Lists the operations, as HTML.
    pub(super) calls: fn() -> String,
    /// The identity of this replica.
    pub(super) identity: String,
    /// The identity as the value of a header.
    pub(super) replica: HeaderValue,
    /// The DNS zone.
    pub(super) zone: Arc<str>,
    pub(super) clock: fn() -> Now,
    /// The counters for `order=roundrobin`.
    pub(super) turns: Box<[AtomicU64]>,
}

impl AppState {
    /// Builds the state. `None` when the identity of the replica cannot be sent in a header.
    pub(super) fn new(
        AppParts { intake, authorizer, problems, breakers, views, subscribers, traces }: AppParts,
        AppSettings { read_auth, rates, identity, zone, document, calls }: AppSettings,
        metrics: HttpMetrics,
    ) -> Option<Self> {
        let replica = HeaderValue::try_from(&identity).ok()?;
        let scope = intake.directory().scope().map(Into::into);
        let authorization = Authorization { authorizer, reads: read_auth, scope };
        let turns = (0..ROUND_ROBIN_COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Some(Self {
            clock: intake.clock(),
            intake,
            authorization,
            problems,
            breakers,
            views,
            subscribers,
            traces,
            limits: Limits::new(rates, metrics.clone()),
            metrics,
            writes: WriteLog::default(),
            document: Document::new(document),
            calls,
            identity,
            replica,
            zone: zone.into(),
            turns,
        })
    }

    /// Checks that this replica watches a namespace. If it does not, an empty response would be wrong.
    pub(super) fn check_namespace(&self, namespace: &str) -> Result<(), Problem> {
        let covered = self.intake.covers(namespace);
        covered.map_err(|refusal| Problem::refused(refusal, namespace, ""))
    }
}
