//! A circuit breaker before the Kubernetes API: while it does not answer, nobody waits for it in vain.
//!
//! ```text
//! closed ── 5 calls in a row without an answer ──▶ open ── its time is over ──▶ probing: one call goes out
//!    ▲                                              ▲                              │
//!    └──────────── an answer, to any call ──────────┼──────────────────────────────┤
//!                                                   └──── none: twice the time ────┘
//! ```
//!
//! What counts is the API server's silence (and a gateway's word for it: 502 to 504). A 429 is an answer: the server lives, and
//! says itself how much it takes. A failure counts where the call began: one that went out before the breaker opened says
//! nothing about a probe, and nothing about the time after it closed again. A probe that is given up by who asked for
//! it (his client has gone) leaves its place to the next.
//!
//! Owns: when calls go out, and what is known of it. Time is an argument. Does not own: which calls may be
//! held back: self-beats, ledgers, watches and the election never are, and close it by their answers.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rollcall_model::lease::Moment;

use crate::telemetry::metrics::BreakerMetrics;

/// Calls in a row that were not answered, until none goes out.
const FAILURES: u32 = 5;

/// For how long none goes out at first, and at most.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

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
    Probing { pause: Duration },
}

/// A state, and how many there were before.
#[derive(Clone, Copy, Debug)]
struct Stage {
    inner: Inner,
    number: u64,
}

/// A breaker for calls of one kind. Clones share it.
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    calls: &'static str,
    stage: Mutex<Stage>,
    metrics: BreakerMetrics,
}

/// A call that goes out.
#[derive(Debug)]
pub(super) struct Ticket {
    breaker: Breaker,
    /// The stage in which it began.
    began: u64,
    is_probe: bool,
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
        let stage = Mutex::new(Stage { inner: Inner::Closed { failures: 0 }, number: 0 });
        Self(Arc::new(Shared { calls, stage, metrics }))
    }

    /// What becomes of calls now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.0.stage.lock().inner {
            Inner::Closed { .. } => State::Closed,
            Inner::Open { .. } => State::Open,
            Inner::Probing { .. } => State::Probing,
        }
    }

    /// A call that may be held back; none when it is.
    pub(super) fn admits(&self, now: Moment) -> Option<Ticket> {
        let mut stage = self.0.stage.lock();
        let is_probe = match stage.inner {
            Inner::Closed { .. } => false,
            Inner::Open { until, pause } if now >= until => {
                stage.enter(Inner::Probing { pause });
                true
            }
            Inner::Open { .. } | Inner::Probing { .. } => {
                drop(stage);
                self.0.metrics.refused(self.0.calls);
                return None;
            }
        };
        Some(Ticket { breaker: self.clone(), began: stage.number, is_probe })
    }

    /// A call that is never held back.
    pub(super) fn passes(&self) -> Ticket {
        Ticket { breaker: self.clone(), began: self.0.stage.lock().number, is_probe: false }
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

impl Stage {
    fn enter(&mut self, inner: Inner) {
        *self = Self { inner, number: self.number + 1 };
    }
}

impl Ticket {
    /// It was answered, whatever the answer; or not at all.
    pub(super) fn ended(mut self, answered: bool, now: Moment) {
        let mut stage = self.breaker.0.stage.lock();
        let before = stage.inner;
        let is_of_now = stage.number == self.began;
        match &mut stage.inner {
            Inner::Closed { failures } if answered => *failures = 0,
            _ if answered => stage.enter(Inner::Closed { failures: 0 }),
            Inner::Closed { failures } if is_of_now => {
                *failures += 1;
                if *failures >= FAILURES {
                    stage.enter(Inner::Open { until: now.after(FIRST), pause: FIRST });
                }
            }
            Inner::Probing { pause } if is_of_now && self.is_probe => {
                let pause = (*pause * 2).min(LONGEST);
                stage.enter(Inner::Open { until: now.after(pause), pause });
            }
            // It went out before, or is never held back.
            _ => {}
        }
        // Within the lock, so that the gauge is that of the last change.
        self.breaker.mention(before, stage.inner);
        drop(stage);
        self.is_probe = false;
    }
}

impl Drop for Ticket {
    /// Nobody waits for the answer any more: the next call may find out.
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        let mut stage = self.breaker.0.stage.lock();
        if let Inner::Probing { pause } = stage.inner
            && stage.number == self.began
        {
            stage.enter(Inner::Open { until: Moment(0), pause });
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
        (0..times).for_each(|_| breaker.passes().ended(false, Moment(at)));
    }

    fn admits(breaker: &Breaker, at: u64) -> Option<Ticket> {
        breaker.admits(Moment(at))
    }

    #[test]
    fn five_calls_in_a_row_without_an_answer_open_it() {
        let breaker = breaker();
        fail(&breaker, 4, 1_000);
        breaker.passes().ended(true, Moment(1_000));
        fail(&breaker, 4, 1_000);
        assert!(admits(&breaker, 1_000).is_some());
        fail(&breaker, 1, 1_000);
        assert_eq!(breaker.state(), State::Open);
        assert!(admits(&breaker, 1_499).is_none());
    }

    #[test]
    fn one_call_probes_and_decides() {
        let breaker = breaker();
        fail(&breaker, 5, 1_000);
        let probe = admits(&breaker, 1_500).unwrap();
        assert!(admits(&breaker, 1_500).is_none(), "one alone");
        assert_eq!(breaker.state(), State::Probing);
        probe.ended(false, Moment(2_000));
        assert!(admits(&breaker, 2_999).is_none(), "twice the time");
        admits(&breaker, 3_000).unwrap().ended(true, Moment(3_010));
        assert_eq!(breaker.state(), State::Closed);
        assert!(admits(&breaker, 3_010).is_some());
    }

    #[test]
    fn a_failure_of_an_older_call_says_nothing_about_the_probe_nor_about_the_time_after_it() {
        let breaker = breaker();
        let older: Vec<_> = (0..20).map(|_| admits(&breaker, 900).unwrap()).collect();
        fail(&breaker, 5, 1_000);
        let probe = admits(&breaker, 1_500).unwrap();
        let mut older = older.into_iter();
        older.by_ref().take(10).for_each(|call| call.ended(false, Moment(1_600)));
        assert_eq!(breaker.state(), State::Probing, "it is the probe that decides");
        probe.ended(true, Moment(1_700));
        older.for_each(|call| call.ended(false, Moment(1_800)));
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_its_place() {
        let breaker = breaker();
        fail(&breaker, 5, 1_000);
        drop(admits(&breaker, 1_500).unwrap());
        assert_eq!(breaker.state(), State::Open);
        let probe = admits(&breaker, 1_500).expect("the next one probes");
        // One that was given up is not taken for a later one.
        fail(&breaker, 1, 1_500);
        probe.ended(false, Moment(1_600));
        assert!(admits(&breaker, 2_599).is_none());
        assert!(admits(&breaker, 2_600).is_some());
    }

    #[test]
    fn the_time_has_a_bound() {
        let breaker = breaker();
        fail(&breaker, 5, 0);
        let mut now = 500;
        for pause in [1_000, 2_000, 4_000, 8_000, 8_000] {
            admits(&breaker, now).unwrap().ended(false, Moment(now));
            assert!(admits(&breaker, now + pause - 1).is_none());
            now += pause;
        }
    }

    #[test]
    fn whatever_is_answered_closes_it() {
        let breaker = breaker();
        fail(&breaker, 50, 1_000);
        // A self-beat, which is never held back.
        breaker.passes().ended(true, Moment(1_001));
        assert!(admits(&breaker, 1_001).is_some());
    }
}
