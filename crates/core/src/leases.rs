//! Leases: when each one ends, and which have ended.
//!
//! Owns: lease timers, grace, and the leases that have ended and wait for the horizon. An instance is
//! judged expired once both the current time and the horizon are past its deadline. Does not own: the
//! horizon (`horizon`, `ledgers`), which instances are held past their lease (`guard`), and what a verdict
//! leads to (`instances`).

use std::time::Duration;

use rollcall_model::{instance::InstanceKey, lease::Moment};

use crate::{
    grace::Grace,
    report::LastGap,
    table::{Entry, Table},
    timers::Timers,
};

#[derive(Debug, Default)]
pub(super) struct Leases {
    timers: Timers,
    grace: Grace,
    /// The instances whose leases have ended but whose deadlines the horizon has not passed, with the moments
    /// at which their timers fired.
    waiting: Vec<(Moment, InstanceKey)>,
    /// The latest deadline among them.
    due: Option<Moment>,
    last_gap: Option<LastGap>,
    gaps: u64,
    expired: u64,
}

/// The state of a lease when its timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseState {
    /// A newer timer has replaced this one.
    Replaced,
    /// The last heartbeat was at `beat`, and the lease ends at `deadline`, which is not before now.
    Running { beat: Moment, deadline: Moment },
    /// The lease ended at `deadline`, which the horizon has not passed.
    Waiting { deadline: Moment },
    /// The lease ended at `deadline`, and no heartbeat that would still count can be reported.
    Ended { beat: Moment, deadline: Moment },
}

impl Leases {
    pub(super) fn grace(&self) -> &Grace {
        &self.grace
    }

    /// The latest deadline that waits for the horizon.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn last_gap(&self) -> Option<LastGap> {
        self.last_gap
    }

    /// How many times all instances were given grace.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// How many leases have ended.
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.timers.peek()
    }

    /// Gives every instance back the time `lost` in which heartbeats may have been missed, or a whole lease
    /// if its length is not known.
    pub(super) fn give_back(&mut self, now: Moment, lost: Option<Duration>) {
        self.gaps += 1;
        self.last_gap = Some(LastGap { ended: now, lost });
        match lost {
            Some(lost) => self.grace.record_gap(now, lost),
            None => self.grace.grant_whole_lease(now),
        }
    }

    /// Gives every instance a whole lease from now on, because nothing is known about earlier heartbeats.
    pub(super) fn grant_whole_lease(&mut self, now: Moment) {
        self.grace.grant_whole_lease(now);
    }

    /// Gives every instance a whole lease from `not_before` on because of silent replicas, replacing the
    /// earlier value. Returns whether the value changed. If deadlines move to an earlier moment, the timers
    /// are set again.
    pub(super) fn set_silence_grace(
        &mut self,
        not_before: Option<Moment>,
        table: &mut Table,
    ) -> bool {
        let before = self.grace.silence();
        if not_before == before {
            return false;
        }
        self.grace.set_silence(not_before);
        if not_before < before {
            table.entries_mut().for_each(|entry| self.arm(entry));
        }
        true
    }

    /// Sets the lease timer if the lease now ends before the timer fires.
    pub(super) fn arm(&mut self, entry: &mut Entry) {
        if !entry.is_leased_and_live() {
            entry.armed = None;
            return;
        }
        let deadline = self.deadline(entry);
        if entry.armed.is_none_or(|armed| deadline < armed) {
            entry.armed = Some(deadline);
            self.timers.set(deadline, entry.instance().key.clone());
        }
    }

    /// Sets the lease timer for `end`, but at least one millisecond from now.
    pub(super) fn arm_at(&mut self, entry: &mut Entry, end: Moment, now: Moment) {
        let again = end.max(Moment(now.0 + 1));
        entry.armed = Some(again);
        self.timers.set(again, entry.instance().key.clone());
    }

    /// The horizon moved: the leases that waited for it are checked again.
    pub(super) fn resume(&mut self) {
        self.due = None;
        for (at, key) in self.waiting.drain(..) {
            self.timers.set(at, key);
        }
    }

    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, InstanceKey)> {
        self.timers.pop_due(now)
    }

    /// Checks an instance whose timer fired at `at`.
    pub(super) fn inspect(
        &self,
        entry: &Entry,
        at: Moment,
        now: Moment,
        horizon: Moment,
    ) -> LeaseState {
        if entry.armed != Some(at) {
            return LeaseState::Replaced;
        }
        let (beat, deadline) = (entry.slot().last_heartbeat(), self.deadline(entry));
        match () {
            () if deadline >= now => LeaseState::Running { beat, deadline },
            () if horizon <= deadline => LeaseState::Waiting { deadline },
            () => LeaseState::Ended { beat, deadline },
        }
    }

    /// Makes a lease that ended at `end`, and whose timer fired at `at`, wait for the horizon.
    pub(super) fn wait(&mut self, at: Moment, key: InstanceKey, end: Moment) {
        self.due = self.due.max(Some(end));
        self.waiting.push((at, key));
    }

    /// Ends the lease, unless a heartbeat came after `beat`, between the check and the verdict. Returns
    /// whether the lease ended.
    pub(super) fn expire(&mut self, entry: &mut Entry, beat: Moment) -> bool {
        entry.armed = None;
        let stands = entry.slot().expire(beat);
        self.expired += u64::from(stands);
        stands
    }

    fn deadline(&self, entry: &Entry) -> Moment {
        self.grace.deadline(entry.slot().last_heartbeat(), entry.lease().duration)
    }
}
