//! Installations: other rollcalls that look after the same objects.
//!
//! Each status bears the installation that wrote it, and each replica's own instance the one that it belongs to. So one
//! object is enough to recognise another installation, also where scopes overlap only in part.
//!
//! Owns: which others there are, and whether their replicas are alive. Does not own: what a mark means here (`identity`),
//! and what is written (`outbox`) and evicted (`evictions`).

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
    identity::{Identity, RESPECT},
    report,
    table::{Entry, Table},
};

/// The service of which every replica is an instance.
const REPLICAS: &str = "rollcall";

/// Other installations, and their replicas, that are kept track of. Anyone who may write an object can make some up.
const MOST: usize = 64;

/// What is known of installations.
#[derive(Debug, Default)]
pub(super) struct Installations {
    identity: Arc<Identity>,
    /// The others, and their last signs of life.
    others: BTreeMap<Installation, Moment>,
    /// Whether there is one of which nothing was told yet.
    is_new: bool,
    /// Their replicas.
    replicas: HashMap<InstanceKey, Installation>,
    /// Whether one of these was alive when it was last looked.
    saw_replica: bool,
}

/// What has changed among other installations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// There is one that was not there before.
    pub(super) is_new: bool,
    /// The last of their replicas is not alive any more.
    pub(super) has_left: bool,
}

impl Installations {
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// This installation is called so. Answers whether that is news.
    pub(super) fn learn(&mut self, own: &Installation) -> bool {
        if self.identity.current() == Some(own) {
            return false;
        }
        self.identity = Arc::new(self.identity.renamed(own));
        let identity = self.identity.clone();
        self.others.retain(|other, _| identity.mark_of(other).is_foreign());
        self.replicas.retain(|_, other| identity.mark_of(other).is_foreign());
        true
    }

    /// A version of an instance is stored; `old` is the one before, if there was one. What was there before this replica
    /// began to watch is no sign of life.
    pub(super) fn see(
        &mut self,
        old: Option<&Instance>,
        new: &Instance,
        synced: bool,
        now: Moment,
    ) {
        let is_written = synced && old.is_none_or(|old| old.stored != new.stored);
        if let Some(other) = new.stored.installation.as_ref().filter(|_| is_written) {
            self.hear_of(other, now);
        }
        match new.installation.as_ref().filter(|_| *new.service == *REPLICAS) {
            Some(other) if self.identity.mark_of(other).is_foreign() => {
                if self.replicas.len() < MOST || self.replicas.contains_key(&new.key) {
                    self.replicas.insert(new.key.clone(), other.clone());
                }
            }
            _ => drop(self.replicas.remove(&new.key)),
        }
    }

    /// An instance is gone.
    pub(super) fn forget(&mut self, key: &InstanceKey) {
        self.replicas.remove(key);
    }

    /// Notices which replicas are alive, and forgets installations of which nothing was heard for long.
    pub(super) fn follow(&mut self, table: &Table, now: Moment) -> Change {
        let live: Vec<_> = self.live(table).cloned().collect();
        live.iter().for_each(|other| self.hear_of(other, now));
        let saw_replica = std::mem::replace(&mut self.saw_replica, !live.is_empty());
        self.others.retain(|_, seen| now.since(*seen) < RESPECT);
        Change { is_new: self.is_new, has_left: saw_replica && live.is_empty() }
    }

    /// The others are told of, or have to be told of.
    pub(super) fn set_told(&mut self, told: bool) {
        self.is_new = !told && !self.others.is_empty();
    }

    /// Whether a replica of another installation is alive.
    pub(super) fn sees_replica(&self, table: &Table) -> bool {
        self.live(table).next().is_some()
    }

    /// The others, oldest first; none where there are none.
    pub(super) fn report(&self) -> Option<report::Overlap> {
        let own = self.identity.current().cloned()?;
        let others: Vec<_> = self.others.keys().cloned().collect();
        (!others.is_empty()).then_some(report::Overlap { own, others })
    }

    fn hear_of(&mut self, other: &Installation, now: Moment) {
        let is_known = self.others.contains_key(other);
        if self.identity.mark_of(other).is_foreign() && (is_known || self.others.len() < MOST) {
            self.others.insert(other.clone(), now);
            self.is_new |= !is_known;
        }
    }

    fn live(&self, table: &Table) -> impl Iterator<Item = &Installation> {
        let is_live = |key: &InstanceKey| table.get(key).is_some_and(Entry::is_leased_and_live);
        self.replicas.iter().filter(move |(key, _)| is_live(key)).map(|(_, other)| other)
    }
}
