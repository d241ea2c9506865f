//! The keys of the cluster that tokens are checked with: how many, and whether they can be read.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Why the keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is time.
    Due,
    /// Somebody came with a token whose key or issuer is not known.
    Unknown,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Read {
    cause: &'static str,
    result: &'static str,
}

/// Their figures. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KeyMetrics {
    known: Gauge,
    newest: Gauge,
    reads: Family<Read, Counter>,
}

impl KeyMetrics {
    /// Registers the families.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Keys of the cluster that tokens are checked with (--auth-tokens jwks); 0 until they could be read";
        registry.register("auth_keys", help, new.known.clone());
        registry.register_with_unit(
            "auth_keys_read_timestamp",
            "When the keys of the cluster were last read, since the Unix epoch; every 5 minutes is well",
            Unit::Seconds,
            new.newest.clone(),
        );
        registry.register(
            "auth_key_reads",
            "Times that the keys of the cluster were to be read, since it was time (due) or a token's key was \
             not known (unknown); ok or failed",
            new.reads.clone(),
        );
        for cause in [Cause::Due, Cause::Unknown] {
            for result in ["ok", "failed"] {
                new.reads.get_or_create(&Read { cause: cause.as_str(), result }).inc_by(0);
            }
        }
        new
    }

    /// They were read, or not.
    pub fn read(&self, cause: Cause, well: bool) {
        let result = if well { "ok" } else { "failed" };
        self.reads.get_or_create(&Read { cause: cause.as_str(), result }).inc();
    }

    /// So many are known since this wall time, in milliseconds.
    pub fn known(&self, keys: usize, at: i64) {
        self.known.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.newest.set(at / 1000);
    }
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Unknown => "unknown",
        }
    }
}
