//! The version that the store has now: that of a consistent list of instances, of which one object is read.
//!
//! Owns: how often the API server is asked for it. One list is under way at a time, at most one begins each second, and
//! all that waited before it began share its answer. Does not own: what follows from the version (`http::min_index`,
//! `witness`).

use std::{sync::Arc, time::Duration};

use kube::{Client, Resource as _, api::ListParams, core::Request};
use rollcall_api::ServiceInstance;
use rollcall_model::lease::Moment;
use serde::Deserialize;
use tokio::{sync::Mutex, time::sleep};

use crate::clock;
use crate::kubernetes::{breaker::Breaker, call::Guarded, failure::Failure};
use crate::telemetry::metrics::ApiMetrics;

/// A list of one object takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Between the beginnings of two lists.
const PACE: Duration = Duration::from_secs(1);

/// Asks for the version of the store. Clones share the answers.
#[derive(Clone)]
pub struct StoreVersion {
    client: Client,
    /// Where instances are watched: one namespace, or all. Rollcall may list there.
    scope: Option<String>,
    calls: Guarded,
    last: Arc<Mutex<Last>>,
}

/// The last list.
#[derive(Default)]
struct Last {
    began: Option<Moment>,
    /// None while it is under way, and when it was given up.
    version: Option<Result<u64, Failure>>,
}

/// All that is read of a list.
#[derive(Deserialize)]
struct Head {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

impl StoreVersion {
    /// Nothing known yet.
    #[must_use]
    pub fn new(
        client: Client,
        scope: Option<String>,
        metrics: &ApiMetrics,
        breaker: &Breaker,
    ) -> Self {
        let metrics = metrics.on("serviceinstances", &["list"]);
        let calls = Guarded { metrics, breaker: breaker.clone() };
        Self { client, scope, calls, last: Arc::default() }
    }

    /// The version that the store had at a moment after `asked`: all that was written before is covered by it. Waits for
    /// its turn, without a deadline of its own: those before it wait for two lists at most.
    ///
    /// # Errors
    /// Why it could not be asked for.
    pub async fn after(&self, asked: Moment) -> Result<u64, Failure> {
        let mut last = self.last.lock().await;
        if let Last { began: Some(began), version: Some(version) } = &*last
            && *began > asked
        {
            return version.clone();
        }
        if let Some(began) = last.began {
            sleep(began.after(PACE).since(clock::moment())).await;
        }
        // Both before the call: it may be given up, and then the next one has to wait all the same.
        *last = Last { began: Some(clock::moment()), version: None };
        let version = self.list().await;
        last.version = Some(version.clone());
        version
    }

    async fn list(&self) -> Result<u64, Failure> {
        let request = Request::new(ServiceInstance::url_path(&(), self.scope.as_deref()));
        let request = request.list(&ListParams::default().limit(1));
        let request = request.map_err(kube::Error::BuildRequest)?;
        let head = self.client.request::<Head>(request);
        let version = self.calls.call("list", TIMEOUT, head).await?.metadata.resource_version;
        let number = version.parse();
        number.map_err(|_| Failure::Unreadable(format!("a list of version {version:?}")))
    }
}
