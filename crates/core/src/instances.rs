//! Instances: what follows, in one part, from a change of an instance in another.
//!
//! Owns: the parts that know instances, and the order in which they take a change. Does not own: how far this replica has
//! seen, and whether it leads (`catalog`).

use std::{collections::HashSet, marker::PhantomData, sync::Arc};

use rollcall_model::{
    installation::Installation,
    instance::{Instance, InstanceKey},
    lease::{Moment, Now},
};

use crate::{
    directory::Directory,
    evictions::Evictions,
    fact::{Announcement, Outcome, Version},
    guard::{Evidence, Guard},
    identity::Mark,
    installations::Installations,
    leases::{Leases, Look},
    outbox::Outbox,
    publication::Publication,
    rules::Rules,
    slot::{Slot, Source},
    table::{Entry, Table},
};

/// The parts that know instances.
#[derive(Debug)]
pub(super) struct Instances<R: Rules> {
    rules: PhantomData<R>,
    /// The one that stands for this replica.
    own: InstanceKey,
    /// Whether it has a ledger, in which the heartbeats that it takes are to be.
    tells: bool,
    pub(super) table: Table,
    pub(super) publication: Publication,
    pub(super) leases: Leases,
    pub(super) guard: Guard,
    pub(super) evictions: Evictions,
    pub(super) outbox: Outbox,
    pub(super) installations: Installations,
    /// Instances that a heartbeat brought back.
    pub(super) revived: u64,
    /// Heartbeats by a changed annotation.
    pub(super) annotation_beats: u64,
    /// Incarnations stored after the store went back, until a list of it comes.
    stored_anew: HashSet<Arc<str>>,
}

impl<R: Rules> Instances<R> {
    /// None known yet. `tells`: this replica has a ledger.
    pub(super) fn new(own: InstanceKey, directory: Arc<Directory>, tells: bool) -> Self {
        Self {
            rules: PhantomData,
            own,
            tells,
            table: Table::new(tells),
            publication: Publication::new(directory),
            leases: Leases::default(),
            guard: Guard::default(),
            evictions: Evictions::default(),
            outbox: Outbox::default(),
            installations: Installations::default(),
            revived: 0,
            annotation_beats: 0,
            stored_anew: HashSet::new(),
        }
    }

    /// A version of an instance is stored. `source` is the way by which a heartbeat came, if this brings one; `synced`:
    /// a first list was applied, so that what is new here is new.
    pub(super) fn upsert(
        &mut self,
        instance: &Arc<Instance>,
        source: Source,
        synced: bool,
        now: Now,
    ) {
        self.installations.see(
            self.table.get(&instance.key).map(|entry| &**entry.instance()),
            instance,
            synced,
            now.moment,
        );
        match self.table.get(&instance.key).map(|entry| entry.instance().clone()) {
            // The API server keeps the service of an object from changing; without that rule it is
            // as good as another object.
            Some(old) if old.uid == instance.uid && old.service == instance.service => {
                // The same version reads otherwise when the definition of the type has changed.
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
        let mark = self.installations.identity().mark(instance);
        let dead = instance.is_stored_expired() && !mark.is_foreign();
        let source = match source {
            _ if !synced => Source::Start,
            Source::Annotation => Source::Creation,
            own => own,
        };
        let slot = Arc::new(Slot::new(instance.clone(), now.moment, source, dead));
        let entry = Entry::new(instance.clone(), slot, mark);
        self.publication.enter(&entry);
        self.outbox.rotate(entry.slot());
        self.table.insert(entry);
        self.reconsider(&instance.key, now.moment);
        self.announce_unknown_health(instance, None);
    }

    fn update(&mut self, old: &Instance, instance: &Arc<Instance>, source: Source, now: Now) {
        let instance = Arc::new(Instance::clone(instance).sharing(old));
        let mark = self.installations.identity().mark(&instance);
        let Some(entry) = self.table.replace(instance.clone()) else { return };
        entry.set_mark(mark, now.moment);
        let slot = entry.slot();
        if instance.is_terminating() {
            // Nothing brings it back.
        } else if instance.heartbeat.is_some() && instance.heartbeat != old.heartbeat {
            let foreign = source == Source::Annotation && instance.key != self.own;
            self.annotation_beats += u64::from(foreign);
            self.revived += u64::from(slot.is_expired());
            slot.revive(now.moment, source);
        } else if starts_anew(old, &instance, slot) {
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
        let is_anothers = self.installations.identity().mark(instance) == Mark::Older;
        if let Some(word) = news.cloned().filter(|_| !is_anothers) {
            self.outbox.announce(Version::of(instance), Announcement::UnknownHealth { word });
        }
    }

    /// The store went back.
    pub(super) fn step_back(&mut self) {
        self.stored_anew.clear();
        self.table.forget_all_deleted();
    }

    /// This is stored since the store went back, and a list of it has not come yet: whatever was known is older.
    pub(super) fn store_anew(
        &mut self,
        instance: &Arc<Instance>,
        by: Source,
        synced: bool,
        now: Now,
    ) {
        let is_known = !self.stored_anew.insert(instance.uid.clone());
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

    /// A list, as of `index`, of a store that went back: what was known is replaced by it, whatever its version. The
    /// moments of heartbeats stay, and with them the leases that this replica has promised.
    pub(super) fn take_in_anew(
        &mut self,
        instances: &[Arc<Instance>],
        listed: &HashSet<Arc<str>>,
        index: u64,
        now: Now,
    ) {
        let anew = std::mem::take(&mut self.stored_anew);
        let is_newer =
            |known: &Instance| known.resource_version > index && anew.contains(&known.uid);
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

    /// A list as of `index` holds nothing else. What is newer was written by this replica meanwhile: the watch will bring it.
    pub(super) fn keep_only(&mut self, listed: &HashSet<Arc<str>>, index: u64, now: Now) {
        let is_missing =
            |known: &Instance| !listed.contains(&known.uid) && known.resource_version <= index;
        self.remove_all(is_missing, now);
    }

    /// Removes every instance that is so.
    fn remove_all(&mut self, is_gone: impl Fn(&Instance) -> bool, now: Now) {
        let gone = self.table.entries().map(Entry::instance).filter(|known| is_gone(known));
        let gone: Vec<_> = gone.map(|known| (known.key.clone(), known.uid.clone())).collect();
        for (key, uid) in gone {
            self.remove(&key, &uid, now);
        }
    }

    /// This installation is called so. What was taken over from another one, before that was known, is as if it had
    /// begun now.
    pub(super) fn learn_installation(&mut self, own: &Installation, now: Moment) {
        if !self.installations.learn(own) {
            return;
        }
        let identity = self.installations.identity().clone();
        self.publication.directory().installations.store(identity.clone());
        let mut begun = Vec::new();
        for entry in self.table.entries_mut() {
            let mark = identity.mark(entry.instance());
            entry.set_mark(mark, now);
            if mark.is_foreign() && entry.slot().is_carried_over() {
                entry.slot().revive(now, Source::Start);
                entry.slot().set_evict_at(None);
                begun.push(entry.instance().key.clone());
            }
        }
        for key in begun {
            self.reconsider(&key, now);
        }
    }

    /// Follows which other installations there are, and tells of a new one.
    pub(super) fn follow_installations(&mut self, now: Moment) {
        let change = self.installations.follow(&self.table, now);
        if change.is_new {
            self.announce_overlap();
        }
        if change.has_left {
            let left = self.table.entries().filter(|entry| entry.mark().is_foreign());
            left.for_each(|entry| self.outbox.consider(entry.instance().key.clone()));
        }
    }

    /// Tells of other installations, if there are any, on the instance that stands for this replica: as soon as that is
    /// there.
    pub(super) fn announce_overlap(&mut self) {
        let own = self.table.get(&self.own).map(|own| Version::of(own.instance()));
        self.installations.set_told(own.is_some());
        if let Some((on, overlap)) = own.zip(self.installations.report()) {
            let sentence = overlap.sentence().into();
            self.outbox.announce(on, Announcement::OtherInstallation { sentence });
        }
    }

    /// An incarnation is gone.
    pub(super) fn remove(&mut self, key: &InstanceKey, uid: &str, now: Now) {
        let Some(entry) = self.table.remove(key, uid) else { return };
        self.installations.forget(key);
        self.publication.leave(&entry);
        for key in self.publication.leave_sockets(&entry) {
            self.outbox.consider(key);
        }
        self.guard.release(key);
        if entry.task.is_deleted() {
            self.evictions.count();
        }
        if let Some(reason) = entry.task.eviction_reason() {
            self.evictions.record(self.publication.directory(), key, reason.clone(), now);
            let on = Version::of(entry.instance());
            self.outbox.announce(on, Announcement::Evicted { reason });
        }
    }

    /// This replica has deleted an incarnation.
    pub(super) fn mark_deleted(&mut self, key: &InstanceKey, uid: Arc<str>, now: Now) {
        let Some(entry) = self.table.incarnation(key, &uid) else { return };
        let version = entry.instance().resource_version;
        self.remove(key, &uid, now);
        self.publication.directory().removals.pin().insert(uid.clone(), ());
        self.table.mark_deleted(uid, version);
    }

    /// A duty on an instance was done, or could not be.
    pub(super) fn attempted(
        &mut self,
        key: &InstanceKey,
        uid: Arc<str>,
        outcome: &Outcome,
        now: Now,
    ) {
        if matches!(outcome, Outcome::Evicted) {
            self.evictions.count();
            // Already gone, where the watch was faster.
            return self.mark_deleted(key, uid, now);
        }
        let Some(entry) = self.table.incarnation(key, &uid) else { return };
        if let Some(again) = entry.task.attempted(outcome, now.moment) {
            self.outbox.retry(key.clone(), again);
        }
        self.outbox.consider(key.clone());
    }

    /// All that follows for an instance of which something has changed, or a heartbeat was heard.
    fn reconsider(&mut self, key: &InstanceKey, now: Moment) {
        let Some(entry) = self.table.get_mut(key) else { return };
        self.guard.release_if_heard(entry);
        self.publication.show(entry, self.guard.holds(key));
        for key in self.publication.index_sockets(entry) {
            self.outbox.consider(key);
        }
        self.leases.arm(entry);
        self.evictions.consider(entry, now);
        self.outbox.consider(key.clone());
    }

    /// A heartbeat that this replica took and could not store.
    pub(super) fn beat(&mut self, key: &InstanceKey, uid: &str, at: Moment, now: Now) {
        let entry = self.table.incarnation(key, uid);
        let Some(entry) = entry.filter(|entry| !entry.instance().is_terminating()) else { return };
        let slot = entry.slot();
        self.revived += u64::from(slot.is_expired());
        slot.revive_unwritten(at);
        if self.tells {
            self.publication.directory().touched.note(slot, at);
        }
        self.reconsider(key, now.moment);
    }

    /// A heartbeat that another replica took.
    pub(super) fn apply_remote_heartbeat(&mut self, id: u64, at: Moment, now: Now) {
        let Some(slot) = self.table.slot(id) else { return };
        if at <= slot.last_heartbeat() {
            return;
        }
        if !slot.is_expired() {
            slot.tell(at);
            if self.guard.is_active() {
                let key = slot.record().key.clone();
                self.release_if_heard(&key);
            }
            return;
        }
        let instance = slot.record();
        let deadline = self.leases.grace().deadline(at, instance.lease.duration);
        if instance.is_terminating() || deadline < now.moment {
            // It was over before it was heard of.
            return;
        }
        slot.revive(at, Source::Ledger);
        self.revived += 1;
        self.reconsider(&instance.key, now.moment);
    }

    /// Every instance has a whole lease from `grace` on, because of replicas that fell silent.
    pub(super) fn follow_not_before(&mut self, not_before: Option<Moment>) {
        if !self.leases.set_silence_grace(not_before, &mut self.table) {
            return;
        }
        self.publish_grace();
        for key in self.guard.held() {
            self.release_if_heard(&key);
        }
    }

    /// The grace changed: those that take heartbeats judge by them, too.
    pub(super) fn publish_grace(&self) {
        self.publication.directory().grace.store(Arc::new(self.leases.grace().clone()));
    }

    /// Judges the instances whose timers have gone off; the horizon is at `horizon`.
    pub(super) fn judge(&mut self, now: Moment, horizon: Moment) {
        if self.leases.due().is_some() && horizon > self.publication.directory().horizon() {
            self.leases.resume();
        }
        while let Some((at, key)) = self.leases.pop_due(now) {
            self.judge_one(at, key, now, horizon);
        }
    }

    /// Judges one instance whose timer went off at `at`.
    fn judge_one(&mut self, at: Moment, key: InstanceKey, now: Moment, horizon: Moment) {
        let Some(entry) = self.table.get_mut(&key) else { return };
        match self.leases.look(entry, at, now, horizon) {
            Look::Stale => {}
            // Grace give and never take, and a mass expiry is held once.
            Look::Runs { beat, deadline } => match self.guard.prolong(&key, beat, deadline) {
                Some(until) => self.leases.arm_at(entry, until, now),
                None => {
                    if self.guard.release(&key) {
                        self.publication.show(entry, false);
                    }
                    self.leases.arm_at(entry, deadline, now);
                }
            },
            Look::Waits { deadline } => self.leases.wait(at, key, deadline),
            Look::Ended { beat, deadline } => match self.kept_until(&key, beat, deadline) {
                Some(until) if until < now && horizon <= until => {
                    self.leases.wait(at, key, until);
                }
                until => self.end_lease(&key, beat, until.filter(|until| *until >= now), now),
            },
        }
    }

    /// The lease has ended, unless the instance is kept, or a heartbeat came between the look and the verdict.
    fn end_lease(&mut self, key: &InstanceKey, beat: Moment, kept: Option<Moment>, now: Moment) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if let Some(until) = kept {
            return self.leases.arm_at(entry, until, now);
        }
        if !self.leases.expire(entry, beat) {
            return self.leases.arm(entry);
        }
        self.guard.release(key);
        // Where it is stored as expired already, no write will follow that brings it here.
        self.reconsider(key, now);
    }

    /// Until when an instance is kept though its lease has ended at `deadline`; none when it is not.
    fn kept_until(&mut self, key: &InstanceKey, beat: Moment, deadline: Moment) -> Option<Moment> {
        if !R::GUARD {
            return None;
        }
        let entry = self.table.get(key).filter(|entry| entry.is_guarded())?;
        let grace = self.leases.grace();
        let evidence = Evidence { table: &self.table, publication: &self.publication, grace };
        let kept = self.guard.keep(entry, beat, deadline, &evidence)?;
        let Some(what) = kept.announcement else { return Some(kept.until) };
        let on = Version::of(entry.instance());
        if entry.mark() == Mark::Older {
            // The older installation tells of it.
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

    /// An instance is not held any more, if it has been heard of since.
    pub(super) fn release_if_heard(&mut self, key: &InstanceKey) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if self.guard.release_if_heard(entry) {
            self.publication.show(entry, false);
        }
    }
}

/// Whether a change of its lease gives an instance a first beat: new terms begin with a whole
/// lease, and a permanent instance is never dead.
fn starts_anew(old: &Instance, new: &Instance, slot: &Slot) -> bool {
    let terms = |instance: &Instance| (instance.lease.mode, instance.lease.duration);
    !new.lease.is_leased() || (!slot.is_expired() && terms(old) != terms(new))
}
