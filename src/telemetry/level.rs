//! What is logged, and changing that while the process runs.
//!
//! Owns: reading a filter, the one in force, and putting a passing one back. Does not own: who may
//! change it (`admin`), and how lines are written (`logs`).

use std::{future::pending, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{sync::watch, time::sleep};
use tracing::{enabled, info};
use tracing_subscriber::{EnvFilter, Registry, filter::Directive, filter::LevelFilter, reload};

/// What libraries say once a request, which would drown everything else. Failures of kube's client
/// are said by whoever made the call, with what follows from them.
const QUIET: &str = "kube_client=off,hyper=warn,tower=warn";

/// A part of a filter that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{part:?} cannot be read in a filter of logs: {why}; write for example info or \
     info,rollcall::kubernetes=debug"
)]
pub struct FilterError {
    part: String,
    why: String,
}

/// What is logged. Clones share it.
#[derive(Clone, Debug)]
pub struct Level(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    handle: reload::Handle<EnvFilter, Registry>,
    /// That of the command line.
    usual: String,
    in_force: watch::Sender<InForce>,
}

#[derive(Clone, Debug)]
struct InForce {
    filter: String,
    /// How long, from when it was set; none for ever.
    term: Option<Duration>,
}

impl Level {
    /// The layer that filters, and what it can be changed by.
    ///
    /// # Errors
    /// [`FilterError`], with the part that is wrong.
    pub fn new(filter: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), FilterError> {
        let (usual, filter) = read(filter)?;
        let (layer, handle) = reload::Layer::new(filter);
        let in_force = watch::Sender::new(InForce { filter: usual.clone(), term: None });
        Ok((layer, Self(Arc::new(Shared { handle, usual, in_force }))))
    }

    /// The filter in force.
    #[must_use]
    pub fn in_force(&self) -> String {
        self.0.in_force.borrow().filter.clone()
    }

    /// Another filter from now on, for a time or for ever.
    ///
    /// # Errors
    /// [`FilterError`], with the part that is wrong; nothing has changed then.
    pub fn set(&self, filter: &str, term: Option<Duration>) -> Result<(), FilterError> {
        let (words, filter) = read(filter)?;
        let seconds = term.map(|term| term.as_secs());
        let tell = || info!(filter = words, seconds, "another filter of logs is in force");
        // With the more talkative of the two, so that it is said.
        let told = enabled!(tracing::Level::INFO);
        if told {
            tell();
        }
        self.0.in_force.send_modify(|in_force| {
            // It fails only when the subscriber is gone, and the process with it.
            let _ = self.0.handle.reload(filter);
            *in_force = InForce { filter: words.clone(), term };
        });
        if !told {
            tell();
        }
        Ok(())
    }

    /// Puts a filter back when its time is over; for ever.
    pub async fn keep(&self) {
        let mut changes = self.0.in_force.subscribe();
        loop {
            let term = changes.borrow_and_update().term;
            let over = async {
                match term {
                    Some(term) => sleep(term).await,
                    None => pending().await,
                }
            };
            // Without a term there is no deadline: somebody may set another, or not.
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = over => if self.set(&self.0.usual, None).is_err() { return },
            }
        }
    }
}

/// A filter, and its words without what does not matter.
fn read(filter: &str) -> Result<(String, EnvFilter), FilterError> {
    let parts: Vec<&str> =
        filter.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(wrong(filter, "it says nothing"));
    }
    for part in &parts {
        check(part)?;
    }
    let words = parts.join(",");
    // Values of fields are compared, not matched: a pattern is a program of somebody else's.
    let parsed = EnvFilter::builder().with_regex(false).parse(format!("{QUIET},{words}"));
    Ok((words.clone(), parsed.map_err(|why| wrong(&words, &why.to_string()))?))
}

/// tracing takes a word that is no level for a module of which everything is to be logged, so that
/// `inof` would be silence; and no level for one.
fn check(part: &str) -> Result<(), FilterError> {
    const LEVELS: &str = "a level is one of off, error, warn, info, debug, trace";
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    match part.rsplit_once('=') {
        Some((_, level)) if !is_level(level) => return Err(wrong(part, LEVELS)),
        None if !part.contains('[') && !is_level(part) => {
            return Err(wrong(part, &format!("{LEVELS}; for one module it is module=level")));
        }
        _ => {}
    }
    part.parse::<Directive>().map(|_| ()).map_err(|why| wrong(part, &why.to_string()))
}

fn wrong(part: &str, why: &str) -> FilterError {
    FilterError { part: part.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_answered_with_the_part_that_is_wrong() {
        for (filter, part) in [
            ("", "\"\""),
            (" , ", "\" , \""),
            ("inof", "\"inof\""),
            ("info,rollcall::kubernetes=lots", "\"rollcall::kubernetes=lots\""),
            ("info, rollcall=", "\"rollcall=\""),
            ("info,rollcall::kubernetes", "\"rollcall::kubernetes\""),
            ("info,=debug", "\"=debug\""),
        ] {
            let error = read(filter).unwrap_err().to_string();
            assert!(error.starts_with(part), "{filter}: {error}");
            assert!(error.contains("info,rollcall::kubernetes=debug"), "{error}");
        }
    }

    #[test]
    fn levels_modules_and_spans_are_read() {
        for filter in ["info", "WARN", "off", "rollcall::kubernetes=debug", "info,[request]=debug"]
        {
            assert_eq!(read(filter).unwrap().0, filter);
        }
        assert_eq!(read(" info , rollcall=debug,").unwrap().0, "info,rollcall=debug");
    }

    #[tokio::test]
    async fn a_filter_for_a_time_is_put_back_when_it_is_over_and_the_later_word_counts() {
        let (_layer, level) = Level::new("info").unwrap();
        let keeping = tokio::spawn({
            let level = level.clone();
            async move { level.keep().await }
        });
        level.set("trace", Some(Duration::from_secs(3600))).unwrap();
        level.set("debug", Some(Duration::from_millis(200))).unwrap();
        assert_eq!(level.in_force(), "debug");
        let put_back = async {
            while level.in_force() != "info" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), put_back).await.unwrap();
        keeping.abort();
    }
}
