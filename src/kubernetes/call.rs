//! A call to the Kubernetes API: its deadline, what is counted of it, and whether it goes out at all.
//!
//! Owns: these, alike for every call. Does not own: what is called, and what follows from the answer.

use std::{future::Future, time::Duration};

use tokio::time::{error::Elapsed, timeout};

use crate::clock;
use crate::kubernetes::{
    breaker::{Breaker, Ticket},
    failure::Failure,
};
use crate::telemetry::metrics::CallMetrics;

/// Waits for an answer, for `limit` at most, and counts it.
///
/// # Errors
/// [`Failure::Away`] when none came in time; otherwise as the API server says.
pub(super) async fn measured<T>(
    metrics: &CallMetrics,
    verb: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    counted(metrics, verb, limit, call).await.answer
}

/// Calls behind a breaker.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    pub(super) metrics: CallMetrics,
    pub(super) breaker: Breaker,
}

impl Guarded {
    /// Waits for an answer, unless the API has not answered for some time.
    ///
    /// # Errors
    /// As [`measured`].
    pub(super) async fn call<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let Some(ticket) = self.breaker.admits(clock::moment()) else {
            return Err(Failure::Away("it has not answered for some time".to_owned()));
        };
        told(ticket, counted(&self.metrics, verb, limit, call).await)
    }

    /// Waits for an answer, whatever the breaker says: it learns by it.
    ///
    /// # Errors
    /// As [`measured`].
    pub(super) async fn always<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let ticket = self.breaker.passes();
        told(ticket, counted(&self.metrics, verb, limit, call).await)
    }
}

/// Lets the breaker know.
fn told<T>(ticket: Ticket, call: Counted<T>) -> Result<T, Failure> {
    // An error of the API server's own (500) is an answer: most often one webhook's, for some objects. So is a 429.
    let answered = !matches!(call.code, None | Some(502..=504));
    ticket.ended(answered, clock::moment());
    call.answer
}

/// What came of a call, and with which HTTP status.
struct Counted<T> {
    answer: Result<T, Failure>,
    code: Option<u16>,
}

async fn counted<T>(
    metrics: &CallMetrics,
    verb: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Counted<T> {
    let watch = clock::Stopwatch::start();
    let answer = timeout(limit, call).await;
    let code = code(&answer);
    metrics.answered(verb, code, watch.elapsed());
    let late = || Failure::Away(format!("no answer within {} s", limit.as_secs()));
    let answer = answer.map_err(|_| late()).and_then(|answer| answer.map_err(Failure::from));
    match &answer {
        Ok(_) => metrics.succeeded(verb),
        Err(failure) => {
            if let Some((lack, right)) = failure.lack() {
                metrics.refused(verb, lack, right);
            }
        }
    }
    Counted { answer, code }
}

/// The HTTP status, if an answer came. kube tells no successes apart.
fn code<T>(answer: &Result<Result<T, kube::Error>, Elapsed>) -> Option<u16> {
    match answer {
        // An answer that cannot be read has come all the same.
        Ok(Ok(_) | Err(kube::Error::SerdeError(_))) => Some(200),
        Ok(Err(kube::Error::Api(status))) => Some(status.code),
        Ok(Err(_)) | Err(_) => None,
    }
}
