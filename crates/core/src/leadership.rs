//! Who writes: one replica leads, and for a bounded time only.
//!
//! Owns: opening and closing the outbox as this replica's tenure begins and ends. Everybody
//! judges; only the leader writes status, evicts and announces. Does not own: the election
//! (`cluster::election`), which tells by [`Fact::Leadership`](super::fact::Fact::Leadership).

use std::sync::Arc;

use crate::{
    catalog::Catalog,
    fact::{Announcement, Duty, Version},
    lease::{Moment, Wall},
};

/// Who leads, as this replica knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The identity of the leader, if there is one.
    pub leader: Option<Arc<str>>,
    /// Since when, as the leader itself has written it.
    pub since: Option<Wall>,
    /// Up to when this replica may write as the leader. In the past when it does not lead.
    pub tenure: Moment,
}

impl Leadership {
    /// Whether this replica itself leads.
    #[must_use]
    pub fn is_own(&self, now: Moment) -> bool {
        now < self.tenure
    }
}

impl Catalog {
    /// A tenure that ended is over here too, whether or not the election said so: it may be
    /// stuck, or this process may have been stopped.
    pub(super) fn follow_tenure(&mut self, now: Moment) {
        let leads = self.leadership.is_own(now);
        if leads && !self.outbox.is_open() {
            self.take_office(now);
        } else if !leads && self.outbox.is_open() {
            self.outbox.close();
        }
    }

    /// Whatever the leader before left undone is done now. Costs one look at every instance.
    fn take_office(&mut self, now: Moment) {
        self.outbox.open();
        // In order, so that the same facts always lead to the same duties.
        let mut keys: Vec<_> = self.entries.keys().cloned().collect();
        keys.sort_unstable();
        for key in &keys {
            let Some(entry) = self.entries.get(key) else { continue };
            let instance = entry.instance();
            self.outbox.consider(key.clone());
            self.outbox.rotate(entry.slot());
            if entry.slot().evict_at().is_some_and(|at| at <= now) {
                self.outbox.evict(key.clone());
            }
            if let Some(word) = instance.unknown_health.clone() {
                let what = Announcement::UnknownHealth { word };
                self.outbox.announce(Duty::Announce { on: Version::of(instance), what });
            }
        }
        self.announce_all_unreadable();
    }
}
