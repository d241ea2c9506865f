//! The current version of the store: the resourceVersion of a consistent list of instances, limited to one object.
//!
//! Owns: how often rollcall requests it. One list is under way at a time, at most one begins each second, and
//! all callers that waited before it began share its answer. Does not own: what follows from the version
//! (`http::min_index`, `heartbeat`).

use std::{sync::Arc, time::Duration};

use kube::{Client, Resource as _, api::ListParams, core::Request};
use rollcall_api::ServiceInstance;
use rollcall_model::lease::Moment;
use serde::Deserialize;
use tokio::{sync::Mutex, time::sleep};

use crate::clock;
use crate::kubernetes::{breaker::Breaker, call::GuardedCalls, failure::Failure};
use crate::telemetry::metrics::ApiMetrics;

/// The deadline of a list of one object, which takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Between the beginnings of two lists.
const PACE: Duration = Duration::from_secs(1);

/// Requests the version of the store. Clones share the answers.
#[derive(Clone)]
pub struct StoreVersion {
    client: Client,
    /// The namespace whose instances are watched, or all: rollcall has the right to list there.
    scope: Option<String>,
    calls: GuardedCalls,
    latest: Arc<Mutex<LatestList>>,
}

/// The last list.
#[derive(Default)]
struct LatestList {
    began: Option<Moment>,
    /// `None` while the list is under way, and when its caller dropped it.
    version: Option<Result<u64, Failure>>,
}

/// The only part of a list that is decoded.
#[derive(Deserialize)]
struct ListHead {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

impl StoreVersion {
    /// Starts without a known version.
    #[must_use]
    pub fn new(
        client: Client,
        scope: Option<String>,
        metrics: &ApiMetrics,
        breaker: &Breaker,
    ) -> Self {
        let metrics = metrics.for_resource("serviceinstances", &["list"]);
        let calls = GuardedCalls { metrics, breaker: breaker.clone() };
        Self { client, scope, calls, latest: Arc::default() }
    }

    /// The version of the store at a moment after `asked`, so it covers all writes before `asked`. Waits for its turn
    /// without a deadline of its own: the callers before it wait for two lists at most.
    ///
    /// # Errors
    /// Why the list failed.
    pub async fn after(&self, asked: Moment) -> Result<u64, Failure> {
        let mut latest = self.latest.lock().await;
        if let LatestList { began: Some(began), version: Some(version) } = &*latest
            && *began > asked
        {
            return version.clone();
        }
        if let Some(began) = latest.began {
            sleep(began.after(PACE).since(clock::moment())).await;
        }
        // Recorded before the call, because the caller may drop the call, and the next list has to wait even then.
        *latest = LatestList { began: Some(clock::moment()), version: None };
        let version = self.list().await;
        latest.version = Some(version.clone());
        version
    }

    async fn list(&self) -> Result<u64, Failure> {
        let request = Request::new(ServiceInstance::url_path(&(), self.scope.as_deref()));
        let request = request.list(&ListParams::default().limit(1));
        let request = request.map_err(kube::Error::BuildRequest)?;
        let head = self.client.request::<ListHead>(request);
        let version = self.calls.call("list", TIMEOUT, head).await?.metadata.resource_version;
        let number = version.parse();
        number.map_err(|_| {
            Failure::Unreadable(format!(
                "the resourceVersion {version:?} of a list is not a number"
            ))
        })
    }
}
