//! Objects that cannot be read: not offered, counted, and told.
//!
//! Owns: which they are, and telling each reason once, however often the object changes. Does not
//! own: what makes an object unreadable (`cluster::convert`).

use std::{collections::HashMap, sync::Arc};

use crate::{
    catalog::Catalog,
    fact::{Announcement, Duty, Version},
    instance::InstanceKey,
    lease::Now,
};

/// More than this are not remembered, nor told: so many are a fault of the type's definition, which
/// the log shows.
const MAX: usize = 1024;

/// By name, the version last seen and why it cannot be read.
pub(super) type Unreadable = HashMap<InstanceKey, (Version, Arc<str>)>;

impl Catalog {
    /// What cannot be read is not offered any more: nobody knows what it says. A list would not
    /// bring it either.
    pub(super) fn cannot_read(&mut self, on: Version, reason: Arc<str>, now: Now) {
        self.remove(&on.key, &on.uid, now);
        let told = |known: &(Version, Arc<str>)| known.0.uid == on.uid && known.1 == reason;
        let news = !self.unreadable.get(&on.key).is_some_and(told);
        if news && self.unreadable.len() < MAX {
            self.announce_unreadable(on.clone(), reason.clone());
            self.unreadable.insert(on.key.clone(), (on, reason));
        }
    }

    /// A new leader tells what the one before may not have told.
    pub(super) fn announce_all_unreadable(&mut self) {
        for (on, reason) in self.unreadable.values().cloned().collect::<Vec<_>>() {
            self.announce_unreadable(on, reason);
        }
    }

    fn announce_unreadable(&mut self, on: Version, reason: Arc<str>) {
        let what = Announcement::Unreadable { reason };
        self.outbox.announce(Duty::Announce { on, what });
    }
}
