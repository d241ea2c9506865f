//! Publishing: what the catalog lets readers see, and the memory of the evicted.
//!
//! Owns: the order in which it is seen (views first, then the figures that speak of them). Does not
//! own: what is true (`catalog`), and where readers look (`directory`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    catalog::Catalog,
    directory::Grave,
    instance::{InstanceKey, ServiceKey},
    lease::{Moment, Now},
    view::View,
};

/// How long an eviction is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// And how many at most: ten minutes of evictions at their highest rate are 12,000.
const MAX_GRAVES: usize = 16_384;

impl Catalog {
    /// Lets readers see what changed: views first, then the figures that speak of them.
    pub(super) fn publish(&mut self, now: Now) {
        self.forget_revised();
        for key in std::mem::take(&mut self.changed) {
            if self.publish_service(key.clone()) {
                self.revised.insert(key);
            }
        }
        // That there is nobody is told for the first time.
        let begins = self.synced && !self.directory.is_synced();
        if begins || !self.revised.is_empty() {
            self.directory.serial.advance(now.wall);
            self.counts.changes += 1;
        }
        if **self.directory.leadership.load() != self.leadership {
            self.directory.leadership.store(Arc::new(self.leadership.clone()));
        }
        let report = self.report(now.moment);
        if **self.directory.report.load() != report {
            self.directory.report.store(Arc::new(report));
        }
        self.directory.index.store(self.index, Ordering::Release);
        self.directory.horizon.store(self.reach.0, Ordering::Release);
        self.directory.synced.store(self.synced, Ordering::Release);
    }

    /// Answers whether readers can see a difference: the view shows other facts, has come or is gone.
    fn publish_service(&mut self, key: ServiceKey) -> bool {
        let members = self.services.get(&key).into_iter().flat_map(|members| members.values());
        let members: Box<[_]> = members.cloned().collect();
        let (services, namespaces) =
            (self.directory.services.pin(), self.directory.namespaces.pin());
        if !members.is_empty() {
            let namespace = key.namespace.clone();
            let view = View::new(key.clone(), members);
            let old = services.get(&key);
            let view = Arc::new(if let Some(old) = old { view.after(old) } else { view });
            services.insert(key, view.clone());
            self.directory.bearers.replace(old.map(AsRef::as_ref), Some(&view));
            if old.is_none() {
                namespaces.update_or_insert(namespace, |services| services + 1, 1);
            }
            return old.is_none_or(|old| old.revision != view.revision);
        }
        self.services.remove(&key);
        let old = services.remove(&key);
        self.directory.bearers.replace(old.map(AsRef::as_ref), None);
        if old.is_some() {
            let left = namespaces.update(key.namespace.clone(), |services| services - 1);
            if left == Some(&0) {
                namespaces.remove(&key.namespace);
            }
        }
        old.is_some()
    }

    pub(super) fn dig(&mut self, key: &InstanceKey, reason: Arc<str>, now: Now) {
        let grave = Grave { at: now.moment, evicted: now.wall, reason };
        self.directory.graves.pin().insert(key.clone(), grave);
        self.graves.push_back((now.moment, key.clone()));
    }

    pub(super) fn forget(&mut self, now: Moment) {
        while let Some((at, key)) = self.graves.front() {
            if now.since(*at) < MEMORY && self.graves.len() <= MAX_GRAVES {
                break;
            }
            let graves = self.directory.graves.pin();
            if graves.get(key).is_some_and(|grave| grave.at == *at) {
                graves.remove(key);
            }
            self.graves.pop_front();
        }
    }
}
