//! The limits of one caller, of one namespace, and of all requests together.
//!
//! Owns: the limits, and the problems for requests that exceed them. A caller is the user of a token; without a token,
//! a client address. Does not own: the size and duration of single requests (`body`, `progress`), and the number of
//! connections (`server`).

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use rollcall_model::lease::Moment;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Caller;
use crate::buckets::Buckets;
use crate::config::Rates;
use crate::http::{
    budget::BodyBudget,
    metrics::{HttpMetrics, LimitedBy},
    problem::{Problem, ProblemKind},
};

/// The maximum number of requests in progress that wait for their body or for Kubernetes: about 20 KiB each, so 80 MiB.
/// The memory of their bodies is counted separately (`budget`). A body has 10 s and a write 5 s at most, and both
/// usually take milliseconds, so this many slots serve thousands of requests a second.
const MAX_IN_PROGRESS: usize = 4_096;

pub(super) struct Limits {
    callers: Option<Buckets>,
    namespaces: Option<Buckets>,
    in_progress: Arc<Semaphore>,
    pub(super) bodies: BodyBudget,
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
            in_progress: Arc::new(Semaphore::new(MAX_IN_PROGRESS)),
            bodies: BodyBudget::new(),
            metrics,
        }
    }

    /// Charges one request to the caller; without a token, to the client address.
    ///
    /// # Errors
    /// 429 when the caller exceeds its rate.
    pub(super) fn charge_caller(
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
        let detail = "this caller sends more requests than --http-caller-rate allows; send heartbeats in batches, and \
                      wait for changes instead of polling";
        Err(self.refuse(LimitedBy::Caller, ProblemKind::TooManyRequests, detail))
    }

    /// Charges `count` writes to a namespace.
    ///
    /// # Errors
    /// 429 when the namespace exceeds its rate.
    pub(super) fn charge_namespace(
        &self,
        namespace: &str,
        count: u32,
        now: Moment,
    ) -> Result<(), Problem> {
        let take = |buckets: &Buckets| buckets.take(namespace.as_bytes(), count, now);
        if self.namespaces.as_ref().is_none_or(take) {
            return Ok(());
        }
        let detail = "this namespace has more writes than --http-namespace-rate allows";
        Err(self.refuse(LimitedBy::Namespace, ProblemKind::TooManyRequests, detail))
    }

    /// A permit for a request that waits for its body or for Kubernetes.
    ///
    /// # Errors
    /// 503 at once when all permits are taken: a queue would only make every client wait longer.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.in_progress.clone().try_acquire_owned().map_err(|_| self.overloaded())
    }

    /// 503 because too many requests are in progress.
    pub(super) fn overloaded(&self) -> Problem {
        let detail = "this replica has reached its limit of concurrent requests";
        self.refuse(LimitedBy::Load, ProblemKind::Overloaded, detail)
    }

    /// 503 because request bodies use the whole memory budget.
    pub(super) fn out_of_memory_for_bodies(&self) -> Problem {
        let detail = "the request bodies in progress on this replica use all of the memory reserved for bodies";
        self.refuse(LimitedBy::Body, ProblemKind::Overloaded, detail)
    }

    fn refuse(&self, by: LimitedBy, kind: ProblemKind, detail: &'static str) -> Problem {
        self.metrics.record_limited(by);
        Problem { retry_after: Some(1), ..Problem::new(kind, detail) }
    }
}
