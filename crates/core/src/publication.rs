//! Publication: what readers see, and in which order.
//!
//! Owns: the members of each service, which services changed, and the directory as it is written. Views come first, then
//! the figures that speak of them. Does not own: what is true (`catalog`), and how readers look (`directory`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use rollcall_model::{
    instance::{InstanceKey, ServiceKey},
    lease::{Moment, Wall},
    view::{Member, View},
};

use crate::{
    directory::Directory,
    leadership::Leadership,
    report::Report,
    sockets,
    table::{Entry, Place},
};

/// What readers see.
#[derive(Debug)]
pub(super) struct Publication {
    directory: Arc<Directory>,
    services: HashMap<ServiceKey, BTreeMap<Place, Arc<Member>>>,
    /// Services whose view no longer shows the truth.
    changed: HashSet<ServiceKey>,
    /// Services that look different to readers since the last round.
    revised: BTreeSet<ServiceKey>,
    changes: u64,
}

/// Figures that speak of the published views.
pub(super) struct Figures<'a> {
    pub(super) leadership: &'a Leadership,
    pub(super) report: Report,
    /// The highest resourceVersion applied.
    pub(super) index: u64,
    /// The highest that is shown since this replica wrote it.
    pub(super) newest: u64,
    /// Incarnations whose removal the index covers.
    pub(super) removed: Vec<Arc<str>>,
    pub(super) horizon: Moment,
    pub(super) synced: bool,
}

impl Publication {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            services: HashMap::new(),
            changed: HashSet::new(),
            revised: BTreeSet::new(),
            changes: 0,
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// How many services have changed and are not yet published.
    pub(super) fn unpublished(&self) -> usize {
        self.changed.len()
    }

    /// Publications by which readers see something else.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The services whose revision the last publication changed, among them those that came or went.
    pub(super) fn take_revised(&mut self) -> Vec<ServiceKey> {
        std::mem::take(&mut self.revised).into_iter().collect()
    }

    /// The members of a service.
    pub(super) fn members(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<Member>> {
        self.services.get(service).into_iter().flat_map(BTreeMap::values)
    }

    /// An instance is known from now on.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let key = &entry.instance().key;
        self.directory.recent_evictions.pin().remove(key);
        self.directory.slots.pin().insert(key.clone(), entry.slot().clone());
        self.put(entry);
    }

    /// The member of an instance shows what is known of it now.
    pub(super) fn show(&mut self, entry: &mut Entry, held: bool) {
        if entry.show(held) {
            self.put(entry);
        }
    }

    /// Keeps the index of sockets in line with what an instance shows. Answers the instances that share an address from now
    /// on, and those that do so no longer.
    pub(super) fn index_sockets(&self, entry: &mut Entry) -> Vec<InstanceKey> {
        let member = &entry.member;
        let new = member.phase.is_discoverable().then(|| member.facts.clone());
        let old = std::mem::replace(&mut entry.indexed, new);
        match (old, &entry.indexed) {
            (None, None) => Vec::new(),
            (Some(old), Some(new)) if sockets::are_same(&old, new) => Vec::new(),
            (old, new) => {
                let mut sockets = self.directory.sockets.write();
                let mut changed = old.map_or_else(Vec::new, |old| sockets.remove(&old));
                changed.extend(new.iter().flat_map(|new| sockets.add(new)));
                changed
            }
        }
    }

    /// An instance is not known any more. Answers the instances that share no address any more.
    pub(super) fn leave_sockets(&self, entry: &Entry) -> Vec<InstanceKey> {
        let indexed = entry.indexed.as_ref();
        indexed.map_or_else(Vec::new, |facts| self.directory.sockets.write().remove(facts))
    }

    /// An instance is not known any more.
    pub(super) fn leave(&mut self, entry: &Entry) {
        self.directory.slots.pin().remove(&entry.instance().key);
        let service = entry.instance().service_key();
        if let Some(members) = self.services.get_mut(&service) {
            members.remove(&entry.place());
        }
        self.changed.insert(service);
    }

    fn put(&mut self, entry: &Entry) {
        let service = entry.instance().service_key();
        let members = self.services.entry(service.clone()).or_default();
        members.insert(entry.place(), entry.member.clone());
        self.changed.insert(service);
    }

    /// Lets readers see the views of what changed. `synced`: a first list was applied.
    pub(super) fn publish(&mut self, now: Wall, synced: bool) {
        // What was not taken of the last round is of no use any more.
        self.revised.clear();
        for key in std::mem::take(&mut self.changed) {
            if self.publish_service(key.clone()) {
                self.revised.insert(key);
            }
        }
        // That nothing is registered is news once: with the first list.
        let begins = synced && !self.directory.is_synced();
        if begins || !self.revised.is_empty() {
            self.directory.serial.advance(now);
            self.changes += 1;
        }
    }

    /// And then the figures.
    pub(super) fn publish_figures(&self, figures: Figures<'_>) {
        let Figures { leadership, report, index, newest, removed, horizon, synced } = figures;
        let epoch = report.epoch;
        let directory = &self.directory;
        if **directory.leadership.load() != *leadership {
            directory.leadership.store(Arc::new(leadership.clone()));
        }
        if **directory.report.load() != report {
            directory.report.store(Arc::new(report));
        }
        directory.index.store(index, Ordering::SeqCst);
        directory.epoch.store(epoch, Ordering::SeqCst);
        directory.raise_newest(newest);
        // Only now: a request that waits for a removal takes the index for one that covers it.
        let removals = directory.removals.pin();
        for uid in removed {
            removals.remove(&uid);
        }
        directory.horizon.store(horizon.0, Ordering::Release);
        directory.synced.store(synced, Ordering::Release);
    }

    /// Answers whether readers can see a difference: the view shows other facts, has come or is gone.
    fn publish_service(&mut self, key: ServiceKey) -> bool {
        let members: Box<[_]> = self.members(&key).cloned().collect();
        let (services, namespaces) =
            (self.directory.services.pin(), self.directory.namespaces.pin());
        if !members.is_empty() {
            let namespace = key.namespace.clone();
            let view = View::new(key.clone(), members);
            let old = services.get(&key);
            let view = Arc::new(if let Some(old) = old { view.after(old) } else { view });
            services.insert(key, view.clone());
            self.directory.addresses.replace(old.map(AsRef::as_ref), Some(&view));
            if old.is_none() {
                namespaces.update_or_insert(namespace, |services| services + 1, 1);
            }
            return old.is_none_or(|old| old.revision != view.revision);
        }
        self.services.remove(&key);
        let old = services.remove(&key);
        self.directory.addresses.replace(old.map(AsRef::as_ref), None);
        if old.is_some() {
            let left = namespaces.update(key.namespace.clone(), |services| services - 1);
            if left == Some(&0) {
                namespaces.remove(&key.namespace);
            }
        }
        old.is_some()
    }
}
