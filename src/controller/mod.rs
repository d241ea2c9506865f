//! Carries out the leader's duties: status, eviction, Events.
//!
//! Owns: carrying out duties, a bounded number at the same time, and reporting the outcome of each. Every write carries
//! the version that it was decided on, and is sent only while the tenure lasts. Does not own: which duties there are
//! (`rollcall-core`), which replica leads (`kubernetes::election`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rollcall_core::{
    fact::{Announcement, Delivery, Duty, Fact, StorePosition, Version, WriteOutcome},
    slot::Source,
    status::DesiredStatus,
};
use rollcall_model::instance::Instance;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, error_span, info, warn};

use crate::clock;
use crate::kubernetes::{
    election::Tenure, events::Events, failure::Failure, ledger_writer::LedgerWriter, writer::Writer,
};

/// Duties under way at once: half of the writes that are allowed at once, so that the other half remains for requests.
const AT_ONCE: usize = 16;

/// Carries out duties.
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
    /// Whether the last write was refused, so that only the first refusal is logged.
    refused: AtomicBool,
}

impl Controller {
    /// A controller that carries out `duties`, and reports their outcomes as `facts`.
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

    /// Carries out duties until `stop`, then finishes those under way. Each call inside has its own deadline.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        while let Some(Some(duty)) = stop.run_until_cancelled(self.duties.recv()).await {
            while under_way.len() >= AT_ONCE {
                let Some(ended) = stop.run_until_cancelled(under_way.join_next()).await else {
                    break;
                };
                log_panic(ended);
            }
            if stop.is_cancelled() {
                break;
            }
            while let Some(ended) = under_way.try_join_next() {
                log_panic(Some(ended));
            }
            let worker = self.worker.clone();
            let span = duty_span(&duty);
            under_way.spawn(async move { worker.execute(duty).await }.instrument(span));
        }
        while let Some(ended) = under_way.join_next().await {
            log_panic(Some(ended));
        }
    }
}

/// The span of a duty: every log line of the duty carries it. It has the highest level, so that warnings carry it at any
/// log level.
fn duty_span(duty: &Duty) -> Span {
    let (duty, key) = match duty {
        Duty::WriteStatus { on, .. } => ("status", &on.key),
        Duty::Checkpoint { on, .. } => ("checkpoint", &on.key),
        Duty::Evict { on, .. } => ("evict", &on.key),
        Duty::Announce { on, .. } => ("announce", &on.key),
        Duty::DeleteLedger { replica, .. } => return error_span!("duty", duty = "sweep", %replica),
        Duty::SelfBeat(_) | Duty::Relist | Duty::WriteLedger(_) => return Span::none(),
    };
    error_span!("duty", duty, %key)
}

fn log_panic(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        warn!(%error, "a duty panicked or was cancelled");
    }
}

impl Worker {
    async fn execute(&self, duty: Duty) {
        match duty {
            Duty::WriteStatus { on, desired, announce } => {
                self.write_status(on, &desired, announce).await;
            }
            Duty::Checkpoint { on, last_heartbeat } => {
                let written = self.writer.checkpoint(&self.tenure, &on, last_heartbeat).await;
                self.finish_write(&on, written).await;
            }
            Duty::Evict { on, reason } => self.evict(on, &reason).await,
            Duty::DeleteLedger { replica, version } => self.sweep(&replica, version).await,
            // The tenure is checked because the duty may have waited. (An Event that belongs to a stored status is
            // written in any case, by `write_status`.)
            Duty::Announce { on, what } if self.tenure.holds(clock::moment()) => {
                self.announce(&on, &what).await;
            }
            // The tasks in `heartbeat` write self-beats and ledgers, and the watches list.
            Duty::Announce { .. } | Duty::SelfBeat(_) | Duty::Relist | Duty::WriteLedger(_) => {}
        }
    }

    async fn write_status(
        &self,
        on: Version,
        desired: &DesiredStatus,
        announce: Option<Announcement>,
    ) {
        let written = self.writer.status(&self.tenure, &on, desired, clock::wall()).await;
        let stored = written.is_ok();
        self.finish_write(&on, written).await;
        if let Some(what) = announce.filter(|_| stored) {
            info!(key = %on.key, phase = %desired.phase, "stored a status that is announced by an Event");
            self.announce(&on, &what).await;
        }
    }

    async fn evict(&self, on: Version, reason: &str) {
        let deleted = self.writer.evict(&self.tenure, &on).await;
        match deleted {
            Ok(gone) => {
                self.refused.store(false, Ordering::Relaxed);
                info!(key = %on.key, reason, gone, "evicted");
                self.report_outcome(
                    &on,
                    if gone { WriteOutcome::Evicted } else { WriteOutcome::Deleting },
                )
                .await;
            }
            Err(failure) => self.report_failure(&on, &failure).await,
        }
    }

    /// Deletes a ledger. Failures are not retried: the next list of ledgers leads to the same duty again.
    async fn sweep(&self, replica: &str, version: u64) {
        match self.ledgers.sweep(&self.tenure, replica, version).await {
            Ok(()) => info!(replica, "deleted the ledger of a replica that no longer runs"),
            Err(Failure::Conflict(_) | Failure::NotFound(_) | Failure::NotLeading) => {}
            Err(failure) => {
                warn!(replica, %failure, "cannot delete the ledger of a replica that no longer runs");
            }
        }
    }

    async fn finish_write(&self, on: &Version, written: Result<Arc<Instance>, Failure>) {
        match written {
            Ok(instance) => {
                self.refused.store(false, Ordering::Relaxed);
                // The order matters: the state machine must not decide the same duty again on the old version.
                let (by, sent) = (Source::Annotation, StorePosition::default());
                self.send(Fact::Written { instance, by, sent }).await;
                self.report_outcome(on, WriteOutcome::Done).await;
            }
            Err(failure) => self.report_failure(on, &failure).await,
        }
    }

    async fn report_failure(&self, on: &Version, failure: &Failure) {
        let outcome = match failure {
            Failure::Conflict(_) | Failure::NotFound(_) | Failure::NoNamespace(_) => {
                WriteOutcome::Conflict
            }
            Failure::NotLeading => {
                debug!(key = %on.key, "this replica no longer leads; the duty is left to the leader");
                WriteOutcome::Failed
            }
            // A missing right affects every object. The preflight reports which right is missing.
            Failure::Refused { .. } => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    warn!(
                        key = %on.key, %failure,
                        "the Kubernetes API refused a write, and may refuse similar ones; each is retried every few minutes"
                    );
                }
                WriteOutcome::Refused
            }
            _ => {
                warn!(key = %on.key, %failure, "a write failed and will be retried");
                WriteOutcome::Failed
            }
        };
        self.report_outcome(on, outcome).await;
    }

    async fn announce(&self, on: &Version, what: &Announcement) {
        if let Err(failure) = self.events.announce(on, what).await {
            debug!(key = %on.key, %failure, "cannot write an Event");
        }
    }

    async fn report_outcome(&self, on: &Version, outcome: WriteOutcome) {
        self.send(Fact::Attempted { key: on.key.clone(), uid: on.uid.clone(), outcome }).await;
    }

    /// Waits without a deadline: the engine receives facts as long as the process runs.
    async fn send(&self, fact: Fact) {
        if self.facts.send(Delivery::new(fact, clock::reading())).await.is_err() {
            debug!("the engine has ended");
        }
    }
}
