//! The instance watch: what Kubernetes knows, delivered to the engine in resourceVersion order.
//!
//! ```text
//! Lost ── list in pages ──▶ At(resourceVersion) ── watch for 20 s ──▶ At(newer) ── …
//!   ▲                            │ 410 Gone, or anything that breaks the order
//!   └────────────────────────────┘
//! ```
//!
//! Owns: the position, and how it is kept. A watch is cut and renewed every 20 s, so that a
//! connection that died without a word shows within 25 s. An object that cannot be read is logged
//! and told as such. Does not own: what the events mean.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::{
    Client, Resource as _,
    api::{ListParams, WatchEvent, WatchParams},
    core::{ObjectList, Request},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::api::ServiceInstance;
use crate::cluster::{
    call::measured,
    convert::{Converter, Lean},
    failure::Failure,
};
use crate::registry::{
    fact::{Delivery, Fact, Version},
    instance::Instance,
};
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

/// The watch of all instances in its scope.
pub struct Watch {
    /// Used for nothing else.
    pub client: Client,
    /// One namespace, or all.
    pub scope: Option<String>,
    /// Makes records.
    pub converter: Arc<Converter>,
    /// Where facts go. A full channel holds the watch back, and the server keeps the events.
    pub facts: mpsc::Sender<Delivery>,
    /// Figures.
    pub metrics: WatchMetrics,
    /// Of its calls: `list`, and `watch` until it is open.
    pub calls: CallMetrics,
}

/// Why a list or a watch ended early.
enum End {
    /// The position is too old: list anew.
    Lost(String),
    /// Go on from the position.
    Failed(Failure),
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

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> Self {
        Failure::from(error).into()
    }
}

impl Watch {
    /// Lists and watches for ever; ends when nobody listens any more.
    pub async fn run(self) {
        let mut position: Option<u64> = None;
        let mut pause = PAUSE.0;
        let mut interrupted = false;
        loop {
            let ended = match position {
                None => self.list().await.map(|at| position = Some(at)),
                Some(at) => {
                    let mut at = at;
                    let ended = self.follow(&mut at, &mut interrupted).await;
                    position = Some(at);
                    ended
                }
            };
            let reason = match ended {
                Ok(()) => {
                    pause = PAUSE.0;
                    continue;
                }
                Err(End::Closed) => return,
                Err(End::Lost(reason)) => {
                    position = None;
                    info!(reason, "the watch has fallen behind; listing anew");
                    "lost"
                }
                Err(End::Failed(failure)) => {
                    if !interrupted {
                        warn!(%failure, "the instance watch is interrupted; leases are not judged meanwhile");
                    }
                    interrupted = true;
                    let reason = failure.to_string().into();
                    if self.deliver(Fact::Interrupted { reason }).await.is_err() {
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

    fn request(&self) -> Request {
        Request::new(ServiceInstance::url_path(&(), self.scope.as_deref()))
    }

    /// Reads the full list and delivers it. Answers its resourceVersion.
    async fn list(&self) -> Result<u64, End> {
        let (mut instances, mut unreadable) = (Vec::new(), Vec::new());
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let request = self.request().list(&parameters).map_err(kube::Error::BuildRequest)?;
            let page = self.client.request::<ObjectList<Lean>>(request);
            let page = measured(&self.calls, "list", PAGE_TIMEOUT, page).await?;
            for object in &page.items {
                match self.convert(object) {
                    Ok(instance) => instances.push(instance),
                    Err(fact) => unreadable.push(fact),
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    let index = version.parse().unwrap_or(0);
                    info!(instances = instances.len(), index, "listed all instances");
                    self.deliver(Fact::Listed { instances, index }).await?;
                    for fact in unreadable {
                        self.deliver(fact).await?;
                    }
                    return Ok(index);
                }
            }
        }
    }

    /// Follows changes from `position` on, moving it along, until the server ends the watch.
    async fn follow(&self, position: &mut u64, interrupted: &mut bool) -> Result<(), End> {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let request = self
            .request()
            .watch(&parameters, &position.to_string())
            .map_err(kube::Error::BuildRequest)?;
        let opening = self.client.request_events::<Lean>(request);
        let mut events = measured(&self.calls, "watch", OPEN_TIMEOUT, opening).await?.boxed();
        if std::mem::take(interrupted) {
            info!(index = *position, "the instance watch goes on");
            self.deliver(Fact::Progress { index: *position }).await?;
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

    async fn event(&self, event: WatchEvent<Lean>, position: &mut u64) -> Result<(), End> {
        self.metrics.event();
        let (fact, at) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let at = object.resource_version();
                (self.convert(&object).map_or_else(|fact| fact, Fact::Upserted), at)
            }
            WatchEvent::Deleted(object) => {
                let (key, uid) = (object.key(), object.uid().into());
                let at = object.resource_version();
                (Fact::Removed { key, uid, index: at }, at)
            }
            WatchEvent::Bookmark(bookmark) => {
                let at = bookmark.metadata.resource_version.parse().unwrap_or(*position);
                (Fact::Progress { index: at }, at)
            }
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
        };
        self.deliver(fact).await?;
        *position = at.max(*position);
        Ok(())
    }

    /// The record of an object, or the fact that there is none.
    fn convert(&self, object: &Lean) -> Result<Arc<Instance>, Fact> {
        self.converter.convert(object).map_err(|poison| {
            self.metrics.poison();
            warn!(%poison, "cannot use an object");
            let resource_version = object.resource_version();
            let on = Version { key: poison.key, uid: object.uid().into(), resource_version };
            Fact::Unreadable { on, reason: poison.reason.into() }
        })
    }

    /// Waits without a deadline: a full channel is how the engine holds the watch back.
    async fn deliver(&self, fact: Fact) -> Result<(), End> {
        self.facts.send(fact.into()).await.map_err(|_| End::Closed)
    }
}
