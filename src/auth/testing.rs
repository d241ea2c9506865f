//! An authorizer for unit tests. The token is the user name, tokens that begin with `bad` are invalid, and the user
//! `weak` has no rights.

use prometheus_client::registry::Registry;

use crate::auth::{AuthMetrics, Authorizer};
use crate::kubernetes::{breaker::Breakers, review::Reviewer, testing};
use crate::telemetry::{metrics::ApiMetrics, problems::ProblemTracker};

/// The authorizer, with its metrics in `registry`.
pub fn authorizer(registry: &mut Registry) -> Authorizer {
    let mut unseen = Registry::default();
    let calls = ApiMetrics::new(&mut unseen, ProblemTracker::new(|_, _, _| String::new()));
    let reviews = Reviewer::new(testing::client(), &calls, &Breakers::new(&mut unseen).reviews);
    Authorizer::new(reviews, None, Box::new(|_, _| None), AuthMetrics::new(registry, false))
}
