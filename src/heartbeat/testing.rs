//! An intake for unit tests. Its API server has no instances.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use rollcall_core::{directory::Directory, fact::Delivery};
use rollcall_model::lease::Now;
use tokio::sync::mpsc;

use crate::heartbeat::Intake;
use crate::kubernetes::{
    breaker::Breakers, convert::Converter, store_version::StoreVersion, testing, writer::Writer,
};
use crate::telemetry::{metrics::ApiMetrics, problems::ProblemTracker};

/// The intake, and the queue of the facts that it reports to the engine.
pub fn intake(directory: Arc<Directory>, clock: fn() -> Now) -> (Intake, mpsc::Receiver<Delivery>) {
    let mut unseen = Registry::default();
    let calls = ApiMetrics::new(&mut unseen, ProblemTracker::new(|_, _, _| String::new()));
    let (client, guard) = (testing::client(), Breakers::new(&mut unseen).writes);
    let store = StoreVersion::new(client.clone(), None, &calls, &guard);
    let writer = Writer::new(client, Arc::new(Converter::default()), &calls, &guard);
    let (facts_in, facts) = mpsc::channel(64);
    (Intake::new(directory, writer, store, facts_in, clock), facts)
}
