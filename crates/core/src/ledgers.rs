//! Ledgers: what a replica knows about the other replicas and about its own ledger.
//!
//! Owns: the replica's own ledger as the watch last delivered it, the combined horizon, the fence, and
//! when the own ledger is written. Does not own: what is known about each other replica (`peers`), what
//! the own ledger contains (`flush`), and what follows from a heartbeat or a gap (`instances`).

use std::{sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

use crate::{
    duplicates::Duplicates,
    flush::{Flush, FlushTrigger},
    ledger::Ledger,
    peers::{Arrival, LedgerNews, Peers, SILENCE},
    report::{self, Cause, Duplicate, Standstill},
    rules::Rules,
    unreported::Unreported,
};

/// A ledger older than this is reported as the cause of a standstill: the longest pause between two
/// ledgers, plus the usual delay.
const LEDGER_OLD: Duration = Duration::from_millis(6_500);

#[derive(Clone, Copy, Debug)]
struct Own {
    version: u64,
    stamp: Moment,
    index: u64,
    seen: Moment,
}

#[derive(Debug)]
pub(super) struct Ledgers<R: Rules> {
    name: Arc<str>,
    boot: Arc<str>,
    epoch: u64,
    peers: Peers<R>,
    flush: Flush,
    own: Option<Own>,
    duplicates: Duplicates,
    /// When the fence last opened: the watch delivered the own ledger in time, after it had not done so
    /// before.
    opened: Moment,
    listed: bool,
}

impl<R: Rules> Ledgers<R> {
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

    /// The store went back. Versions in ledgers of other epochs no longer count, not even those in this
    /// replica's own ledger. `heartbeats` are all heartbeats that this replica has taken; they are
    /// reported again.
    pub(super) fn begin_epoch(&mut self, epoch: u64, heartbeats: Vec<(u64, Moment)>) {
        self.update_epoch(epoch);
        self.own = None;
        self.flush.begin_epoch(heartbeats);
    }

    /// Sets the current epoch.
    pub(super) fn update_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.peers.update_epoch(epoch);
    }

    /// Applies a ledger that another process wrote under this replica's name.
    fn apply_duplicate(
        &mut self,
        ledger: &Ledger,
        arrival: Arrival,
        now: Moment,
    ) -> Option<LedgerNews> {
        if arrival == Arrival::FirstList {
            self.duplicates.set_replaced(&ledger.boot);
            return None;
        }
        if self.own.is_some_and(|own| ledger.version < own.version) {
            return None;
        }
        let began = self.own.is_some() || self.duplicates.is_yielding();
        let news = self.duplicates.apply(ledger, &self.boot, began, now);
        if self.duplicates.is_yielding() {
            self.own = None;
        }
        Some(news)
    }

    /// The watch delivered the replica's own ledger.
    fn apply_own(&mut self, ledger: &Ledger, now: Moment) {
        let is_old = self.own.is_some_and(|own| ledger.stamp <= own.stamp);
        // This process never writes a stamp in the future, so another process wrote the ledger.
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

    /// The moment from which heartbeats are no longer answered 200. When the fence opens, at the start or
    /// later, this replica must first receive all changes of instances up to that moment, because the
    /// other replicas may have judged leases without waiting for it.
    pub(super) fn fence(&self, self_beat: Moment) -> Moment {
        let own = self.own.filter(|_| !self.flush.is_leaving());
        let open = self_beat >= self.opened || !R::FENCE_WAITS_FOR_INSTANCES;
        match own.filter(|_| open) {
            _ if !R::FENCE => Moment(u64::MAX),
            Some(own) => self.fence_of(own),
            None => Moment(0),
        }
    }

    /// The combined horizon; `None` if it is not known now.
    pub(super) fn horizon(&self, self_beat: Moment) -> Option<Moment> {
        let own = self.own.filter(|_| self.listed)?;
        let own = if R::OWN_LEDGER_HOLDS { own.stamp } else { self_beat };
        let others = self.peers.horizon().ok()?.unwrap_or(own);
        Some(self_beat.min(own).min(others))
    }

    /// Of the live replicas and this one, the replica whose newest ledger was received longest ago, and
    /// when it was received.
    fn oldest(&self) -> Option<(Arc<str>, Moment)> {
        let own = self.own.map(|own| (self.name.clone(), own.seen));
        let live = self.peers.acknowledgements().into_iter().map(|seen| (seen.replica, seen.at));
        live.chain(own).min_by_key(|(_, seen)| *seen)
    }

    /// Whether every live replica, this one included, has reported that it has received this version.
    pub(super) fn have_acknowledged(&self, version: u64) -> bool {
        !R::EVICTIONS_ACKNOWLEDGED
            || (self.own.is_some_and(|own| own.index >= version)
                && self.peers.have_acknowledged(version))
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Applies a list of all ledgers. Returns whether it is the first list, and whether ledgers have
    /// disappeared, in which case reported heartbeats may have been missed.
    pub(super) fn list(&mut self, ledgers: &[Arc<Ledger>], now: Moment) -> (bool, bool) {
        let first = !std::mem::replace(&mut self.listed, true);
        (first, !first && self.peers.keep_only(ledgers, now))
    }

    /// Applies a ledger. Returns what follows from it; `None` for the replica's own ledger.
    pub(super) fn apply(
        &mut self,
        ledger: &Ledger,
        arrival: Arrival,
        now: Moment,
    ) -> Option<LedgerNews> {
        if ledger.replica == self.name {
            if ledger.boot != self.boot && R::DUPLICATES_ARE_DISTINGUISHED {
                return self.apply_duplicate(ledger, arrival, now);
            }
            self.apply_own(ledger, now);
            return None;
        }
        let news = self.peers.apply(ledger, arrival, now);
        if news.asks && R::ASK {
            self.flush.request_now();
        }
        Some(news)
    }

    pub(super) fn deleted(&mut self, replica: &str, version: u64, now: Moment) {
        self.peers.deleted(replica, version, now);
    }

    /// The write of the own ledger was answered or abandoned. Returns the index in it if it belongs to
    /// this epoch.
    pub(super) fn written(&mut self, sequence: u64, stored: bool) -> Option<u64> {
        self.flush.written(sequence, stored)
    }

    pub(super) fn start_leaving(&mut self) {
        self.flush.start_leaving();
    }

    /// Updates which replicas are silent, gone or back. Returns the moment from which every instance has a
    /// whole lease because of them.
    pub(super) fn update_silence(&mut self, now: Moment) -> Option<Moment> {
        self.duplicates.update(now);
        self.peers.tick(now);
        self.peers.not_before().max(self.duplicates.not_before())
    }

    /// The moment at which the fence could have opened, while it still waits for a self-beat sent after
    /// that moment.
    pub(super) fn pending_opening(&self, self_beat: Moment) -> Option<Moment> {
        self.own?;
        (self_beat < self.opened).then_some(self.opened)
    }

    /// Whether the own ledger is written as soon as the pace allows.
    pub(super) fn is_urgent(&self) -> bool {
        self.flush.is_urgent()
    }

    /// A replica whose ledger is no longer needed, with the version of the ledger.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<(Arc<str>, u64)> {
        self.peers.sweep(now)
    }

    /// The own ledger, if it must be written now. `shortest` is the shortest lease of all, `due` the
    /// latest deadline that waits for the horizon, `horizon` the combined horizon, and `index` the highest
    /// resourceVersion received.
    pub(super) fn next_ledger(
        &mut self,
        unreported: &Unreported,
        now: Moment,
        shortest: Option<Duration>,
        due: Option<Moment>,
        index: u64,
        horizon: Moment,
    ) -> Option<Ledger> {
        if !self.listed || self.duplicates.is_yielding() {
            return None;
        }
        // This replica confirms no heartbeats until the other replicas have its ledger, so the first
        // ledger is urgent.
        let unknown = self.own.is_none().then(Moment::default);
        let beats = !unreported.is_empty();
        if !self.flush.is_wanted(&FlushTrigger { now, due: due.max(unknown), beats, shortest }) {
            return None;
        }
        let mut ledger = Ledger {
            replica: self.name.clone(),
            boot: self.boot.clone(),
            replaced: self.duplicates.replaced(),
            stamp: now,
            epoch: self.epoch,
            peers: self.peers.acknowledgements(),
            index,
            horizon,
            // A replica that has just started has no horizon until the others report that they received
            // its ledger.
            ask: due.is_some() || horizon == Moment::default(),
            ..Ledger::default()
        };
        self.flush.fill(&mut ledger, unreported.take(now), self.peers.acknowledged_stamp());
        Some(ledger)
    }

    /// The other replicas, for reports.
    pub(super) fn report(&self) -> Vec<report::Peer> {
        self.peers.report()
    }

    pub(super) fn is_yielding(&self) -> bool {
        self.duplicates.is_yielding()
    }

    pub(super) fn duplicates(&self, now: Moment) -> Vec<Duplicate> {
        let own = self.duplicates.report(&self.name, &self.boot, now);
        own.into_iter().chain(self.peers.duplicates(now)).collect()
    }

    pub(super) fn boot_of(&self, replica: &str) -> Option<Arc<str>> {
        self.peers.boot_of(replica)
    }

    /// The replica whose ledger holds the horizon back, if there is one.
    pub(super) fn standstill(&self, now: Moment) -> Option<Standstill> {
        let (replica, since) = self.oldest()?;
        let old = now.since(since) > LEDGER_OLD;
        old.then_some(Standstill { since, cause: Cause::Silent(replica) })
    }
}
