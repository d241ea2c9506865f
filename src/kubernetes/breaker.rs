//! A circuit breaker in front of the Kubernetes API: while the API server does not answer, calls fail at once instead of
//! waiting for their deadline.
//!
//! ```text
//! closed ── 5 calls in a row without an answer ──▶ open ── the pause is over ──▶ probing: one call is sent
//!    ▲                                              ▲                               │
//!    └──────────── an answer, to any call ──────────┼───────────────────────────────┤
//!                                                   └─── none: pause twice as long ─┘
//! ```
//!
//! Only a missing answer counts as a failure, and so do 502 to 504, with which a gateway reports a missing answer. A
//! 429 is an answer: the server is up and limits the load itself. A failure counts in the period in which the call
//! began: a call sent before the breaker opened proves nothing about the probe, nor about the time after the breaker
//! closed again. When the caller drops a probe (because its own client disconnected), the next call becomes the probe.
//!
//! Owns: when calls are sent, and the metrics about that. Time is an argument. Does not own: which calls can be
//! rejected. Self-beats, ledgers, watches and the election never are, and their answers close the breaker.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rollcall_model::lease::Moment;

use crate::telemetry::metrics::BreakerMetrics;

/// The breaker opens after this many calls in a row without an answer.
const FAILURES_TO_OPEN: u32 = 5;

/// How long the breaker stays open: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are sent.
    Closed,
    /// Calls are rejected.
    Open,
    /// One call is under way, and its answer decides.
    Probing,
}

#[derive(Clone, Copy, Debug)]
enum Circuit {
    Closed { failures: u32 },
    Open { until: Moment, pause: Duration },
    Probing { pause: Duration },
}

/// The current state, and the number of state changes before it.
#[derive(Clone, Copy, Debug)]
struct Period {
    circuit: Circuit,
    number: u64,
}

/// A breaker for calls of one kind. Clones share it.
#[derive(Clone)]
pub struct Breaker(Arc<SharedBreaker>);

struct SharedBreaker {
    calls: &'static str,
    period: Mutex<Period>,
    metrics: BreakerMetrics,
}

/// The permission to send one call.
#[derive(Debug)]
pub(super) struct CallPermit {
    breaker: Breaker,
    /// The number of the period in which the call began.
    began: u64,
    is_probe: bool,
}

/// The breakers of a replica.
#[derive(Clone, Debug)]
pub struct Breakers {
    /// For reads and writes of instances and their status.
    pub writes: Breaker,
    /// For TokenReviews, SubjectAccessReviews and the cluster's keys.
    pub reviews: Breaker,
    /// The metrics of both.
    pub metrics: BreakerMetrics,
}

impl Breakers {
    /// Both breakers, closed.
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
    /// A closed breaker; `calls` is its name in metrics and logs.
    #[must_use]
    pub fn new(calls: &'static str, metrics: BreakerMetrics) -> Self {
        metrics.begin(calls);
        let period = Mutex::new(Period { circuit: Circuit::Closed { failures: 0 }, number: 0 });
        Self(Arc::new(SharedBreaker { calls, period, metrics }))
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.0.period.lock().circuit {
            Circuit::Closed { .. } => BreakerState::Closed,
            Circuit::Open { .. } => BreakerState::Open,
            Circuit::Probing { .. } => BreakerState::Probing,
        }
    }

    /// Admits a call that can be rejected; `None` when it is.
    pub(super) fn admit(&self, now: Moment) -> Option<CallPermit> {
        let mut period = self.0.period.lock();
        let is_probe = match period.circuit {
            Circuit::Closed { .. } => false,
            Circuit::Open { until, pause } if now >= until => {
                period.enter(Circuit::Probing { pause });
                true
            }
            Circuit::Open { .. } | Circuit::Probing { .. } => {
                drop(period);
                self.0.metrics.refused(self.0.calls);
                return None;
            }
        };
        Some(CallPermit { breaker: self.clone(), began: period.number, is_probe })
    }

    /// Admits a call that is never rejected.
    pub(super) fn admit_always(&self) -> CallPermit {
        CallPermit { breaker: self.clone(), began: self.0.period.lock().number, is_probe: false }
    }

    fn log_change(&self, before: Circuit, after: Circuit) {
        let calls = self.0.calls;
        let is_closed = |circuit| matches!(circuit, Circuit::Closed { .. });
        self.0.metrics.set_open(calls, !is_closed(after));
        match (is_closed(before), is_closed(after)) {
            (true, false) => {
                let failures = FAILURES_TO_OPEN;
                tracing::warn!(
                    calls,
                    failures,
                    "the Kubernetes API does not answer; until it does, calls to it fail at once"
                );
            }
            (false, true) => tracing::info!(calls, "the Kubernetes API answers again"),
            _ => {}
        }
    }
}

impl Period {
    fn enter(&mut self, circuit: Circuit) {
        *self = Self { circuit, number: self.number + 1 };
    }
}

impl CallPermit {
    /// Records the end of the call: with any answer, or with none.
    pub(super) fn finish(mut self, answered: bool, now: Moment) {
        let mut period = self.breaker.0.period.lock();
        let before = period.circuit;
        let is_current = period.number == self.began;
        match &mut period.circuit {
            Circuit::Closed { failures } if answered => *failures = 0,
            _ if answered => period.enter(Circuit::Closed { failures: 0 }),
            Circuit::Closed { failures } if is_current => {
                *failures += 1;
                if *failures >= FAILURES_TO_OPEN {
                    period
                        .enter(Circuit::Open { until: now.after(FIRST_PAUSE), pause: FIRST_PAUSE });
                }
            }
            Circuit::Probing { pause } if is_current && self.is_probe => {
                let pause = (*pause * 2).min(LONGEST_PAUSE);
                period.enter(Circuit::Open { until: now.after(pause), pause });
            }
            // The call began in an earlier period, or is one that is never rejected.
            _ => {}
        }
        // Under the lock, so that the gauge always shows the last change.
        self.breaker.log_change(before, period.circuit);
        drop(period);
        self.is_probe = false;
    }
}

impl Drop for CallPermit {
    /// The caller has dropped the probe: the next call becomes the probe.
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        let mut period = self.breaker.0.period.lock();
        if let Circuit::Probing { pause } = period.circuit
            && period.number == self.began
        {
            period.enter(Circuit::Open { until: Moment(0), pause });
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
        (0..times).for_each(|_| breaker.admit_always().finish(false, Moment(at)));
    }

    fn admit(breaker: &Breaker, at: u64) -> Option<CallPermit> {
        breaker.admit(Moment(at))
    }

    #[test]
    fn five_calls_in_a_row_without_an_answer_open_the_breaker() {
        let breaker = breaker();
        fail(&breaker, 4, 1_000);
        breaker.admit_always().finish(true, Moment(1_000));
        fail(&breaker, 4, 1_000);
        assert!(admit(&breaker, 1_000).is_some());
        fail(&breaker, 1, 1_000);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(admit(&breaker, 1_499).is_none());
    }

    #[test]
    fn one_call_probes_and_its_answer_decides() {
        let breaker = breaker();
        fail(&breaker, 5, 1_000);
        let probe = admit(&breaker, 1_500).unwrap();
        assert!(admit(&breaker, 1_500).is_none(), "only one probe at a time");
        assert_eq!(breaker.state(), BreakerState::Probing);
        probe.finish(false, Moment(2_000));
        assert!(admit(&breaker, 2_999).is_none(), "the pause doubles");
        admit(&breaker, 3_000).unwrap().finish(true, Moment(3_010));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(admit(&breaker, 3_010).is_some());
    }

    #[test]
    fn failures_of_calls_from_an_earlier_period_do_not_count() {
        let breaker = breaker();
        let older: Vec<_> = (0..20).map(|_| admit(&breaker, 900).unwrap()).collect();
        fail(&breaker, 5, 1_000);
        let probe = admit(&breaker, 1_500).unwrap();
        let mut older = older.into_iter();
        older.by_ref().take(10).for_each(|call| call.finish(false, Moment(1_600)));
        assert_eq!(breaker.state(), BreakerState::Probing, "only the probe decides");
        probe.finish(true, Moment(1_700));
        older.for_each(|call| call.finish(false, Moment(1_800)));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_dropped_probe_is_replaced_by_the_next_call() {
        let breaker = breaker();
        fail(&breaker, 5, 1_000);
        drop(admit(&breaker, 1_500).unwrap());
        assert_eq!(breaker.state(), BreakerState::Open);
        let probe = admit(&breaker, 1_500).expect("the next one probes");
        // A failure of another call does not count as one of the probe.
        fail(&breaker, 1, 1_500);
        probe.finish(false, Moment(1_600));
        assert!(admit(&breaker, 2_599).is_none());
        assert!(admit(&breaker, 2_600).is_some());
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let breaker = breaker();
        fail(&breaker, 5, 0);
        let mut now = 500;
        for pause in [1_000, 2_000, 4_000, 8_000, 8_000] {
            admit(&breaker, now).unwrap().finish(false, Moment(now));
            assert!(admit(&breaker, now + pause - 1).is_none());
            now += pause;
        }
    }

    #[test]
    fn an_answer_to_any_call_closes_the_breaker() {
        let breaker = breaker();
        fail(&breaker, 50, 1_000);
        // A self-beat, which is never rejected.
        breaker.admit_always().finish(true, Moment(1_001));
        assert!(admit(&breaker, 1_001).is_some());
    }
}
