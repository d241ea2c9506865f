//! An authorizer for unit tests. The token is the user name, tokens that begin with `bad` are invalid, and the user
//! `weak` has no rights.

use prometheus_client::registry::Registry;

use crate::auth::{AuthMetrics, Gate};
use crate::kubernetes::{breaker::Breakers, review::Reviews, testing};
use crate::telemetry::{metrics::ApiMetrics, problems::Board};

/// The authorizer, with its metrics in `registry`.
pub fn gate(registry: &mut Registry) -> Gate {
    let mut unseen = Registry::default();
    let calls = ApiMetrics::new(&mut unseen, Board::new(|_, _, _| String::new()));
    let reviews = Reviews::new(testing::client(), &calls, &Breakers::new(&mut unseen).reviews);
    Gate::new(reviews, None, Box::new(|_, _| None), AuthMetrics::new(registry, false))
}
