//! Metrics about the public keys of the cluster that verify tokens.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// The reason for a read of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The regular interval has passed.
    Due,
    /// A token has an unknown key or issuer.
    Unknown,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReadLabels {
    cause: &'static str,
    result: &'static str,
}

/// Metrics about the keys. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KeyMetrics {
    known: Gauge,
    newest: Gauge,
    reads: Family<ReadLabels, Counter>,
}

impl KeyMetrics {
    /// Registers the families.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Public keys of the cluster that verify tokens (--auth-tokens jwks); 0 until they could be read";
        registry.register("auth_keys", help, new.known.clone());
        registry.register_with_unit(
            "auth_keys_read_timestamp",
            "When the public keys of the cluster were last read, in Unix time; they are read every 5 minutes",
            Unit::Seconds,
            new.newest.clone(),
        );
        registry.register(
            "auth_key_reads",
            "Attempts to read the public keys of the cluster, by cause (due: the interval has passed, unknown: a \
             token has an unknown key) and result (ok or failed)",
            new.reads.clone(),
        );
        for cause in [Cause::Due, Cause::Unknown] {
            for result in ["ok", "failed"] {
                new.reads.get_or_create(&ReadLabels { cause: cause.as_str(), result }).inc_by(0);
            }
        }
        new
    }

    /// Counts an attempt to read the keys.
    pub fn read(&self, cause: Cause, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.reads.get_or_create(&ReadLabels { cause: cause.as_str(), result }).inc();
    }

    /// Records the number of keys, and the wall time in milliseconds at which they were read.
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
