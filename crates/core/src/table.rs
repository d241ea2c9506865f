//! The table of known instances.
//!
//! Owns: the entry of each, as it is stored and as it is shown, what leads to it, and which incarnations this replica has
//! deleted. Does not own: what follows from a change (`instances`).

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
    identity::{Mark, RESPECT},
    slot::Slot,
    task::Task,
};

/// Where a member stands in its view: by label, then age, then name.
pub(super) type Place = (Arc<str>, Wall, Arc<str>);

/// All that is known of one instance.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is stored.
    instance: Arc<Instance>,
    /// What is shared with the threads that take heartbeats.
    slot: Arc<Slot>,
    /// As it is shown.
    pub(super) member: Arc<Member>,
    /// The lease timer that counts; others are left-overs.
    pub(super) armed: Option<Moment>,
    /// The facts by which it is in the index of sockets; none while it is not.
    pub(super) indexed: Option<Arc<Facts>>,
    /// How far the duties on this object are.
    pub(super) task: Task,
    /// Which installation wrote its status.
    mark: Mark,
    /// Until when it is not evicted, since another installation wrote its status before.
    pub(super) respected: Option<Moment>,
}

impl Entry {
    /// Of an incarnation that was not known before.
    pub(super) fn new(instance: Arc<Instance>, slot: Arc<Slot>, mark: Mark) -> Self {
        let phase = instance.phase(slot.is_expired());
        let member = Arc::new(Member::new(instance.facts.clone(), slot.clone(), phase, false));
        let task = Task::default();
        Self { instance, slot, member, armed: None, indexed: None, task, mark, respected: None }
    }

    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Its status was written by this installation or another one.
    pub(super) fn set_mark(&mut self, mark: Mark, now: Moment) {
        if self.mark.is_foreign() && !mark.is_foreign() {
            self.respected = Some(now.after(RESPECT));
        }
        self.mark = mark;
    }

    pub(super) fn lease(&self) -> Lease {
        self.instance.lease
    }

    /// Whether a lease decides over its life, and has not ended. Of an object that is being deleted none does any more.
    pub(super) fn is_leased_and_live(&self) -> bool {
        self.lease().is_leased() && !self.instance.is_terminating() && !self.slot.is_expired()
    }

    /// Whether it counts where many fall silent together, and may be held then: its end was not announced.
    pub(super) fn is_guarded(&self) -> bool {
        let instance = &self.instance;
        instance.lease.is_leased() && !instance.is_terminating() && !instance.stopping
    }

    pub(super) fn place(&self) -> Place {
        (self.member.label.clone(), self.instance.created, self.instance.key.name.clone())
    }

    /// Brings the member in line with what is known now; whether that made a new one. A heartbeat alone does not.
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

/// Every known instance, by name.
#[derive(Debug)]
pub(super) struct Table {
    /// In boxes: the table has room for more than there are.
    entries: HashMap<InstanceKey, Box<Entry>>,
    /// By what ledgers call them; none where there are no ledgers.
    ids: Option<HashMap<u64, Arc<Slot>>>,
    /// How many instances have a lease of this length.
    lengths: BTreeMap<Duration, usize>,
    /// Incarnations that this replica deleted and the watch has not yet taken away.
    deleted: HashMap<Arc<str>, Deleted>,
    /// Those that it has taken away since the last round.
    taken_away: Vec<Arc<str>>,
}

/// An incarnation that this replica has deleted.
#[derive(Debug)]
struct Deleted {
    /// Its last version that was known.
    version: u64,
    /// Whether a list had it since: that list began before the deletion, and the next one will not have.
    was_listed: bool,
}

impl Table {
    /// An empty table. `with_ids`: instances are also looked up by what ledgers call them.
    pub(super) fn new(with_ids: bool) -> Self {
        Self {
            entries: HashMap::new(),
            ids: with_ids.then(HashMap::new),
            lengths: BTreeMap::new(),
            deleted: HashMap::new(),
            taken_away: Vec::new(),
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

    /// The entry of this incarnation and no other.
    pub(super) fn incarnation(&mut self, key: &InstanceKey, uid: &str) -> Option<&mut Entry> {
        self.get_mut(key).filter(|entry| *entry.instance.uid == *uid)
    }

    /// Every entry, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(AsRef::as_ref)
    }

    /// The same.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().map(AsMut::as_mut)
    }

    /// The slot of the instance that ledgers call so.
    pub(super) fn slot(&self, id: u64) -> Option<&Arc<Slot>> {
        self.ids.as_ref()?.get(&id)
    }

    /// What ledgers call each instance of which this replica has taken a heartbeat, and when the last one was.
    pub(super) fn witnessed(&self) -> impl Iterator<Item = (u64, Moment)> {
        let slots = self.entries().map(Entry::slot);
        let heartbeats = slots.map(|slot| (slot.id(), slot.witnessed()));
        heartbeats.filter(|(_, at)| *at > Moment::default())
    }

    /// The shortest lease of all.
    pub(super) fn shortest_lease(&self) -> Option<Duration> {
        self.lengths.keys().next().copied()
    }

    /// Puts a new entry in.
    pub(super) fn insert(&mut self, entry: Entry) {
        if let Some(ids) = &mut self.ids {
            ids.insert(entry.slot.id(), entry.slot.clone());
        }
        self.count(entry.lease(), true);
        self.entries.insert(entry.instance.key.clone(), Box::new(entry));
    }

    /// A newer version of the same incarnation is stored.
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

    /// Takes this incarnation out.
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
        let count = self.lengths.entry(lease.duration).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.lengths.remove(&lease.duration);
        }
    }

    /// This replica has deleted an incarnation: what the watch still says of it is old.
    pub(super) fn mark_deleted(&mut self, uid: Arc<str>, version: u64) {
        self.deleted.insert(uid, Deleted { version, was_listed: false });
    }

    pub(super) fn is_deleted(&self, uid: &str) -> bool {
        self.deleted.contains_key(uid)
    }

    /// The watch has taken an incarnation away.
    pub(super) fn forget_deleted(&mut self, uid: &str) {
        self.taken_away.extend(self.deleted.remove_entry(uid).map(|(uid, _)| uid));
    }

    /// A list as of `index` was taken in. It may have begun before a deletion; the one after that has not, and is the
    /// truth also about what this replica believes to have deleted.
    pub(super) fn forget_deleted_before(&mut self, listed: &HashSet<Arc<str>>, index: u64) {
        let over = self.deleted.extract_if(|uid, deleted| {
            let is_older = deleted.version > index;
            let is_first =
                listed.contains(uid) && !std::mem::replace(&mut deleted.was_listed, true);
            !is_older && !is_first
        });
        self.taken_away.extend(over.map(|(uid, _)| uid));
    }

    /// The store went back: what this replica has deleted may be there again.
    pub(super) fn forget_all_deleted(&mut self) {
        self.taken_away.extend(self.deleted.drain().map(|(uid, _)| uid));
    }

    /// The incarnations that the watch has taken away since this was last asked for.
    pub(super) fn take_taken_away(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.taken_away)
    }
}
