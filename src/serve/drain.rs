//! The shutdown of a replica.
//!
//! Owns: the order of the steps, and a deadline for each. Does not own: the tasks (`build`).
//!
//! ```text
//! SIGTERM ─ unready ─ self-beats stop: no lease is judged from here on     at most 1 s
//!                   ─ HTTP stops; every accepted heartbeat is answered     5 s
//!                   ─ the last ledger reports these heartbeats and says that it is the last; in
//!                     parallel the leader finishes its writes, and spans are exported    6 s
//!                   ─ the leadership is released                           7 s
//!                   ─ the replica's own instance is deleted                2 s
//!                   ─ DNS still answers resolvers that query this replica  --linger-seconds
//!                   ─ DNS stops, then everything else                      3 s + 1 s
//! ```
//!
//! The sum fits into the termination grace period in `deploy/base/deployment.yaml`, and into the 30 s that Kubernetes
//! gives by default. A second signal ends the process at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rollcall_core::{
    directory::Directory,
    fact::{Delivery, Fact},
};
use rollcall_model::{instance::InstanceKey, lease::Moment};
use tokio::{sync::mpsc, time::sleep};
use tracing::info;

use crate::clock;
use crate::heartbeat::self_beat;
use crate::kubernetes::writer::Writer;
use crate::serve::task_group::TaskGroup;
use crate::telemetry::{probes::Probes, problems::ProblemTracker, traces::Traces};

/// How long a synced replica waits at its start for the first confirmed heartbeats. The first self-beat and the first
/// ledger take well under a second.
const FENCED_AT_MOST: Duration = Duration::from_secs(15);

/// More time than the HTTP server gives its connections.
const HTTP: Duration = Duration::from_secs(5);

/// Time for a ledger in progress and for the last one, 2 s each.
const FLUSH: Duration = Duration::from_secs(4);

/// A write takes at most 5 s once it has started. The next leader decides an aborted write again; only the Event that
/// goes with a stored status is lost.
const DUTIES: Duration = Duration::from_secs(6);

/// Time for a call in progress and for the release, 3 s each.
const ELECTION: Duration = Duration::from_secs(7);

/// Time for the last spans, in parallel with the writes. A reachable collector accepts them in milliseconds.
const SPANS: Duration = Duration::from_secs(3);

/// Time for the task of self-beats. A self-beat in progress is dropped.
const SELF_BEAT: Duration = Duration::from_secs(1);

/// More time than the DNS server gives its sockets.
const DNS: Duration = Duration::from_secs(3);

/// Time for the last group, whose tasks are dropped.
const CORE: Duration = Duration::from_secs(1);

/// A running replica: its task groups, in the order in which they are stopped.
pub(super) struct Replica {
    /// The HTTP server.
    pub(super) http: TaskGroup,
    /// The writer of this replica's ledger.
    pub(super) flush: TaskGroup,
    /// The leader's writes.
    pub(super) duties: TaskGroup,
    /// The leader election.
    pub(super) election: TaskGroup,
    /// The self-beat of the replica's own instance.
    pub(super) self_beat: TaskGroup,
    /// The DNS server.
    pub(super) dns: TaskGroup,
    /// Everything that the servers depend on.
    pub(super) core: TaskGroup,
    /// The answer of `/readyz`.
    pub(super) readiness: Arc<Readiness>,
    /// Deletes the replica's own instance.
    pub(super) writer: Writer,
    /// Reports to the engine that the replica leaves.
    pub(super) facts: mpsc::Sender<Delivery>,
    pub(super) own: InstanceKey,
    /// How long DNS still answers after everything else has stopped.
    pub(super) linger: Duration,
    /// The exporter of request spans, if there is one.
    pub(super) traces: Option<Traces>,
}

/// Whether this replica should receive requests.
pub(super) struct Readiness {
    pub(super) directory: Arc<Directory>,
    /// Problems that an operator has to fix in the cluster.
    pub(super) problems: ProblemTracker,
    /// Whether the replica has been synced and able to confirm heartbeats at least once. Stays true.
    pub(super) started: AtomicBool,
    /// When a probe first found the replica synced; 0 before.
    pub(super) synced: AtomicU64,
    pub(super) stopping: AtomicBool,
}

impl Probes for Readiness {
    fn is_started(&self) -> bool {
        if self.started.load(Ordering::Acquire) {
            return true;
        }
        let now = clock::moment();
        let started =
            self.directory.is_synced() && (!self.directory.is_fenced(now) || self.has_waited(now));
        self.started.fetch_or(started, Ordering::AcqRel) || started
    }

    fn unready(&self) -> Option<String> {
        if self.stopping.load(Ordering::Acquire) {
            return Some("stopping".to_owned());
        }
        let report = self.directory.report();
        if let Some(duplicate) = report.duplicates.iter().find(|_| report.yields) {
            return Some(duplicate.sentence());
        }
        if self.is_started() {
            return None;
        }
        match self.problems.shown().blocking.as_slice() {
            [] => Some(
                "starting: the replica has not read all instances from the Kubernetes API yet, or cannot confirm \
                 heartbeats yet"
                    .to_owned(),
            ),
            missing => Some(missing.join("\n")),
        }
    }
}

impl Readiness {
    /// Whether the replica has been synced long enough to start although it cannot confirm heartbeats. A replica that
    /// can read but not write answers DNS and discovery, and heartbeats with 202.
    fn has_waited(&self, now: Moment) -> bool {
        let first = self.synced.compare_exchange(0, now.0, Ordering::AcqRel, Ordering::Acquire);
        first.is_err_and(|first| now.since(Moment(first)) > FENCED_AT_MOST)
    }
}

impl Replica {
    /// Waits, without a deadline, until a task ends unexpectedly. Returns why it ended.
    pub(super) async fn failed(&mut self) -> String {
        tokio::select! {
            why = self.http.failed() => why,
            why = self.flush.failed() => why,
            why = self.duties.failed() => why,
            why = self.election.failed() => why,
            why = self.self_beat.failed() => why,
            why = self.dns.failed() => why,
            why = self.core.failed() => why,
        }
    }

    /// Shuts the replica down in order.
    pub(super) async fn drain(&mut self) {
        self.readiness.stopping.store(true, Ordering::Release);
        // Without self-beats the horizon is stalled, so no lease is judged while the server accepts no heartbeats, and
        // no self-beat creates this replica's own instance again.
        self.self_beat.stop(SELF_BEAT).await;
        self.http.stop(HTTP).await;
        // If this process yields, the ledger and the instance belong to the older process with this identity.
        let yields = self.readiness.directory.report().yields;
        // No more heartbeats can arrive, so the last ledger reports all of them and says that it is the last.
        let reported = async {
            let leaving = Delivery::new(Fact::Leaving, clock::reading());
            if !yields && self.facts.try_send(leaving).is_ok() {
                self.flush.wait(FLUSH).await;
            }
            self.flush.stop(CORE).await;
        };
        // No more requests can arrive, so no more spans begin.
        let exported = async {
            if let Some(traces) = &self.traces {
                traces.end(SPANS).await;
            }
        };
        tokio::join!(reported, self.duties.stop(DUTIES), exported);
        self.election.stop(ELECTION).await;
        if !yields {
            self_beat::leave(&self.writer, &self.own).await;
        }
        if !self.linger.is_zero() {
            info!(seconds = self.linger.as_secs(), "everything but DNS has stopped");
            sleep(self.linger).await;
        }
        self.dns.stop(DNS).await;
        self.core.stop(CORE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServeArgs;

    #[test]
    fn termination_grace_period_covers_every_step() {
        let linger = Duration::from_secs(ServeArgs::from_flags(&[]).linger_seconds);
        let writes = DUTIES.max(FLUSH + CORE);
        let steps = [HTTP, writes, ELECTION, SELF_BEAT, self_beat::LEAVE_WITHIN, linger, DNS, CORE];
        let deployment = include_str!("../../deploy/base/deployment.yaml");
        let mut lines = deployment.lines().map(str::trim);
        let grace = lines.find_map(|line| line.strip_prefix("terminationGracePeriodSeconds: "));
        let grace = Duration::from_secs(grace.unwrap().parse().unwrap());
        let sum: Duration = steps.iter().sum();
        assert!(sum < Duration::from_secs(30), "{sum:?}");
        let before = deployment.split_once("preStop: {sleep: {seconds: ").unwrap().1;
        let before = Duration::from_secs(before.split_once('}').unwrap().0.parse().unwrap());
        assert!(before + sum + Duration::from_secs(5) <= grace, "{before:?} + {sum:?}");
    }
}
