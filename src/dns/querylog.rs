//! The log of queries, which is switched on and off while the process runs, by the filter of the log.
//!
//! `rollcall::dns::query=debug` has one query in so many, `=trace` each. Owns: what a line says, and the
//! sampling. Does not own: the filter (`telemetry`).

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, debug, enabled, trace};

use crate::dns::{
    limit::Verdict,
    metrics::code_word,
    query::Query,
    respond::{Client, Said},
};

const TARGET: &str = "rollcall::dns::query";

/// Which queries are logged.
#[derive(Debug)]
pub struct QueryLog {
    /// One in so many, at debug.
    every: u64,
    seen: AtomicU64,
}

impl QueryLog {
    /// One in `every` queries at debug; 0 is none.
    #[must_use]
    pub fn new(every: u32) -> Self {
        Self { every: every.into(), seen: AtomicU64::new(0) }
    }

    /// Writes a line, if one is wanted.
    pub(super) fn note(&self, message: &[u8], client: Client, said: &Said) {
        if !enabled!(target: TARGET, Level::DEBUG) {
            return;
        }
        let each = enabled!(target: TARGET, Level::TRACE);
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let chosen = number.checked_rem(self.every) == Some(0);
        if !each && !chosen {
            return;
        }
        // Read once more, so that those who are not logged cost nothing.
        let query = Query::read(message).and_then(|query| query.question);
        let name = query.as_ref().map(|query| query.original().name().to_string());
        let (client, over) = (client.address, client.transport.as_str());
        let kind = said.kind.map(|kind| kind.to_string());
        let (rcode, truncated) = (code_word(said.code), said.truncated);
        let limited = said.verdict == Verdict::Slip;
        if each {
            trace!(target: TARGET, %client, over, name, kind, rcode, truncated, limited, "query");
        } else {
            debug!(target: TARGET, %client, over, name, kind, rcode, truncated, limited, "query");
        }
    }
}
