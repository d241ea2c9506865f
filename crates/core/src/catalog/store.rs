//! The store: the effects of lists and of answers to writes, also after the store has gone back.
//!
//! Owns: the order in which records are replaced. Does not own: what proves a step back (`history`).

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rollcall_model::{
    instance::Instance,
    lease::{Moment, Now},
};

use super::Catalog;
use crate::{
    fact::{Announcement, StorePosition, Version},
    history::Proof,
    rules::Rules,
    slot::Source,
};

impl<R: Rules> Catalog<R> {
    pub(super) fn relist(&mut self, instances: &[Arc<Instance>], index: u64, now: Now) {
        if let Some(proof) =
            self.contradiction(instances, index).filter(|_| R::STEPS_BACK_ARE_NOTICED)
        {
            // It is not known how old the objects are that this replica wrote since then, so the next list
            // decides.
            return self.apply_proof(Some(proof), now);
        }
        self.unreadable.clear();
        let listed: HashSet<Arc<str>> = instances.iter().map(|i| i.uid.clone()).collect();
        if self.history.listed() {
            self.instances.replace_all(instances, &listed, index, now);
            self.progress.index = index;
            self.give_back(now.moment, None);
        }
        self.instances.table.forget_deleted_before(&listed, index);
        for instance in instances {
            self.watched(instance, now);
        }
        self.instances.keep_only(&listed, index, now);
        self.advance(index);
        self.progress.synced = true;
    }

    /// Returns the proof that the store went back if a list contradicts what is known: a list contains
    /// everything that was stored up to its index. Returns `None` while a list of a new epoch is pending.
    pub(super) fn contradiction(&self, instances: &[Arc<Instance>], index: u64) -> Option<Proof> {
        if self.history.is_renewing() {
            return None;
        }
        let position = self.progress.index;
        if index < position {
            return Some(Proof::List { index, position });
        }
        instances.iter().find_map(|listed| {
            let known = self.instances.table.get(&listed.key)?.instance();
            let (version, before) = (listed.resource_version, known.resource_version);
            let is_older = listed.uid == known.uid && version < before && before <= index;
            // Compares only fields that do not depend on the CRD, because the CRD may have changed
            // together with its defaults.
            let is_other = version == before
                && (listed.uid != known.uid
                    || listed.generation != known.generation
                    || listed.heartbeat != known.heartbeat);
            let proof = || Proof::Object { key: listed.key.clone(), version, known: before };
            (is_older || is_other).then(proof)
        })
    }

    pub(super) fn watched(&mut self, instance: &Arc<Instance>, now: Now) {
        let value = instance.heartbeat.clone().filter(|_| instance.key == self.own);
        self.unreadable.remove(&instance.key);
        if !self.instances.table.is_deleted(&instance.uid) {
            self.instances.upsert(instance, Source::Annotation, self.progress.synced, now);
        }
        if let Some(lost) = value.and_then(|value| self.self_beats.observe(&value, now.moment)) {
            self.give_back(now.moment, Some(lost));
        }
        self.advance(instance.resource_version);
    }

    /// Applies the answer to a write, unless the watch is already past it.
    pub(super) fn written(
        &mut self,
        instance: &Arc<Instance>,
        by: Source,
        sent: StorePosition,
        now: Now,
    ) {
        let version = instance.resource_version;
        let is_older = version < sent.least && sent.epoch == self.history.epoch();
        let position = sent.least.saturating_sub(1);
        self.apply_proof(is_older.then_some(Proof::Write { version, position }), now);
        self.progress.newest = self.progress.newest.max(version);
        if self.history.is_renewing() {
            return self.instances.upsert_after_step_back(instance, by, self.progress.synced, now);
        }
        let known = self.instances.table.get(&instance.key);
        if let Some(entry) = known.filter(|entry| has_same_heartbeat(entry.instance(), instance)) {
            entry.slot().claim(by);
        }
        let overtaken = known.is_none() && instance.resource_version <= self.progress.index;
        if !overtaken && !self.instances.table.is_deleted(&instance.uid) {
            self.instances.upsert(instance, by, self.progress.synced, now);
        }
    }

    /// The watch has reached `index`.
    pub(super) fn advance(&mut self, index: u64) {
        self.progress.interrupted = None;
        self.progress.index = self.progress.index.max(index);
    }

    /// Gives every instance back the time during which heartbeats may have been missed.
    pub(super) fn give_back(&mut self, now: Moment, lost: Option<Duration>) {
        self.instances.leases.give_back(now, lost);
        self.instances.publish_grace();
    }
}

impl<R: Rules> Catalog<R> {
    /// Steps back if this replica has found a proof that the store went back, and the step back is new.
    pub(super) fn apply_proof(&mut self, proof: Option<Proof>, now: Now) {
        let epoch = self.history.epoch();
        if let Some(proof) = proof.filter(|_| self.history.is_new_step_back(epoch)) {
            self.step_back(epoch + 1, &proof, now);
        }
    }

    /// The store went back: everything known by version is invalid. All objects are listed again, every
    /// instance gets a whole lease, and until the list arrives no heartbeat is confirmed, no lease is
    /// judged, and nothing is written.
    pub(super) fn step_back(&mut self, epoch: u64, proof: &Proof, now: Now) {
        self.history.step_back(epoch, proof, now.moment);
        self.instances.step_back();
        self.progress.newest = 0;
        self.directory().newest.store(0, Ordering::SeqCst);
        if let Some(ledgers) = &mut self.ledgers {
            let heartbeats = self.instances.table.heartbeats_taken_here().collect();
            ledgers.begin_epoch(epoch, heartbeats);
            self.directory().fence.store(0, Ordering::SeqCst);
        }
        self.give_back(now.moment, None);
        if let Some(own) = self.instances.table.get(&self.own) {
            let on = Version::of(own.instance());
            let reason = proof.to_string().into();
            self.instances.outbox.announce(on, Announcement::StoreWentBack { reason });
        }
    }
}

/// Whether two versions of one incarnation have the same heartbeat annotation.
fn has_same_heartbeat(a: &Instance, b: &Instance) -> bool {
    a.uid == b.uid && a.heartbeat.is_some() && a.heartbeat == b.heartbeat
}
