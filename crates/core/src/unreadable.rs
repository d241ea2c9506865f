//! Unreadable objects: not discoverable, counted, and announced.
//!
//! Owns: which objects they are, and that each reason is announced once, however often the object changes.
//! Does not own: what makes an object unreadable (`kubernetes::convert` in the server).

use std::{collections::HashMap, sync::Arc};

use rollcall_model::instance::InstanceKey;

use crate::fact::{Announcement, Version};

/// Maximum number of objects that are remembered and announced. A larger number indicates a fault in the
/// CRD, which the log shows.
const MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// By name: the version last received, and why it cannot be read.
    objects: HashMap<InstanceKey, (Version, Arc<str>)>,
}

impl Unreadable {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Records an unreadable object. Returns the announcement, if the reason is new.
    pub(super) fn insert(&mut self, on: &Version, reason: Arc<str>) -> Option<Announcement> {
        let same = |known: &(Version, Arc<str>)| known.0.uid == on.uid && known.1 == reason;
        if self.objects.get(&on.key).is_some_and(same) || self.objects.len() >= MAX {
            return None;
        }
        self.objects.insert(on.key.clone(), (on.clone(), reason.clone()));
        Some(Announcement::Unreadable { reason })
    }

    /// The object can be read, or is gone.
    pub(super) fn remove(&mut self, key: &InstanceKey) {
        self.objects.remove(key);
    }

    /// A list begins. It determines which objects are unreadable.
    pub(super) fn clear(&mut self) {
        self.objects.clear();
    }

    /// All of them, because the former leader may not have announced them.
    pub(super) fn announcements(&self) -> impl Iterator<Item = (Version, Announcement)> {
        let announce = |(on, reason): &(Version, Arc<str>)| {
            (on.clone(), Announcement::Unreadable { reason: reason.clone() })
        };
        self.objects.values().map(announce)
    }
}
