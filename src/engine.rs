//! The engine: the one task that owns the registry. Facts in, views and duties out.
//!
//! Owns: time, the order of facts, and the hand-over of duties. It drains its channel before it
//! lets the catalog judge, and tells whoever waits for a fact that readers can see it. Does not
//! own: any rule.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::sleep,
};
use tracing::warn;

use crate::clock;
use crate::registry::{
    catalog::{Catalog, Counts},
    directory::Directory,
    fact::{Delivery, Duty},
    instance::Phase,
    ledger::Ledger,
};
use crate::telemetry::{beats::BeatMetrics, metrics::EngineMetrics};

/// Facts under way to the engine. A round takes well under a millisecond for as many, so this is
/// a second's worth at any rate that an API server reaches; a full channel holds the watch back.
pub const FACTS: usize = 4096;

/// Duties under way to the controller; the rest waits in the catalog, at most one an instance.
pub const DUTIES: usize = 64;

/// Facts taken in before readers get to see them.
const BATCH: usize = 4096;

/// The task that owns the registry.
pub struct Engine {
    /// The state machine.
    pub catalog: Catalog,
    /// Facts in.
    pub facts: mpsc::Receiver<Delivery>,
    /// Duties on objects out.
    pub duties: mpsc::Sender<Duty>,
    /// Self-beats out; the catalog has one under way at a time.
    pub self_beats: mpsc::Sender<String>,
    /// Ledgers out, likewise.
    pub ledgers: mpsc::Sender<Ledger>,
    /// Figures, published for the metrics.
    pub counts: Arc<arc_swap::ArcSwap<Counts>>,
    /// The engine's own.
    pub metrics: EngineMetrics,
    /// Beats that the watch brought.
    pub beats: BeatMetrics,
}

impl Engine {
    /// Runs until nobody can send facts any more.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let now = clock::moment();
            let pause = self.catalog.next_settle(now).since(now);
            tokio::select! {
                taken = self.facts.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                () = sleep(pause) => {}
            }
            while batch.len() < BATCH {
                let Ok(delivery) = self.facts.try_recv() else { break };
                batch.push(delivery);
            }
            self.round(&mut batch);
        }
    }

    fn round(&mut self, batch: &mut Vec<Delivery>) {
        let facts = batch.len();
        let now = clock::now();
        let mut waiting = Vec::new();
        for delivery in batch.drain(..) {
            self.catalog.apply(delivery.fact, now);
            waiting.extend(delivery.applied);
        }
        let duties = self.catalog.settle(now, self.duties.capacity());
        waiting.into_iter().for_each(|applied| applied());
        for duty in duties {
            self.hand_on(duty);
        }
        let counts = self.catalog.counts();
        let before = self.counts.swap(Arc::new(counts));
        self.beats.annotation(counts.annotation_beats.saturating_sub(before.annotation_beats));
        if counts.gaps > before.gaps {
            warn!("beats could not be heard for a while; everybody is given that time back");
        }
        if counts.holds > before.holds {
            warn!(
                "many instances fell silent together; they are kept in the answers for one more lease at \
                 most, see /v1/cluster"
            );
        }
        self.metrics.round(facts, clock::moment().since(now.moment));
    }

    fn hand_on(&self, duty: Duty) {
        let full = match duty {
            Duty::SelfBeat { value } => {
                matches!(self.self_beats.try_send(value), Err(TrySendError::Full(_)))
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

/// The registry's figures, read when somebody scrapes.
#[derive(Debug)]
pub struct Figures {
    /// Where readers look.
    pub directory: Arc<Directory>,
    /// What only grows.
    pub counts: Arc<arc_swap::ArcSwap<Counts>>,
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let views = self.directory.all_services(None);
        let metric = ConstGauge::new(0_i64);
        let mut phases = encoder.encode_descriptor(
            "instances",
            "Instances by phase.",
            None,
            metric.metric_type(),
        )?;
        for phase in Phase::ALL {
            let count: usize = views.iter().map(|view| view.count(*phase)).sum();
            let label = [("phase", phase.as_str())];
            ConstGauge::new(signed(count)).encode(phases.encode_family(&label)?)?;
        }
        let age = self.directory.age(clock::moment()).as_secs_f64();
        let gauges = [
            ("services", "Services with at least one instance.", None, views.len() as f64),
            (
                "horizon_age",
                "How far the horizon is behind; nobody is judged beyond it, and above 15 it is stale.",
                Some(&Unit::Seconds),
                age,
            ),
            (
                "held",
                "Instances kept past their lease, since many fell silent together.",
                None,
                self.directory.report().held.as_ref().map_or(0, |held| held.instances) as f64,
            ),
            ("index", "Highest resourceVersion applied.", None, self.directory.index() as f64),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        let counts = self.counts.load();
        let counters = [
            ("expiries", "Leases that ended; every replica counts each.", counts.expired),
            (
                "revivals",
                "Instances that a beat brought back; every replica counts each.",
                counts.revived,
            ),
            ("evictions", "Expired objects that this replica deleted.", counts.evicted),
            (
                "holds",
                "Times that many fell silent together and were kept in the answers; every replica counts each.",
                counts.holds,
            ),
            (
                "gaps",
                "Times that everybody was given back time in which beats could not be heard.",
                counts.gaps,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
