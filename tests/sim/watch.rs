//! The instance watch of a replica: what the server's log says, in order, when the network lets
//! it. Owns the position; not what the facts mean.

use std::sync::Arc;

use rollcall::registry::{fact::Fact, instance::Instance};

use crate::{
    Sabotage, api,
    faults::{Fault, Kind},
    world::{Event, World},
};

#[derive(Debug, Default)]
pub struct Watch {
    /// How much of the log has been delivered; none before a list.
    position: Option<usize>,
    /// A list on its way: objects, version, and where the log was then.
    listing: Option<(Vec<Arc<Instance>>, u64, usize)>,
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
            let lag = self.lag(replica);
            self.schedule_watch(replica, lag);
        }
    }

    fn lag(&mut self, replica: usize) -> u64 {
        let lagging = self.replicas[replica].watch.lagging > 0;
        if lagging { self.rng.u64(500..4000) } else { self.rng.u64(1..=60) }
    }

    fn schedule_watch(&mut self, replica: usize, delay: u64) {
        let one = &mut self.replicas[replica];
        if !one.watch.scheduled && one.watch.blocked == 0 {
            one.watch.scheduled = true;
            let epoch = one.watch.epoch;
            self.push_in(delay, Event::Watch { replica, epoch });
        }
    }

    /// A new process has no position.
    pub fn forget_watch(&mut self, replica: usize) {
        let watch = &mut self.replicas[replica].watch;
        watch.epoch += 1;
        (watch.position, watch.listing, watch.scheduled) = (None, None, false);
        let delay = self.rng.u64(5..100);
        self.schedule_watch(replica, delay);
    }

    pub fn block_watch(&mut self, replica: usize, begins: bool) {
        let watch = &mut self.replicas[replica].watch;
        watch.blocked = if begins { watch.blocked + 1 } else { watch.blocked - 1 };
        let reconnect = self.rng.u64(20..1000);
        self.schedule_watch(replica, reconnect);
    }

    pub fn watch_fault(&mut self, fault: Fault, begins: bool) {
        let watch = &mut self.replicas[fault.replica].watch;
        match (fault.kind, begins) {
            (Kind::Lag, true) => watch.lagging += 1,
            (Kind::Lag, false) => watch.lagging -= 1,
            (kind, begins) => {
                if !begins && kind != Kind::Stall && kind != Kind::Drop {
                    watch.position = None;
                    watch.replays = kind == Kind::Replay;
                }
                self.block_watch(fault.replica, begins);
            }
        }
    }

    pub fn watch(&mut self, replica: usize, epoch: u64) {
        let one = &self.replicas[replica];
        if !one.up || one.watch.epoch != epoch {
            return;
        }
        if self.park(replica, &Event::Watch { replica, epoch }) {
            return;
        }
        let watch = &mut self.replicas[replica].watch;
        watch.scheduled = false;
        if watch.blocked > 0 {
            return;
        }
        match (watch.position, watch.listing.take()) {
            (None, None) => self.list(replica),
            (None, Some((instances, index, position))) => {
                let back = if watch.replays { self.rng.usize(0..40) } else { 0 };
                let watch = &mut self.replicas[replica].watch;
                watch.replays = false;
                watch.position = Some(position.saturating_sub(back));
                self.note(None, || format!("r{replica}: listed {index}"));
                self.tell(replica, Fact::Listed { instances, index }, None);
            }
            (Some(position), _) => self.follow(replica, position),
        }
        let log = self.api.log.len();
        if self.replicas[replica].watch.position.is_none_or(|position| position < log) {
            let lag = self.lag(replica);
            self.schedule_watch(replica, lag);
        }
    }

    fn list(&mut self, replica: usize) {
        let instances = self.api.objects.values().cloned().collect();
        let listing = (instances, self.api.version, self.api.log.len());
        self.replicas[replica].watch.listing = Some(listing);
    }

    fn follow(&mut self, replica: usize, position: usize) {
        let log = self.api.log.len();
        // Now and then only a part.
        let most = if self.rng.u8(..8) == 0 { position + 1 } else { log };
        let upto = most.min(log);
        for at in position..upto {
            let fact = fact(&self.api.log[at]);
            self.tell(replica, fact, None);
        }
        if upto == log && self.rng.u8(..10) == 0 {
            self.tell(replica, Fact::Progress { index: self.api.version }, None);
        }
        self.replicas[replica].watch.position = Some(upto);
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
