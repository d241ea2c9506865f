//! The engine: the one task that owns the state machine. Facts in, views and duties out.
//!
//! Owns: the time of each round, the order of facts, and the dispatch of duties. It drains its channel before the
//! catalog judges leases, and calls back the sender of a fact once readers can see the effect. Does not own: the
//! rules (`rollcall_core`).

use std::{sync::Arc, time::Duration};

use rollcall_core::{
    catalog::{Catalog, Counts},
    fact::{Delivery, Duty, SelfBeat},
    horizon::STALE_AFTER,
    ledger::Ledger,
    report::{Duplicate, Overlap, Standstill},
};
use rollcall_model::{
    instance::ServiceKey,
    lease::{Moment, Now, Reading},
};
use thiserror::Error;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
    },
    time::sleep,
};
use tracing::{info, warn};

use crate::clock;
use crate::telemetry::{heartbeats::HeartbeatMetrics, metrics::EngineMetrics};

/// Capacity of the fact channel. A round over this many facts takes well under a millisecond, and no API server sends
/// more facts than this in a second. While the channel is full, the watch waits.
pub const FACTS: usize = 4096;

/// Capacity of the duty channel to the controller. Further duties wait in the catalog, at most one per instance.
pub const DUTIES: usize = 64;

/// Maximum number of facts in one round, before readers see their effect.
const BATCH: usize = 4096;

/// A difference between the two clocks beyond this means a suspension. They are read one after the other, so a small
/// difference is normal.
const SUSPENSION_THRESHOLD: Duration = Duration::from_millis(100);

/// This machine was suspended. The exact length of a suspension is unknown, so every bound on the clocks of the other
/// replicas is invalid. The process must end and start again under a new boot.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "this machine was suspended for {} s, so rollcall must restart: its bounds on the clocks of other replicas are \
     invalid",
    .0.as_secs_f32()
)]
pub struct Suspended(pub Duration);

/// Notifies subscribers that the views of these services have changed. It must not block.
pub type Announce = Box<dyn Fn(&[ServiceKey]) + Send>;

/// The task that owns the state machine.
pub struct Engine {
    /// The state machine.
    pub catalog: Catalog,
    /// Incoming facts.
    pub facts: mpsc::Receiver<Delivery>,
    /// Outgoing duties on objects.
    pub duties: mpsc::Sender<Duty>,
    /// Outgoing self-beats; the catalog asks for one at a time.
    pub self_beats: mpsc::Sender<SelfBeat>,
    /// Outgoing ledgers, also one at a time.
    pub ledgers: mpsc::Sender<Ledger>,
    /// Signals to both watches to list again.
    pub relist: [Arc<Notify>; 2],
    /// The counters of the catalog, published for the metrics.
    pub counts: Arc<arc_swap::ArcSwap<Counts>>,
    /// Metrics of the engine itself.
    pub metrics: EngineMetrics,
    /// Counts heartbeats that the watch delivered.
    pub beats: HeartbeatMetrics,
    /// Called with the services whose views have changed.
    pub announce: Announce,
    /// When the current standstill of the horizon began, once it was logged.
    pub standstill_since: Option<Moment>,
    /// The other installations that were logged last.
    pub overlap: Option<Overlap>,
    /// The duplicate processes that were logged last.
    pub duplicates: Vec<Duplicate>,
}

impl Engine {
    /// Runs until every sender of facts is gone.
    ///
    /// # Errors
    /// When the machine was suspended; no lease is judged after that.
    pub async fn run(mut self) -> Result<(), Suspended> {
        let mut batch = Vec::with_capacity(BATCH);
        let suspended = clock::suspended();
        loop {
            let now = clock::moment();
            let pause = self.catalog.next_settle(now).since(now);
            tokio::select! {
                taken = self.facts.recv_many(&mut batch, BATCH) => if taken == 0 { return Ok(()) },
                () = sleep(pause) => {}
            }
            while batch.len() < BATCH {
                let Ok(delivery) = self.facts.try_recv() else { break };
                batch.push(delivery);
            }
            check_suspension(suspended, clock::suspended())?;
            self.round(&mut batch);
        }
    }

    fn round(&mut self, batch: &mut Vec<Delivery>) {
        let facts = batch.len();
        let (now, started) = (clock::now(), clock::reading());
        let mut callbacks = Vec::new();
        let mut oldest: Option<Reading> = None;
        for delivery in batch.drain(..) {
            let before = self.catalog.unpublished();
            self.catalog.apply(delivery.fact, now);
            // If an earlier fact has already changed the service, the change is measured from that fact.
            if self.catalog.unpublished() > before {
                oldest = Some(oldest.map_or(delivery.received, |at| at.min(delivery.received)));
            }
            callbacks.extend(delivery.applied);
        }
        let duties = self.catalog.settle(now, self.duties.capacity());
        let visible = clock::reading();
        callbacks.into_iter().for_each(|applied| applied());
        for duty in duties {
            self.dispatch_duty(duty);
        }
        // After the callbacks, which are urgent, because it takes time to wake thousands of subscribers.
        (self.announce)(&self.catalog.take_revised());
        let counts = self.catalog.counts();
        let before = self.counts.swap(Arc::new(counts));
        self.beats
            .annotation(counts.annotation_heartbeats.saturating_sub(before.annotation_heartbeats));
        if let Some(received) = oldest.filter(|_| counts.changes > before.changes) {
            self.metrics.visible(visible.since(received));
        }
        if counts.gaps > before.gaps {
            warn!(
                "heartbeats may have been missed; every instance is given that time back, one lease at most, see \
                 lastGap in /v1/cluster"
            );
        }
        if counts.step_backs > before.step_backs {
            let report = self.catalog.directory().report();
            let why = report.step_back.as_ref().map(|step_back| step_back.reason.to_string());
            warn!(
                why,
                "the store stepped back, as after a restore of etcd from a backup: all objects are listed again, and \
                 every instance is given one lease"
            );
        }
        if counts.holds > before.holds {
            warn!(
                "many leases ended together; their instances are held in the answers for at most one more lease: see \
                 `held` in /v1/cluster"
            );
        }
        self.log_standstill(now);
        self.log_overlap();
        self.log_duplicates();
        self.metrics.round(facts, visible.since(started));
    }

    /// Logs when the horizon becomes stale, and when it moves again.
    fn log_standstill(&mut self, now: Now) {
        let report = self.catalog.directory().report();
        let stale = |standstill: &&Standstill| now.moment.since(standstill.since) > STALE_AFTER;
        match (report.standstill.as_ref().filter(stale), self.standstill_since) {
            (Some(standstill), None) => {
                self.standstill_since = Some(standstill.since);
                let why = standstill.sentence(now);
                warn!(
                    why,
                    "the horizon is stalled: no lease is judged, and instances stay in the answers after their lease has \
                     ended"
                );
            }
            (None, Some(since)) => {
                self.standstill_since = None;
                let seconds = now.moment.since(since).as_secs();
                info!(seconds, "the horizon moves again: leases are judged");
            }
            _ => {}
        }
    }

    /// Logs the other installations whenever they change.
    fn log_overlap(&mut self) {
        let overlap = self.catalog.directory().report().overlap.clone();
        if overlap == self.overlap {
            return;
        }
        match &overlap {
            Some(overlap) => warn!("{}", overlap.sentence()),
            None => info!("no other installation of rollcall was observed for 20 minutes"),
        }
        self.overlap = overlap;
    }

    /// Logs the duplicate processes whenever they change.
    fn log_duplicates(&mut self) {
        let duplicates = self.catalog.directory().report().duplicates.clone();
        for duplicate in duplicates.iter().filter(|duplicate| !self.duplicates.contains(duplicate))
        {
            warn!("{}", duplicate.sentence());
        }
        for duplicate in self.duplicates.iter().filter(|duplicate| !duplicates.contains(duplicate))
        {
            info!(
                replica = %duplicate.replica,
                younger = %duplicate.younger,
                "one of two processes with the same identity is no longer observed"
            );
        }
        self.duplicates = duplicates;
    }

    fn dispatch_duty(&self, duty: Duty) {
        let full = match duty {
            Duty::SelfBeat(self_beat) => {
                matches!(self.self_beats.try_send(self_beat), Err(TrySendError::Full(_)))
            }
            Duty::Relist => {
                self.relist.iter().for_each(|watch| watch.notify_one());
                false
            }
            Duty::WriteLedger(ledger) => {
                matches!(self.ledgers.try_send(ledger), Err(TrySendError::Full(_)))
            }
            other => matches!(self.duties.try_send(other), Err(TrySendError::Full(_))),
        };
        if full {
            // Cannot happen: the catalog knows the free capacity of the channel. A closed channel is not an error: it
            // belongs to a task that has ended at shutdown.
            warn!("a duty was dropped because its channel is full");
        }
    }
}

fn check_suspension(before: Duration, now: Duration) -> Result<(), Suspended> {
    let slept = now.saturating_sub(before);
    if slept < SUSPENSION_THRESHOLD { Ok(()) } else { Err(Suspended(slept)) }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;
    use crate::telemetry::metrics;
    use rollcall_core::{catalog::Settings, directory::Directory, fact::Fact};
    use rollcall_model::instance::{Instance, InstanceKey};

    fn engine() -> (Engine, Registry) {
        let mut registry = metrics::registry();
        let settings = Settings {
            own: InstanceKey::new("rollcall-system", "r0"),
            boot: "b".to_owned(),
            zone: "rollcall.internal".to_owned(),
            ledger: None,
        };
        let engine = Engine {
            catalog: Catalog::new(settings, Arc::new(Directory::default())),
            facts: mpsc::channel(1).1,
            duties: mpsc::channel(1).0,
            self_beats: mpsc::channel(1).0,
            ledgers: mpsc::channel(1).0,
            relist: Default::default(),
            counts: Arc::default(),
            metrics: EngineMetrics::new(&mut registry),
            beats: HeartbeatMetrics::new(&mut registry),
            announce: Box::new(|_| {}),
            standstill_since: None,
            overlap: None,
            duplicates: Vec::new(),
        };
        (engine, registry)
    }

    /// A version of an instance that the watch delivered `ago` seconds ago.
    fn upserted(name: &str, version: u64, weight: u16, ago: u64) -> Delivery {
        let sample = Instance { resource_version: version, ..Instance::sample("shop", name) };
        let record = sample.with(|facts| facts.weight = weight);
        let received = clock::reading().0.saturating_sub(Duration::from_secs(ago));
        Delivery::new(Fact::Upserted(Arc::new(record)), Reading(received))
    }

    /// The number of measured changes, and the sum of their durations in whole seconds.
    fn visible_changes(registry: &Registry) -> (u64, u64) {
        let mut text = String::new();
        text::encode(&mut text, registry).unwrap();
        let value = |name: &str| {
            let name = format!("rollcall_change_visible_seconds_{name} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
            value.parse::<f64>().unwrap() as u64
        };
        (value("count"), value("sum"))
    }

    #[test]
    fn change_is_measured_once_per_round_from_its_oldest_fact() {
        let (mut engine, registry) = engine();
        let listed = Fact::Listed { instances: Vec::new(), index: 1 };
        engine.round(&mut vec![Delivery::new(listed, Reading::default())]);
        assert_eq!(visible_changes(&registry), (0, 0), "an empty list changes nothing");
        engine.round(&mut vec![upserted("a", 2, 1, 20), upserted("b", 3, 1, 10)]);
        assert_eq!(visible_changes(&registry), (1, 20));
        engine.round(&mut vec![upserted("a", 4, 1, 1000)]);
        assert_eq!(visible_changes(&registry), (1, 20), "a version without a visible change");
        engine.round(&mut vec![upserted("a", 5, 1, 1000), upserted("b", 6, 2, 10)]);
        assert_eq!(visible_changes(&registry), (2, 30), "only facts that change a view count");
        engine.round(&mut vec![upserted("a", 7, 2, 1000), upserted("a", 8, 1, 10)]);
        assert_eq!(visible_changes(&registry), (2, 30), "changed and changed back");
    }

    #[test]
    fn only_clock_difference_above_threshold_is_a_suspension() {
        let before = Duration::from_secs(3_600);
        assert_eq!(check_suspension(before, before + Duration::from_millis(2)), Ok(()));
        assert_eq!(check_suspension(before, before - Duration::from_millis(2)), Ok(()));
        let suspended = check_suspension(before, before + Duration::from_millis(12_500));
        let message = suspended.map_err(|suspended| suspended.to_string());
        let sentence = "this machine was suspended for 12.5 s, so rollcall must restart: its bounds on the clocks of \
                        other replicas are invalid";
        assert_eq!(message, Err(sentence.to_owned()));
    }
}
