//! The text of `/metrics`, in two formats.
//!
//! Owns: the registries, and the choice of the format. Does not own: the families, which belong to the modules that
//! update them.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::gauge::Gauge,
    registry::Registry,
};

use crate::telemetry::{classic, probes::Probes, process::ProcessCollector};

/// The format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The classic text format, 0.0.4.
    Classic,
}

/// All metrics of this process.
pub struct Scrape {
    rollcall: Registry,
    /// A separate registry, because its names have no prefix.
    process: Registry,
    ready: Gauge,
    probes: Arc<dyn Probes>,
}

impl Exposition {
    /// The format that an `Accept` header asks for. OpenMetrics must be named: a client that accepts anything is
    /// usually a person or an older tool.
    pub fn accepted(accept: Option<&str>) -> Self {
        let mut ranges = accept.unwrap_or_default().split(',').map(str::trim);
        let named = ranges.any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/openmetrics-text")
        });
        if named { Self::OpenMetrics } else { Self::Classic }
    }

    /// The `Content-Type` of this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Scrape {
    /// Combines the metrics in `rollcall` with those of the process and of readiness.
    pub fn new(mut rollcall: Registry, probes: Arc<dyn Probes>) -> Self {
        let ready = Gauge::default();
        let help = "Whether this replica is ready for queries: 1 while /readyz answers 200, else 0";
        rollcall.register("ready", help, ready.clone());
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessCollector));
        Self { rollcall, process, ready, probes }
    }

    /// Renders all metrics. Takes time in proportion to the number of services, and does no I/O other than reading
    /// `/proc`.
    pub fn text(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        self.ready.set(i64::from(self.probes.unready().is_none()));
        let mut text = String::new();
        encode_registry(&mut text, &self.process)?;
        encode_registry(&mut text, &self.rollcall)?;
        encode_eof(&mut text)?;
        Ok(match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Classic => classic::from_open_metrics(&text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_served_only_if_accept_names_it() {
        for (accept, want) in [
            (None, Exposition::Classic),
            (Some("*/*"), Exposition::Classic),
            (Some("text/plain;version=0.0.4"), Exposition::Classic),
            (
                Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1"),
                Exposition::OpenMetrics,
            ),
            (Some("text/html, Application/OpenMetrics-Text"), Exposition::OpenMetrics),
        ] {
            assert_eq!(Exposition::accepted(accept), want, "{accept:?}");
        }
    }
}
