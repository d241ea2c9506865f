//! A call to the Kubernetes API: its deadline, and what is counted of it.
//!
//! Owns: both, alike for every call. Does not own: what is called, and what follows from the answer.

use std::{future::Future, time::Duration};

use tokio::time::{error::Elapsed, timeout};

use crate::clock;
use crate::cluster::failure::Failure;
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
    let watch = clock::Stopwatch::start();
    let answer = timeout(limit, call).await;
    metrics.answered(verb, code(&answer), watch.elapsed());
    let late = || Failure::Away(format!("no answer within {} s", limit.as_secs()));
    answer.map_err(|_| late())?.map_err(Failure::from)
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
