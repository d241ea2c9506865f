//! Metrics, logs, probes and spans. Imports no other module of the server.

mod classic;
pub mod heartbeats;
pub mod keys;
pub mod level;
pub mod logs;
pub mod metrics;
#[cfg(feature = "otel")]
mod otlp;
pub mod probes;
pub mod problems;
mod process;
pub mod scrape;
#[cfg(feature = "otel")]
pub mod traces;
#[cfg(not(feature = "otel"))]
#[path = "no_traces.rs"]
pub mod traces;
