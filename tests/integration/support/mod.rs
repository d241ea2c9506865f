//! What the tests share: one real control plane for the whole run, a namespace for each test, real replicas, and a
//! function that waits for a condition.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "support for tests: it fails by panicking, and not every test uses all of it"
)]

pub mod contract;
pub mod control_plane;
pub mod daemon;
pub mod dns;
pub mod events;
pub mod fleet;
pub mod forge;
pub mod http;
pub mod http_proxy;
pub mod kubectl;
pub mod load;
mod namespace;
pub mod proxy;
pub mod rbac;
mod replica;
pub mod report;

use std::time::Duration;

use tokio::time::{sleep, timeout};

pub use namespace::{Namespace, namespace, namespace_in};
pub use replica::Rollcall;

/// Calls `ask` every 50 ms until it returns a value. Fails the test with `what` if it returns none within `bound`. The
/// bound is generous because the machine can be busy. It is not a test of speed.
pub async fn eventually<T>(what: &str, bound: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(bound, asking).await.unwrap_or_else(|_| panic!("not within {bound:?}: {what}"))
}
