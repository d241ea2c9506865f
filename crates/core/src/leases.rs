//! Leases: when each ends, and which have ended.
//!
//! Owns: lease timers, grace, and the leases that have ended and wait for the horizon. An instance is judged expired when
//! its deadline and the horizon lie behind. Does not own: how far has been seen (`horizon`), which instances are kept past
//! their lease (`guard`), and what a verdict leads to (`instances`).

use std::time::Duration;

use rollcall_model::{instance::InstanceKey, lease::Moment};

use crate::{
    grace::Grace,
    report::LastGap,
    table::{Entry, Table},
    timers::Timers,
};

/// When leases end.
#[derive(Debug, Default)]
pub(super) struct Leases {
    timers: Timers,
    grace: Grace,
    /// Whose leases have ended before the horizon could pass them, and when their timers went off.
    waiting: Vec<(Moment, InstanceKey)>,
    /// The latest deadline among them.
    due: Option<Moment>,
    last_gap: Option<LastGap>,
    gaps: u64,
    expired: u64,
}

/// What a look at an instance finds when its lease timer has gone off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The timer means nothing any more.
    Stale,
    /// Its last heartbeat was at `beat`, so that its lease ends at `deadline`: not before now.
    Runs { beat: Moment, deadline: Moment },
    /// It ended at `deadline`, which the horizon has not passed.
    Waits { deadline: Moment },
    /// It ended at `deadline`, and nothing can be heard of it any more that would count.
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

    /// How many leases wait for the horizon.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn last_gap(&self) -> Option<LastGap> {
        self.last_gap
    }

    /// Times that all instances were given back time.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Leases that ended.
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    /// When the next timer goes off.
    pub(super) fn next(&self) -> Option<Moment> {
        self.timers.peek()
    }

    /// Every instance gets back the time in which heartbeats could not be heard; a whole lease where it is not known how
    /// long that was.
    pub(super) fn give_back(&mut self, now: Moment, lost: Option<Duration>) {
        self.gaps += 1;
        self.last_gap = Some(LastGap { ended: now, lost });
        match lost {
            Some(lost) => self.grace.raise(now, lost),
            None => self.grace.begin_anew(now),
        }
    }

    /// Every instance has a whole lease from now on: of what was heard before nothing is known.
    pub(super) fn begin_anew(&mut self, now: Moment) {
        self.grace.begin_anew(now);
    }

    /// Every instance has a whole lease from `grace` on, because of replicas that fell silent, in place of what was said
    /// so before. Answers whether that is a change. Timers are set anew where deadlines come sooner by it.
    pub(super) fn set_silence_grace(
        &mut self,
        not_before: Option<Moment>,
        table: &mut Table,
    ) -> bool {
        let before = self.grace.held();
        if not_before == before {
            return false;
        }
        self.grace.hold(not_before);
        if not_before < before {
            table.entries_mut().for_each(|entry| self.arm(entry));
        }
        true
    }

    /// Sets the lease timer, if the lease now ends sooner than the timer says.
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

    /// Sets the lease timer for `end`, at the earliest a moment from now.
    pub(super) fn arm_at(&mut self, entry: &mut Entry, end: Moment, now: Moment) {
        let again = end.max(Moment(now.0 + 1));
        entry.armed = Some(again);
        self.timers.set(again, entry.instance().key.clone());
    }

    /// The horizon has moved on: the leases that waited for it are looked at again.
    pub(super) fn resume(&mut self) {
        self.due = None;
        for (at, key) in self.waiting.drain(..) {
            self.timers.set(at, key);
        }
    }

    /// Takes a timer whose time has come.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, InstanceKey)> {
        self.timers.pop_due(now)
    }

    /// Looks at an instance whose timer went off at `at`.
    pub(super) fn look(&self, entry: &Entry, at: Moment, now: Moment, horizon: Moment) -> Look {
        if entry.armed != Some(at) {
            return Look::Stale;
        }
        let (beat, deadline) = (entry.slot().last_heartbeat(), self.deadline(entry));
        match () {
            () if deadline >= now => Look::Runs { beat, deadline },
            () if horizon <= deadline => Look::Waits { deadline },
            () => Look::Ended { beat, deadline },
        }
    }

    /// A lease that ended at `end`, and whose timer went off at `at`, waits for the horizon.
    pub(super) fn wait(&mut self, at: Moment, key: InstanceKey, end: Moment) {
        self.due = self.due.max(Some(end));
        self.waiting.push((at, key));
    }

    /// The lease has ended, unless a heartbeat came since `beat`, between the look and the verdict. Answers whether it has.
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
