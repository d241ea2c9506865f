//! What all handlers share.
//!
//! Owns: [`Door`], and what a handler gives. Does not own: which handler is called (`dispatch`).

use std::sync::{Arc, atomic::AtomicU64};

use hyper::header::HeaderValue;

use crate::auth::Gate;
use crate::config::Rates;
use crate::http::{
    access::Doorman, answer::Answer, limits::Limits, metrics::HttpMetrics, problem::Problem,
    served::Views, waiters::Waiters,
};
use crate::telemetry::{metrics::BreakerMetrics, problems::Board, traces::Traces};
use crate::witness::Inbox;

/// Services that take turns of their own in `order=roundrobin`; where two share one, a turn is
/// skipped now and then.
const TURNS: usize = 1024;

/// What is behind the door.
pub struct Behind {
    /// Takes beats and registrations, and knows where readers look.
    pub inbox: Inbox,
    /// Who may come in; none when everybody may.
    pub gate: Option<Gate>,
    /// What somebody has to mend in the cluster.
    pub problems: Board,
    /// Whether the Kubernetes API answers.
    pub breakers: BreakerMetrics,
    /// What is kept beside views.
    pub views: Arc<Views>,
    /// Who waits for changes; the engine announces them there.
    pub waiters: Arc<Waiters>,
    /// Who takes spans of requests, if anybody.
    pub traces: Option<Traces>,
}

/// What all handlers share.
pub(super) struct Door {
    pub(super) inbox: Inbox,
    /// Who may come in.
    pub(super) doorman: Doorman,
    /// What somebody has to mend in the cluster.
    pub(super) problems: Board,
    /// Whether the Kubernetes API answers.
    pub(super) breakers: BreakerMetrics,
    /// What is kept beside views.
    pub(super) views: Arc<Views>,
    /// Who waits for changes.
    pub(super) waiters: Arc<Waiters>,
    /// Who takes spans of requests.
    pub(super) traces: Option<Traces>,
    pub(super) metrics: HttpMetrics,
    /// How much may be asked for.
    pub(super) limits: Limits,
    /// This replica.
    pub(super) identity: String,
    /// The same, ready to be sent.
    pub(super) replica: HeaderValue,
    /// The DNS zone.
    pub(super) zone: Arc<str>,
    /// How often each service was asked for in turn.
    pub(super) turns: Box<[AtomicU64]>,
}

/// What a handler gives.
pub(super) type Given = Result<Answer, Problem>;

impl Door {
    /// A door of the replica `identity`; none when that cannot be sent in a header.
    pub(super) fn new(
        Behind { inbox, gate, problems, breakers, views, waiters, traces }: Behind,
        reads: bool,
        rates: Rates,
        metrics: HttpMetrics,
        identity: String,
        zone: String,
    ) -> Option<Self> {
        let replica = HeaderValue::try_from(&identity).ok()?;
        let scope = inbox.directory().scope().map(Into::into);
        let doorman = Doorman { gate, reads, scope };
        let turns = (0..TURNS).map(|_| AtomicU64::new(0)).collect();
        Some(Self {
            inbox,
            doorman,
            problems,
            breakers,
            views,
            waiters,
            traces,
            limits: Limits::new(rates, metrics.clone()),
            metrics,
            identity,
            replica,
            zone: zone.into(),
            turns,
        })
    }

    /// Whether this replica can speak for a namespace: an empty answer would be a false one.
    pub(super) fn covers(&self, namespace: &str) -> Result<(), Problem> {
        let covered = self.inbox.covers(namespace);
        covered.map_err(|refusal| Problem::refused(refusal, namespace, ""))
    }
}
