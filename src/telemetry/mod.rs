//! To be seen: metrics, logs and the admin port. A leaf: it knows nobody else.

pub mod admin;
pub mod beats;
mod classic;
pub mod keys;
pub mod level;
pub mod logs;
pub mod metrics;
#[cfg(feature = "otel")]
mod otlp;
mod port;
pub mod probes;
pub mod problems;
mod process;
mod scrape;
#[cfg(feature = "otel")]
pub mod traces;
#[cfg(not(feature = "otel"))]
#[path = "no_traces.rs"]
pub mod traces;
