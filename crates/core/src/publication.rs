//! Publication: what readers see, and the order in which it is published.
//!
//! Owns: the members of each service, which services changed, and writing the directory. Views come first,
//! then the figures that describe them. Does not own: the instances (`table`), and lookups by readers
//! (`directory`).

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
    endpoints,
    leadership::Leadership,
    report::Report,
    table::{Entry, ViewPosition},
};

#[derive(Debug)]
pub(super) struct Publication {
    directory: Arc<Directory>,
    services: HashMap<ServiceKey, BTreeMap<ViewPosition, Arc<Member>>>,
    /// Services whose view is out of date.
    changed: HashSet<ServiceKey>,
    /// Services whose revision changed in the last round.
    revised: BTreeSet<ServiceKey>,
    changes: u64,
}

/// Figures that describe the published views.
pub(super) struct Figures<'a> {
    pub(super) leadership: &'a Leadership,
    pub(super) report: Report,
    pub(super) index: u64,
    /// The highest resourceVersion that this replica wrote itself and that readers can see.
    pub(super) newest: u64,
    /// Incarnations whose removal is covered by the index.
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

    pub(super) fn unpublished(&self) -> usize {
        self.changed.len()
    }

    /// Publications that changed what readers see.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The services whose revision the last publication changed, including services that appeared or
    /// vanished.
    pub(super) fn take_revised(&mut self) -> Vec<ServiceKey> {
        std::mem::take(&mut self.revised).into_iter().collect()
    }

    pub(super) fn members(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<Member>> {
        self.services.get(service).into_iter().flat_map(BTreeMap::values)
    }

    /// Adds an instance.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let key = &entry.instance().key;
        self.directory.recent_evictions.pin().remove(key);
        self.directory.slots.pin().insert(key.clone(), entry.slot().clone());
        self.put(entry);
    }

    /// Updates the member of an instance.
    pub(super) fn show(&mut self, entry: &mut Entry, held: bool) {
        if entry.show(held) {
            self.put(entry);
        }
    }

    /// Updates the index of endpoints. Returns the instances that now share an endpoint and did not before,
    /// and those that did and no longer do.
    pub(super) fn index_endpoints(&self, entry: &mut Entry) -> Vec<InstanceKey> {
        let member = &entry.member;
        let new = member.phase.is_discoverable().then(|| member.facts.clone());
        let old = std::mem::replace(&mut entry.indexed, new);
        match (old, &entry.indexed) {
            (None, None) => Vec::new(),
            (Some(old), Some(new)) if endpoints::are_same(&old, new) => Vec::new(),
            (old, new) => {
                let mut endpoints = self.directory.endpoints.write();
                let mut changed = old.map_or_else(Vec::new, |old| endpoints.remove(&old));
                changed.extend(new.iter().flat_map(|new| endpoints.add(new)));
                changed
            }
        }
    }

    /// Removes an instance from the index of endpoints. Returns the instances that no longer share one.
    pub(super) fn remove_endpoints(&self, entry: &Entry) -> Vec<InstanceKey> {
        let indexed = entry.indexed.as_ref();
        indexed.map_or_else(Vec::new, |facts| self.directory.endpoints.write().remove(facts))
    }

    /// Removes an instance.
    pub(super) fn leave(&mut self, entry: &Entry) {
        self.directory.slots.pin().remove(&entry.instance().key);
        let service = entry.instance().service_key();
        if let Some(members) = self.services.get_mut(&service) {
            members.remove(&entry.position());
        }
        self.changed.insert(service);
    }

    fn put(&mut self, entry: &Entry) {
        let service = entry.instance().service_key();
        let members = self.services.entry(service.clone()).or_default();
        members.insert(entry.position(), entry.member.clone());
        self.changed.insert(service);
    }

    /// Publishes the views of changed services. `synced`: a first list was applied.
    pub(super) fn publish(&mut self, now: Wall, synced: bool) {
        // Revised services that were not taken after the last round are dropped.
        self.revised.clear();
        for key in std::mem::take(&mut self.changed) {
            if self.publish_service(key.clone()) {
                self.revised.insert(key);
            }
        }
        // The first list counts as a change even if it is empty.
        let begins = synced && !self.directory.is_synced();
        if begins || !self.revised.is_empty() {
            self.directory.serial.advance(now);
            self.changes += 1;
        }
    }

    /// Publishes the figures, after the views.
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
        // Only after the index is published: a request that waits for a removal relies on the index to cover
        // it.
        let removals = directory.removals.pin();
        for uid in removed {
            removals.remove(&uid);
        }
        directory.horizon.store(horizon.0, Ordering::Release);
        directory.synced.store(synced, Ordering::Release);
    }

    /// Publishes the view of a service. Returns whether readers can see a difference: the view has other
    /// facts, is new or is gone.
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
