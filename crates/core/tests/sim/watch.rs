//! The two watches of a replica, of instances and of ledgers: what the server's log says, in order, when
//! the network lets it. Owns the positions; not what the facts mean.

use std::{ops::Range, sync::Arc};

use rollcall_core::{fact::Fact, ledger::Ledger};
use rollcall_model::instance::Instance;

use crate::{
    api::{self, Api},
    faults::{Fault, Kind},
    sabotage::Sabotage,
    world::{Event, World},
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    Instances,
    Ledgers,
}

pub const FEEDS: [Feed; 2] = [Feed::Instances, Feed::Ledgers];

#[derive(Debug)]
enum Listing {
    Instances(Vec<Arc<Instance>>, u64),
    Ledgers(Vec<Arc<Ledger>>),
}

#[derive(Debug, Default)]
pub struct Watch {
    /// How much of the log has been delivered; none before a list.
    position: Option<usize>,
    /// Nothing is delivered up to this version: the watch goes on from there, and the store has gone back since.
    after: u64,
    /// A list on its way, and where the log was then.
    listing: Option<(Listing, usize)>,
    /// How many faults keep it silent.
    blocked: u32,
    lagging: u32,
    /// After the next list, tell again what was before it.
    replays: bool,
    /// Whether an event is queued for it, and which counts.
    scheduled: bool,
    epoch: u64,
}

impl World {
    pub fn kick_watches(&mut self) {
        for replica in 0..self.replicas.len() {
            if self.sabotage == Sabotage::Unordered {
                self.deliver_own(replica);
            }
            for feed in self.feeds() {
                let lag = self.lag(replica, *feed);
                self.schedule_watch(replica, *feed, lag);
            }
        }
    }

    /// Alone, there are no ledgers to watch.
    fn feeds(&self) -> &'static [Feed] {
        if self.alone { &FEEDS[..1] } else { &FEEDS }
    }

    fn watch_of(&mut self, replica: usize, feed: Feed) -> &mut Watch {
        &mut self.replicas[replica].watches[feed as usize]
    }

    fn lag(&mut self, replica: usize, feed: Feed) -> u64 {
        let lagging = self.watch_of(replica, feed).lagging > 0;
        self.way_back() + if lagging { self.rng.u64(500..4000) } else { self.rng.u64(1..=60) }
    }

    fn schedule_watch(&mut self, replica: usize, feed: Feed, delay: u64) {
        let watch = self.watch_of(replica, feed);
        if !watch.scheduled && watch.blocked == 0 {
            watch.scheduled = true;
            let epoch = watch.epoch;
            self.push_in(delay, Event::Watch { replica, feed, epoch });
        }
    }

    /// A new process has no position.
    pub fn forget_watches(&mut self, replica: usize) {
        self.begin_anew(replica, 5..100);
    }

    /// Both watches begin anew with a list, after a pause.
    fn begin_anew(&mut self, replica: usize, pause: Range<u64>) {
        for feed in self.feeds() {
            let watch = self.watch_of(replica, *feed);
            watch.epoch += 1;
            (watch.position, watch.listing, watch.scheduled) = (None, None, false);
            let delay = self.rng.u64(pause.clone());
            self.schedule_watch(replica, *feed, delay);
        }
    }

    /// The store has gone back. Watches go on from the versions that they had come to, unless `compacted`.
    pub fn restore_watches(&mut self, before: &Api, compacted: bool) {
        for replica in 0..self.replicas.len() {
            for feed in FEEDS {
                let log = self.log_of(feed);
                let watch = &mut self.replicas[replica].watches[feed as usize];
                watch.listing = None;
                let position = watch.position.filter(|_| !compacted);
                let last = |at: usize| match feed {
                    Feed::Instances => before.log.get(at).map(api::Event::version),
                    Feed::Ledgers => before.ledger_log.get(at).map(api::LedgerEvent::version),
                };
                let delivered = position.and_then(|position| last(position.checked_sub(1)?));
                watch.after = watch.after.max(delivered.unwrap_or(0));
                watch.position = position.map(|position| position.min(log));
            }
        }
    }

    /// Both watches begin anew with a list.
    pub fn relist(&mut self, replica: usize) {
        self.begin_anew(replica, 1..20);
    }

    pub fn block_watches(&mut self, replica: usize, begins: bool) {
        for feed in self.feeds() {
            self.block_watch(replica, *feed, begins);
        }
    }

    fn block_watch(&mut self, replica: usize, feed: Feed, begins: bool) {
        let watch = self.watch_of(replica, feed);
        watch.blocked = if begins { watch.blocked + 1 } else { watch.blocked - 1 };
        let reconnect = self.rng.u64(20..1000);
        self.schedule_watch(replica, feed, reconnect);
    }

    pub fn watch_fault(&mut self, fault: Fault, begins: bool) {
        for feed in self.feeds() {
            if fault.feed.is_some_and(|only| only != *feed) {
                continue;
            }
            let watch = self.watch_of(fault.replica, *feed);
            match (fault.kind, begins) {
                (Kind::Lag, true) => watch.lagging += 1,
                (Kind::Lag, false) => watch.lagging -= 1,
                (kind, begins) => {
                    if !begins && kind != Kind::Stall && kind != Kind::Drop {
                        watch.position = None;
                        watch.replays = kind == Kind::Replay;
                    }
                    self.block_watch(fault.replica, *feed, begins);
                }
            }
        }
    }

    pub fn watch(&mut self, replica: usize, feed: Feed, epoch: u64) {
        let up = self.replicas[replica].up;
        if !up || self.watch_of(replica, feed).epoch != epoch {
            return;
        }
        if self.park(replica, &Event::Watch { replica, feed, epoch }) {
            return;
        }
        let watch = self.watch_of(replica, feed);
        watch.scheduled = false;
        if watch.blocked > 0 {
            return;
        }
        match (watch.position, watch.listing.take()) {
            (None, None) => self.list(replica, feed),
            (None, Some((listing, position))) => self.listed(replica, feed, listing, position),
            (Some(position), _) => self.follow(replica, feed, position),
        }
        let log = self.log_of(feed);
        if self.watch_of(replica, feed).position.is_none_or(|position| position < log) {
            let lag = self.lag(replica, feed);
            self.schedule_watch(replica, feed, lag);
        }
    }

    fn log_of(&self, feed: Feed) -> usize {
        match feed {
            Feed::Instances => self.api.log.len(),
            Feed::Ledgers => self.api.ledger_log.len(),
        }
    }

    /// A list of instances is one of now: rollcall asks for the most recent. While something is
    /// wrong, one of ledgers may be of a little while ago, as from a server whose cache is behind.
    fn list(&mut self, replica: usize, feed: Feed) {
        let stale = feed == Feed::Ledgers && self.now < self.mended && self.rng.u8(..4) == 0;
        let behind = if stale { self.rng.usize(0..30) } else { 0 };
        let upto = self.log_of(feed).saturating_sub(behind);
        let listing = match feed {
            Feed::Instances => {
                let objects = self.api.objects.values().cloned().collect();
                Listing::Instances(objects, self.api.version)
            }
            Feed::Ledgers => Listing::Ledgers(api::ledgers_of(&self.api.ledger_log[..upto])),
        };
        self.watch_of(replica, feed).listing = Some((listing, upto));
    }

    fn listed(&mut self, replica: usize, feed: Feed, listing: Listing, position: usize) {
        let replays = std::mem::take(&mut self.watch_of(replica, feed).replays);
        let back = if replays { self.rng.usize(0..40) } else { 0 };
        let watch = self.watch_of(replica, feed);
        (watch.position, watch.after) = (Some(position.saturating_sub(back)), 0);
        self.note(None, || format!("r{replica}: listed {feed:?}"));
        let fact = match listing {
            Listing::Instances(instances, index) => Fact::Listed { instances, index },
            Listing::Ledgers(ledgers) => Fact::LedgersListed(ledgers),
        };
        self.tell(replica, fact, None);
    }

    fn follow(&mut self, replica: usize, feed: Feed, position: usize) {
        let log = self.log_of(feed);
        // Now and then only a part.
        let most = if self.rng.u8(..8) == 0 { position + 1 } else { log };
        let upto = most.min(log);
        let after = self.watch_of(replica, feed).after;
        for at in position..upto {
            let version = match feed {
                Feed::Instances => self.api.log[at].version(),
                Feed::Ledgers => self.api.ledger_log[at].version(),
            };
            if version <= after {
                continue;
            }
            let fact = match feed {
                Feed::Instances => fact(&self.api.log[at]),
                Feed::Ledgers => ledger_fact(&self.api.ledger_log[at]),
            };
            self.tell(replica, fact, None);
        }
        let bookmarks = self.api.version > after && self.rng.u8(..10) == 0;
        if feed == Feed::Instances && upto == log && bookmarks {
            self.tell(replica, Fact::Progress { index: self.api.version }, None);
        }
        self.watch_of(replica, feed).position = Some(upto);
    }

    /// Sabotage: what a replica says of itself overtakes everything else.
    fn deliver_own(&mut self, replica: usize) {
        let Some(api::Event::Upserted(instance)) = self.api.log.last() else { return };
        if instance.key == self.replicas[replica].own {
            let fact = Fact::Upserted(instance.clone());
            self.tell(replica, fact, None);
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
        api::LedgerEvent::Written(ledger) => Fact::LedgerSeen(ledger.clone()),
        api::LedgerEvent::Deleted { replica, version } => {
            Fact::LedgerGone { replica: replica.clone(), version: *version }
        }
    }
}
