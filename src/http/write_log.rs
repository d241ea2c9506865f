//! The log of writes: one line for each HTTP request that writes to Kubernetes, with the caller and the result.
//!
//! Owns: the rate of lines. Lines beyond the rate are left out and counted, and the next line contains their number, so
//! a client that loops can fill only a bounded part of the log. Refusals have a separate rate: they are cheap to cause,
//! and must not displace lines of writes. Does not own: heartbeats, which have no line, even if they change the health
//! (the access log in `observe` has them).

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use rollcall_model::lease::Moment;
use tracing::info;

use crate::heartbeat::Target;
use crate::http::{context::Context, problem::Problem};

/// The average number of lines a second, for writes and for refusals each.
const RATE: u64 = 50;

/// The burst of lines: a batch has one line for each registration.
const BURST: u64 = 1_000;

/// How far in the future the next line can be due, in milliseconds.
const MAX_AHEAD_MS: u64 = BURST * 1_000 / RATE;

#[derive(Debug, Default)]
pub(super) struct WriteLog {
    writes: LineRate,
    refusals: LineRate,
}

/// Limits the rate of lines (a leaky bucket).
#[derive(Debug, Default)]
struct LineRate {
    /// When all lines so far would have been written at [`RATE`], in milliseconds of the monotonic clock.
    due: AtomicU64,
    left_out: AtomicU64,
}

/// The line of a write in progress. If this is dropped before the write ends, the client has disconnected, and the line
/// says so.
#[derive(Debug)]
pub(super) struct WriteLine<'a> {
    log: &'a WriteLog,
    context: &'a Context,
    verb: &'static str,
    namespace: &'a str,
    name: &'a str,
    is_written: bool,
}

impl WriteLog {
    pub(super) fn begin<'a>(
        &'a self,
        context: &'a Context,
        verb: &'static str,
        target: &Target<'a>,
    ) -> WriteLine<'a> {
        let Target { namespace, name, .. } = *target;
        WriteLine { log: self, context, verb, namespace, name, is_written: false }
    }
}

impl WriteLine<'_> {
    /// Writes the line, with the status and the uid of the instance, or with the refusal.
    pub(super) fn end(mut self, result: Result<(StatusCode, &str), &Problem>) {
        self.is_written = true;
        match result {
            Ok((status, uid)) => self.write("done", status.as_u16(), Some(uid), None),
            Err(problem) => {
                let status = problem.kind.status().as_u16();
                self.write("refused", status, None, Some(&problem.detail));
            }
        }
    }

    /// Writes no line, because the request wrote nothing to Kubernetes.
    pub(super) fn discard(mut self) {
        self.is_written = true;
    }

    fn write(&self, result: &str, status: u16, uid: Option<&str>, detail: Option<&str>) {
        let Self { log, context, verb, namespace, name, .. } = self;
        let rate = if detail.is_some() { &log.refusals } else { &log.writes };
        let Some(left_out) = rate.take(context.now.moment) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let (caller, peer) = (context.caller().map(|caller| caller.user()), context.peer);
        info!(verb, namespace, name, uid, result, status, detail, caller, %peer, left_out, "HTTP write");
    }
}

impl Drop for WriteLine<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            // No status is sent; 499 is nginx's status for this case.
            self.write("abandoned by the client", 499, None, None);
        }
    }
}

impl LineRate {
    /// The number of lines that were left out before this one; `None` when this one must be left out too.
    fn take(&self, now: Moment) -> Option<u64> {
        let next = |due: u64| {
            let due = due.max(now.0) + 1_000 / RATE;
            (due <= now.0 + MAX_AHEAD_MS).then_some(due)
        };
        if self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_the_next_line_counts_omitted_ones() {
        let rate = LineRate::default();
        let at = |now: u64| rate.take(Moment(now));
        assert!((0..BURST).all(|_| at(5_000) == Some(0)));
        assert_eq!([at(5_000), at(5_000), at(5_010)], [None; 3]);
        assert_eq!(at(5_000 + 1_000 / RATE), Some(3));
        assert_eq!(at(5_000 + 1_000 / RATE), None);
        let written = (0..10_000).filter(|ms| at(6_000 + ms).is_some()).count() as u64;
        assert!((RATE * 10..=RATE * 11).contains(&written), "{written}");
    }
}
