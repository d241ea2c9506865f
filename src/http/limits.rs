//! What one caller, one namespace and everybody together may ask for.
//!
//! Owns: the bounds, and what is said beyond them. A caller is whoever a token says, and without one an address.
//! Does not own: the size and slowness of single requests (`body`, `progress`), and how many connections there
//! are (`server`).

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use rollcall_model::lease::Moment;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Caller;
use crate::buckets::Buckets;
use crate::config::Rates;
use crate::http::{
    budget::Budget,
    metrics::{HttpMetrics, LimitedBy},
    problem::{Kind, Problem},
};

/// Requests under way at once that wait for their body or for Kubernetes: some 20 KiB each, so 80 MiB; their bodies are
/// counted by themselves (`budget`). A body has 10 s and a write 5 s, so that many are thousands a second.
const MAX_UNDER_WAY: usize = 4_096;

/// The bounds.
pub(super) struct Limits {
    callers: Option<Buckets>,
    namespaces: Option<Buckets>,
    under_way: Arc<Semaphore>,
    /// Octets of bodies.
    pub(super) bodies: Budget,
    metrics: HttpMetrics,
}

impl Limits {
    pub(super) fn new(rates: Rates, metrics: HttpMetrics) -> Self {
        let buckets = |rate| {
            let rate = NonZeroU32::new(rate)?;
            Some(Buckets::new(rate, fastrand::u64(..)))
        };
        Self {
            callers: buckets(rates.caller),
            namespaces: buckets(rates.namespace),
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            bodies: Budget::new(),
            metrics,
        }
    }

    /// Whether a caller may ask once more; without one, an address.
    ///
    /// # Errors
    /// 429.
    pub(super) fn caller(
        &self,
        caller: Option<&Caller>,
        peer: IpAddr,
        now: Moment,
    ) -> Result<(), Problem> {
        let Some(buckets) = &self.callers else { return Ok(()) };
        let fits = match (caller, peer) {
            (Some(caller), _) => buckets.take(caller.key(), 1, now),
            (None, IpAddr::V4(ip)) => buckets.take(&ip.octets(), 1, now),
            (None, IpAddr::V6(ip)) => buckets.take(&ip.octets(), 1, now),
        };
        if fits {
            return Ok(());
        }
        let detail = "this caller asks for more than --http-caller-rate allows; beats go in batches, and changes can \
                      be waited for";
        Err(self.limited(LimitedBy::Caller, Kind::TooManyRequests, detail))
    }

    /// Whether so much more may be written in a namespace.
    ///
    /// # Errors
    /// 429.
    pub(super) fn namespace(
        &self,
        namespace: &str,
        count: u32,
        now: Moment,
    ) -> Result<(), Problem> {
        let take = |buckets: &Buckets| buckets.take(namespace.as_bytes(), count, now);
        if self.namespaces.as_ref().is_none_or(take) {
            return Ok(());
        }
        let detail = "more is written in this namespace than --http-namespace-rate allows";
        Err(self.limited(LimitedBy::Namespace, Kind::TooManyRequests, detail))
    }

    /// A place among the requests that wait.
    ///
    /// # Errors
    /// 503 at once, when all are taken: waiting in a line would help nobody.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.under_way.clone().try_acquire_owned().map_err(|_| self.overloaded())
    }

    /// There is no place: 503.
    pub(super) fn overloaded(&self) -> Problem {
        let detail = "as many requests as this replica takes at once are under way here";
        self.limited(LimitedBy::Load, Kind::Overloaded, detail)
    }

    /// A body for which there is no room.
    pub(super) fn no_room(&self) -> Problem {
        let detail = "the bodies that are under way here take as much memory as they may";
        self.limited(LimitedBy::Body, Kind::Overloaded, detail)
    }

    fn limited(&self, by: LimitedBy, kind: Kind, detail: &'static str) -> Problem {
        self.metrics.limited(by);
        Problem { retry_after: Some(1), ..Problem::new(kind, detail) }
    }
}
