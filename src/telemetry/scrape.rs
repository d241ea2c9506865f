//! What `/metrics` says, in either format.
//!
//! Owns: which registries are written, and in which format. Does not own: the families, which belong
//! to whoever counts.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::gauge::Gauge,
    registry::Registry,
};

use crate::telemetry::{classic, probes::Probes, process::Process};

/// How a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The classic text format, 0.0.4.
    Classic,
}

/// Everything that is scraped.
pub struct Scrape {
    rollcall: Registry,
    /// On its own: its names have no prefix.
    process: Registry,
    ready: Gauge,
    probes: Arc<dyn Probes>,
}

impl Exposition {
    /// What is asked for by a header `Accept`. OpenMetrics has to be named: whoever takes anything
    /// is most often a person or an older tool.
    pub fn accepted(accept: Option<&str>) -> Self {
        let mut ranges = accept.unwrap_or_default().split(',').map(str::trim);
        let named = ranges.any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/openmetrics-text")
        });
        if named { Self::OpenMetrics } else { Self::Classic }
    }

    /// The header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Scrape {
    /// Writes what is in `rollcall`, and what the process itself shows.
    pub fn new(mut rollcall: Registry, probes: Arc<dyn Probes>) -> Self {
        let ready = Gauge::default();
        let help = "Whether queries may come here: 1 when /readyz says yes";
        rollcall.register("ready", help, ready.clone());
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        Self { rollcall, process, ready, probes }
    }

    /// All of it, now. Takes time in proportion to the services, and waits for nobody but the
    /// kernel.
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
    fn open_metrics_is_for_those_who_name_it() {
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
