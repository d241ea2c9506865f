//! The two watches of a replica, of instances and of ledgers. They report the changes in the server's log in
//! order, after the delays of the network. Owns: the positions in the log. Does not own: the meaning of the facts.

use std::{ops::Range, sync::Arc};

use rollcall_core::{fact::Fact, ledger::Ledger};
use rollcall_model::instance::Instance;

use crate::{
    api::{self, Api},
    faults::{Fault, FaultKind},
    mutations::Mutation,
    world::{Event, World},
};

/// The resource of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Instances,
    Ledgers,
}

pub const RESOURCES: [Resource; 2] = [Resource::Instances, Resource::Ledgers];

#[derive(Debug)]
enum Listing {
    Instances(Vec<Arc<Instance>>, u64),
    Ledgers(Vec<Arc<Ledger>>),
}

#[derive(Debug, Default)]
pub struct Watch {
    /// How much of the log has been delivered; `None` before the first list.
    position: Option<usize>,
    /// Changes up to this version are skipped: the watch resumes from there although the store has stepped
    /// back.
    after: u64,
    /// A list on its way, and the length of the log at that time.
    listing: Option<(Listing, usize)>,
    /// How many faults block it.
    blocked: u32,
    lagging: u32,
    /// Whether the watch repeats earlier changes after the next list.
    replays: bool,
    /// Whether an event is queued for it. Events of an earlier epoch are ignored.
    scheduled: bool,
    epoch: u64,
}

impl World {
    pub fn schedule_watches(&mut self) {
        for replica in 0..self.replicas.len() {
            if self.mutation == Mutation::OwnInstanceOvertakes {
                self.deliver_own(replica);
            }
            for resource in self.resources() {
                let lag = self.lag(replica, *resource);
                self.schedule_watch(replica, *resource, lag);
            }
        }
    }

    /// A single replica has no ledgers to watch.
    fn resources(&self) -> &'static [Resource] {
        if self.single_replica { &RESOURCES[..1] } else { &RESOURCES }
    }

    fn watch_of(&mut self, replica: usize, resource: Resource) -> &mut Watch {
        &mut self.replicas[replica].watches[resource as usize]
    }

    fn lag(&mut self, replica: usize, resource: Resource) -> u64 {
        let lagging = self.watch_of(replica, resource).lagging > 0;
        self.shortest_watch_delay()
            + if lagging { self.rng.u64(500..4000) } else { self.rng.u64(1..=60) }
    }

    fn schedule_watch(&mut self, replica: usize, resource: Resource, delay: u64) {
        let watch = self.watch_of(replica, resource);
        if !watch.scheduled && watch.blocked == 0 {
            watch.scheduled = true;
            let epoch = watch.epoch;
            self.push_in(delay, Event::Watch { replica, resource, epoch });
        }
    }

    /// A new process starts both watches with a list.
    pub fn reset_watches(&mut self, replica: usize) {
        self.restart_watches(replica, 5..100);
    }

    /// Starts both watches again with a list, after a pause.
    fn restart_watches(&mut self, replica: usize, pause: Range<u64>) {
        for resource in self.resources() {
            let watch = self.watch_of(replica, *resource);
            watch.epoch += 1;
            (watch.position, watch.listing, watch.scheduled) = (None, None, false);
            let delay = self.rng.u64(pause.clone());
            self.schedule_watch(replica, *resource, delay);
        }
    }

    /// The store has stepped back. Watches resume from their version, unless it is `compacted`.
    pub fn restore_watches(&mut self, before: &Api, compacted: bool) {
        for replica in 0..self.replicas.len() {
            for resource in RESOURCES {
                let log = self.log_of(resource);
                let watch = &mut self.replicas[replica].watches[resource as usize];
                watch.listing = None;
                let position = watch.position.filter(|_| !compacted);
                let last = |at: usize| match resource {
                    Resource::Instances => before.log.get(at).map(api::Event::version),
                    Resource::Ledgers => before.ledger_log.get(at).map(api::LedgerEvent::version),
                };
                let delivered = position.and_then(|position| last(position.checked_sub(1)?));
                watch.after = watch.after.max(delivered.unwrap_or(0));
                watch.position = position.map(|position| position.min(log));
            }
        }
    }

    /// Starts both watches again with a list.
    pub fn relist(&mut self, replica: usize) {
        self.restart_watches(replica, 1..20);
    }

    pub fn block_watches(&mut self, replica: usize, begins: bool) {
        for resource in self.resources() {
            self.block_watch(replica, *resource, begins);
        }
    }

    fn block_watch(&mut self, replica: usize, resource: Resource, begins: bool) {
        let watch = self.watch_of(replica, resource);
        watch.blocked = if begins { watch.blocked + 1 } else { watch.blocked - 1 };
        let reconnect = self.rng.u64(20..1000);
        self.schedule_watch(replica, resource, reconnect);
    }

    pub fn apply_watch_fault(&mut self, fault: Fault, begins: bool) {
        for resource in self.resources() {
            if fault.resource.is_some_and(|only| only != *resource) {
                continue;
            }
            let watch = self.watch_of(fault.replica, *resource);
            match (fault.kind, begins) {
                (FaultKind::Lag, true) => watch.lagging += 1,
                (FaultKind::Lag, false) => watch.lagging -= 1,
                (kind, begins) => {
                    if !begins && kind != FaultKind::Stall && kind != FaultKind::Drop {
                        watch.position = None;
                        watch.replays = kind == FaultKind::Replay;
                    }
                    self.block_watch(fault.replica, *resource, begins);
                }
            }
        }
    }

    pub fn watch_event(&mut self, replica: usize, resource: Resource, epoch: u64) {
        let up = self.replicas[replica].up;
        if !up || self.watch_of(replica, resource).epoch != epoch {
            return;
        }
        if self.defer_if_frozen(replica, &Event::Watch { replica, resource, epoch }) {
            return;
        }
        let watch = self.watch_of(replica, resource);
        watch.scheduled = false;
        if watch.blocked > 0 {
            return;
        }
        match (watch.position, watch.listing.take()) {
            (None, None) => self.list(replica, resource),
            (None, Some((listing, position))) => self.listed(replica, resource, listing, position),
            (Some(position), _) => self.follow(replica, resource, position),
        }
        let log = self.log_of(resource);
        if self.watch_of(replica, resource).position.is_none_or(|position| position < log) {
            let lag = self.lag(replica, resource);
            self.schedule_watch(replica, resource, lag);
        }
    }

    fn log_of(&self, resource: Resource) -> usize {
        match resource {
            Resource::Instances => self.api.log.len(),
            Resource::Ledgers => self.api.ledger_log.len(),
        }
    }

    /// A list of instances is current, because rollcall asks for the most recent one. During faults, a list of
    /// ledgers can be older, like a list from a server whose cache is behind.
    fn list(&mut self, replica: usize, resource: Resource) {
        let stale =
            resource == Resource::Ledgers && self.now < self.faults_end && self.rng.u8(..4) == 0;
        let behind = if stale { self.rng.usize(0..30) } else { 0 };
        let up_to = self.log_of(resource).saturating_sub(behind);
        let listing = match resource {
            Resource::Instances => {
                let objects = self.api.objects.values().cloned().collect();
                Listing::Instances(objects, self.api.version)
            }
            Resource::Ledgers => Listing::Ledgers(api::ledgers_of(&self.api.ledger_log[..up_to])),
        };
        self.watch_of(replica, resource).listing = Some((listing, up_to));
    }

    fn listed(&mut self, replica: usize, resource: Resource, listing: Listing, position: usize) {
        let replays = std::mem::take(&mut self.watch_of(replica, resource).replays);
        let back = if replays { self.rng.usize(0..40) } else { 0 };
        let watch = self.watch_of(replica, resource);
        (watch.position, watch.after) = (Some(position.saturating_sub(back)), 0);
        self.log(None, || format!("r{replica}: listed {resource:?}"));
        let fact = match listing {
            Listing::Instances(instances, index) => Fact::Listed { instances, index },
            Listing::Ledgers(ledgers) => Fact::LedgersListed(ledgers),
        };
        self.send_fact(replica, fact, None);
    }

    fn follow(&mut self, replica: usize, resource: Resource, position: usize) {
        let log = self.log_of(resource);
        // Sometimes only one change.
        let most = if self.rng.u8(..8) == 0 { position + 1 } else { log };
        let up_to = most.min(log);
        let after = self.watch_of(replica, resource).after;
        for at in position..up_to {
            let version = match resource {
                Resource::Instances => self.api.log[at].version(),
                Resource::Ledgers => self.api.ledger_log[at].version(),
            };
            if version <= after {
                continue;
            }
            let fact = match resource {
                Resource::Instances => fact(&self.api.log[at]),
                Resource::Ledgers => ledger_fact(&self.api.ledger_log[at]),
            };
            self.send_fact(replica, fact, None);
        }
        let bookmarks = self.api.version > after && self.rng.u8(..10) == 0;
        if resource == Resource::Instances && up_to == log && bookmarks {
            self.send_fact(replica, Fact::Progress { index: self.api.version }, None);
        }
        self.watch_of(replica, resource).position = Some(up_to);
    }

    /// Under a mutation, the replica's own instance is reported before all other changes.
    fn deliver_own(&mut self, replica: usize) {
        let Some(api::Event::Upserted(instance)) = self.api.log.last() else { return };
        if instance.key == self.replicas[replica].own {
            let fact = Fact::Upserted(instance.clone());
            self.send_fact(replica, fact, None);
        }
    }
}

fn fact(event: &api::Event) -> Fact {
    match event {
        api::Event::Upserted(instance) => Fact::Upserted(instance.clone()),
        api::Event::Removed { key, uid, index } => {
            Fact::Removed { key: key.clone(), uid: uid.clone(), index: *index }
        }
    }
}

fn ledger_fact(event: &api::LedgerEvent) -> Fact {
    match event {
        api::LedgerEvent::Written(ledger) => Fact::LedgerUpserted(ledger.clone()),
        api::LedgerEvent::Deleted { replica, version } => {
            Fact::LedgerRemoved { replica: replica.clone(), version: *version }
        }
    }
}
