//! The leader's duties: status, eviction, Events.
//!
//! Owns: carrying duties out, a bounded number at once, and saying what came of each. Every write
//! carries the version that it was decided on, and is sent only while the tenure lasts. Does not
//! own: what is to be done (`registry`), who leads (`cluster::election`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rollcall_core::{
    fact::{Announcement, Delivery, Duty, Fact, Outcome, Sent, Version},
    slot::Source,
    status::Desired,
};
use rollcall_model::instance::Instance;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, error_span, info, warn};

use crate::clock;
use crate::kubernetes::{
    election::Tenure, events::Events, failure::Failure, ledger_writer::LedgerWriter, writer::Writer,
};

/// Duties under way at once; half of the writes that may be, so that doors find room.
const AT_ONCE: usize = 16;

/// Carries duties out.
pub struct Controller {
    worker: Arc<Worker>,
    duties: mpsc::Receiver<Duty>,
}

struct Worker {
    writer: Writer,
    ledgers: LedgerWriter,
    tenure: Tenure,
    events: Events,
    facts: mpsc::Sender<Delivery>,
    /// Whether the last write was refused, so that it is said once.
    refused: AtomicBool,
}

impl Controller {
    /// A controller that takes `duties` and tells what came of them.
    #[must_use]
    pub fn new(
        writer: Writer,
        ledgers: LedgerWriter,
        tenure: Tenure,
        events: Events,
        facts: mpsc::Sender<Delivery>,
        duties: mpsc::Receiver<Duty>,
    ) -> Self {
        Self {
            worker: Arc::new(Worker {
                writer,
                ledgers,
                tenure,
                events,
                facts,
                refused: AtomicBool::new(false),
            }),
            duties,
        }
    }

    /// Works until `stop`, then finishes what is under way. Each call inside has its own deadline.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        while let Some(Some(duty)) = stop.run_until_cancelled(self.duties.recv()).await {
            while under_way.len() >= AT_ONCE {
                let Some(ended) = stop.run_until_cancelled(under_way.join_next()).await else {
                    break;
                };
                report(ended);
            }
            if stop.is_cancelled() {
                break;
            }
            while let Some(ended) = under_way.try_join_next() {
                report(Some(ended));
            }
            let worker = self.worker.clone();
            let span = span(&duty);
            under_way.spawn(async move { worker.carry_out(duty).await }.instrument(span));
        }
        while let Some(ended) = under_way.join_next().await {
            report(Some(ended));
        }
    }
}

/// Whatever is logged meanwhile bears it: of the highest level, so beside warnings, too.
fn span(duty: &Duty) -> Span {
    let (duty, key) = match duty {
        Duty::WriteStatus { on, .. } => ("status", &on.key),
        Duty::Checkpoint { on, .. } => ("checkpoint", &on.key),
        Duty::Evict { on, .. } => ("evict", &on.key),
        Duty::Announce { on, .. } => ("announce", &on.key),
        Duty::Sweep { replica, .. } => return error_span!("duty", duty = "sweep", %replica),
        Duty::SelfBeat(_) | Duty::Relist | Duty::Flush(_) => return Span::none(),
    };
    error_span!("duty", duty, %key)
}

fn report(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        warn!(%error, "a duty broke down");
    }
}

impl Worker {
    async fn carry_out(&self, duty: Duty) {
        match duty {
            Duty::WriteStatus { on, desired, announce } => {
                self.write_status(on, &desired, announce).await;
            }
            Duty::Checkpoint { on, last_heartbeat } => {
                let written = self.writer.checkpoint(&self.tenure, &on, last_heartbeat).await;
                self.settle(&on, written).await;
            }
            Duty::Evict { on, reason } => self.evict(on, &reason).await,
            Duty::Sweep { replica, version } => self.sweep(&replica, version).await,
            // It may have waited. What goes with a status that we have stored is ours to tell in any case.
            Duty::Announce { on, what } if self.tenure.holds(clock::moment()) => {
                self.announce(&on, &what).await;
            }
            // Self-beats and ledgers are the witness's, and lists the watches'.
            Duty::Announce { .. } | Duty::SelfBeat(_) | Duty::Relist | Duty::Flush(_) => {}
        }
    }

    async fn write_status(&self, on: Version, desired: &Desired, announce: Option<Announcement>) {
        let written = self.writer.status(&self.tenure, &on, desired, clock::wall()).await;
        let stored = written.is_ok();
        self.settle(&on, written).await;
        if let Some(what) = announce.filter(|_| stored) {
            info!(key = %on.key, phase = %desired.phase, "stored a change of life");
            self.announce(&on, &what).await;
        }
    }

    async fn evict(&self, on: Version, reason: &str) {
        let deleted = self.writer.evict(&self.tenure, &on).await;
        match deleted {
            Ok(gone) => {
                self.refused.store(false, Ordering::Relaxed);
                info!(key = %on.key, reason, gone, "evicted");
                self.tell(&on, if gone { Outcome::Evicted } else { Outcome::Deleting }).await;
            }
            Err(failure) => self.failed(&on, &failure).await,
        }
    }

    /// Not tried again: what is left over is looked at when a list brings it anew.
    async fn sweep(&self, replica: &str, version: u64) {
        match self.ledgers.sweep(&self.tenure, replica, version).await {
            Ok(()) => info!(replica, "deleted the ledger of a replica that is gone"),
            Err(Failure::Conflict(_) | Failure::NotFound(_) | Failure::NotLeading) => {}
            Err(failure) => warn!(replica, %failure, "the ledger of a replica that is gone stays"),
        }
    }

    async fn settle(&self, on: &Version, written: Result<Arc<Instance>, Failure>) {
        match written {
            Ok(instance) => {
                self.refused.store(false, Ordering::Relaxed);
                // In this order: the duty must not be decided anew on the old version.
                let (by, sent) = (Source::Annotation, Sent::default());
                self.send(Fact::Written { instance, by, sent }).await;
                self.tell(on, Outcome::Done).await;
            }
            Err(failure) => self.failed(on, &failure).await,
        }
    }

    async fn failed(&self, on: &Version, failure: &Failure) {
        let outcome = match failure {
            Failure::Conflict(_) | Failure::NotFound(_) | Failure::NoNamespace(_) => {
                Outcome::Conflict
            }
            Failure::NotLeading => {
                debug!(key = %on.key, "a duty is left to the leader");
                Outcome::Failed
            }
            // A right that is missing is missing for every object: the preflight says which.
            Failure::Refused { .. } => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    warn!(
                        key = %on.key, %failure,
                        "a write was refused, and others like it may be; tried again every few minutes"
                    );
                }
                Outcome::Refused
            }
            _ => {
                warn!(key = %on.key, %failure, "a write failed; it will be tried again");
                Outcome::Failed
            }
        };
        self.tell(on, outcome).await;
    }

    async fn announce(&self, on: &Version, what: &Announcement) {
        if let Err(failure) = self.events.announce(on, what).await {
            debug!(key = %on.key, %failure, "an Event could not be written");
        }
    }

    async fn tell(&self, on: &Version, outcome: Outcome) {
        self.send(Fact::Attempted { key: on.key.clone(), uid: on.uid.clone(), outcome }).await;
    }

    /// Waits without a deadline: the engine takes facts in for as long as the process lives.
    async fn send(&self, fact: Fact) {
        if self.facts.send(Delivery::new(fact, clock::reading())).await.is_err() {
            debug!("the engine has ended");
        }
    }
}
