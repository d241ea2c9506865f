//! Heartbeats, by the way they came and what became of them.
//!
//! Owns: the one family of them, and the words of its labels. Does not own: who counts: doors count
//! the beats that they took, the engine those that the watch brought.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What came of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeartbeatResult {
    /// The lease runs anew.
    Renewed,
    /// The API server is away: noted by this replica alone.
    Recorded,
    /// There is no such instance.
    Unknown,
    /// It was evicted lately.
    Gone,
    /// Not for the caller to send, or not understood.
    Refused,
    /// It could not be decided, for want of the API server.
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    source: &'static str,
    result: HeartbeatResult,
}

/// Counts beats. Clones share the counts.
#[derive(Clone, Debug)]
pub struct HeartbeatMetrics {
    all: Family<Labels, Counter>,
    /// The one that counts most, so that it has not to be looked up.
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
        let word = match self {
            Self::Renewed => "renewed",
            Self::Recorded => "recorded",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        };
        word.encode(encoder)
    }
}

impl HeartbeatMetrics {
    /// Registers the family, with every series that there can be.
    pub fn new(registry: &mut Registry) -> Self {
        let family: Family<Labels, Counter> = Family::default();
        let help = "Heartbeats, by source and result. Those by HTTP are counted by the replica that \
                    took them, those by annotation by every replica";
        registry.register("heartbeats", help, family.clone());
        let labels = Labels { source: "http", result: HeartbeatResult::Renewed };
        let renewed = family.get_or_create(&labels).clone();
        let new = Self { all: family, renewed };
        HeartbeatResult::ALL.into_iter().for_each(|result| new.http(result, 0));
        new.annotation(0);
        new
    }

    /// So many beats by HTTP.
    pub fn http(&self, result: HeartbeatResult, count: u64) {
        match result {
            HeartbeatResult::Renewed => drop(self.renewed.inc_by(count)),
            _ => self.add("http", result, count),
        }
    }

    /// So many by a changed annotation; each that is seen counts.
    pub fn annotation(&self, count: u64) {
        self.add("annotation", HeartbeatResult::Renewed, count);
    }

    fn add(&self, source: &'static str, result: HeartbeatResult, count: u64) {
        self.all.get_or_create(&Labels { source, result }).inc_by(count);
    }
}
