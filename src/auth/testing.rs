//! A gate for unit tests: the token is the user, `bad…` is no token, and the user `weak` has no right.

use prometheus_client::registry::Registry;

use crate::auth::{AuthMetrics, Gate};
use crate::kubernetes::{breaker::Breakers, review::Reviews, testing};
use crate::telemetry::{metrics::ApiMetrics, problems::Board};

/// The gate. Its figures go into `registry`.
pub fn gate(registry: &mut Registry) -> Gate {
    let mut unseen = Registry::default();
    let calls = ApiMetrics::new(&mut unseen, Board::new(|_, _, _| String::new()));
    let reviews = Reviews::new(testing::client(), &calls, &Breakers::new(&mut unseen).reviews);
    Gate::new(reviews, None, Box::new(|_, _| None), AuthMetrics::new(registry, false))
}
