//! A circuit breaker before the Kubernetes API: while it does not answer, nobody waits for it in vain.
//!
//! ```text
//! closed ── 5 calls in a row without an answer ──▶ open ── its time is over ──▶ probing: one call goes out
//!    ▲                                              ▲                              │
//!    └──────────── an answer, to any call ──────────┼──────────────────────────────┤
//!                                                   └──── none: twice the time ────┘
//! ```
//!
//! Owns: when calls go out, and what is known of it. Time is an argument. Does not own: which calls may be
//! held back: self-beats, ledgers, watches and the election never are, and close it by their answers.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::registry::lease::Moment;
use crate::telemetry::metrics::BreakerMetrics;

/// Calls in a row that were not answered, until none goes out.
const FAILURES: u32 = 5;

/// For how long none goes out at first, and at most.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

/// A probe that never came back is not waited for any longer than any call is.
const PROBE: Duration = Duration::from_secs(6);

/// What becomes of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They go out.
    Closed,
    /// None goes out.
    Open,
    /// One is under way, and decides.
    Probing,
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Closed { failures: u32 },
    Open { until: Moment, pause: Duration },
    Probing { until: Moment, pause: Duration },
}

/// A breaker for calls of one kind. Clones share it.
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    calls: &'static str,
    inner: Mutex<Inner>,
    metrics: BreakerMetrics,
}

/// The breakers of a replica.
#[derive(Clone, Debug)]
pub struct Breakers {
    /// Of instances, their status among them.
    pub writes: Breaker,
    /// Who is calling, and may they.
    pub reviews: Breaker,
    /// What is known of both.
    pub metrics: BreakerMetrics,
}

impl Breakers {
    /// Closed.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = BreakerMetrics::new(registry);
        let reviews = Breaker::new("reviews", metrics.clone());
        Self { writes: Breaker::new("writes", metrics.clone()), reviews, metrics }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Breaker({}, {:?})", self.0.calls, self.state())
    }
}

impl Breaker {
    /// Closed, for calls of this kind.
    #[must_use]
    pub fn new(calls: &'static str, metrics: BreakerMetrics) -> Self {
        metrics.begin(calls);
        let inner = Mutex::new(Inner::Closed { failures: 0 });
        Self(Arc::new(Shared { calls, inner, metrics }))
    }

    /// What becomes of calls now.
    #[must_use]
    pub fn state(&self) -> State {
        match *self.0.inner.lock() {
            Inner::Closed { .. } => State::Closed,
            Inner::Open { .. } => State::Open,
            Inner::Probing { .. } => State::Probing,
        }
    }

    /// Whether a call may go out.
    pub(super) fn admits(&self, now: Moment) -> bool {
        let mut inner = self.0.inner.lock();
        let admitted = match *inner {
            Inner::Closed { .. } => true,
            Inner::Open { until, pause } | Inner::Probing { until, pause } if now >= until => {
                *inner = Inner::Probing { until: now.after(PROBE), pause };
                true
            }
            Inner::Open { .. } | Inner::Probing { .. } => false,
        };
        drop(inner);
        if !admitted {
            self.0.metrics.refused(self.0.calls);
        }
        admitted
    }

    /// A call was answered, whatever the answer; or not at all.
    pub(super) fn ended(&self, answered: bool, now: Moment) {
        let mut inner = self.0.inner.lock();
        let before = *inner;
        *inner = match before {
            _ if answered => Inner::Closed { failures: 0 },
            Inner::Closed { failures } if failures + 1 < FAILURES => {
                Inner::Closed { failures: failures + 1 }
            }
            Inner::Closed { .. } => Inner::Open { until: now.after(FIRST), pause: FIRST },
            Inner::Probing { pause, .. } => {
                let pause = (pause * 2).min(LONGEST);
                Inner::Open { until: now.after(pause), pause }
            }
            // A call that went out before, or one that is never held back.
            open @ Inner::Open { .. } => open,
        };
        let after = *inner;
        drop(inner);
        self.mention(before, after);
    }

    fn mention(&self, before: Inner, after: Inner) {
        let calls = self.0.calls;
        let is_closed = |inner| matches!(inner, Inner::Closed { .. });
        self.0.metrics.is_open(calls, !is_closed(after));
        match (is_closed(before), is_closed(after)) {
            (true, false) => {
                let failures = FAILURES;
                tracing::warn!(
                    calls,
                    failures,
                    "the Kubernetes API does not answer: calls fail at once until it does"
                );
            }
            (false, true) => tracing::info!(calls, "the Kubernetes API answers again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breakers::new(&mut Registry::default()).writes
    }

    fn fail(breaker: &Breaker, times: u32, at: u64) {
        (0..times).for_each(|_| breaker.ended(false, Moment(at)));
    }

    #[test]
    fn five_calls_in_a_row_without_an_answer_open_it() {
        let breaker = breaker();
        fail(&breaker, 4, 1_000);
        breaker.ended(true, Moment(1_000));
        fail(&breaker, 4, 1_000);
        assert!(breaker.admits(Moment(1_000)));
        fail(&breaker, 1, 1_000);
        assert_eq!(breaker.state(), State::Open);
        assert!(!breaker.admits(Moment(1_499)));
    }

    #[test]
    fn one_call_probes_and_decides() {
        let breaker = breaker();
        fail(&breaker, 5, 1_000);
        assert!(breaker.admits(Moment(1_500)));
        assert!(!breaker.admits(Moment(1_500)), "one alone");
        assert_eq!(breaker.state(), State::Probing);
        breaker.ended(false, Moment(2_000));
        assert!(!breaker.admits(Moment(2_999)), "twice the time");
        assert!(breaker.admits(Moment(3_000)));
        breaker.ended(true, Moment(3_010));
        assert_eq!(breaker.state(), State::Closed);
        assert!(breaker.admits(Moment(3_010)));
    }

    #[test]
    fn the_time_has_a_bound_and_a_lost_probe_is_not_waited_for() {
        let breaker = breaker();
        fail(&breaker, 5, 0);
        let mut now = 500;
        for pause in [1_000, 2_000, 4_000, 8_000, 8_000] {
            assert!(breaker.admits(Moment(now)));
            breaker.ended(false, Moment(now));
            assert!(!breaker.admits(Moment(now + pause - 1)));
            now += pause;
        }
        assert!(breaker.admits(Moment(now)), "a probe, which is lost");
        assert!(!breaker.admits(Moment(now + 5_999)));
        assert!(breaker.admits(Moment(now + 6_000)));
    }

    #[test]
    fn whatever_is_answered_closes_it() {
        let breaker = breaker();
        fail(&breaker, 50, 1_000);
        // A self-beat, which is never held back.
        breaker.ended(true, Moment(1_001));
        assert!(breaker.admits(Moment(1_001)));
    }
}
