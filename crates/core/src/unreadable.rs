//! Objects that cannot be read: not discoverable, counted, and told.
//!
//! Owns: which they are, and telling each reason once, however often the object changes. Does not
//! own: what makes an object unreadable (`cluster::convert`).

use std::{collections::HashMap, sync::Arc};

use rollcall_model::instance::InstanceKey;

use crate::fact::{Announcement, Version};

/// More than this are not remembered, nor announced: so many are a fault of the type's definition, which
/// the log shows.
const MAX: usize = 1024;

/// The objects that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// By name, the version last seen and why it cannot be read.
    objects: HashMap<InstanceKey, (Version, Arc<str>)>,
}

impl Unreadable {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// An object cannot be read. Answers what is to be announced of it, if that is news.
    pub(super) fn insert(&mut self, on: &Version, reason: Arc<str>) -> Option<Announcement> {
        let same = |known: &(Version, Arc<str>)| known.0.uid == on.uid && known.1 == reason;
        if self.objects.get(&on.key).is_some_and(same) || self.objects.len() >= MAX {
            return None;
        }
        self.objects.insert(on.key.clone(), (on.clone(), reason.clone()));
        Some(Announcement::Unreadable { reason })
    }

    /// An object can be read, or is gone.
    pub(super) fn remove(&mut self, key: &InstanceKey) {
        self.objects.remove(key);
    }

    /// A list begins: it says which there are.
    pub(super) fn clear(&mut self) {
        self.objects.clear();
    }

    /// All of them: a new leader announces what the one before may not have announced.
    pub(super) fn announcements(&self) -> impl Iterator<Item = (Version, Announcement)> {
        let announce = |(on, reason): &(Version, Arc<str>)| {
            (on.clone(), Announcement::Unreadable { reason: reason.clone() })
        };
        self.objects.values().map(announce)
    }
}
