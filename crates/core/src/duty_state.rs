//! The state of the duties on one object.
//!
//! Owns: what is under way, what was written and announced last, and when a failed duty is retried. Does not
//! own: which duties there are (`outbox`, `evictions`).

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    instance::Health,
    lease::{Moment, millis},
};

use crate::{announce::AnnouncedHealth, conditions::ConditionInput, fact::WriteOutcome, status};

/// The first and the longest pause after a failed write; the pause doubles in between. They are short
/// because each attempt already has a deadline of 5 s, and at most 16 writes are under way.
const FIRST_RETRY: Duration = Duration::from_millis(500);
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// The pause after a refusal. A right that is missing for one object is missing for all. Until it is
/// granted, ten thousand objects should cause no more than a hundred requests per second.
const REFUSED: Duration = Duration::from_secs(120);

/// How often the status of one object is written, and how many writes may follow each other without a
/// pause. The first writes are fast, for the sake of health reports. After them the pause bounds the load
/// when two controllers overwrite each other.
const STATUS_EVERY: Duration = Duration::from_secs(10);
const STATUS_BURST: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct DutyState {
    under_way: Option<UnderWay>,
    /// The generation and health whose columns were written and accepted. One write is enough, even if the
    /// API server drops the columns.
    shown: Option<(i64, Health)>,
    announced: Option<AnnouncedHealth>,
    /// The reason for the eviction, once the API server has accepted the deletion; finalizers can keep the
    /// object for any time.
    deleted: Option<Arc<str>>,
    failures: u32,
    not_before: Option<Moment>,
    /// Since when a write is deferred because another installation wrote the status, and for how long it is
    /// deferred.
    deferred: Option<(Moment, Duration)>,
    /// When the object is next checked because of a deferred or paced write.
    next_check: Option<Moment>,
    /// The moment up to which the budget for writes of its status is used up.
    paid: Moment,
}

/// A duty that was handed out and whose result is not known yet.
#[derive(Debug)]
pub(super) enum UnderWay {
    Status {
        generation: i64,
        health: Health,
        /// What will have been announced about its health if the write succeeds.
        announced: Option<AnnouncedHealth>,
    },
    Checkpoint,
    /// The object is being evicted, for this reason.
    Evict(Arc<str>),
}

impl DutyState {
    pub(super) fn begin(&mut self, duty: UnderWay) {
        self.under_way = Some(duty);
    }

    pub(super) fn eviction_reason(&self) -> Option<Arc<str>> {
        match &self.under_way {
            Some(UnderWay::Evict(reason)) => Some(reason.clone()),
            _ => self.deleted.clone(),
        }
    }

    /// Whether the API server has accepted its deletion.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.is_some()
    }

    pub(super) fn announced(&self) -> Option<AnnouncedHealth> {
        self.announced
    }

    /// Records the result of a duty. Returns when the next one may begin, if not at once.
    pub(super) fn record_outcome(&mut self, outcome: &WriteOutcome, now: Moment) -> Option<Moment> {
        let ended = self.under_way.take();
        self.not_before = None;
        if *outcome == WriteOutcome::Done {
            if let Some(UnderWay::Status { generation, health, announced }) = ended {
                self.shown = Some((generation, health));
                self.announced = announced;
            }
            self.failures = 0;
            return None;
        }
        if *outcome == WriteOutcome::Deleting {
            if let Some(UnderWay::Evict(reason)) = ended {
                self.deleted = Some(reason);
            }
            return None;
        }
        if *outcome == WriteOutcome::Refused {
            self.not_before = Some(now.after(REFUSED));
            return self.not_before;
        }
        let pause = LONGEST_RETRY.min(FIRST_RETRY * 2u32.saturating_pow(self.failures.min(16)));
        self.failures += 1;
        self.not_before = Some(now.after(pause));
        self.not_before
    }

    pub(super) fn is_settled(&self, judged: &ConditionInput<'_>, zone: &str) -> bool {
        let instance = judged.instance;
        status::is_current(judged)
            && (self.shown == Some((instance.generation, instance.health))
                || status::has_current_columns(instance, zone))
    }

    /// Defers a write by `wait`. Returns when it may go out.
    pub(super) fn defer(&mut self, now: Moment, wait: Duration) -> Moment {
        let (since, wait) = match self.deferred {
            Some(same) if same.1 == wait => same,
            _ => *self.deferred.insert((now, wait)),
        };
        since.after(wait)
    }

    /// Clears a deferred write.
    pub(super) fn clear_deferred(&mut self) {
        self.deferred = None;
    }

    /// When the next status may be written: at once if few were written recently.
    pub(super) fn paced(&self) -> Moment {
        Moment(self.paid.0.saturating_sub(millis(STATUS_EVERY * (STATUS_BURST - 1))))
    }

    /// Charges the budget for a write of the status.
    pub(super) fn charge(&mut self, now: Moment) {
        self.paid = self.paid.max(now).after(STATUS_EVERY);
        self.deferred = None;
    }

    /// Schedules a check of the object. Returns whether it is new.
    pub(super) fn schedule_check(&mut self, at: Moment) -> bool {
        self.next_check.replace(at) != Some(at)
    }

    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.under_way.is_none() && self.not_before.is_none_or(|at| at <= now)
    }
}
