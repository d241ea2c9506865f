//! A call to the Kubernetes API: its deadline, its metrics, and whether the breaker admits it.
//!
//! Owns: these three, in the same form for every call. Does not own: the request, and what follows from the answer.

use std::{future::Future, time::Duration};

use tokio::time::{error::Elapsed, timeout};

use crate::clock;
use crate::kubernetes::{
    breaker::{Breaker, CallPermit},
    failure::Failure,
};
use crate::telemetry::metrics::CallMetrics;

/// Waits at most `limit` for an answer, and records it in the metrics.
///
/// # Errors
/// [`Failure::Unavailable`] when no answer came in time; otherwise the API server's refusal.
pub(super) async fn measure<T>(
    metrics: &CallMetrics,
    verb: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    measure_with_code(metrics, verb, limit, call).await.answer
}

/// Calls behind a breaker.
#[derive(Clone, Debug)]
pub(super) struct GuardedCalls {
    pub(super) metrics: CallMetrics,
    pub(super) breaker: Breaker,
}

impl GuardedCalls {
    /// Waits for an answer, unless the breaker is open.
    ///
    /// # Errors
    /// As [`measure`].
    pub(super) async fn call<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let Some(permit) = self.breaker.admit(clock::moment()) else {
            return Err(Failure::Unavailable("the last calls were not answered".to_owned()));
        };
        finish(permit, measure_with_code(&self.metrics, verb, limit, call).await)
    }

    /// Waits for an answer even when the breaker is open. The answer closes it.
    ///
    /// # Errors
    /// As [`measure`].
    pub(super) async fn call_always<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let permit = self.breaker.admit_always();
        finish(permit, measure_with_code(&self.metrics, verb, limit, call).await)
    }
}

/// Reports the result of a call to the breaker.
fn finish<T>(permit: CallPermit, call: MeasuredCall<T>) -> Result<T, Failure> {
    // A 500 is an answer: most often a webhook failed, for some objects only. So is a 429.
    let answered = !matches!(call.code, None | Some(502..=504));
    permit.finish(answered, clock::moment());
    call.answer
}

/// The result of a call, and its HTTP status.
struct MeasuredCall<T> {
    answer: Result<T, Failure>,
    code: Option<u16>,
}

async fn measure_with_code<T>(
    metrics: &CallMetrics,
    verb: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> MeasuredCall<T> {
    let watch = clock::Stopwatch::start();
    let answer = timeout(limit, call).await;
    let code = code(&answer);
    metrics.answered(verb, code, watch.elapsed());
    let late = || Failure::Unavailable(format!("no answer within {} s", limit.as_secs()));
    let answer = answer.map_err(|_| late()).and_then(|answer| answer.map_err(Failure::from));
    match &answer {
        Ok(_) => metrics.succeeded(verb),
        Err(failure) => {
            if let Some((lack, right)) = failure.lack() {
                metrics.refused(verb, lack, right);
            }
        }
    }
    MeasuredCall { answer, code }
}

/// The HTTP status, if an answer came: 200 for every success, because kube does not pass on which one it was.
fn code<T>(answer: &Result<Result<T, kube::Error>, Elapsed>) -> Option<u16> {
    match answer {
        // An answer that cannot be decoded is an answer.
        Ok(Ok(_) | Err(kube::Error::SerdeError(_))) => Some(200),
        Ok(Err(kube::Error::Api(status))) => Some(status.code),
        Ok(Err(_)) | Err(_) => None,
    }
}
