//! Logs: text for people, JSON for machines, on standard error.
//!
//! Owns: how a line is written, panics and the process's last words among them. Does not own: what
//! is logged (`level`).
//!
//! A line of JSON is one object: `timestamp`, `level`, `target`, `message`, the event's fields beside
//! them, and `spans`, outermost first. So no event has a field of these names.

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

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs that cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("--log cannot be used")]
    Filter(#[from] FilterError),
    /// Somebody else has set logs up already.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins to log, panics too. Answers by what the filter can be changed.
///
/// # Errors
/// Names a filter that cannot be read.
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

/// The words with which a process ends that failed, one line in its format. They are written whether
/// or not logs were set up, and whatever is logged.
pub fn last_words(format: Format, words: &str) {
    let line = match format {
        Format::Text => format!("rollcall: {words}"),
        Format::Json => json_line(words),
    };
    #[expect(clippy::print_stderr, reason = "the program's last word")]
    {
        eprintln!("{line}");
    }
}

fn json_line(words: &str) -> String {
    let mut timestamp = String::new();
    // It writes to a string, which does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let target = "rollcall";
    json!({"timestamp": timestamp, "level": "ERROR", "message": words, "target": target})
        .to_string()
}

/// A panic is a line like others, unless nothing is logged: then it is said as Rust does.
fn log_panics() {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !enabled!(tracing::Level::ERROR) {
            return otherwise(panic);
        }
        let payload = panic.payload();
        let words = payload.downcast_ref::<&str>().copied();
        let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let location = panic.location().map(ToString::to_string);
        // As RUST_BACKTRACE wants it.
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        error!(
            panic = words.unwrap_or("without words"),
            location,
            backtrace = trace,
            "a task panicked: a fault of rollcall"
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_one_line_of_json_with_the_keys_of_every_other() {
        let line = json_line("cannot listen:\n\"taken\"");
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "cannot listen:\n\"taken\"");
        assert_eq!((&value["level"], &value["target"]), (&json!("ERROR"), &json!("rollcall")));
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}
