//! What TLS tells Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// The families of this file.
#[derive(Clone, Debug)]
pub(super) struct TlsMetrics {
    ends: Gauge<u64, AtomicU64>,
    reads: Family<Read, Counter>,
    not_greeted: Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    result: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Outcome {
    used: bool,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        (if self.used { "used" } else { "refused" }).encode(encoder)
    }
}

impl TlsMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            ends: Gauge::default(),
            reads: Family::default(),
            not_greeted: Counter::default(),
        };
        for used in [true, false] {
            drop(metrics.reads.get_or_create(&Read { result: Outcome { used } }));
        }
        let Self { ends, reads, not_greeted } = metrics.clone();
        let help = "When the certificate in use ends, since 1970";
        registry.register_with_unit("http_tls_certificate_ends", help, Unit::Seconds, ends);
        let help = "Times that the files of certificate and key had changed";
        registry.register("http_tls_renewals", help, reads);
        let help = "Connections that ended before TLS was agreed on";
        registry.register("http_tls_handshakes_failed", help, not_greeted);
        metrics
    }

    /// The certificate in use ends then.
    pub(super) fn ends(&self, seconds: u64) {
        self.ends.set(seconds);
    }

    /// The files have changed, and what they hold is used or not.
    pub(super) fn read(&self, used: bool) {
        self.reads.get_or_create(&Read { result: Outcome { used } }).inc();
    }

    /// A client was not greeted.
    pub(super) fn not_greeted(&self) {
        self.not_greeted.inc();
    }
}
