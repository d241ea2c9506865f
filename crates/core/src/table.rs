//! The table of known instances.
//!
//! Owns: the entry of each instance as it is stored and as readers see it, the indexes that lead to it, and
//! which incarnations this replica has deleted. Does not own: the effects of a change (`instances`).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rollcall_model::{
    instance::{Facts, Instance, InstanceKey},
    lease::{Lease, Moment, Wall},
    view::Member,
};

use crate::{
    duty_state::DutyState,
    identity::{ACTIVE_FOR, Author},
    slot::Slot,
};

/// The position of a member in its view: by label, then age, then name.
pub(super) type ViewPosition = (Arc<str>, Wall, Arc<str>);

#[derive(Debug)]
pub(super) struct Entry {
    instance: Arc<Instance>,
    /// Shared with the threads that take heartbeats.
    slot: Arc<Slot>,
    /// The instance as readers see it.
    pub(super) member: Arc<Member>,
    /// The moment of the current lease timer; other timers are obsolete.
    pub(super) armed: Option<Moment>,
    /// The facts under which it is in the index of endpoints; `None` while it is not.
    pub(super) indexed: Option<Arc<Facts>>,
    /// The state of the duties on this object.
    pub(super) duties: DutyState,
    /// Which installation wrote its status.
    author: Author,
    /// It is not evicted before this moment, because another installation wrote its status.
    pub(super) not_evicted_before: Option<Moment>,
}

impl Entry {
    /// An entry for a new incarnation.
    pub(super) fn new(instance: Arc<Instance>, slot: Arc<Slot>, author: Author) -> Self {
        let phase = instance.phase(slot.is_expired());
        let member = Arc::new(Member::new(instance.facts.clone(), slot.clone(), phase, false));
        let duties = DutyState::default();
        Self {
            instance,
            slot,
            member,
            armed: None,
            indexed: None,
            duties,
            author,
            not_evicted_before: None,
        }
    }

    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) fn author(&self) -> Author {
        self.author
    }

    /// Sets which installation wrote its status.
    pub(super) fn set_author(&mut self, author: Author, now: Moment) {
        if self.author.is_foreign() && !author.is_foreign() {
            self.not_evicted_before = Some(now.after(ACTIVE_FOR));
        }
        self.author = author;
    }

    pub(super) fn lease(&self) -> Lease {
        self.instance.lease
    }

    /// Whether it has a lease that has not ended. An object that is being deleted has none.
    pub(super) fn is_leased_and_live(&self) -> bool {
        self.lease().is_leased() && !self.instance.is_terminating() && !self.slot.is_expired()
    }

    /// Whether it counts in a mass expiry and can be held: it has a lease, and did not report that it is
    /// stopping.
    pub(super) fn is_guarded(&self) -> bool {
        let instance = &self.instance;
        instance.lease.is_leased() && !instance.is_terminating() && !instance.stopping
    }

    pub(super) fn position(&self) -> ViewPosition {
        (self.member.label.clone(), self.instance.created, self.instance.key.name.clone())
    }

    /// Updates the member. Returns whether that made a new one; a heartbeat alone does not.
    pub(super) fn show(&mut self, held: bool) -> bool {
        let phase = self.instance.phase(self.slot.is_expired());
        let (facts, shown) = (&self.instance.facts, &self.member);
        if Arc::ptr_eq(&shown.facts, facts) && (shown.phase, shown.held) == (phase, held) {
            return false;
        }
        self.member = Arc::new(Member::new(facts.clone(), self.slot.clone(), phase, held));
        true
    }
}

#[derive(Debug)]
pub(super) struct Table {
    /// Boxed, because the table allocates room for more entries than it has.
    entries: HashMap<InstanceKey, Box<Entry>>,
    /// Slots by their id in ledgers; `None` without ledgers.
    ids: Option<HashMap<u64, Arc<Slot>>>,
    /// How many instances have a lease of each length.
    lease_lengths: BTreeMap<Duration, usize>,
    /// Incarnations that this replica deleted, until the watch removes them.
    deleted: HashMap<Arc<str>, Deleted>,
    /// Incarnations that the watch has removed since the last round.
    removed: Vec<Arc<str>>,
}

/// An incarnation that this replica has deleted.
#[derive(Debug)]
struct Deleted {
    /// Its last known resourceVersion.
    version: u64,
    /// Whether a list contained it since: that list began before the deletion, and the next one will not
    /// contain it.
    was_listed: bool,
}

impl Table {
    /// An empty table. `with_ids`: instances can also be looked up by their id in ledgers.
    pub(super) fn new(with_ids: bool) -> Self {
        Self {
            entries: HashMap::new(),
            ids: with_ids.then(HashMap::new),
            lease_lengths: BTreeMap::new(),
            deleted: HashMap::new(),
            removed: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: &InstanceKey) -> Option<&Entry> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &InstanceKey) -> Option<&mut Entry> {
        self.entries.get_mut(key).map(AsMut::as_mut)
    }

    /// The entry of exactly this incarnation.
    pub(super) fn incarnation(&mut self, key: &InstanceKey, uid: &str) -> Option<&mut Entry> {
        self.get_mut(key).filter(|entry| *entry.instance.uid == *uid)
    }

    /// All entries, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(AsRef::as_ref)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().map(AsMut::as_mut)
    }

    /// The slot of the instance with this id in ledgers.
    pub(super) fn slot(&self, id: u64) -> Option<&Arc<Slot>> {
        self.ids.as_ref()?.get(&id)
    }

    /// The id in ledgers and the last heartbeat of each instance from which this replica itself has taken
    /// heartbeats.
    pub(super) fn heartbeats_taken_here(&self) -> impl Iterator<Item = (u64, Moment)> {
        let slots = self.entries().map(Entry::slot);
        let heartbeats = slots.map(|slot| (slot.id(), slot.taken_here()));
        heartbeats.filter(|(_, at)| *at > Moment::default())
    }

    pub(super) fn shortest_lease(&self) -> Option<Duration> {
        self.lease_lengths.keys().next().copied()
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        if let Some(ids) = &mut self.ids {
            ids.insert(entry.slot.id(), entry.slot.clone());
        }
        self.count(entry.lease(), true);
        self.entries.insert(entry.instance.key.clone(), Box::new(entry));
    }

    /// Replaces the record of an incarnation by a newer version.
    pub(super) fn replace(&mut self, instance: Arc<Instance>) -> Option<&mut Entry> {
        let (old, new) = (self.get(&instance.key)?.lease(), instance.lease);
        if old != new {
            self.count(old, false);
            self.count(new, true);
        }
        let entry = self.get_mut(&instance.key)?;
        entry.slot.replace_record(instance.clone());
        entry.instance = instance;
        Some(entry)
    }

    pub(super) fn remove(&mut self, key: &InstanceKey, uid: &str) -> Option<Box<Entry>> {
        self.incarnation(key, uid)?;
        let entry = self.entries.remove(key)?;
        if let Some(ids) = &mut self.ids {
            ids.remove(&entry.slot.id());
        }
        self.count(entry.lease(), false);
        Some(entry)
    }

    fn count(&mut self, lease: Lease, more: bool) {
        if !lease.is_leased() {
            return;
        }
        let count = self.lease_lengths.entry(lease.duration).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.lease_lengths.remove(&lease.duration);
        }
    }

    /// Records that this replica has deleted an incarnation: whatever the watch still delivers about it is
    /// old.
    pub(super) fn mark_deleted(&mut self, uid: Arc<str>, version: u64) {
        self.deleted.insert(uid, Deleted { version, was_listed: false });
    }

    pub(super) fn is_deleted(&self, uid: &str) -> bool {
        self.deleted.contains_key(uid)
    }

    /// Records that the watch has removed an incarnation.
    pub(super) fn forget_deleted(&mut self, uid: &str) {
        self.removed.extend(self.deleted.remove_entry(uid).map(|(uid, _)| uid));
    }

    /// A list as of `index` was applied. It may have begun before a deletion. The next list cannot have,
    /// so it also decides about objects that this replica considers deleted.
    pub(super) fn forget_deleted_before(&mut self, listed: &HashSet<Arc<str>>, index: u64) {
        let over = self.deleted.extract_if(|uid, deleted| {
            let is_older = deleted.version > index;
            let is_first =
                listed.contains(uid) && !std::mem::replace(&mut deleted.was_listed, true);
            !is_older && !is_first
        });
        self.removed.extend(over.map(|(uid, _)| uid));
    }

    /// The store went back: objects that this replica has deleted may exist again.
    pub(super) fn forget_all_deleted(&mut self) {
        self.removed.extend(self.deleted.drain().map(|(uid, _)| uid));
    }

    /// The incarnations that the watch has removed since the last call.
    pub(super) fn take_removed(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.removed)
    }
}
