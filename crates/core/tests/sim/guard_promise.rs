//! P6: if all instances of a service stop sending heartbeats, they are held for one more lease. If any of them
//! has sent one recently, none is held.
//!
//! Both are checked only where the outcome is certain: no gap moved a deadline, and the actual times are at
//! least half a second (two, where a ledger reports late) away from the guard's limits.

use rollcall_model::{
    instance::Phase,
    lease::LeaseMode,
    view::{Member, View},
};

use crate::{Time, faults::FaultKind, world::World};

/// How late or early a replica may learn of a heartbeat.
const TOLERANCE: Time = 2_000;

/// The longest lease. A start gives every instance one lease.
const LONGEST_LEASE: Time = 20_000;

/// The actual times of a member of a view.
struct ActualTimes {
    last_possible_heartbeat: Time,
    lease: Time,
}

impl World {
    fn actual_times(&self, member: &Member) -> Option<ActualTimes> {
        let client = self.client_of(&member.facts.key)?;
        let leased = member.facts.lease.mode == LeaseMode::Heartbeat;
        leased.then(|| ActualTimes {
            last_possible_heartbeat: self.last_possible_heartbeat(client),
            lease: member.facts.lease.duration.as_millis() as Time,
        })
    }

    /// Whether every fault is one that all replicas observe in time.
    fn are_faults_observed_in_time(&self) -> bool {
        self.faults
            .iter()
            .all(|fault| matches!(fault.kind, FaultKind::MassExpiry | FaultKind::HeartbeatStorm))
    }

    /// A replica has expired an instance.
    pub fn check_expired(&mut self, replica: usize, client: usize, view: &View) {
        let Some(member) = view.by_label(&self.clients[client].key.name) else { return };
        if member.phase != Phase::Expired || !self.are_faults_observed_in_time() {
            return;
        }
        let Some(times) = self.actual_times(member) else { return };
        let others: Option<Vec<_>> =
            view.discoverable().map(|member| self.actual_times(member)).collect();
        let Some(others) = others.filter(|others| !others.is_empty()) else { return };
        let settled = self.replicas[replica].started + LONGEST_LEASE;
        let silent = |other: &ActualTimes| {
            other.last_possible_heartbeat > settled
                && other.last_possible_heartbeat + other.lease / 2 + TOLERANCE
                    < times.last_possible_heartbeat + times.lease
        };
        // A heartbeat whose write is in flight came too late for this verdict.
        let early = self.now + TOLERANCE < times.last_possible_heartbeat + 2 * times.lease
            && self.now + TOLERANCE / 4 >= times.last_possible_heartbeat + times.lease;
        if times.last_possible_heartbeat > settled && early && others.iter().all(silent) {
            let what = format!("P6: expired by r{replica} together with {} others", others.len());
            self.record_violation(Some(client), what);
        }
    }

    /// A replica has begun to hold an instance.
    pub fn check_held(&mut self, replica: usize, client: usize, view: &View) {
        let report = self.replicas[replica].directory.report();
        let Some(held) = report.held.as_ref().filter(|held| held.cluster.is_none()) else {
            return;
        };
        let hold = held.services.iter().find(|(key, _)| *key == view.key);
        let Some(member) = view.by_label(&self.clients[client].key.name) else { return };
        // An instance that joins a running hold is not checked: the hold began with the deadline of another
        // one.
        let deadline = member.heartbeats.last_heartbeat().after(member.facts.lease.duration);
        if !self.faults.is_empty() || hold.is_none_or(|(_, hold)| hold.since != deadline) {
            return;
        }
        let Some(times) = self.actual_times(member) else { return };
        if times.last_possible_heartbeat <= self.replicas[replica].started + LONGEST_LEASE {
            return;
        }
        let end = times.last_possible_heartbeat + times.lease;
        let has_recent_heartbeat = |other: &ActualTimes| {
            other.last_possible_heartbeat + other.lease / 2 > end + TOLERANCE / 4
                && other.last_possible_heartbeat + TOLERANCE / 4 < end
        };
        let others = view.discoverable().filter_map(|member| self.actual_times(member));
        if others.into_iter().any(|other| has_recent_heartbeat(&other)) {
            self.record_violation(
                Some(client),
                format!("P6: held by r{replica}, although another instance has a recent heartbeat"),
            );
        }
    }
}
