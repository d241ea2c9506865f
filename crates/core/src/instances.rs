//! Instances: the effects that a change of an instance has on the parts of the catalog.
//!
//! Owns: the parts that know instances, and the order in which they apply a change. Does not own: the
//! horizon, and whether this replica leads (`catalog`).

use std::{collections::HashSet, marker::PhantomData, sync::Arc};

use rollcall_model::{
    installation::Installation,
    instance::{Instance, InstanceKey},
    lease::{Moment, Now},
};

use crate::{
    directory::Directory,
    evictions::Evictions,
    fact::{Announcement, Version, WriteOutcome},
    guard::{Evidence, Guard},
    identity::Author,
    installations::Installations,
    leases::{LeaseState, Leases},
    outbox::Outbox,
    publication::Publication,
    rules::Rules,
    slot::{Slot, Source},
    table::{Entry, Table},
};

#[derive(Debug)]
pub(super) struct Instances<R: Rules> {
    rules: PhantomData<R>,
    /// The instance that represents this replica.
    own: InstanceKey,
    /// Whether this replica has a ledger, which must report the heartbeats that it takes.
    has_ledger: bool,
    pub(super) table: Table,
    pub(super) publication: Publication,
    pub(super) leases: Leases,
    pub(super) guard: Guard,
    pub(super) evictions: Evictions,
    pub(super) outbox: Outbox,
    pub(super) installations: Installations,
    /// Counts instances that a heartbeat revived.
    pub(super) revived: u64,
    /// Counts heartbeats by annotation.
    pub(super) annotation_heartbeats: u64,
    /// Incarnations that were stored after the store went back, until a new list arrives.
    stored_since_step_back: HashSet<Arc<str>>,
}

impl<R: Rules> Instances<R> {
    /// An empty set of instances. `has_ledger`: this replica has a ledger.
    pub(super) fn new(own: InstanceKey, directory: Arc<Directory>, has_ledger: bool) -> Self {
        Self {
            rules: PhantomData,
            own,
            has_ledger,
            table: Table::new(has_ledger),
            publication: Publication::new(directory),
            leases: Leases::default(),
            guard: Guard::default(),
            evictions: Evictions::default(),
            outbox: Outbox::default(),
            installations: Installations::default(),
            revived: 0,
            annotation_heartbeats: 0,
            stored_since_step_back: HashSet::new(),
        }
    }

    /// Applies a stored version of an instance. `source` says how the heartbeat was received, if this
    /// version contains one. `synced`: a first list was applied, so an instance that is new here is new in
    /// the store.
    pub(super) fn upsert(
        &mut self,
        instance: &Arc<Instance>,
        source: Source,
        synced: bool,
        now: Now,
    ) {
        self.installations.apply(
            self.table.get(&instance.key).map(|entry| &**entry.instance()),
            instance,
            synced,
            now.moment,
        );
        match self.table.get(&instance.key).map(|entry| entry.instance().clone()) {
            // A rule in the CRD makes the service immutable. Without that rule, an object with another
            // service is treated as another object.
            Some(old) if old.uid == instance.uid && old.service == instance.service => {
                // The same version decodes differently after the CRD has changed.
                let is_newer = instance.resource_version > old.resource_version
                    || (instance.resource_version == old.resource_version && *instance != old);
                if is_newer {
                    self.update(&old, instance, source, now);
                }
            }
            Some(old) if old.resource_version > instance.resource_version => {}
            Some(old) => {
                self.remove(&old.key, &old.uid, now);
                self.insert(instance, source, synced, now);
            }
            None => self.insert(instance, source, synced, now),
        }
    }

    fn insert(&mut self, instance: &Arc<Instance>, source: Source, synced: bool, now: Now) {
        let author = self.installations.identity().author(instance);
        let expired = instance.is_stored_expired() && !author.is_foreign();
        let source = match source {
            _ if !synced => Source::Start,
            Source::Annotation => Source::Creation,
            own => own,
        };
        let slot = Arc::new(Slot::new(instance.clone(), now.moment, source, expired));
        let entry = Entry::new(instance.clone(), slot, author);
        self.publication.enter(&entry);
        self.outbox.rotate(entry.slot());
        self.table.insert(entry);
        self.reconsider(&instance.key, now.moment);
        self.announce_unknown_health(instance, None);
    }

    fn update(&mut self, old: &Instance, instance: &Arc<Instance>, source: Source, now: Now) {
        let instance = Arc::new(Instance::clone(instance).sharing(old));
        let author = self.installations.identity().author(&instance);
        let Some(entry) = self.table.replace(instance.clone()) else { return };
        entry.set_author(author, now.moment);
        let slot = entry.slot();
        if instance.is_terminating() {
            // A heartbeat does not revive an object that is being deleted.
        } else if instance.heartbeat.is_some() && instance.heartbeat != old.heartbeat {
            let foreign = source == Source::Annotation && instance.key != self.own;
            self.annotation_heartbeats += u64::from(foreign);
            self.revived += u64::from(slot.is_expired());
            slot.revive(now.moment, source);
        } else if renews_terms(old, &instance, slot) {
            slot.revive(now.moment, Source::Terms);
        }
        if old.lease.evict_after != instance.lease.evict_after {
            slot.set_evict_at(None);
        }
        self.reconsider(&instance.key, now.moment);
        self.announce_unknown_health(&instance, Some(old));
    }

    fn announce_unknown_health(&mut self, instance: &Instance, old: Option<&Instance>) {
        let known = old.and_then(|old| old.unknown_health.as_ref());
        let news = instance.unknown_health.as_ref().filter(|word| Some(*word) != known);
        let is_anothers = self.installations.identity().author(instance) == Author::Older;
        if let Some(word) = news.cloned().filter(|_| !is_anothers) {
            self.outbox.announce(Version::of(instance), Announcement::UnknownHealth { word });
        }
    }

    /// The store went back.
    pub(super) fn step_back(&mut self) {
        self.stored_since_step_back.clear();
        self.table.forget_all_deleted();
    }

    /// Applies an object that was stored after the store went back, before a new list has arrived: everything
    /// known before is older.
    pub(super) fn upsert_after_step_back(
        &mut self,
        instance: &Arc<Instance>,
        by: Source,
        synced: bool,
        now: Now,
    ) {
        let is_known = !self.stored_since_step_back.insert(instance.uid.clone());
        match self.table.get(&instance.key).map(|entry| entry.instance().clone()) {
            Some(old) if old.uid == instance.uid && !is_known => {
                self.update(&old, instance, by, now);
            }
            Some(old) if old.uid != instance.uid => {
                self.remove(&old.key, &old.uid, now);
                self.insert(instance, by, synced, now);
            }
            _ => self.upsert(instance, by, synced, now),
        }
    }

    /// Applies a list as of `index` from a store that went back: it replaces everything known, regardless
    /// of versions. The moments of heartbeats are kept, and with them the leases that this replica has
    /// confirmed.
    pub(super) fn replace_all(
        &mut self,
        instances: &[Arc<Instance>],
        listed: &HashSet<Arc<str>>,
        index: u64,
        now: Now,
    ) {
        let stored_since = std::mem::take(&mut self.stored_since_step_back);
        let is_newer =
            |known: &Instance| known.resource_version > index && stored_since.contains(&known.uid);
        self.remove_all(|known| !listed.contains(&known.uid) && !is_newer(known), now);
        for instance in instances {
            let known = self.table.get(&instance.key).map(|entry| entry.instance().clone());
            let known = known.filter(|known| !is_newer(known));
            if let Some(old) = known.filter(|old| old != instance) {
                if old.uid == instance.uid && old.service == instance.service {
                    self.update(&old, instance, Source::Annotation, now);
                } else {
                    self.remove(&old.key, &old.uid, now);
                }
            }
        }
    }

    /// Removes instances that are not in a list as of `index`. Newer ones are kept: this replica wrote
    /// them itself, and the watch will deliver them.
    pub(super) fn keep_only(&mut self, listed: &HashSet<Arc<str>>, index: u64, now: Now) {
        let is_missing =
            |known: &Instance| !listed.contains(&known.uid) && known.resource_version <= index;
        self.remove_all(is_missing, now);
    }

    fn remove_all(&mut self, is_gone: impl Fn(&Instance) -> bool, now: Now) {
        let gone = self.table.entries().map(Entry::instance).filter(|known| is_gone(known));
        let gone: Vec<_> = gone.map(|known| (known.key.clone(), known.uid.clone())).collect();
        for (key, uid) in gone {
            self.remove(&key, &uid, now);
        }
    }

    /// Sets the name of this installation. An instance that was carried over as expired from another
    /// installation, before the name was known, gets a whole lease now.
    pub(super) fn set_installation(&mut self, own: &Installation, now: Moment) {
        if !self.installations.set_own(own) {
            return;
        }
        let identity = self.installations.identity().clone();
        self.publication.directory().installations.store(identity.clone());
        let mut begun = Vec::new();
        for entry in self.table.entries_mut() {
            let author = identity.author(entry.instance());
            entry.set_author(author, now);
            if author.is_foreign() && entry.slot().is_carried_over() {
                entry.slot().revive(now, Source::Start);
                entry.slot().set_evict_at(None);
                begun.push(entry.instance().key.clone());
            }
        }
        for key in begun {
            self.reconsider(&key, now);
        }
    }

    /// Updates which other installations exist, and announces a new one.
    pub(super) fn update_installations(&mut self, now: Moment) {
        let change = self.installations.update(&self.table, now);
        if change.is_new {
            self.announce_overlap();
        }
        if change.has_left {
            let left = self.table.entries().filter(|entry| entry.author().is_foreign());
            left.for_each(|entry| self.outbox.consider(entry.instance().key.clone()));
        }
    }

    /// Announces other installations, if there are any, on the instance that represents this replica, as
    /// soon as that instance exists.
    pub(super) fn announce_overlap(&mut self) {
        let own = self.table.get(&self.own).map(|own| Version::of(own.instance()));
        self.installations.set_announced(own.is_some());
        if let Some((on, overlap)) = own.zip(self.installations.report()) {
            let sentence = overlap.sentence().into();
            self.outbox.announce(on, Announcement::OtherInstallation { sentence });
        }
    }

    pub(super) fn remove(&mut self, key: &InstanceKey, uid: &str, now: Now) {
        let Some(entry) = self.table.remove(key, uid) else { return };
        self.installations.remove(key);
        self.publication.leave(&entry);
        for key in self.publication.remove_endpoints(&entry) {
            self.outbox.consider(key);
        }
        self.guard.release(key);
        if entry.duties.is_deleted() {
            self.evictions.count();
        }
        if let Some(reason) = entry.duties.eviction_reason() {
            self.evictions.record(self.publication.directory(), key, reason.clone(), now);
            let on = Version::of(entry.instance());
            self.outbox.announce(on, Announcement::Evicted { reason });
        }
    }

    pub(super) fn mark_deleted(&mut self, key: &InstanceKey, uid: Arc<str>, now: Now) {
        let Some(entry) = self.table.incarnation(key, &uid) else { return };
        let version = entry.instance().resource_version;
        self.remove(key, &uid, now);
        self.publication.directory().removals.pin().insert(uid.clone(), ());
        self.table.mark_deleted(uid, version);
    }

    pub(super) fn record_outcome(
        &mut self,
        key: &InstanceKey,
        uid: Arc<str>,
        outcome: &WriteOutcome,
        now: Now,
    ) {
        if matches!(outcome, WriteOutcome::Evicted) {
            self.evictions.count();
            // If the watch was faster, the object is already gone.
            return self.mark_deleted(key, uid, now);
        }
        let Some(entry) = self.table.incarnation(key, &uid) else { return };
        if let Some(again) = entry.duties.record_outcome(outcome, now.moment) {
            self.outbox.retry(key.clone(), again);
        }
        self.outbox.consider(key.clone());
    }

    /// Applies all effects of a changed instance or a heartbeat.
    fn reconsider(&mut self, key: &InstanceKey, now: Moment) {
        let Some(entry) = self.table.get_mut(key) else { return };
        self.guard.release_if_renewed(entry);
        self.publication.show(entry, self.guard.holds(key));
        for key in self.publication.index_endpoints(entry) {
            self.outbox.consider(key);
        }
        self.leases.arm(entry);
        self.evictions.consider(entry, now);
        self.outbox.consider(key.clone());
    }

    /// Applies a heartbeat that this replica took and could not store.
    pub(super) fn apply_unstored_heartbeat(
        &mut self,
        key: &InstanceKey,
        uid: &str,
        at: Moment,
        now: Now,
    ) {
        let entry = self.table.incarnation(key, uid);
        let Some(entry) = entry.filter(|entry| !entry.instance().is_terminating()) else { return };
        let slot = entry.slot();
        self.revived += u64::from(slot.is_expired());
        slot.revive_unwritten(at);
        if self.has_ledger {
            self.publication.directory().unreported.record(slot, at);
        }
        self.reconsider(key, now.moment);
    }

    pub(super) fn apply_remote_heartbeat(&mut self, id: u64, at: Moment, now: Now) {
        let Some(slot) = self.table.slot(id) else { return };
        if at <= slot.last_heartbeat() {
            return;
        }
        if !slot.is_expired() {
            slot.record_remote(at);
            if self.guard.is_active() {
                let key = slot.record().key.clone();
                self.release_if_renewed(&key);
            }
            return;
        }
        let instance = slot.record();
        let deadline = self.leases.grace().deadline(at, instance.lease.duration);
        if instance.is_terminating() || deadline < now.moment {
            // The lease that this heartbeat started had ended before the heartbeat was reported here.
            return;
        }
        slot.revive(at, Source::Ledger);
        self.revived += 1;
        self.reconsider(&instance.key, now.moment);
    }

    /// Gives every instance a whole lease from `not_before` on, because of silent replicas.
    pub(super) fn set_silence_grace(&mut self, not_before: Option<Moment>) {
        if !self.leases.set_silence_grace(not_before, &mut self.table) {
            return;
        }
        self.publish_grace();
        for key in self.guard.held() {
            self.release_if_renewed(&key);
        }
    }

    /// Publishes the grace, which heartbeat handlers use as well.
    pub(super) fn publish_grace(&self) {
        self.publication.directory().grace.store(Arc::new(self.leases.grace().clone()));
    }

    /// Judges the instances whose timers have fired.
    pub(super) fn judge(&mut self, now: Moment, horizon: Moment) {
        if self.leases.due().is_some() && horizon > self.publication.directory().horizon() {
            self.leases.resume();
        }
        while let Some((at, key)) = self.leases.pop_due(now) {
            self.judge_one(at, key, now, horizon);
        }
    }

    /// Judges one instance whose timer fired at `at`.
    fn judge_one(&mut self, at: Moment, key: InstanceKey, now: Moment, horizon: Moment) {
        let Some(entry) = self.table.get_mut(&key) else { return };
        match self.leases.inspect(entry, at, now, horizon) {
            LeaseState::Replaced => {}
            // Grace never shortens a hold, and one mass expiry is held only once.
            LeaseState::Running { beat, deadline } => {
                match self.guard.prolong(&key, beat, deadline) {
                    Some(until) => self.leases.arm_at(entry, until, now),
                    None => {
                        if self.guard.release(&key) {
                            self.publication.show(entry, false);
                        }
                        self.leases.arm_at(entry, deadline, now);
                    }
                }
            }
            LeaseState::Waiting { deadline } => self.leases.wait(at, key, deadline),
            LeaseState::Ended { beat, deadline } => match self.kept_until(&key, beat, deadline) {
                Some(until) if until < now && horizon <= until => {
                    self.leases.wait(at, key, until);
                }
                until => self.end_lease(&key, beat, until.filter(|until| *until >= now), now),
            },
        }
    }

    /// Ends the lease, unless the instance is held or a heartbeat came after the check.
    fn end_lease(&mut self, key: &InstanceKey, beat: Moment, kept: Option<Moment>, now: Moment) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if let Some(until) = kept {
            return self.leases.arm_at(entry, until, now);
        }
        if !self.leases.expire(entry, beat) {
            return self.leases.arm(entry);
        }
        self.guard.release(key);
        // If it is already stored as expired, no write of the status will follow that would apply the
        // effects.
        self.reconsider(key, now);
    }

    /// Until when an instance is held although its lease ended at `deadline`; `None` if it is not held.
    fn kept_until(&mut self, key: &InstanceKey, beat: Moment, deadline: Moment) -> Option<Moment> {
        if !R::GUARD {
            return None;
        }
        let entry = self.table.get(key).filter(|entry| entry.is_guarded())?;
        let grace = self.leases.grace();
        let evidence = Evidence { table: &self.table, publication: &self.publication, grace };
        let kept = self.guard.decide(entry, beat, deadline, &evidence)?;
        let Some(what) = kept.announcement else { return Some(kept.until) };
        let on = Version::of(entry.instance());
        if entry.author() == Author::Older {
            // The older installation announces it.
        } else if kept.begins {
            let own = self.table.get(&self.own);
            let own = own.filter(|_| matches!(what, Announcement::HeldAll { .. }));
            if let Some(own) = own.filter(|own| own.instance().key != *key) {
                self.outbox.announce(Version::of(own.instance()), what.clone());
            }
            self.outbox.announce(on, what);
        } else {
            self.outbox.announce_if_room(on, what);
        }
        if let Some(entry) = self.table.get_mut(key) {
            self.publication.show(entry, true);
        }
        Some(kept.until)
    }

    /// Releases an instance from its hold if a heartbeat has come since the hold began.
    pub(super) fn release_if_renewed(&mut self, key: &InstanceKey) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if self.guard.release_if_renewed(entry) {
            self.publication.show(entry, false);
        }
    }
}

/// Whether a changed lease counts as a heartbeat: new terms begin with a whole lease, and a permanent
/// instance never expires.
fn renews_terms(old: &Instance, new: &Instance, slot: &Slot) -> bool {
    let terms = |instance: &Instance| (instance.lease.mode, instance.lease.duration);
    !new.lease.is_leased() || (!slot.is_expired() && terms(old) != terms(new))
}
