//! The metric that counts heartbeats by source and result.
//!
//! Owns: the family and its label values. Does not own: the counting. The HTTP server counts the heartbeats that it
//! took, the engine those that the watch delivered.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The result of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeartbeatResult {
    /// The lease was renewed.
    Renewed,
    /// Recorded on this replica only, because the API server does not answer.
    Recorded,
    /// There is no such instance.
    Unknown,
    /// The instance was evicted recently.
    Gone,
    /// The caller has no right to send it, or it is invalid.
    Refused,
    /// Not decided, because the API server does not answer.
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    source: &'static str,
    result: HeartbeatResult,
}

/// Counts heartbeats. Clones share the counters.
#[derive(Clone, Debug)]
pub struct HeartbeatMetrics {
    all: Family<Labels, Counter>,
    /// The most frequent series, kept here to save the lookup.
    renewed: Counter,
}

impl HeartbeatResult {
    const ALL: [Self; 6] = [
        Self::Renewed,
        Self::Recorded,
        Self::Unknown,
        Self::Gone,
        Self::Refused,
        Self::Unavailable,
    ];
}

impl EncodeLabelValue for HeartbeatResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let label = match self {
            Self::Renewed => "renewed",
            Self::Recorded => "recorded",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        };
        label.encode(encoder)
    }
}

impl HeartbeatMetrics {
    /// Registers the family with every possible series at 0.
    pub fn new(registry: &mut Registry) -> Self {
        let family: Family<Labels, Counter> = Family::default();
        let help = "Heartbeats, by source and result. Heartbeats over HTTP are counted by the replica \
                    that took them, heartbeats by annotation by every replica";
        registry.register("heartbeats", help, family.clone());
        let labels = Labels { source: "http", result: HeartbeatResult::Renewed };
        let renewed = family.get_or_create(&labels).clone();
        let new = Self { all: family, renewed };
        HeartbeatResult::ALL.into_iter().for_each(|result| new.http(result, 0));
        new.annotation(0);
        new
    }

    /// Counts heartbeats over HTTP.
    pub fn http(&self, result: HeartbeatResult, count: u64) {
        match result {
            HeartbeatResult::Renewed => drop(self.renewed.inc_by(count)),
            _ => self.add("http", result, count),
        }
    }

    /// Counts heartbeats by annotation: every observed change of the annotation is one.
    pub fn annotation(&self, count: u64) {
        self.add("annotation", HeartbeatResult::Renewed, count);
    }

    fn add(&self, source: &'static str, result: HeartbeatResult, count: u64) {
        self.all.get_or_create(&Labels { source, result }).inc_by(count);
    }
}
