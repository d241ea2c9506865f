//! Metrics that are computed from the directory and the engine's counters at each scrape.
//!
//! Owns: these families and their help texts. Does not own: metrics that are updated where something happens
//! (`telemetry::metrics`).

use std::{fmt::Error, sync::Arc};

use arc_swap::ArcSwap;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rollcall_core::{catalog::Counts, directory::Directory, report::Presence};
use rollcall_model::instance::Phase;

use crate::clock;

/// Collects the gauges of the directory and the counters of the engine.
#[derive(Debug)]
pub(super) struct RegistryCollector {
    pub(super) directory: Arc<Directory>,
    pub(super) counts: Arc<ArcSwap<Counts>>,
}

impl Collector for RegistryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        self.instances(&mut encoder)?;
        self.gauges(&mut encoder)?;
        self.ledgers(&mut encoder)?;
        self.counters(&mut encoder)
    }
}

impl RegistryCollector {
    fn instances(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let views = self.directory.views_in(None);
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut phases =
            encoder.encode_descriptor("instances", "Instances by phase.", None, kind)?;
        for phase in Phase::ALL {
            let count: usize = views.iter().map(|view| view.count(*phase)).sum();
            let label = [("phase", phase.as_str())];
            ConstGauge::new(signed(count)).encode(phases.encode_family(&label)?)?;
        }
        let services = ConstGauge::new(signed(views.len()));
        let help = "Services with at least one instance.";
        services.encode(encoder.encode_descriptor("services", help, None, kind)?)
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let now = clock::moment();
        let held = self.directory.report().held.as_ref().map_or(0, |held| held.instances);
        let others =
            self.directory.report().overlap.as_ref().map_or(0, |overlap| overlap.others.len());
        let promises = if self.directory.is_fenced(now) { 0.0 } else { 1.0 };
        let gauges = [
            (
                "horizon_age",
                "How far the horizon is behind the current time. No lease is judged beyond the horizon; above 15 it \
                 is stale.",
                Some(&Unit::Seconds),
                self.directory.horizon_age(now).as_secs_f64(),
            ),
            (
                "index",
                "Highest resourceVersion that this replica has applied.",
                None,
                self.directory.index() as f64,
            ),
            (
                "held",
                "Instances held past the end of their lease because many leases ended together.",
                None,
                held as f64,
            ),
            (
                "other_installations",
                "Other installations of rollcall that serve the same instances; see problems in /v1/cluster.",
                None,
                others as f64,
            ),
            (
                "duplicate_identities",
                "Identities that two processes use; see problems in /v1/cluster.",
                None,
                self.directory.report().duplicates.len() as f64,
            ),
            (
                "shared_addresses",
                "Endpoints (address and port) that two or more discoverable instances share: one of the instances \
                 may be gone.",
                None,
                self.directory.shared_addresses() as f64,
            ),
            (
                "promises",
                "Whether heartbeats are answered 200 (1) or only 202 (0), because the other replicas may not \
                 learn of them.",
                None,
                promises,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }

    /// One series per known replica, which are few.
    fn ledgers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (now, report) = (clock::moment(), self.directory.report());
        let help = "Age of the newest ledger of another replica; above 10 the replica is gone.";
        let kind = ConstGauge::new(0.0_f64).metric_type();
        let mut ages = encoder.encode_descriptor("ledger_age", help, Some(&Unit::Seconds), kind)?;
        for peer in report.replicas.iter().filter(|peer| peer.presence != Presence::Left) {
            let label = [("replica", &*peer.replica)];
            let age = ConstGauge::new(now.since(peer.seen).as_secs_f64());
            age.encode(ages.encode_family(&label)?)?;
        }
        Ok(())
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let counts = self.counts.load();
        let counters = [
            ("expiries", "Leases that ended. Every replica counts all of them.", counts.expired),
            (
                "revivals",
                "Instances that a heartbeat revived after expiry. Every replica counts all of them.",
                counts.revived,
            ),
            ("evictions", "Expired objects that this replica deleted.", counts.evicted),
            (
                "holds",
                "Times that many leases ended together and the guard held the instances. Every replica counts all of \
                 them.",
                counts.holds,
            ),
            (
                "gaps",
                "Times that every instance was given back time in which heartbeats may have been missed.",
                counts.gaps,
            ),
            (
                "store_step_backs",
                "Times that the store stepped back, as after a restore of etcd from a backup.",
                counts.step_backs,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let kind = counter.metric_type();
            counter.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
