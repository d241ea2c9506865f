//! The store: what a list and the answers to calls say, and what follows when it has gone back.
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
    fact::{Announcement, Sent, Version},
    history::Proof,
    rules::Rules,
    slot::Source,
};

impl<R: Rules> Catalog<R> {
    pub(super) fn relist(&mut self, instances: &[Arc<Instance>], index: u64, now: Now) {
        if let Some(proof) = self.contradiction(instances, index).filter(|_| R::STEPS_BACK_ARE_SEEN)
        {
            // Of what this replica wrote meanwhile it is not known whether it is older: the next list tells.
            return self.heed(Some(proof), now);
        }
        self.unreadable.clear();
        let listed: HashSet<Arc<str>> = instances.iter().map(|i| i.uid.clone()).collect();
        if self.history.listed() {
            self.instances.take_in_anew(instances, &listed, index, now);
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

    /// Whether a list contradicts what is known, which proves that the store went back: a list holds everything that was
    /// stored up to its index. Not while a list of a new epoch is awaited.
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
            // What does not depend on the definition of the type: that may have changed, and with it defaults.
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
        if let Some(lost) = value.and_then(|value| self.horizon.seen(&value, now.moment)) {
            self.give_back(now.moment, Some(lost));
        }
        self.advance(instance.resource_version);
    }

    /// The answer to a call: where the watch has gone past it already, the watch is right.
    pub(super) fn written(&mut self, instance: &Arc<Instance>, by: Source, sent: Sent, now: Now) {
        let version = instance.resource_version;
        let is_older = version < sent.least && sent.epoch == self.history.epoch();
        let position = sent.least.saturating_sub(1);
        self.heed(is_older.then_some(Proof::Write { version, position }), now);
        self.progress.newest = self.progress.newest.max(version);
        if self.history.is_renewing() {
            return self.instances.store_anew(instance, by, self.progress.synced, now);
        }
        let known = self.instances.table.get(&instance.key);
        if let Some(entry) = known.filter(|entry| is_same_beat(entry.instance(), instance)) {
            entry.slot().claim(by);
        }
        let overtaken = known.is_none() && instance.resource_version <= self.progress.index;
        if !overtaken && !self.instances.table.is_deleted(&instance.uid) {
            self.instances.upsert(instance, by, self.progress.synced, now);
        }
    }

    /// The watch has come so far.
    pub(super) fn advance(&mut self, index: u64) {
        self.progress.interrupted = None;
        self.progress.index = self.progress.index.max(index);
    }

    /// Every instance gets back the time in which heartbeats could not be heard.
    pub(super) fn give_back(&mut self, now: Moment, lost: Option<Duration>) {
        self.instances.leases.give_back(now, lost);
        self.instances.publish_grace();
    }
}

impl<R: Rules> Catalog<R> {
    /// Heeds a proof of this replica's own, if there is one and it is news.
    pub(super) fn heed(&mut self, proof: Option<Proof>, now: Now) {
        let epoch = self.history.epoch();
        if let Some(proof) = proof.filter(|_| self.history.is_news(epoch)) {
            self.step_back(epoch + 1, &proof, now);
        }
    }

    /// All that is known by version is worth nothing any more. Everything is listed anew, every instance has a lease, and
    /// nothing is promised, judged or written before.
    pub(super) fn step_back(&mut self, epoch: u64, proof: &Proof, now: Now) {
        self.history.step_back(epoch, proof, now.moment);
        self.instances.step_back();
        self.progress.newest = 0;
        self.directory().newest.store(0, Ordering::SeqCst);
        if let Some(ledgers) = &mut self.ledgers {
            let heartbeats = self.instances.table.witnessed().collect();
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

/// Whether two versions of one incarnation carry the same heartbeat.
fn is_same_beat(a: &Instance, b: &Instance) -> bool {
    a.uid == b.uid && a.heartbeat.is_some() && a.heartbeat == b.heartbeat
}
