//! Installations: other installations of rollcall that manage the same objects.
//!
//! Each status names the installation that wrote it, and each replica's own instance the installation that it
//! belongs to. So one object is enough to recognise another installation, even if the namespaces overlap only
//! partly.
//!
//! Owns: which other installations exist, and whether their replicas are live. Does not own: which
//! installation wrote a status (`identity`), and the effects on writes (`outbox`) and evictions
//! (`evictions`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rollcall_model::{
    installation::Installation,
    instance::{Instance, InstanceKey},
    lease::Moment,
};

use crate::{
    identity::{ACTIVE_FOR, Identity},
    report,
    table::{Entry, Table},
};

/// The service that every replica is an instance of.
const REPLICAS: &str = "rollcall";

/// Maximum number of other installations that are tracked, and of their replicas. The bound is necessary
/// because any client that may write an instance can make some up.
const MAX_TRACKED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Installations {
    identity: Arc<Identity>,
    /// Other installations, and when each was last active.
    others: BTreeMap<Installation, Moment>,
    /// Whether one of the other installations has not been announced yet.
    is_new: bool,
    /// The replicas of other installations.
    replicas: HashMap<InstanceKey, Installation>,
    /// Whether one of these replicas was live at the last check.
    had_live_replica: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) is_new: bool,
    /// The last of their replicas is no longer live.
    pub(super) has_left: bool,
}

impl Installations {
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Sets the name of this installation. Returns whether it is new.
    pub(super) fn set_own(&mut self, own: &Installation) -> bool {
        if self.identity.current() == Some(own) {
            return false;
        }
        self.identity = Arc::new(self.identity.renamed(own));
        let identity = self.identity.clone();
        self.others.retain(|other, _| identity.classify(other).is_foreign());
        self.replicas.retain(|_, other| identity.classify(other).is_foreign());
        true
    }

    /// Applies a stored version of an instance; `old` is the previous one, if any. Objects that existed
    /// before this replica began to watch do not show that another installation is active.
    pub(super) fn apply(
        &mut self,
        old: Option<&Instance>,
        new: &Instance,
        synced: bool,
        now: Moment,
    ) {
        let is_written = synced && old.is_none_or(|old| old.stored != new.stored);
        if let Some(other) = new.stored.installation.as_ref().filter(|_| is_written) {
            self.record_activity(other, now);
        }
        match new.installation.as_ref().filter(|_| *new.service == *REPLICAS) {
            Some(other) if self.identity.classify(other).is_foreign() => {
                if self.replicas.len() < MAX_TRACKED || self.replicas.contains_key(&new.key) {
                    self.replicas.insert(new.key.clone(), other.clone());
                }
            }
            _ => drop(self.replicas.remove(&new.key)),
        }
    }

    pub(super) fn remove(&mut self, key: &InstanceKey) {
        self.replicas.remove(key);
    }

    /// Updates which replicas are live, and drops installations that have not been active for a long time.
    pub(super) fn update(&mut self, table: &Table, now: Moment) -> Change {
        let live: Vec<_> = self.live(table).cloned().collect();
        live.iter().for_each(|other| self.record_activity(other, now));
        let had_live_replica = std::mem::replace(&mut self.had_live_replica, !live.is_empty());
        self.others.retain(|_, seen| now.since(*seen) < ACTIVE_FOR);
        Change { is_new: self.is_new, has_left: had_live_replica && live.is_empty() }
    }

    pub(super) fn set_announced(&mut self, announced: bool) {
        self.is_new = !announced && !self.others.is_empty();
    }

    /// Whether a replica of another installation is live.
    pub(super) fn has_live_replica(&self, table: &Table) -> bool {
        self.live(table).next().is_some()
    }

    /// Other installations, oldest first; `None` if there are none.
    pub(super) fn report(&self) -> Option<report::Overlap> {
        let own = self.identity.current().cloned()?;
        let others: Vec<_> = self.others.keys().cloned().collect();
        (!others.is_empty()).then_some(report::Overlap { own, others })
    }

    fn record_activity(&mut self, other: &Installation, now: Moment) {
        let is_known = self.others.contains_key(other);
        if self.identity.classify(other).is_foreign()
            && (is_known || self.others.len() < MAX_TRACKED)
        {
            self.others.insert(other.clone(), now);
            self.is_new |= !is_known;
        }
    }

    fn live(&self, table: &Table) -> impl Iterator<Item = &Installation> {
        let is_live = |key: &InstanceKey| table.get(key).is_some_and(Entry::is_leased_and_live);
        self.replicas.iter().filter(move |(key, _)| is_live(key)).map(|(_, other)| other)
    }
}
