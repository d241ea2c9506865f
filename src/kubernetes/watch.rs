//! A watch: what Kubernetes knows of one type, delivered to the engine in resourceVersion order.
//!
//! ```text
//! Lost ── list in pages ──▶ At(resourceVersion) ── watch for 20 s ──▶ At(newer) ── …
//!   ▲                            │ 410 Gone, or anything that breaks the order
//!   └────────────────────────────┘
//! ```
//!
//! Owns: the position, and how it is kept. A watch is cut and renewed every 20 s, so that a
//! connection that died without a word shows within 25 s. Does not own: the types (`instances`,
//! `ledgers`), what the events mean, and when a position is worth nothing any more because the store may have gone
//! back (`history` of `rollcall-core`).

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
use crate::kubernetes::{call::measured, failure::Failure};
use crate::telemetry::metrics::{CallMetrics, WatchMetrics};

/// Objects a page of a list.
const PAGE: u32 = 500;

/// A page that takes longer is given up.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the server keeps one watch open.
const WATCH_SECONDS: u32 = 20;

/// When we stop believing that it will end by itself.
const WATCH_TIMEOUT: Duration = Duration::from_secs(25);

/// A watch that is not open by then is given up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// First and longest pause after a failure; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What is watched: one type of objects, and the facts that they become.
pub trait Kind: Send + Sync + 'static {
    /// An object as it comes over the wire.
    type Object: Clone + Debug + DeserializeOwned + Send;

    /// What is kept of it.
    type Record: Send;

    /// For the log: `instance`.
    const NAME: &'static str;

    /// The objects, wherever they are looked for.
    fn request(&self) -> Request;

    /// The version of an object; 0 when it is not a number.
    fn version(object: &Self::Object) -> u64;

    /// The record of an object; when it has none, the fact that follows from that, if any does.
    fn read(&self, object: Self::Object) -> Result<Self::Record, Option<Fact>>;

    /// A full list, as of `index`.
    fn listed(&self, records: Vec<Self::Record>, index: u64) -> Fact;

    /// A new or changed object.
    fn upserted(&self, record: Self::Record) -> Option<Fact>;

    /// An object that is gone.
    fn removed(&self, object: Self::Object) -> Option<Fact>;

    /// Everything up to `index` has been delivered.
    fn progress(&self, index: u64) -> Option<Fact>;

    /// Nothing comes, for this reason.
    fn interrupted(&self, reason: String) -> Option<Fact>;
}

/// The watch of one kind.
pub struct Watch<K> {
    /// What is watched.
    pub kind: K,
    /// Used for nothing else.
    pub client: Client,
    /// Where facts go. A full channel holds the watch back, and the server keeps the events.
    pub facts: mpsc::Sender<Delivery>,
    /// Figures.
    pub metrics: WatchMetrics,
    /// Of its calls: `list`, and `watch` until it is open.
    pub calls: CallMetrics,
    /// Rung to have everything listed anew, whatever is under way.
    pub relist: Arc<Notify>,
}

/// Why a list or a watch ended early.
enum End {
    /// The position is too old: list anew.
    Lost(String),
    /// Go on from the position.
    Failed(Failure),
    /// It could not be opened: the API server is away, and may come back with an older store. List anew.
    Unopened(Failure),
    /// Nobody listens any more.
    Closed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { code: 410, message } => Self::Lost(message),
            other => Self::Failed(other),
        }
    }
}

/// Only where no answer came: an API server that refuses is there.
fn unopened(failure: Failure) -> End {
    match failure {
        Failure::Away(_) => End::Unopened(failure),
        other => other.into(),
    }
}

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> Self {
        Failure::from(error).into()
    }
}

impl<K: Kind> Watch<K> {
    /// Lists and watches for ever; ends when nobody listens any more.
    pub async fn run(self) {
        let mut position: Option<u64> = None;
        let mut pause = PAUSE.0;
        let mut interrupted = false;
        loop {
            let going_on = async {
                match &mut position {
                    None => self.list().await.map(|at| position = Some(at)),
                    Some(at) => self.follow(at, &mut interrupted).await,
                }
            };
            let ended = tokio::select! {
                ended = going_on => ended,
                () = self.relist.notified() => {
                    position = None;
                    continue;
                }
            };
            if matches!(ended, Err(End::Unopened(_))) {
                position = None;
            }
            let reason = match ended {
                Ok(()) => {
                    pause = PAUSE.0;
                    continue;
                }
                Err(End::Closed) => return,
                Err(End::Lost(reason)) => {
                    position = None;
                    info!(reason, "the {} watch has fallen behind; listing anew", K::NAME);
                    "lost"
                }
                Err(End::Failed(failure) | End::Unopened(failure)) => {
                    if !interrupted {
                        warn!(%failure, "the {} watch is interrupted; leases are not judged meanwhile", K::NAME);
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

    /// Reads the full list and delivers it. Answers its resourceVersion.
    async fn list(&self) -> Result<u64, End> {
        let (mut records, mut facts) = (Vec::new(), Vec::new());
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let request = self.kind.request().list(&parameters);
            let request = request.map_err(kube::Error::BuildRequest)?;
            let page = self.client.request::<ObjectList<K::Object>>(request);
            let page = measured(&self.calls, "list", PAGE_TIMEOUT, page).await?;
            // A list is there with its last page.
            let received = clock::reading();
            for object in page.items {
                match self.kind.read(object) {
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

    /// Follows changes from `position` on, moving it along, until the server ends the watch.
    async fn follow(&self, position: &mut u64, interrupted: &mut bool) -> Result<(), End> {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let request = self.kind.request().watch(&parameters, &position.to_string());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let opening = self.client.request_events::<K::Object>(request);
        let opened = measured(&self.calls, "watch", OPEN_TIMEOUT, opening).await;
        let mut events = opened.map_err(unopened)?.boxed();
        if std::mem::take(interrupted) {
            info!(index = *position, "the {} watch goes on", K::NAME);
            self.deliver(self.kind.progress(*position), clock::reading()).await?;
        }
        let following = async {
            while let Some(event) = events.next().await {
                self.event(event?, position).await?;
            }
            Ok(())
        };
        timeout(WATCH_TIMEOUT, following).await.map_err(|_| {
            End::Failed(Failure::Away("no answer in time to the end of a watch".to_owned()))
        })?
    }

    async fn event(&self, event: WatchEvent<K::Object>, position: &mut u64) -> Result<(), End> {
        let received = clock::reading();
        self.metrics.event();
        let (fact, at) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let at = K::version(&object);
                let fact = match self.kind.read(object) {
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

    /// Waits without a deadline: a full channel is how the engine holds the watch back.
    async fn deliver(
        &self,
        facts: impl IntoIterator<Item = Fact>,
        received: Reading,
    ) -> Result<(), End> {
        for fact in facts {
            self.facts.send(Delivery::new(fact, received)).await.map_err(|_| End::Closed)?;
        }
        Ok(())
    }
}
