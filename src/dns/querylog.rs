//! The query log, which the log filter switches on and off at run time.
//!
//! `rollcall::dns::query=debug` logs a sample of the queries, `=trace` logs every query. Owns: the fields of a line, and
//! the sampling. Does not own: the filter (`telemetry`).

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, debug, enabled, trace};

use crate::dns::{
    limit::LimitDecision,
    metrics::rcode_label,
    query::Query,
    respond::{Client, ResponseSummary},
};

const TARGET: &str = "rollcall::dns::query";

/// Samples and logs queries.
#[derive(Debug)]
pub struct QueryLog {
    /// At level debug, one in this many queries is logged.
    every: u64,
    queries: AtomicU64,
}

impl QueryLog {
    /// At level debug, logs one in `every` queries; 0 logs none.
    #[must_use]
    pub fn new(every: u32) -> Self {
        Self { every: every.into(), queries: AtomicU64::new(0) }
    }

    /// Logs the query if the filter and the sampling select it.
    pub(super) fn record(&self, message: &[u8], client: Client, summary: &ResponseSummary) {
        if !enabled!(target: TARGET, Level::DEBUG) {
            return;
        }
        let logs_all = enabled!(target: TARGET, Level::TRACE);
        let number = self.queries.fetch_add(1, Ordering::Relaxed);
        let is_sampled = number.checked_rem(self.every) == Some(0);
        if !logs_all && !is_sampled {
            return;
        }
        // Parsed a second time, so that a query that is not logged costs nothing.
        let query = Query::parse(message).and_then(|query| query.question);
        let name = query.as_ref().map(|query| query.original().name().to_string());
        let (client, over) = (client.address, client.transport.as_str());
        let kind = summary.kind.map(|kind| kind.to_string());
        let (rcode, truncated) = (rcode_label(summary.code), summary.truncated);
        let limited = summary.decision == LimitDecision::Slip;
        if logs_all {
            trace!(target: TARGET, %client, over, name, kind, rcode, truncated, limited, "query");
        } else {
            debug!(target: TARGET, %client, over, name, kind, rcode, truncated, limited, "query");
        }
    }
}
