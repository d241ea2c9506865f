//! Hearing and telling: what the catalog makes of ledgers, its own and those of others.
//!
//! Owns: the way of a told beat to its slot, the gaps that ledgers show, how far this replica has seen
//! in all, the fence, and when the own ledger goes. Does not own: what is known of each other replica
//! (`peers`), and what the own ledger holds (`flush`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    catalog::{Catalog, Settings},
    fact::Duty,
    flush::{Call, Flush},
    instance::Instance,
    lease::{Moment, Now},
    ledger::{Ledger, id},
    peers::{Peers, SILENCE, Way},
    pulse::{Slot, Source},
    rules::Rules,
};

/// The own ledger as it was seen back.
#[derive(Clone, Copy, Debug)]
struct Own {
    stamp: Moment,
    index: u64,
    /// When it was seen.
    seen: Moment,
}

/// All that a replica with a ledger knows beside its instances.
#[derive(Debug)]
pub(super) struct Ledgers {
    name: Arc<str>,
    boot: Arc<str>,
    rules: Rules,
    pub(super) peers: Peers,
    pub(super) flush: Flush,
    own: Option<Own>,
    /// When beats could be answered again: the own ledger was seen back in time, and had not been.
    opened: Moment,
    /// Whether a first list was seen.
    listed: bool,
    /// By what ledgers call them.
    ids: HashMap<u64, Arc<Slot>>,
    /// How many instances have a lease of this length.
    lengths: BTreeMap<Duration, usize>,
}

impl Ledgers {
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let (name, boot): (_, Arc<str>) = (settings.ledger.clone()?, settings.boot.as_str().into());
        let rules = settings.rules;
        Some(Self {
            peers: Peers::new(name.clone(), boot.clone(), rules),
            name,
            boot,
            rules,
            flush: Flush::default(),
            own: None,
            opened: Moment::default(),
            listed: false,
            ids: HashMap::new(),
            lengths: BTreeMap::new(),
        })
    }

    /// An incarnation is known from now on.
    pub(super) fn enter(&mut self, instance: &Instance, slot: Arc<Slot>) {
        self.ids.insert(slot.id(), slot);
        self.count(instance, true);
    }

    /// And not any more.
    pub(super) fn strike(&mut self, instance: &Instance) {
        self.ids.remove(&id(&instance.uid));
        self.count(instance, false);
    }

    /// Its terms may have changed.
    pub(super) fn replace(&mut self, old: &Instance, new: &Instance) {
        if old.lease != new.lease {
            self.count(old, false);
            self.count(new, true);
        }
    }

    fn count(&mut self, instance: &Instance, more: bool) {
        if !instance.lease.is_leased() {
            return;
        }
        let count = self.lengths.entry(instance.lease.duration).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.lengths.remove(&instance.lease.duration);
        }
    }

    /// The own ledger came back. Another process's under our name is none of ours.
    fn see_back(&mut self, ledger: &Ledger, now: Moment) {
        let is_old = self.own.is_some_and(|own| ledger.stamp <= own.stamp);
        // A stamp of the future was written by somebody else.
        if ledger.boot != self.boot || is_old || ledger.stamp > now {
            return;
        }
        self.flush.stored(ledger.sequence);
        let was_open = self.own.is_some_and(|own| now < self.fence_of(own));
        let own = Own { stamp: ledger.stamp, index: ledger.index, seen: now };
        if !was_open && now < self.fence_of(own) {
            self.opened = now;
        }
        self.own = Some(own);
    }

    fn fence_of(&self, own: Own) -> Moment {
        let from = if self.rules.fence_by_stamp { own.stamp } else { own.seen };
        from.after(SILENCE)
    }

    /// From when on beats are not answered 200. After a fence, and at the start, not before the
    /// instances were seen as of then: what the others decided without asking us is known by that.
    fn fence(&self, self_beat: Moment) -> Moment {
        let own = self.own.filter(|_| !self.flush.is_leaving());
        let open = self_beat >= self.opened || !self.rules.fence_waits_for_instances;
        match own.filter(|_| open) {
            _ if !self.rules.fence => Moment(u64::MAX),
            Some(own) => self.fence_of(own),
            None => Moment(0),
        }
    }

    /// How far this replica has seen; none when that is not known now.
    fn horizon(&self, self_beat: Moment) -> Option<Moment> {
        let own = self.own.filter(|_| self.listed)?;
        let own = if self.rules.own_ledger_holds { own.stamp } else { self_beat };
        let others = self.peers.horizon().ok()?.unwrap_or(own);
        Some(self_beat.min(own).min(others))
    }

    /// Whose newest ledger was seen longest ago, and when: of the live ones, and the own.
    pub(super) fn oldest(&self) -> Option<(Arc<str>, Moment)> {
        let own = self.own.map(|own| (self.name.clone(), own.seen));
        let live = self.peers.seen().into_iter().map(|seen| (seen.replica, seen.at));
        live.chain(own).min_by_key(|(_, seen)| *seen)
    }

    /// Whether everybody live, this replica among them, has told that it has seen this version.
    pub(super) fn have_seen(&self, version: u64) -> bool {
        !self.rules.evictions_acknowledged
            || (self.own.is_some_and(|own| own.index >= version) && self.peers.have_seen(version))
    }
}

impl Catalog {
    pub(super) fn see_ledgers(&mut self, ledgers: &[Arc<Ledger>], now: Now) {
        let Some(heard) = &mut self.ledgers else { return };
        let first = !std::mem::replace(&mut heard.listed, true);
        let vanished = !first && heard.peers.keep_only(ledgers, now.moment);
        if first {
            // Of what was told before nothing is known.
            self.floors.begin_anew(now.moment);
            self.floors_changed();
        }
        if vanished {
            // Beats may have been told that were not heard.
            self.give_back(now.moment, None);
        }
        for ledger in ledgers {
            self.see_ledger(ledger, if first { Way::First } else { Way::Relist }, now);
        }
    }

    pub(super) fn see_ledger(&mut self, ledger: &Ledger, way: Way, now: Now) {
        let Some(heard) = &mut self.ledgers else { return };
        if ledger.replica == heard.name {
            return heard.see_back(ledger, now.moment);
        }
        let sighting = heard.peers.see(ledger, way, now.moment);
        if sighting.asks && heard.rules.ask {
            heard.flush.ask();
        }
        for (id, at) in sighting.beats {
            self.hear(id, at, now);
        }
        if sighting.gap {
            self.give_back(now.moment, None);
        }
        self.follow_silence(now.moment);
    }

    pub(super) fn ledger_gone(&mut self, replica: &str, version: u64, now: Moment) {
        if let Some(heard) = &mut self.ledgers {
            heard.peers.deleted(replica, version, now);
            self.follow_silence(now);
        }
    }

    pub(super) fn ledger_written(&mut self, sequence: u64, stored: bool) {
        if let Some(heard) = &mut self.ledgers {
            heard.flush.written(sequence, stored);
        }
    }

    /// From here on no beat is answered 200.
    pub(super) fn leave(&mut self) {
        if let Some(heard) = &mut self.ledgers {
            heard.flush.leave();
            self.directory.fence.store(0, Ordering::SeqCst);
        }
    }

    /// A beat that another replica took.
    fn hear(&mut self, id: u64, at: Moment, now: Now) {
        let Some(slot) = self.ledgers.as_ref().and_then(|heard| heard.ids.get(&id)) else { return };
        if at <= slot.last_beat() {
            return;
        }
        if !slot.is_dead() {
            slot.tell(at);
            if self.guard.is_active() {
                let key = slot.record().key.clone();
                self.release_if_heard(&key);
            }
            return;
        }
        let (slot, instance) = (slot.clone(), slot.record());
        if self.floors.deadline(at, instance.lease.duration) < now.moment {
            // It was over before it was heard of.
            return;
        }
        self.counts.revived += 1;
        slot.revive(at, Source::Ledger);
        let key = instance.key.clone();
        self.show(instance, slot);
        self.arm(&key);
        self.consider_eviction(&key, now.moment);
        self.outbox.consider(key);
    }

    /// Notices who is silent, gone or back.
    fn follow_silence(&mut self, now: Moment) {
        let Some(heard) = &mut self.ledgers else { return };
        heard.peers.tick(now);
        let floor = heard.peers.floor();
        let before = self.floors.held();
        if floor == before {
            return;
        }
        self.floors.hold(floor);
        self.floors_changed();
        if floor < before {
            // Deadlines come sooner than timers: one look at every instance.
            let keys: Vec<_> = self.entries.keys().cloned().collect();
            keys.iter().for_each(|key| self.arm(key));
        }
    }

    /// Looks how far this replica has seen.
    pub(super) fn look(&mut self, now: Moment) {
        self.follow_silence(now);
        let self_beat = self.horizon.moment();
        let Some(heard) = &self.ledgers else {
            self.reach = self_beat;
            return;
        };
        if let Some(reach) = heard.horizon(self_beat) {
            self.reach = reach;
        }
        let fence = heard.fence(self_beat);
        self.directory.fence.store(fence.0, Ordering::SeqCst);
    }

    /// When the fence could have opened that still waits for a self-beat sent after that.
    pub(super) fn opening(&self) -> Option<Moment> {
        let heard = self.ledgers.as_ref().filter(|heard| heard.own.is_some())?;
        (self.horizon.moment() < heard.opened).then_some(heard.opened)
    }

    /// The own ledger, if it is to be written now.
    pub(super) fn flush(&mut self, now: Moment) -> Option<Duty> {
        let heard = self.ledgers.as_mut().filter(|heard| heard.listed)?;
        let touched = &self.directory.touched;
        let shortest = heard.lengths.keys().next().copied();
        // A replica whose ledger nobody knows takes no beats: the first one is pressed.
        let unknown = heard.own.is_none().then(Moment::default);
        let due = self.due.max(unknown);
        let call = Call { now, due, beats: !touched.is_empty(), shortest };
        if !heard.flush.is_wanted(&call) {
            return None;
        }
        let mut ledger = Ledger {
            replica: heard.name.clone(),
            boot: heard.boot.clone(),
            stamp: now,
            peers: heard.peers.seen(),
            index: self.index,
            horizon: self.reach,
            // One that has only just come knows nothing before the others have told that they see it.
            ask: self.due.is_some() || self.reach == Moment::default(),
            ..Ledger::default()
        };
        heard.flush.fill(&mut ledger, touched.take(now), heard.peers.know());
        Some(Duty::Flush(ledger))
    }
}
