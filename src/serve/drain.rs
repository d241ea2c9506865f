//! Going away: what ends when, and how long each step may take.
//!
//! ```text
//! SIGTERM ─ unready ─ self-beats end: nobody is judged from here on    1 s at most
//!                   ─ HTTP closes: every beat taken is answered        5 s
//!                   ─ the last ledger tells of them, and that it is the last; beside it the leader's
//!                     writes under way are finished, and spans sent    6 s
//!                   ─ the leadership is released                       7 s
//!                   ─ the own instance is taken away                   2 s
//!                   ─ DNS goes on, for resolvers that still ask here   --linger-seconds
//!                   ─ DNS closes, then everything else                 3 s + 1 s
//! ```
//!
//! The whole of it fits into the time that `deploy/base/deployment.yaml` gives the pod, and into the
//! 30 s that Kubernetes gives by default. A second signal ends the process at once. Does not own: the tasks (`build`).

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
use crate::serve::stage::Stage;
use crate::telemetry::{probes::Probes, problems::Board, traces::Traces};

/// How long a start waits until it can promise anything, when all else is there: the first self-beat and ledger
/// take well under a second.
const WAITS: Duration = Duration::from_secs(15);

/// More than the HTTP door gives its connections.
const HTTP: Duration = Duration::from_secs(5);

/// A ledger that is under way, and the last, have 2 s each.
const FLUSH: Duration = Duration::from_secs(4);

/// A write has 5 s once it is its turn. What is cut off is decided anew by whoever leads next, but for an
/// Event that goes with a status that is stored.
const DUTIES: Duration = Duration::from_secs(6);

/// A call that is under way, and the release, have 3 s each.
const ELECTION: Duration = Duration::from_secs(7);

/// Beside the writes: a collector that is there takes the last spans in milliseconds.
const SPANS: Duration = Duration::from_secs(3);

/// A self-beat is dropped where it is.
const SELF_BEAT: Duration = Duration::from_secs(1);

/// More than the DNS door gives its sockets.
const DNS: Duration = Duration::from_secs(3);

/// They are dropped where they are.
const CORE: Duration = Duration::from_secs(1);

/// A replica at work, by what ends together.
pub(super) struct Replica {
    /// Requests are taken.
    pub(super) http: Stage,
    /// The own ledger.
    pub(super) flush: Stage,
    /// The leader's writes.
    pub(super) duties: Stage,
    /// The leadership.
    pub(super) election: Stage,
    /// The replica's own instance.
    pub(super) self_beat: Stage,
    /// Queries are answered.
    pub(super) dns: Stage,
    /// Everything that the doors look into.
    pub(super) core: Stage,
    /// What `/readyz` says.
    pub(super) condition: Arc<Condition>,
    /// To take the own instance away.
    pub(super) writer: Writer,
    /// To say that it leaves.
    pub(super) facts: mpsc::Sender<Delivery>,
    pub(super) own: InstanceKey,
    /// How long DNS goes on when all else has ended.
    pub(super) linger: Duration,
    /// Who takes spans of requests, if anybody.
    pub(super) traces: Option<Traces>,
}

/// Whether this replica should be asked.
pub(super) struct Condition {
    pub(super) directory: Arc<Directory>,
    /// What is missing in the cluster.
    pub(super) problems: Board,
    /// Whether it has known all instances, and could promise to keep who beats.
    pub(super) started: AtomicBool,
    /// When it was first asked with all instances known; 0 before.
    pub(super) synced: AtomicU64,
    pub(super) stopping: AtomicBool,
}

impl Probes for Condition {
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
            [] => Some("not synced with the Kubernetes API yet".to_owned()),
            missing => Some(missing.join("\n")),
        }
    }
}

impl Condition {
    /// Whether it has waited long enough to promise anything: where it may read and not write, it answers
    /// DNS and discovery, and beats with 202.
    fn has_waited(&self, now: Moment) -> bool {
        let first = self.synced.compare_exchange(0, now.0, Ordering::AcqRel, Ordering::Acquire);
        first.is_err_and(|first| now.since(Moment(first)) > WAITS)
    }
}

impl Replica {
    /// Waits, without a deadline, for the end of any task: none should come.
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

    /// Goes away in order.
    pub(super) async fn drain(&mut self) {
        self.condition.stopping.store(true, Ordering::Release);
        // Without self-beats the horizon stands still: nobody is judged for beats that find no door.
        // Nor does one bring the own instance back.
        self.self_beat.stop(SELF_BEAT).await;
        self.http.stop(HTTP).await;
        // The ledger and the instance are those of the older process of this identity.
        let yields = self.condition.directory.report().yields;
        // All beats are taken: the last ledger tells the others of them, and that no more come.
        let told = async {
            let leaving = Delivery::new(Fact::Leaving, clock::reading());
            if !yields && self.facts.try_send(leaving).is_ok() {
                self.flush.wait(FLUSH).await;
            }
            self.flush.stop(CORE).await;
        };
        // There are no more requests, and so no more spans.
        let traced = async {
            if let Some(traces) = &self.traces {
                traces.end(SPANS).await;
            }
        };
        tokio::join!(told, self.duties.stop(DUTIES), traced);
        self.election.stop(ELECTION).await;
        if !yields {
            self_beat::leave(&self.writer, &self.own).await;
        }
        if !self.linger.is_zero() {
            info!(seconds = self.linger.as_secs(), "only DNS is answered now");
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
    fn the_deployment_gives_every_step_its_time() {
        let linger = Duration::from_secs(ServeArgs::of(&[]).linger_seconds);
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
