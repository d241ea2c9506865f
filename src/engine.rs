//! The engine: the one task that owns the registry. Facts in, views and duties out.
//!
//! Owns: time, the order of facts, and the hand-over of duties. It drains its channel before it
//! lets the catalog judge, and tells whoever waits for a fact that readers can see it. Does not
//! own: any rule.

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

/// Facts under way to the engine. A round takes well under a millisecond for as many, so this is
/// a second's worth at any rate that an API server reaches; a full channel holds the watch back.
pub const FACTS: usize = 4096;

/// Duties under way to the controller; the rest waits in the catalog, at most one an instance.
pub const DUTIES: usize = 64;

/// Facts taken in before readers get to see them.
const BATCH: usize = 4096;

/// The two clocks are read one after the other: so much apart they have parted.
const PARTED: Duration = Duration::from_millis(100);

/// This machine was suspended: by how much its clock has jumped is known to nobody exactly, so all that is
/// known of other replicas' clocks is worth nothing. The process ends, and starts anew under another boot.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this machine was suspended for {} s, so rollcall has to start anew", .0.as_secs_f32())]
pub struct Suspended(pub Duration);

/// Tells whoever waits that these services look different now. It must not block.
pub type Announce = Box<dyn Fn(&[ServiceKey]) + Send>;

/// The task that owns the registry.
pub struct Engine {
    /// The state machine.
    pub catalog: Catalog,
    /// Facts in.
    pub facts: mpsc::Receiver<Delivery>,
    /// Duties on objects out.
    pub duties: mpsc::Sender<Duty>,
    /// Self-beats out; the catalog has one under way at a time.
    pub self_beats: mpsc::Sender<SelfBeat>,
    /// Ledgers out, likewise.
    pub ledgers: mpsc::Sender<Ledger>,
    /// Has both watches list anew.
    pub relist: [Arc<Notify>; 2],
    /// Figures, published for the metrics.
    pub counts: Arc<arc_swap::ArcSwap<Counts>>,
    /// The engine's own.
    pub metrics: EngineMetrics,
    /// Beats that the watch brought.
    pub beats: HeartbeatMetrics,
    /// Who is told of services that look different now.
    pub announce: Announce,
    /// Since when the horizon has stood still, once that was said.
    pub stands_since: Option<Moment>,
    /// The other installations that were mentioned last.
    pub overlap: Option<Overlap>,
    /// Identities of two processes, as they were said last.
    pub duplicates: Vec<Duplicate>,
}

impl Engine {
    /// Runs until nobody can send facts any more.
    ///
    /// # Errors
    /// When the machine was suspended; nobody is judged after that.
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
            awake_since(suspended, clock::suspended())?;
            self.round(&mut batch);
        }
    }

    fn round(&mut self, batch: &mut Vec<Delivery>) {
        let facts = batch.len();
        let (now, begun) = (clock::now(), clock::reading());
        let mut waiting = Vec::new();
        let mut oldest: Option<Reading> = None;
        for delivery in batch.drain(..) {
            let before = self.catalog.unpublished();
            self.catalog.apply(delivery.fact, now);
            // Not where an earlier one has changed the same service: that one is older.
            if self.catalog.unpublished() > before {
                oldest = Some(oldest.map_or(delivery.received, |it| it.min(delivery.received)));
            }
            waiting.extend(delivery.applied);
        }
        let duties = self.catalog.settle(now, self.duties.capacity());
        let visible = clock::reading();
        waiting.into_iter().for_each(|applied| applied());
        for duty in duties {
            self.hand_on(duty);
        }
        // After those for whom it is urgent: to wake thousands takes a moment.
        (self.announce)(&self.catalog.take_revised());
        let counts = self.catalog.counts();
        let before = self.counts.swap(Arc::new(counts));
        self.beats.annotation(counts.annotation_beats.saturating_sub(before.annotation_beats));
        if let Some(received) = oldest.filter(|_| counts.changes > before.changes) {
            self.metrics.visible(visible.since(received));
        }
        if counts.gaps > before.gaps {
            warn!(
                "beats may have gone unheard; everybody is given that time, one lease at most, see lastGap in /v1/cluster"
            );
        }
        if counts.step_backs > before.step_backs {
            let report = self.catalog.directory().report();
            let why = report.step_back.as_ref().map(|it| it.reason.to_string());
            warn!(
                why,
                "the store went back, as after a restore of etcd from a backup: everything is listed anew, and every \
                 instance has one lease"
            );
        }
        if counts.holds > before.holds {
            warn!(
                "many instances fell silent together; they are kept in the answers for one more lease at \
                 most, see /v1/cluster"
            );
        }
        self.mention_standstill(now);
        self.mention_overlap();
        self.log_duplicates();
        self.metrics.round(facts, visible.since(begun));
    }

    /// Says it when the horizon has become stale, and when it goes on.
    fn mention_standstill(&mut self, now: Now) {
        let report = self.catalog.directory().report();
        let stale = |it: &&Standstill| now.moment.since(it.since) > STALE_AFTER;
        match (report.standstill.as_ref().filter(stale), self.stands_since) {
            (Some(standstill), None) => {
                self.stands_since = Some(standstill.since);
                let why = standstill.sentence(now);
                warn!(why, "the horizon stands still: nobody is judged, and the dead stay");
            }
            (None, Some(since)) => {
                self.stands_since = None;
                let seconds = now.moment.since(since).as_secs();
                info!(seconds, "the horizon goes on");
            }
            _ => {}
        }
    }

    /// Says which other installations there are, whenever that changes.
    fn mention_overlap(&mut self) {
        let overlap = self.catalog.directory().report().overlap.clone();
        if overlap == self.overlap {
            return;
        }
        match &overlap {
            Some(overlap) => warn!("{}", overlap.sentence()),
            None => info!("no other installation of rollcall was seen for 20 minutes"),
        }
        self.overlap = overlap;
    }

    /// Says which identities two processes have, whenever that changes.
    fn log_duplicates(&mut self) {
        let duplicates = self.catalog.directory().report().duplicates.clone();
        for duplicate in duplicates.iter().filter(|duplicate| !self.duplicates.contains(duplicate))
        {
            warn!("{}", duplicate.sentence());
        }
        for duplicate in self.duplicates.iter().filter(|duplicate| !duplicates.contains(duplicate))
        {
            info!(replica = %duplicate.replica, younger = %duplicate.younger, "one of two processes of an identity is not heard any more");
        }
        self.duplicates = duplicates;
    }

    fn hand_on(&self, duty: Duty) {
        let full = match duty {
            Duty::SelfBeat(wanted) => {
                matches!(self.self_beats.try_send(wanted), Err(TrySendError::Full(_)))
            }
            Duty::Relist => {
                self.relist.iter().for_each(|watch| watch.notify_one());
                false
            }
            Duty::Flush(ledger) => {
                matches!(self.ledgers.try_send(ledger), Err(TrySendError::Full(_)))
            }
            other => matches!(self.duties.try_send(other), Err(TrySendError::Full(_))),
        };
        if full {
            // Cannot be: the catalog was told how much room there is. Nobody behind a channel is
            // no fault: the process is going away, and those tasks ended first.
            warn!("a duty found no taker");
        }
    }
}

fn awake_since(before: Duration, now: Duration) -> Result<(), Suspended> {
    let slept = now.saturating_sub(before);
    if slept < PARTED { Ok(()) } else { Err(Suspended(slept)) }
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
            stands_since: None,
            overlap: None,
            duplicates: Vec::new(),
        };
        (engine, registry)
    }

    /// What the watch told so many seconds ago.
    fn stored(name: &str, version: u64, weight: u16, ago: u64) -> Delivery {
        let sample = Instance { resource_version: version, ..Instance::sample("shop", name) };
        let record = sample.with(|facts| facts.weight = weight);
        let received = clock::reading().0.saturating_sub(Duration::from_secs(ago));
        Delivery::new(Fact::Upserted(Arc::new(record)), Reading(received))
    }

    /// How many changes were measured, and how many whole seconds they took together.
    fn measured(registry: &Registry) -> (u64, u64) {
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
    fn a_change_is_measured_once_a_round_from_the_oldest_of_what_made_it() {
        let (mut engine, registry) = engine();
        let listed = Fact::Listed { instances: Vec::new(), index: 1 };
        engine.round(&mut vec![Delivery::new(listed, Reading::default())]);
        assert_eq!(measured(&registry), (0, 0), "nobody was there, and nobody is");
        engine.round(&mut vec![stored("a", 2, 1, 20), stored("b", 3, 1, 10)]);
        assert_eq!(measured(&registry), (1, 20));
        engine.round(&mut vec![stored("a", 4, 1, 1000)]);
        assert_eq!(measured(&registry), (1, 20), "a version that shows nothing new");
        engine.round(&mut vec![stored("a", 5, 1, 1000), stored("b", 6, 2, 10)]);
        assert_eq!(measured(&registry), (2, 30), "only what changed something counts");
        engine.round(&mut vec![stored("a", 7, 2, 1000), stored("a", 8, 1, 10)]);
        assert_eq!(measured(&registry), (2, 30), "changed and changed back");
    }

    #[test]
    fn clocks_that_part_are_a_suspension_and_two_that_are_read_one_after_the_other_are_not() {
        let before = Duration::from_secs(3_600);
        assert_eq!(awake_since(before, before + Duration::from_millis(2)), Ok(()));
        assert_eq!(awake_since(before, before - Duration::from_millis(2)), Ok(()));
        let slept = awake_since(before, before + Duration::from_millis(12_500));
        let said = slept.map_err(|suspended| suspended.to_string());
        let sentence = "this machine was suspended for 12.5 s, so rollcall has to start anew";
        assert_eq!(said, Err(sentence.to_owned()));
    }
}
