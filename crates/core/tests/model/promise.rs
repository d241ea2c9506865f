//! What was promised, and whether it is kept. As in the simulation (tests/sim/check.rs), for few.
//!
//! **P1** Whoever beats in an unbroken chain, each beat answered 200 or stored within the lease of the one
//! before, is discoverable by every replica. After a break: by the one that answered at once, by another
//! from when it has seen the version that was stored. **P3** Nothing is evicted within the lease of
//! an acknowledged beat, and nothing that was evicted is answered 200.
//!
//! Two more hold in some scenes only, which say so. **Late**: whom one replica answers 200 without a
//! write, no other has given up. **P2**: the dead leave in time.

use rollcall_core::slot::Source;
use rollcall_model::{
    instance::{Instance, InstanceKey},
    lease::{Lease, millis},
};

use crate::{
    Time,
    world::{INSTANCES, REPLICAS, World, name},
};

/// The dead are gone this long after their lease.
const LATE: Time = 2_000;

/// Which of those that do not hold everywhere are asserted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asserts {
    pub late: bool,
    pub leaving: bool,
}

/// What one instance was promised.
#[derive(Clone, Debug, Default)]
pub struct Promised {
    /// Not deleted until then.
    acknowledged: Time,
    /// By replica: discoverable until then.
    shown: [Time; REPLICAS],
    /// By replica: the same, from when it has seen this version.
    pending: [Option<(u64, Time)>; REPLICAS],
    /// The last thing that any replica may count as a beat.
    touched: Time,
    pub evicted: bool,
}

impl Promised {
    /// Registered at the beginning, which is a stored beat.
    pub fn new(lease: Lease) -> Self {
        let end = millis(lease.duration);
        Self { acknowledged: end, shown: [end; REPLICAS], ..Self::default() }
    }
}

impl World {
    fn violated(&mut self, what: &'static str, about: usize, replica: usize) {
        if self.broken.is_none() {
            self.note(|| format!("    BROKEN: {what}: {}, by r{replica}", name(about)));
            self.broken = Some(what);
        }
    }

    pub fn touch(&mut self, instance: usize) {
        self.promised[instance].touched = self.time;
    }

    /// A beat is answered 200 from memory.
    pub fn promise(&mut self, instance: usize, witness: usize, record: &Instance) {
        let (now, end) = (self.time, self.time + millis(record.lease.duration));
        if self.promised[instance].evicted {
            return self.violated("P3", instance, witness);
        }
        if self.asserts.late {
            self.check_late(instance, witness);
        }
        let promised = &mut self.promised[instance];
        promised.acknowledged = promised.acknowledged.max(end);
        for (replica, shown) in promised.shown.iter_mut().enumerate() {
            if replica == witness || now <= *shown {
                *shown = end.max(*shown);
            }
        }
    }

    fn check_late(&mut self, instance: usize, witness: usize) {
        for other in (0..REPLICAS).filter(|other| *other != witness) {
            let one = &self.replicas[other];
            if one.up && one.directory.is_synced() && !self.is_discoverable(other, instance) {
                self.violated("Late", instance, other);
            }
        }
    }

    /// A beat that arrived at `from` is stored, and its client knows it now.
    pub fn promise_stored(
        &mut self,
        instance: usize,
        witness: Option<usize>,
        from: Time,
        stored: &Instance,
    ) {
        let (now, end) = (self.time, from + millis(stored.lease.duration));
        let promised = &mut self.promised[instance];
        promised.acknowledged = promised.acknowledged.max(end);
        for (replica, shown) in promised.shown.iter_mut().enumerate() {
            if witness == Some(replica) || now <= *shown {
                *shown = end.max(*shown);
            } else {
                promised.pending[replica] = Some((stored.resource_version, end));
            }
        }
        (0..REPLICAS).for_each(|replica| self.check(replica));
    }

    /// A process begins: so far it has promised nothing.
    pub fn forget_promises(&mut self, replica: usize) {
        for promised in &mut self.promised {
            promised.pending[replica] = None;
        }
    }

    /// A process has listed, and has given a lease to whoever is not stored as expired.
    pub fn promise_newcomer(&mut self, replica: usize) {
        for instance in 0..INSTANCES {
            let slot = self.slot(replica, instance);
            let alive = slot.is_some_and(|slot| !slot.record().is_stored_expired());
            let promised = &mut self.promised[instance];
            let longest = promised.shown.iter().copied().max().unwrap_or(0);
            promised.shown[replica] = if alive { longest } else { 0 };
        }
        self.check(replica);
    }

    /// An object has been evicted.
    pub fn evicted(&mut self, key: &InstanceKey) {
        for instance in 0..INSTANCES {
            if crate::world::key(instance) == *key {
                if self.promised[instance].acknowledged >= self.time {
                    self.violated("P3", instance, 0);
                }
                let touched = self.promised[instance].touched;
                self.promised[instance] =
                    Promised { touched, evicted: true, ..Promised::default() };
            }
        }
    }

    /// What a replica shows now.
    pub fn check(&mut self, replica: usize) {
        if !self.replicas[replica].up || !self.replicas[replica].directory.is_synced() {
            return;
        }
        for instance in 0..INSTANCES {
            let slot = self.slot(replica, instance);
            let version = slot.as_ref().map_or(0, |slot| slot.record().resource_version);
            if let Some(slot) = slot.filter(|slot| slot.source() != Source::Ledger) {
                let one = &mut self.replicas[replica];
                one.first_hand[instance] = slot.lease_end(self.lease.duration).0 - one.offset;
            }
            let discoverable = self.is_discoverable(replica, instance);
            let (now, lease) = (self.time, millis(self.lease.duration));
            let promised = &mut self.promised[instance];
            let told = promised.pending[replica].take_if(|(told, _)| *told <= version);
            let shown = &mut promised.shown[replica];
            *shown = told.map_or(*shown, |(_, end)| end.max(*shown));
            if !discoverable && *shown >= now {
                self.violated("P1", instance, replica);
            } else if discoverable && self.asserts.leaving && now > promised.touched + lease + LATE
            {
                self.violated("P2", instance, replica);
            }
        }
    }
}
