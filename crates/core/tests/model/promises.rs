//! The promises and their checks, as in the simulation (tests/sim/promises.rs), for two replicas and two
//! instances.
//!
//! **P1** An instance with an unbroken chain of heartbeats, each answered 200 or stored within the lease of the
//! one before, is discoverable on every replica. After a break, this holds at once on the replica that
//! answered, and on another one from when it has observed the stored version. **P3** No object is evicted
//! within the lease of an acknowledged heartbeat, and no heartbeat of an evicted object is answered 200.
//!
//! Two more promises hold only in scenes that enable them. **Late**: when one replica answers 200 without a
//! write, no other replica has expired the instance. **P2**: expired instances leave in time.

use rollcall_core::slot::Source;
use rollcall_model::{
    instance::{Instance, InstanceKey},
    lease::{Lease, millis},
};

use crate::{
    Time,
    world::{INSTANCES, REPLICAS, World, name},
};

/// Expired instances are no longer discoverable this long after the end of their lease.
const LATE: Time = 2_000;

/// The promises that are checked only in some scenes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtraPromises {
    pub late_heartbeats: bool,
    pub expiry_in_time: bool,
}

/// The promises to one instance.
#[derive(Clone, Debug, Default)]
pub struct InstancePromises {
    /// The object must not be deleted until then.
    acknowledged: Time,
    /// By replica: the instance must be discoverable until then.
    end_by_replica: [Time; REPLICAS],
    /// By replica: a version, and the end that applies once the replica has observed it.
    pending: [Option<(u64, Time)>; REPLICAS],
    /// The time of the last event that any replica may count as a heartbeat.
    last_possible_heartbeat: Time,
    pub evicted: bool,
}

impl InstancePromises {
    /// The promises after the registration, which is a stored heartbeat.
    pub fn new(lease: Lease) -> Self {
        let end = millis(lease.duration);
        Self { acknowledged: end, end_by_replica: [end; REPLICAS], ..Self::default() }
    }
}

impl World {
    fn record_violation(&mut self, what: &'static str, about: usize, replica: usize) {
        if self.broken.is_none() {
            self.log(|| format!("    BROKEN: {what}: {}, by r{replica}", name(about)));
            self.broken = Some(what);
        }
    }

    pub fn record_possible_heartbeat(&mut self, instance: usize) {
        self.promises[instance].last_possible_heartbeat = self.time;
    }

    /// A heartbeat is answered 200 from memory.
    pub fn promise(&mut self, instance: usize, answered_by: usize, record: &Instance) {
        let (now, end) = (self.time, self.time + millis(record.lease.duration));
        if self.promises[instance].evicted {
            return self.record_violation("P3", instance, answered_by);
        }
        if self.extra_promises.late_heartbeats {
            self.check_late(instance, answered_by);
        }
        let promises = &mut self.promises[instance];
        promises.acknowledged = promises.acknowledged.max(end);
        for (replica, end_here) in promises.end_by_replica.iter_mut().enumerate() {
            if replica == answered_by || now <= *end_here {
                *end_here = end.max(*end_here);
            }
        }
    }

    fn check_late(&mut self, instance: usize, answered_by: usize) {
        for other in (0..REPLICAS).filter(|other| *other != answered_by) {
            let process = &self.replicas[other];
            if process.up && process.directory.is_synced() && !self.is_discoverable(other, instance)
            {
                self.record_violation("Late", instance, other);
            }
        }
    }

    /// A heartbeat that arrived at `from` is stored, and its client knows it.
    pub fn promise_stored(
        &mut self,
        instance: usize,
        answered_by: Option<usize>,
        from: Time,
        stored: &Instance,
    ) {
        let (now, end) = (self.time, from + millis(stored.lease.duration));
        let promises = &mut self.promises[instance];
        promises.acknowledged = promises.acknowledged.max(end);
        for (replica, end_here) in promises.end_by_replica.iter_mut().enumerate() {
            if answered_by == Some(replica) || now <= *end_here {
                *end_here = end.max(*end_here);
            } else {
                promises.pending[replica] = Some((stored.resource_version, end));
            }
        }
        (0..REPLICAS).for_each(|replica| self.check(replica));
    }

    /// A process starts and has promised nothing yet.
    pub fn forget_promises(&mut self, replica: usize) {
        for promises in &mut self.promises {
            promises.pending[replica] = None;
        }
    }

    /// A process has listed, and has given one lease to each instance that is not stored as Expired.
    pub fn promise_after_first_list(&mut self, replica: usize) {
        for instance in 0..INSTANCES {
            let slot = self.slot(replica, instance);
            let live = slot.is_some_and(|slot| !slot.record().is_stored_expired());
            let promises = &mut self.promises[instance];
            let longest = promises.end_by_replica.iter().copied().max().unwrap_or(0);
            promises.end_by_replica[replica] = if live { longest } else { 0 };
        }
        self.check(replica);
    }

    /// An object was evicted.
    pub fn evicted(&mut self, key: &InstanceKey) {
        for instance in 0..INSTANCES {
            if crate::world::key(instance) == *key {
                if self.promises[instance].acknowledged >= self.time {
                    self.record_violation("P3", instance, 0);
                }
                let last_possible_heartbeat = self.promises[instance].last_possible_heartbeat;
                self.promises[instance] = InstancePromises {
                    last_possible_heartbeat,
                    evicted: true,
                    ..InstancePromises::default()
                };
            }
        }
    }

    /// Checks what a replica publishes now.
    pub fn check(&mut self, replica: usize) {
        if !self.replicas[replica].up || !self.replicas[replica].directory.is_synced() {
            return;
        }
        for instance in 0..INSTANCES {
            let slot = self.slot(replica, instance);
            let version = slot.as_ref().map_or(0, |slot| slot.record().resource_version);
            if let Some(slot) = slot.filter(|slot| slot.source() != Source::Ledger) {
                let process = &mut self.replicas[replica];
                process.direct_lease_end[instance] =
                    slot.lease_end(self.lease.duration).0 - process.offset;
            }
            let discoverable = self.is_discoverable(replica, instance);
            let (now, lease) = (self.time, millis(self.lease.duration));
            let promises = &mut self.promises[instance];
            let activated =
                promises.pending[replica].take_if(|(activated, _)| *activated <= version);
            let end_here = &mut promises.end_by_replica[replica];
            *end_here = activated.map_or(*end_here, |(_, end)| end.max(*end_here));
            if !discoverable && *end_here >= now {
                self.record_violation("P1", instance, replica);
            } else if discoverable
                && self.extra_promises.expiry_in_time
                && now > promises.last_possible_heartbeat + lease + LATE
            {
                self.record_violation("P2", instance, replica);
            }
        }
    }
}
