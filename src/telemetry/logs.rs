//! Logs on standard error: text for people, JSON for machines.
//!
//! Owns: the format of every line, including panics and the final error of the process. Does not own: the log filter
//! (`level`).
//!
//! A JSON line is one object: `timestamp`, `level`, `target`, `message`, the fields of the event next to them, and
//! `spans`, outermost first. No event has a field with one of these names.

use std::{backtrace::Backtrace, backtrace::BacktraceStatus, io::IsTerminal as _, panic};

use clap::ValueEnum;
use serde_json::json;
use thiserror::Error;
use tracing::{enabled, error};
use tracing_subscriber::{
    fmt::{
        self,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::telemetry::level::{FilterError, Level};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Logs that cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is invalid.
    #[error("--log is invalid")]
    Filter(#[from] FilterError),
    /// This process has set up logging before.
    #[error("logging is already set up in this process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging, also of panics. Returns the handle that changes the filter.
///
/// # Errors
/// An invalid filter, named in the error.
pub fn init(filter: &str, format: Format) -> Result<Level, LogError> {
    let (filter, level) = Level::new(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => registry.with(layer).try_init()?,
        Format::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false);
            registry.with(layer).try_init()?;
        }
    }
    log_panics();
    Ok(level)
}

/// Prints the error with which the process ends, as one line in the log format. It does not depend on the log filter,
/// nor on whether logging was set up.
pub fn print_fatal(format: Format, message: &str) {
    let line = match format {
        Format::Text => format!("rollcall: {message}"),
        Format::Json => json_line(message),
    };
    #[expect(clippy::print_stderr, reason = "the final error of the program")]
    {
        eprintln!("{line}");
    }
}

fn json_line(message: &str) -> String {
    let mut timestamp = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let target = "rollcall";
    json!({"timestamp": timestamp, "level": "ERROR", "message": message, "target": target})
        .to_string()
}

/// Logs each panic like any other error. If the filter excludes errors, the default hook of Rust prints it.
fn log_panics() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !enabled!(tracing::Level::ERROR) {
            return default_hook(panic);
        }
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let location = panic.location().map(ToString::to_string);
        // Captured only if RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        error!(
            panic = message.unwrap_or("without a message"),
            location,
            backtrace = trace,
            "a task panicked: this is a bug in rollcall, please report it"
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_error_is_one_json_line_with_the_usual_keys() {
        let line = json_line("cannot listen:\n\"taken\"");
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "cannot listen:\n\"taken\"");
        assert_eq!((&value["level"], &value["target"]), (&json!("ERROR"), &json!("rollcall")));
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}
