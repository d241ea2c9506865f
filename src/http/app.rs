//! The state that all handlers share.
//!
//! Owns: [`App`], which axum hands to every handler as `State`. Does not own: which handler answers what (`table`).

use std::sync::{Arc, atomic::AtomicU64};

use hyper::header::HeaderValue;
use rollcall_model::lease::Now;

use crate::auth::Gate;
use crate::config::Rates;
use crate::heartbeat::Intake;
use crate::http::{
    access::Authorization, document::Document, limits::Limits, metrics::HttpMetrics,
    problem::Problem, served::Views, waiters::Waiters, write_log::WriteLog,
};
use crate::telemetry::{metrics::BreakerMetrics, problems::Board, traces::Traces};

/// Services that have a turn of their own in `order=roundrobin`; where two share one, a turn is
/// skipped now and then.
const TURNS: usize = 1024;

/// What the server is made of, from outside this module.
pub struct AppParts {
    /// Takes heartbeats and registrations, and knows where readers look.
    pub intake: Intake,
    /// Authentication and authorization; none with `--auth none`.
    pub gate: Option<Gate>,
    /// What an operator has to mend in the cluster.
    pub problems: Board,
    /// Whether the Kubernetes API answers.
    pub breakers: BreakerMetrics,
    /// What is kept beside views.
    pub views: Arc<Views>,
    /// The subscribers, which the engine wakes.
    pub waiters: Arc<Waiters>,
    /// Exports spans of requests, if configured.
    pub traces: Option<Traces>,
}

/// How the server answers.
pub(super) struct Settings {
    /// Whether reads need a token too.
    pub(super) read_auth: bool,
    /// How much may be asked for.
    pub(super) rates: Rates,
    /// The identity of this replica.
    pub(super) identity: String,
    /// The DNS zone.
    pub(super) zone: String,
    /// Makes the OpenAPI document.
    pub(super) document: fn() -> Vec<u8>,
    /// Lists the operations, as HTML.
    pub(super) calls: fn() -> String,
}

/// What all handlers share.
pub(super) struct App {
    pub(super) intake: Intake,
    pub(super) authorization: Authorization,
    /// What an operator has to mend in the cluster.
    pub(super) problems: Board,
    /// Whether the Kubernetes API answers.
    pub(super) breakers: BreakerMetrics,
    /// What is kept beside views.
    pub(super) views: Arc<Views>,
    /// The subscribers.
    pub(super) waiters: Arc<Waiters>,
    /// Exports spans of requests.
    pub(super) traces: Option<Traces>,
    pub(super) metrics: HttpMetrics,
    pub(super) limits: Limits,
    pub(super) writes: WriteLog,
    /// The OpenAPI document.
    pub(super) document: Document,
    /// Lists the operations, as HTML.
    pub(super) calls: fn() -> String,
    /// This replica.
    pub(super) identity: String,
    /// The same as a header.
    pub(super) replica: HeaderValue,
    /// The DNS zone.
    pub(super) zone: Arc<str>,
    /// Reads the clock.
    pub(super) clock: fn() -> Now,
    /// How often each service was asked for in turn.
    pub(super) turns: Box<[AtomicU64]>,
}

impl App {
    /// The state of a replica; none when its identity cannot be sent in a header.
    pub(super) fn new(
        AppParts { intake, gate, problems, breakers, views, waiters, traces }: AppParts,
        Settings { read_auth, rates, identity, zone, document, calls }: Settings,
        metrics: HttpMetrics,
    ) -> Option<Self> {
        let replica = HeaderValue::try_from(&identity).ok()?;
        let scope = intake.directory().scope().map(Into::into);
        let authorization = Authorization { gate, reads: read_auth, scope };
        let turns = (0..TURNS).map(|_| AtomicU64::new(0)).collect();
        Some(Self {
            clock: intake.clock(),
            intake,
            authorization,
            problems,
            breakers,
            views,
            waiters,
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

    /// Whether this replica can speak for a namespace: an empty answer would be a false one.
    pub(super) fn covers(&self, namespace: &str) -> Result<(), Problem> {
        let covered = self.intake.covers(namespace);
        covered.map_err(|refusal| Problem::refused(refusal, namespace, ""))
    }
}
