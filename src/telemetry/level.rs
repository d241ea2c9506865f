//! The log filter, and changes to it while the process runs.
//!
//! Owns: parsing a filter, the current filter, and the return to the initial filter when a temporary one ends. Does not
//! own: which callers may change it (`admin`), and the format of log lines (`logs`).

use std::{future::pending, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{sync::watch, time::sleep};
use tracing::{enabled, info};
use tracing_subscriber::{EnvFilter, Registry, filter::Directive, filter::LevelFilter, reload};

/// Silences log lines that libraries write for every request. Failures of the Kubernetes client are logged by the
/// caller, together with their consequences.
const QUIET: &str = "kube_client=off,hyper=warn,tower=warn";

/// A part of a log filter that is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{part:?} is invalid in a log filter: {why}; write for example info or \
     info,rollcall::kubernetes=debug"
)]
pub struct FilterError {
    part: String,
    why: String,
}

/// The log filter of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Level(Arc<LevelState>);

#[derive(Debug)]
struct LevelState {
    handle: reload::Handle<EnvFilter, Registry>,
    /// The filter of the command line.
    initial: String,
    current: watch::Sender<CurrentFilter>,
}

#[derive(Clone, Debug)]
struct CurrentFilter {
    filter: String,
    /// How long it applies from when it was set; `None` means without end.
    term: Option<Duration>,
}

impl Level {
    /// The filtering layer, and the handle that changes its filter.
    ///
    /// # Errors
    /// [`FilterError`] with the invalid part.
    pub fn new(filter: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), FilterError> {
        let (initial, filter) = parse_filter(filter)?;
        let (layer, handle) = reload::Layer::new(filter);
        let current = watch::Sender::new(CurrentFilter { filter: initial.clone(), term: None });
        Ok((layer, Self(Arc::new(LevelState { handle, initial, current }))))
    }

    /// The current filter.
    #[must_use]
    pub fn in_force(&self) -> String {
        self.0.current.borrow().filter.clone()
    }

    /// Sets another filter, for `term` or without end.
    ///
    /// # Errors
    /// [`FilterError`] with the invalid part; the filter is unchanged then.
    pub fn set(&self, filter: &str, term: Option<Duration>) -> Result<(), FilterError> {
        let (text, filter) = parse_filter(filter)?;
        let seconds = term.map(|term| term.as_secs());
        let log_change = || info!(filter = text, seconds, "the log filter has changed");
        // Log the change under the old filter if that allows it, else under the new one.
        let logged = enabled!(tracing::Level::INFO);
        if logged {
            log_change();
        }
        self.0.current.send_modify(|current| {
            // Fails only when the subscriber is gone, which is when the process ends.
            let _ = self.0.handle.reload(filter);
            *current = CurrentFilter { filter: text.clone(), term };
        });
        if !logged {
            log_change();
        }
        Ok(())
    }

    /// Restores the initial filter whenever the term of another one ends. Runs without end.
    pub async fn keep(&self) {
        let mut changes = self.0.current.subscribe();
        loop {
            let term = changes.borrow_and_update().term;
            let expired = async {
                match term {
                    Some(term) => sleep(term).await,
                    None => pending().await,
                }
            };
            // Without a term this waits, without a deadline, for the next change.
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = expired => if self.set(&self.0.initial, None).is_err() { return },
            }
        }
    }
}

/// Parses a filter. Also returns its normalized text.
fn parse_filter(filter: &str) -> Result<(String, EnvFilter), FilterError> {
    let parts: Vec<&str> =
        filter.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(filter_error(filter, "it is empty"));
    }
    for part in &parts {
        check_part(part)?;
    }
    let text = parts.join(",");
    // Field values are compared literally: a regular expression is untrusted input that would be evaluated for every
    // log line.
    let parsed = EnvFilter::builder().with_regex(false).parse(format!("{QUIET},{text}"));
    Ok((text.clone(), parsed.map_err(|why| filter_error(&text, &why.to_string()))?))
}

/// Rejects what tracing would accept silently: it takes a misspelt level such as `inof` for the name of a module, which
/// would log nothing else.
fn check_part(part: &str) -> Result<(), FilterError> {
    const LEVELS: &str = "the level must be one of off, error, warn, info, debug, trace";
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    match part.rsplit_once('=') {
        Some((_, level)) if !is_level(level) => return Err(filter_error(part, LEVELS)),
        None if !part.contains('[') && !is_level(part) => {
            return Err(filter_error(
                part,
                &format!("{LEVELS}; for one module, write module=level"),
            ));
        }
        _ => {}
    }
    part.parse::<Directive>().map(|_| ()).map_err(|why| filter_error(part, &why.to_string()))
}

fn filter_error(part: &str, why: &str) -> FilterError {
    FilterError { part: part.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_filter_error_names_the_invalid_part() {
        for (filter, part) in [
            ("", "\"\""),
            (" , ", "\" , \""),
            ("inof", "\"inof\""),
            ("info,rollcall::kubernetes=lots", "\"rollcall::kubernetes=lots\""),
            ("info, rollcall=", "\"rollcall=\""),
            ("info,rollcall::kubernetes", "\"rollcall::kubernetes\""),
            ("info,=debug", "\"=debug\""),
        ] {
            let error = parse_filter(filter).unwrap_err().to_string();
            assert!(error.starts_with(part), "{filter}: {error}");
            assert!(error.contains("info,rollcall::kubernetes=debug"), "{error}");
        }
    }

    #[test]
    fn levels_modules_and_spans_are_parsed() {
        for filter in ["info", "WARN", "off", "rollcall::kubernetes=debug", "info,[request]=debug"]
        {
            assert_eq!(parse_filter(filter).unwrap().0, filter);
        }
        assert_eq!(parse_filter(" info , rollcall=debug,").unwrap().0, "info,rollcall=debug");
    }

    #[tokio::test]
    async fn temporary_filter_ends_and_the_latest_one_counts() {
        let (_layer, level) = Level::new("info").unwrap();
        let keeping = tokio::spawn({
            let level = level.clone();
            async move { level.keep().await }
        });
        level.set("trace", Some(Duration::from_secs(3600))).unwrap();
        level.set("debug", Some(Duration::from_millis(200))).unwrap();
        assert_eq!(level.in_force(), "debug");
        let restored = async {
            while level.in_force() != "info" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), restored).await.unwrap();
        keeping.abort();
    }
}
