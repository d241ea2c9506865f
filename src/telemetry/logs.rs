//! Logs: text for people, JSON for machines, on standard error.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use thiserror::Error;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter that cannot be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// It is not in the grammar of tracing's directives.
    #[error(
        "--log {filter:?} cannot be read: write for example info or info,rollcall::cluster=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else has set logs up already.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// What libraries say once a request, which would drown everything else. Failures of kube's client
/// are said by whoever made the call, with what follows from them.
const QUIET: &str = "hickory_server=warn,hickory_proto=warn,kube_client=off,hyper=warn,tower=warn";

/// Begins to log.
///
/// # Errors
/// Names a filter that cannot be read.
pub fn init(filter: &str, format: Format) -> Result<(), LogError> {
    let fail = |source| LogError::Filter { filter: filter.to_owned(), source };
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(fail)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => registry.with(layer).try_init()?,
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}
