//! The log of writes: a line for each call over HTTP that is sent on to Kubernetes, with the caller and what came of it.
//!
//! Owns: the pace. Lines beyond it are counted, and the next line says how many they were; so a client in a loop costs a
//! bounded part of the log. Refusals have a pace of their own: they are cheap to cause, and must not displace lines of writes. Does not
//! own: heartbeats, which have no line, also where one reports another health (`observe` has an access log).

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use rollcall_model::lease::Moment;
use tracing::info;

use crate::heartbeat::Target;
use crate::http::{context::Context, problem::Problem};

/// Lines a second, on average, of writes and of refusals each.
const RATE: u64 = 50;

/// Lines at once: a batch of registrations has one a registration.
const BURST: u64 = 1_000;

/// The most milliseconds ahead of now at which the next line would be due.
const AHEAD: u64 = BURST * 1_000 / RATE;

/// The log.
#[derive(Debug, Default)]
pub(super) struct WriteLog {
    writes: Pace,
    refusals: Pace,
}

/// A pace of lines (a leaky bucket).
#[derive(Debug, Default)]
struct Pace {
    /// When all lines so far would have been written at [`RATE`], in milliseconds of the clock that decides.
    due: AtomicU64,
    left_out: AtomicU64,
}

/// The line of a write that has begun. Dropped, it says that nobody waited for the outcome: the client has gone.
#[derive(Debug)]
pub(super) struct Line<'a> {
    log: &'a WriteLog,
    context: &'a Context,
    verb: &'static str,
    namespace: &'a str,
    name: &'a str,
    is_written: bool,
}

impl WriteLog {
    /// A write begins.
    pub(super) fn begin<'a>(
        &'a self,
        context: &'a Context,
        verb: &'static str,
        target: &Target<'a>,
    ) -> Line<'a> {
        let Target { namespace, name, .. } = *target;
        Line { log: self, context, verb, namespace, name, is_written: false }
    }
}

impl Line<'_> {
    /// It ended: the status and the uid of the instance, or a refusal.
    pub(super) fn end(mut self, outcome: Result<(StatusCode, &str), &Problem>) {
        self.is_written = true;
        match outcome {
            Ok((status, uid)) => self.write("done", status.as_u16(), Some(uid), None),
            Err(problem) => {
                let status = problem.kind.status().as_u16();
                self.write("refused", status, None, Some(&problem.detail));
            }
        }
    }

    /// Nothing was written after all.
    pub(super) fn nothing(mut self) {
        self.is_written = true;
    }

    fn write(&self, result: &str, status: u16, uid: Option<&str>, detail: Option<&str>) {
        let Self { log, context, verb, namespace, name, .. } = self;
        let pace = if detail.is_some() { &log.refusals } else { &log.writes };
        let Some(left_out) = pace.take(context.now.moment) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let (caller, peer) = (context.caller().map(|caller| caller.user()), context.peer);
        info!(verb, namespace, name, uid, result, status, detail, caller, %peer, left_out, "HTTP write");
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            // nginx has this status for it; none is sent.
            self.write("abandoned by the client", 499, None, None);
        }
    }
}

impl Pace {
    /// Whether another line may be written now: how many were left out before it.
    fn take(&self, now: Moment) -> Option<u64> {
        let next = |due: u64| {
            let due = due.max(now.0) + 1_000 / RATE;
            (due <= now.0 + AHEAD).then_some(due)
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
    fn lines_keep_a_pace_and_the_next_one_says_how_many_were_left_out() {
        let pace = Pace::default();
        let at = |now: u64| pace.take(Moment(now));
        assert!((0..BURST).all(|_| at(5_000) == Some(0)));
        assert_eq!([at(5_000), at(5_000), at(5_010)], [None; 3]);
        assert_eq!(at(5_000 + 1_000 / RATE), Some(3));
        assert_eq!(at(5_000 + 1_000 / RATE), None);
        let written = (0..10_000).filter(|ms| at(6_000 + ms).is_some()).count() as u64;
        assert!((RATE * 10..=RATE * 11).contains(&written), "{written}");
    }
}
