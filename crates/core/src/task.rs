//! How far the duties on one object are.
//!
//! Owns: what is under way, what was written and announced last, and when a failed duty may be tried again. Does not own:
//! which duties there are (`outbox`, `evictions`).

use std::{sync::Arc, time::Duration};

use rollcall_model::{
    instance::Health,
    lease::{Moment, millis},
};

use crate::{announce::Told, conditions::Judged, fact::Outcome, status};

/// First and longest pause after a failed write; it doubles in between.
/// Short, since a write that fails is given up after 5 s anyway and 16 are under way at most.
const FIRST_RETRY: Duration = Duration::from_millis(500);
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// The pause after a refusal: what this replica may not do to one object it may not do to any, and until the right is
/// granted ten thousand objects should cost the API server no more than a hundred requests a second.
const REFUSED: Duration = Duration::from_secs(120);

/// How often the status of one object is written, and how many writes may be saved up. The first are quick, for what an
/// instance reports of itself; beyond them, two that write against each other cost the API server little.
const STATUS_EVERY: Duration = Duration::from_secs(10);
const AT_ONCE: u32 = 10;

/// How far the duties on one object are.
#[derive(Debug, Default)]
pub(super) struct Task {
    under_way: Option<UnderWay>,
    /// The generation and health whose columns were written and taken: once is enough, also where the API
    /// server drops them.
    shown: Option<(i64, Health)>,
    /// What was announced of its health.
    told: Option<Told>,
    /// Why it was evicted, once the API server has taken the deletion; finalizers may hold it for as long as they like.
    deleted: Option<Arc<str>>,
    failures: u32,
    not_before: Option<Moment>,
    /// Since when a write is wanted that has to wait, since another installation wrote the status; and for how long.
    dissents: Option<(Moment, Duration)>,
    /// When the object is next looked at for that, or for its pace.
    looks: Option<Moment>,
    /// Up to when the writes of its status are paid for.
    paid: Moment,
}

/// A duty that was handed out and not yet answered.
#[derive(Debug)]
pub(super) enum UnderWay {
    /// The status of this generation is being written.
    Status {
        /// `metadata.generation`.
        generation: i64,
        /// The health in its column.
        health: Health,
        /// What will have been announced of its health.
        told: Option<Told>,
    },
    /// The checkpoint of the last heartbeat is being written.
    Checkpoint,
    /// The object is being deleted, for this reason.
    Evict(Arc<str>),
}

impl Task {
    /// A duty begins.
    pub(super) fn begin(&mut self, duty: UnderWay) {
        self.under_way = Some(duty);
    }

    /// Why the object is being evicted, if it is.
    pub(super) fn eviction_reason(&self) -> Option<Arc<str>> {
        match &self.under_way {
            Some(UnderWay::Evict(reason)) => Some(reason.clone()),
            _ => self.deleted.clone(),
        }
    }

    /// Whether the API server has taken its deletion.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.is_some()
    }

    /// What was announced of its health.
    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// A duty ended. Answers when the next may begin, if not at once.
    pub(super) fn attempted(&mut self, outcome: &Outcome, now: Moment) -> Option<Moment> {
        let ended = self.under_way.take();
        self.not_before = None;
        if *outcome == Outcome::Done {
            if let Some(UnderWay::Status { generation, health, told }) = ended {
                self.shown = Some((generation, health));
                self.told = told;
            }
            self.failures = 0;
            return None;
        }
        if *outcome == Outcome::Deleting {
            if let Some(UnderWay::Evict(reason)) = ended {
                self.deleted = Some(reason);
            }
            return None;
        }
        if *outcome == Outcome::Refused {
            self.not_before = Some(now.after(REFUSED));
            return self.not_before;
        }
        let pause = LONGEST_RETRY.min(FIRST_RETRY * 2u32.saturating_pow(self.failures.min(16)));
        self.failures += 1;
        self.not_before = Some(now.after(pause));
        self.not_before
    }

    /// Whether the stored status needs no write.
    pub(super) fn is_settled(&self, judged: &Judged<'_>, zone: &str) -> bool {
        let instance = judged.instance;
        status::is_current(judged)
            && (self.shown == Some((instance.generation, instance.health))
                || status::shows(instance, zone))
    }

    /// A write is wanted, and has to wait for so long. Answers when it may go out.
    pub(super) fn dissent(&mut self, now: Moment, wait: Duration) -> Moment {
        let (since, wait) = match self.dissents {
            Some(same) if same.1 == wait => same,
            _ => *self.dissents.insert((now, wait)),
        };
        since.after(wait)
    }

    /// No write is wanted that has to wait.
    pub(super) fn assent(&mut self) {
        self.dissents = None;
    }

    /// When the next status may be written: at once as long as few were written lately.
    pub(super) fn paced(&self) -> Moment {
        Moment(self.paid.0.saturating_sub(millis(STATUS_EVERY * (AT_ONCE - 1))))
    }

    /// A status is being written.
    pub(super) fn pay(&mut self, now: Moment) {
        self.paid = self.paid.max(now).after(STATUS_EVERY);
        self.dissents = None;
    }

    /// The object is to be looked at then. Answers whether that is not known yet.
    pub(super) fn look_at(&mut self, at: Moment) -> bool {
        self.looks.replace(at) != Some(at)
    }

    /// Whether a duty may begin now.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.under_way.is_none() && self.not_before.is_none_or(|at| at <= now)
    }
}
