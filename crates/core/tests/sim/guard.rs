//! P6: a service that falls silent as one is kept for one more lease, and one that somebody vouches for is not.
//!
//! Both are asked only where the truth leaves no doubt: no gap moved a deadline, and half a second (two,
//! where it is told late) lies between what was and what the guard may have thought.

use rollcall_model::{
    instance::Phase,
    lease::LeaseMode,
    view::{Member, View},
};

use crate::{Time, faults::Kind, world::World};

/// By how much a replica may know of a beat late, or early.
const DOUBT: Time = 2_000;

/// The longest lease, which a start gives to everybody.
const LONGEST: Time = 20_000;

/// What is known of a member of a view.
struct Known {
    touched: Time,
    lease: Time,
}

impl World {
    fn known(&self, member: &Member) -> Option<Known> {
        let client = self.client_of(&member.facts.key)?;
        let leased = member.facts.lease.mode == LeaseMode::Heartbeat;
        leased.then(|| Known {
            touched: self.touched(client),
            lease: member.facts.lease.duration.as_millis() as Time,
        })
    }

    /// Whether only deaths can have happened that are to be seen in time.
    fn is_fair(&self) -> bool {
        self.faults.iter().all(|fault| matches!(fault.kind, Kind::MassDeath | Kind::Storm))
    }

    /// A replica has just given an instance up.
    pub fn check_given_up(&mut self, replica: usize, client: usize, view: &View) {
        let Some(member) = view.by_label(&self.clients[client].key.name) else { return };
        if member.phase != Phase::Expired || !self.is_fair() {
            return;
        }
        let Some(one) = self.known(member) else { return };
        let others: Option<Vec<_>> = view.discoverable().map(|member| self.known(member)).collect();
        let Some(others) = others.filter(|others| !others.is_empty()) else { return };
        let settled = self.replicas[replica].started + LONGEST;
        let silent = |other: &Known| {
            other.touched > settled
                && other.touched + other.lease / 2 + DOUBT < one.touched + one.lease
        };
        // A beat that is being stored came too late for this verdict.
        let early = self.now + DOUBT < one.touched + 2 * one.lease
            && self.now + DOUBT / 4 >= one.touched + one.lease;
        if one.touched > settled && early && others.iter().all(silent) {
            let what = format!("P6: given up by r{replica} with {} others", others.len());
            self.violated(Some(client), what);
        }
    }

    /// A replica has just begun to hold an instance.
    pub fn check_held(&mut self, replica: usize, client: usize, view: &View) {
        let report = self.replicas[replica].directory.report();
        let Some(held) = report.held.as_ref().filter(|held| held.everybody.is_none()) else {
            return;
        };
        let hold = held.services.iter().find(|(key, _)| *key == view.key);
        let Some(member) = view.by_label(&self.clients[client].key.name) else { return };
        // Whoever joins a hold need not be asked: it began with another's deadline.
        let deadline = member.pulse.last_heartbeat().after(member.facts.lease.duration);
        if !self.faults.is_empty() || hold.is_none_or(|(_, hold)| hold.since != deadline) {
            return;
        }
        let Some(one) = self.known(member) else { return };
        if one.touched <= self.replicas[replica].started + LONGEST {
            return;
        }
        let end = one.touched + one.lease;
        let vouches = |other: &Known| {
            other.touched + other.lease / 2 > end + DOUBT / 4 && other.touched + DOUBT / 4 < end
        };
        let others = view.discoverable().filter_map(|member| self.known(member));
        if others.into_iter().any(|other| vouches(&other)) {
            self.violated(Some(client), format!("P6: held by r{replica}, though somebody vouches"));
        }
    }
}
