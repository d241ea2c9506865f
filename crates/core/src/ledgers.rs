//! Ledgers: what a replica that has one knows beside its instances.
//!
//! Owns: the own ledger as it was seen back, how far this replica has seen in all, the
//! fence, and when the own ledger goes. Does not own: what is known of each other replica (`peers`), what the own ledger
//! holds (`flush`), and what follows from a heartbeat or a gap (`instances`).

use std::{sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

use crate::{
    duplicates::Duplicates,
    flush::{Call, Flush},
    ledger::Ledger,
    peers::{Peers, SILENCE, Sighting, Way},
    report::{self, Cause, Duplicate, Standstill},
    rules::Rules,
    touched::Touched,
};

/// A ledger seen longer ago than this holds the horizon back: the longest pause and its way.
const LEDGER_OLD: Duration = Duration::from_millis(6_500);

/// The own ledger as it was seen back.
#[derive(Clone, Copy, Debug)]
struct Own {
    version: u64,
    stamp: Moment,
    index: u64,
    /// When it was seen.
    seen: Moment,
}

/// All that a replica with a ledger knows beside its instances.
#[derive(Debug)]
pub(super) struct Ledgers<R: Rules> {
    name: Arc<str>,
    boot: Arc<str>,
    /// Of the store's history.
    epoch: u64,
    peers: Peers<R>,
    flush: Flush,
    own: Option<Own>,
    duplicates: Duplicates,
    /// When beats could be answered again: the own ledger was seen back in time, and had not been.
    opened: Moment,
    /// Whether a first list was seen.
    listed: bool,
}

impl<R: Rules> Ledgers<R> {
    /// Of the replica `name` in its process `boot`.
    pub(super) fn new(name: Arc<str>, boot: Arc<str>) -> Self {
        Self {
            peers: Peers::new(name.clone(), boot.clone()),
            name,
            boot,
            epoch: 0,
            flush: Flush::default(),
            own: None,
            duplicates: Duplicates::default(),
            opened: Moment::default(),
            listed: false,
        }
    }

    pub(super) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// The store went back. Nothing counts any more that ledgers of another epoch say of versions, this replica's own
    /// among them; `heartbeats` are all that it has taken, and are reported again.
    pub(super) fn begin_epoch(&mut self, epoch: u64, heartbeats: Vec<(u64, Moment)>) {
        self.follow_epoch(epoch);
        self.own = None;
        self.flush.begin_epoch(heartbeats);
    }

    /// This replica begins with the epoch of the others.
    pub(super) fn follow_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.peers.follow_epoch(epoch);
    }

    /// A ledger of another process under this replica's name.
    fn see_duplicate(&mut self, ledger: &Ledger, way: Way, now: Moment) -> Option<Sighting> {
        if way == Way::First {
            self.duplicates.replace(&ledger.boot);
            return None;
        }
        if self.own.is_some_and(|own| ledger.version < own.version) {
            return None;
        }
        let began = self.own.is_some() || self.duplicates.is_yielding();
        let sighting = self.duplicates.see(ledger, &self.boot, began, now);
        if self.duplicates.is_yielding() {
            self.own = None;
        }
        Some(sighting)
    }

    /// The own ledger came back.
    fn see_back(&mut self, ledger: &Ledger, now: Moment) {
        let is_old = self.own.is_some_and(|own| ledger.stamp <= own.stamp);
        // A stamp of the future was written by somebody else.
        if ledger.boot != self.boot || ledger.epoch != self.epoch || is_old || ledger.stamp > now {
            return;
        }
        self.flush.stored(ledger.sequence);
        let was_open = self.own.is_some_and(|own| now < self.fence_of(own));
        let (version, stamp, index) = (ledger.version, ledger.stamp, ledger.index);
        let own = Own { version, stamp, index, seen: now };
        if !was_open && now < self.fence_of(own) {
            self.opened = now;
        }
        self.own = Some(own);
    }

    fn fence_of(&self, own: Own) -> Moment {
        let from = if R::FENCE_BY_STAMP { own.stamp } else { own.seen };
        from.after(SILENCE)
    }

    /// From when on heartbeats are not answered 200. After a fence, and at the start, not before the
    /// instances were seen as of then: what the others decided without asking us is known by that.
    pub(super) fn fence(&self, self_beat: Moment) -> Moment {
        let own = self.own.filter(|_| !self.flush.is_leaving());
        let open = self_beat >= self.opened || !R::FENCE_WAITS_FOR_INSTANCES;
        match own.filter(|_| open) {
            _ if !R::FENCE => Moment(u64::MAX),
            Some(own) => self.fence_of(own),
            None => Moment(0),
        }
    }

    /// How far this replica has seen; none when that is not known now.
    pub(super) fn horizon(&self, self_beat: Moment) -> Option<Moment> {
        let own = self.own.filter(|_| self.listed)?;
        let own = if R::OWN_LEDGER_HOLDS { own.stamp } else { self_beat };
        let others = self.peers.horizon().ok()?.unwrap_or(own);
        Some(self_beat.min(own).min(others))
    }

    /// Whose newest ledger was seen longest ago, and when: of the live ones, and the own.
    fn oldest(&self) -> Option<(Arc<str>, Moment)> {
        let own = self.own.map(|own| (self.name.clone(), own.seen));
        let live = self.peers.seen().into_iter().map(|seen| (seen.replica, seen.at));
        live.chain(own).min_by_key(|(_, seen)| *seen)
    }

    /// Whether everybody live, this replica among them, has told that it has seen this version.
    pub(super) fn have_seen(&self, version: u64) -> bool {
        !R::EVICTIONS_ACKNOWLEDGED
            || (self.own.is_some_and(|own| own.index >= version) && self.peers.have_seen(version))
    }

    /// Whether a first list was seen.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// A list of all ledgers. Answers whether it is the first, and whether ledgers have vanished: then heartbeats may have
    /// been reported that were not seen.
    pub(super) fn list(&mut self, ledgers: &[Arc<Ledger>], now: Moment) -> (bool, bool) {
        let first = !std::mem::replace(&mut self.listed, true);
        (first, !first && self.peers.keep_only(ledgers, now))
    }

    /// A ledger is seen. Answers what follows from it; nothing from the own one.
    pub(super) fn see(&mut self, ledger: &Ledger, way: Way, now: Moment) -> Option<Sighting> {
        if ledger.replica == self.name {
            if ledger.boot != self.boot && R::DUPLICATES_ARE_TOLD_APART {
                return self.see_duplicate(ledger, way, now);
            }
            self.see_back(ledger, now);
            return None;
        }
        let sighting = self.peers.see(ledger, way, now);
        if sighting.asks && R::ASK {
            self.flush.ask();
        }
        Some(sighting)
    }

    /// The ledger of a replica was deleted.
    pub(super) fn deleted(&mut self, replica: &str, version: u64, now: Moment) {
        self.peers.deleted(replica, version, now);
    }

    /// The write of the own ledger was answered, or given up. Answers the index in it, if it is of this epoch.
    pub(super) fn written(&mut self, sequence: u64, stored: bool) -> Option<u64> {
        self.flush.written(sequence, stored)
    }

    /// The next ledger is the last one.
    pub(super) fn depart(&mut self) {
        self.flush.leave();
    }

    /// Notices which replicas are silent, gone or back. Answers from when on every instance has a whole lease because of
    /// them.
    pub(super) fn follow_silence(&mut self, now: Moment) -> Option<Moment> {
        self.duplicates.follow(now);
        self.peers.tick(now);
        self.peers.not_before().max(self.duplicates.not_before())
    }

    /// When the fence could have opened that still waits for a self-beat sent after that.
    pub(super) fn opening(&self, self_beat: Moment) -> Option<Moment> {
        self.own?;
        (self_beat < self.opened).then_some(self.opened)
    }

    /// Whether the own ledger goes as soon as the pace allows.
    pub(super) fn is_urgent(&self) -> bool {
        self.flush.is_urgent()
    }

    /// One whose ledger is of no use any more, with its version.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<(Arc<str>, u64)> {
        self.peers.sweep(now)
    }

    /// The own ledger, if it is to be written now: `shortest` is the shortest lease of all, `due` the latest deadline that
    /// waits for the horizon, which is at `horizon`, and `index` the highest resourceVersion seen.
    pub(super) fn next(
        &mut self,
        touched: &Touched,
        now: Moment,
        shortest: Option<Duration>,
        due: Option<Moment>,
        index: u64,
        horizon: Moment,
    ) -> Option<Ledger> {
        if !self.listed || self.duplicates.is_yielding() {
            return None;
        }
        // A replica whose ledger no other knows takes no heartbeats: the first one is pressed.
        let unknown = self.own.is_none().then(Moment::default);
        let beats = !touched.is_empty();
        if !self.flush.is_wanted(&Call { now, due: due.max(unknown), beats, shortest }) {
            return None;
        }
        let mut ledger = Ledger {
            replica: self.name.clone(),
            boot: self.boot.clone(),
            replaced: self.duplicates.replaced(),
            stamp: now,
            epoch: self.epoch,
            peers: self.peers.seen(),
            index,
            horizon,
            // One that has only just come knows nothing before the others have told that they see it.
            ask: due.is_some() || horizon == Moment::default(),
            ..Ledger::default()
        };
        self.flush.fill(&mut ledger, touched.take(now), self.peers.know());
        Some(ledger)
    }

    /// The other replicas, for people.
    pub(super) fn report(&self) -> Vec<report::Peer> {
        self.peers.report()
    }

    /// Whether this process is the younger of two, and yields.
    pub(super) fn is_yielding(&self) -> bool {
        self.duplicates.is_yielding()
    }

    /// Identities under which two processes run.
    pub(super) fn duplicates(&self, now: Moment) -> Vec<Duplicate> {
        let own = self.duplicates.report(&self.name, &self.boot, now);
        own.into_iter().chain(self.peers.duplicates(now)).collect()
    }

    /// Tells the process of another replica from an earlier one, as its newest ledger says.
    pub(super) fn boot_of(&self, replica: &str) -> Option<Arc<str>> {
        self.peers.boot_of(replica)
    }

    /// Whose ledger holds the horizon back, if one does.
    pub(super) fn standstill(&self, now: Moment) -> Option<Standstill> {
        let (replica, since) = self.oldest()?;
        let old = now.since(since) > LEDGER_OLD;
        old.then_some(Standstill { since, cause: Cause::Silent(replica) })
    }
}
