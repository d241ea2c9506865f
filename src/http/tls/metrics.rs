//! The metrics of TLS.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug)]
pub(super) struct TlsMetrics {
    certificate_ends: Gauge<u64, AtomicU64>,
    reloads: Family<ReloadLabels, Counter>,
    handshakes_failed: Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: ReloadResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ReloadResult {
    used: bool,
}

impl EncodeLabelValue for ReloadResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        (if self.used { "used" } else { "refused" }).encode(encoder)
    }
}

impl TlsMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            certificate_ends: Gauge::default(),
            reloads: Family::default(),
            handshakes_failed: Counter::default(),
        };
        for used in [true, false] {
            let labels = ReloadLabels { result: ReloadResult { used } };
            drop(metrics.reloads.get_or_create(&labels));
        }
        let Self { certificate_ends, reloads, handshakes_failed } = metrics.clone();
        registry.register_with_unit(
            "http_tls_certificate_ends",
            "When the certificate in use expires, as Unix time",
            Unit::Seconds,
            certificate_ends,
        );
        let help = "Changes of the certificate or key files, by whether the new files are used";
        registry.register("http_tls_renewals", help, reloads);
        let help = "Connections that ended before the TLS handshake was complete";
        registry.register("http_tls_handshakes_failed", help, handshakes_failed);
        metrics
    }

    pub(super) fn set_expiry(&self, seconds: u64) {
        self.certificate_ends.set(seconds);
    }

    /// Records that the files have changed. `used` says whether the new files are in use.
    pub(super) fn reloaded(&self, used: bool) {
        self.reloads.get_or_create(&ReloadLabels { result: ReloadResult { used } }).inc();
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }
}
