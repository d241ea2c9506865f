//! A list and watch: all objects of one type, delivered to the engine in resourceVersion order.
//!
//! ```text
//! no position ── list in pages ──▶ resourceVersion ── watch for 20 s ──▶ newer resourceVersion ── …
//!   ▲                                   │ 410 Gone, or anything that breaks the order
//!   └───────────────────────────────────┘
//! ```
//!
//! Owns: the position, and how it moves. A watch is closed and opened again every 20 s, so a broken connection is
//! detected within 25 s even if no error is reported. Does not own: the types (`instances`, `ledgers`), what the events
//! mean, and when a position is invalid because the store may have stepped back (`history` of `rollcall-core`).

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::{
    Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::{ObjectList, Request},
};
use rollcall_core::fact::{Delivery, Fact};
use rollcall_model::lease::Reading;
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::clock;
use crate::kubernetes::{call::measure, failure::Failure};
use crate::telemetry::metrics::{CallMetrics, WatchMetrics};

/// Objects in a page of a list.
const PAGE: u32 = 500;

/// The deadline of a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the server keeps one watch open.
const WATCH_SECONDS: u32 = 20;

/// A watch that the server has not closed by then counts as broken.
const WATCH_TIMEOUT: Duration = Duration::from_secs(25);

/// The deadline of opening a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// First and longest pause after a failure; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A type of objects to watch, and the facts that they become.
pub trait WatchedKind: Send + Sync + 'static {
    /// An object as it comes over the wire.
    type Object: Clone + Debug + DeserializeOwned + Send;

    /// The decoded object.
    type Record: Send;

    /// The name in logs, such as `instance`.
    const NAME: &'static str;

    /// Requests for the objects, in one namespace or in all.
    fn request(&self) -> Request;

    /// The resourceVersion of an object; 0 when it is not a number.
    fn version(object: &Self::Object) -> u64;

    /// The record of an object; for an object that cannot be decoded, the fact that reports it, if there is one.
    fn decode(&self, object: Self::Object) -> Result<Self::Record, Option<Fact>>;

    /// A full list, as of `index`.
    fn listed(&self, records: Vec<Self::Record>, index: u64) -> Fact;

    /// A new or changed object.
    fn upserted(&self, record: Self::Record) -> Option<Fact>;

    /// A deleted object.
    fn removed(&self, object: Self::Object) -> Option<Fact>;

    /// Everything up to `index` has been delivered.
    fn progress(&self, index: u64) -> Option<Fact>;

    /// The watch delivers nothing, for this reason.
    fn interrupted(&self, reason: String) -> Option<Fact>;
}

/// The watch of one type.
pub struct Watch<K> {
    /// The type.
    pub kind: K,
    /// The client for lists and watches.
    pub client: Client,
    /// The engine's queue. While it is full, the watch reads no further, and the server keeps the events.
    pub facts: mpsc::Sender<Delivery>,
    /// Metrics of the watch.
    pub metrics: WatchMetrics,
    /// Metrics of its calls: `list`, and `watch` until the watch is open.
    pub calls: CallMetrics,
    /// Makes the watch list everything again, whatever is under way.
    pub relist: Arc<Notify>,
}

/// Why a list or a watch ended early.
enum WatchEnd {
    /// The position is too old: list again.
    Lost(String),
    /// A failure after which the position is still valid: watch again from there.
    Failed(Failure),
    /// The watch could not be opened, because the API server does not answer. It may return with an older store, so list
    /// again.
    Unopened(Failure),
    /// The engine has ended.
    Closed,
}

impl From<Failure> for WatchEnd {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { code: 410, message } => Self::Lost(message),
            other => Self::Failed(other),
        }
    }
}

/// Only a missing answer counts as unopened: an API server that refuses is available.
fn opening_failed(failure: Failure) -> WatchEnd {
    match failure {
        Failure::Unavailable(_) => WatchEnd::Unopened(failure),
        other => other.into(),
    }
}

impl From<kube::Error> for WatchEnd {
    fn from(error: kube::Error) -> Self {
        Failure::from(error).into()
    }
}

impl<K: WatchedKind> Watch<K> {
    /// Lists and watches until the engine ends.
    pub async fn run(self) {
        let mut position: Option<u64> = None;
        let mut pause = PAUSE.0;
        let mut interrupted = false;
        loop {
            let step = async {
                match &mut position {
                    None => self.list().await.map(|at| position = Some(at)),
                    Some(at) => self.follow(at, &mut interrupted).await,
                }
            };
            let ended = tokio::select! {
                ended = step => ended,
                () = self.relist.notified() => {
                    position = None;
                    continue;
                }
            };
            if matches!(ended, Err(WatchEnd::Unopened(_))) {
                position = None;
            }
            let reason = match ended {
                Ok(()) => {
                    pause = PAUSE.0;
                    continue;
                }
                Err(WatchEnd::Closed) => return,
                Err(WatchEnd::Lost(reason)) => {
                    position = None;
                    info!(reason, "the {} watch has fallen behind; listing again", K::NAME);
                    "lost"
                }
                Err(WatchEnd::Failed(failure) | WatchEnd::Unopened(failure)) => {
                    if !interrupted {
                        warn!(%failure, "the {} watch is interrupted; until it continues, no lease is judged", K::NAME);
                    }
                    interrupted = true;
                    let fact = self.kind.interrupted(failure.to_string());
                    if self.deliver(fact, clock::reading()).await.is_err() {
                        return;
                    }
                    "failed"
                }
            };
            self.metrics.interrupted(reason);
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = PAUSE.1.min(pause * 2);
        }
    }

    /// Reads the full list and delivers it. Returns its resourceVersion.
    async fn list(&self) -> Result<u64, WatchEnd> {
        let (mut records, mut facts) = (Vec::new(), Vec::new());
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let request = self.kind.request().list(&parameters);
            let request = request.map_err(kube::Error::BuildRequest)?;
            let page = self.client.request::<ObjectList<K::Object>>(request);
            let page = measure(&self.calls, "list", PAGE_TIMEOUT, page).await?;
            // A list is received with its last page.
            let received = clock::reading();
            for object in page.items {
                match self.kind.decode(object) {
                    Ok(record) => records.push(record),
                    Err(fact) => facts.extend(fact),
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    let index = version.parse().unwrap_or(0);
                    info!(count = records.len(), index, "listed all {}s", K::NAME);
                    self.deliver([self.kind.listed(records, index)], received).await?;
                    self.deliver(facts, received).await?;
                    return Ok(index);
                }
            }
        }
    }

    /// Delivers changes after `position`, and moves it, until the server ends the watch.
    async fn follow(&self, position: &mut u64, interrupted: &mut bool) -> Result<(), WatchEnd> {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let request = self.kind.request().watch(&parameters, &position.to_string());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let opening = self.client.request_events::<K::Object>(request);
        let opened = measure(&self.calls, "watch", OPEN_TIMEOUT, opening).await;
        let mut events = opened.map_err(opening_failed)?.boxed();
        if std::mem::take(interrupted) {
            info!(index = *position, "the {} watch continues", K::NAME);
            self.deliver(self.kind.progress(*position), clock::reading()).await?;
        }
        let following = async {
            while let Some(event) = events.next().await {
                self.handle_event(event?, position).await?;
            }
            Ok(())
        };
        timeout(WATCH_TIMEOUT, following).await.map_err(|_| {
            WatchEnd::Failed(Failure::Unavailable(
                "the API server did not close a watch in time".to_owned(),
            ))
        })?
    }

    async fn handle_event(
        &self,
        event: WatchEvent<K::Object>,
        position: &mut u64,
    ) -> Result<(), WatchEnd> {
        let received = clock::reading();
        self.metrics.event();
        let (fact, at) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let at = K::version(&object);
                let fact = match self.kind.decode(object) {
                    Ok(record) => self.kind.upserted(record),
                    Err(fact) => fact,
                };
                (fact, at)
            }
            WatchEvent::Deleted(object) => {
                let at = K::version(&object);
                (self.kind.removed(object), at)
            }
            WatchEvent::Bookmark(bookmark) => {
                let at = bookmark.metadata.resource_version.parse().unwrap_or(*position);
                (self.kind.progress(at), at)
            }
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
        };
        self.deliver(fact, received).await?;
        *position = at.max(*position);
        Ok(())
    }

    /// Waits without a deadline: while the engine's queue is full, the watch has to wait.
    async fn deliver(
        &self,
        facts: impl IntoIterator<Item = Fact>,
        received: Reading,
    ) -> Result<(), WatchEnd> {
        for fact in facts {
            self.facts.send(Delivery::new(fact, received)).await.map_err(|_| WatchEnd::Closed)?;
        }
        Ok(())
    }
}
