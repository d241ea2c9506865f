//! Judging: whose lease has ended, and what everybody is given back.
//!
//! Owns: lease timers and verdicts. An instance is judged dead when its deadline and the horizon lie
//! behind. Does not own: how far has been seen (`horizon`), and what a verdict leads to (`duties`).

use std::{sync::Arc, time::Duration};

use crate::{
    catalog::Catalog,
    instance::InstanceKey,
    lease::{Moment, Now},
    report::LastGap,
    timers::Alarm,
};

impl Catalog {
    /// Everybody gets back the time in which beats could not be heard; a whole lease where nobody knows
    /// how long it was.
    pub(super) fn give_back(&mut self, now: Moment, lost: Option<Duration>) {
        self.counts.gaps += 1;
        self.last_gap = Some(LastGap { ended: now, lost });
        match lost {
            Some(lost) => self.floors.raise(now, lost),
            None => self.floors.begin_anew(now),
        }
        self.floors_changed();
    }

    pub(super) fn floors_changed(&mut self) {
        self.directory.floors.store(Arc::new(self.floors.clone()));
    }

    /// Sets the lease timer, if the lease now ends sooner than the timer says.
    pub(super) fn arm(&mut self, key: &InstanceKey) {
        self.release_if_heard(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let lease = entry.instance().lease;
        if !lease.is_leased() || entry.slot().is_dead() {
            entry.armed = None;
            return;
        }
        let deadline = self.floors.deadline(entry.slot().last_beat(), lease.duration);
        if entry.armed.is_none_or(|armed| deadline < armed) {
            entry.armed = Some(deadline);
            self.timers.set(deadline, Alarm::Lease, key.clone());
        }
    }

    pub(super) fn judge(&mut self, now: Now) {
        if self.due.is_some() && self.reach > self.directory.horizon() {
            self.due = None;
            for (at, key) in self.waiting.drain(..) {
                self.timers.set(at, Alarm::Lease, key);
            }
        }
        while let Some((at, alarm, key)) = self.timers.pop_due(now.moment) {
            match alarm {
                Alarm::Lease => self.judge_one(at, key, now.moment),
                Alarm::Evict => self.evict_one(at, &key),
                Alarm::Retry => self.outbox.consider(key),
            }
        }
    }

    /// Judges one instance whose timer went off at `at`.
    fn judge_one(&mut self, at: Moment, key: InstanceKey, now: Moment) {
        let Some(entry) = self.entries.get(&key).filter(|entry| entry.armed == Some(at)) else {
            return;
        };
        let beat = entry.slot().last_beat();
        let deadline = self.floors.deadline(beat, entry.instance().lease.duration);
        if deadline >= now {
            // Floors give and never take, and a stroke is held once.
            if let Some(until) = self.hold_longer(&key, beat, deadline) {
                return self.arm_at(key, until, now);
            }
            self.release(&key);
            return self.arm_at(key, deadline, now);
        }
        if self.reach <= deadline {
            return self.wait_for_horizon(at, key, deadline);
        }
        match self.kept_until(&key, (beat, deadline)) {
            Some(until) if until >= now => self.arm_at(key, until, now),
            Some(until) if self.reach <= until => self.wait_for_horizon(at, key, until),
            _ => self.judge_dead(key, beat, now),
        }
    }

    fn arm_at(&mut self, key: InstanceKey, end: Moment, now: Moment) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let again = end.max(Moment(now.0 + 1));
        entry.armed = Some(again);
        self.timers.set(again, Alarm::Lease, key);
    }

    fn wait_for_horizon(&mut self, at: Moment, key: InstanceKey, end: Moment) {
        self.due = self.due.max(Some(end));
        self.waiting.push((at, key));
    }

    /// The lease has ended, unless a beat came between the look and the verdict.
    fn judge_dead(&mut self, key: InstanceKey, beat: Moment, now: Moment) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.armed = None;
        let (instance, slot) = (entry.instance().clone(), entry.slot().clone());
        if !slot.judge_dead(beat) {
            return self.arm(&key);
        }
        self.counts.expired += 1;
        self.release(&key);
        self.show(instance, slot);
        // Where it is stored as expired already, no write will follow that brings it here.
        self.consider_eviction(&key, now);
        self.outbox.consider(key);
    }
}
