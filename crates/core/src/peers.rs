//! Peers: the other replicas, as their ledgers show them.
//!
//! Owns: the newest ledger of each replica, the bounds of its clock, which replicas are live, silent or gone,
//! and the grace that follows. Does not own: what the heartbeats in a ledger do (`instances`), and the
//! replica's own ledger (`flush`).
//!
//! A replica is *live* from the moment its first ledger is received until its ledger says that it is
//! leaving, has not changed for 10 s, is deleted, or is written by another boot. Until 10 s after its last
//! stamp, the replica may have answered heartbeats with 200 that it will never report. So when a replica
//! is *gone*, every instance has a whole lease from the end of these 10 s. If the same boot comes back and
//! no heartbeat is missing, that grace is withdrawn.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

use crate::{
    bounds::Bounds,
    ledger::{Ledger, PeerSeen, Segment},
    report::{self, Duplicate, Presence},
    rules::Rules,
};

/// A replica whose ledger has not changed for this long is gone. A replica is fenced once the stamp of its
/// own newest ledger is this old.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// A replica that has been gone for this long is dropped. If it comes back, that counts as a gap.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The ledger of a replica that has been gone for this long is deleted. If the replica comes back, it writes
/// another one, and reports the heartbeats that it took as far as it kept them.
const SWEEP_AFTER: Duration = Duration::from_secs(300);

/// How a ledger was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// In the first list. Heartbeats reported earlier are covered by the whole lease that every instance
    /// gets when this replica starts.
    FirstList,
    /// In a later list: ledgers in between may have been missed.
    Relist,
    /// From the watch, which skips no ledger.
    Watch,
}

/// What follows from a ledger.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LedgerNews {
    /// Reported heartbeats may have been missed: every instance has a whole lease from now on.
    pub(super) gap: bool,
    /// The replica asks for this replica's ledger.
    pub(super) asks: bool,
    /// The heartbeats that it took, each with its latest possible moment on this replica's clock.
    pub(super) beats: Vec<(u64, Moment)>,
}

#[derive(Debug)]
struct Peer {
    boot: Arc<str>,
    /// resourceVersion of its newest ledger received here.
    version: u64,
    sequence: u64,
    stamp: Moment,
    index: u64,
    /// How far its horizon was behind its stamp; `None` if it had no horizon.
    behind: Option<Duration>,
    /// When that ledger was received, on this replica's clock.
    seen: Moment,
    bounds: Bounds,
    /// The stamp of this replica's newest ledger that the peer has received.
    acknowledged: Moment,
    left: bool,
    /// If it is gone: the latest moment at which it can have confirmed heartbeats.
    gone: Option<Moment>,
    /// Whether its ledger is being deleted.
    swept: bool,
    /// The epoch of that ledger.
    epoch: u64,
    /// The boot that this process replaced, as its ledger says.
    replaced: Option<Arc<str>>,
    /// Another process of this name that may still run: either the one that this process replaced, or the
    /// younger one, which yields once both are proved to run.
    other: Option<Box<Other>>,
}

#[derive(Debug)]
struct Other {
    peer: Peer,
    /// How many different ledgers of it were received since the first ledger of the younger process.
    writes: u32,
    /// Both processes are proved to run, and this is the younger one.
    yields: bool,
}

/// All other replicas.
#[derive(Debug)]
pub(super) struct Peers<R: Rules> {
    own: Arc<str>,
    boot: Arc<str>,
    rules: PhantomData<R>,
    peers: BTreeMap<Arc<str>, Peer>,
    /// The latest end of a process that has not come back.
    former: Option<Moment>,
    /// The current epoch. Versions in ledgers of an earlier epoch are ignored.
    epoch: u64,
}

impl Peer {
    fn new(ledger: &Ledger, ageing: u64) -> Self {
        Self {
            boot: ledger.boot.clone(),
            version: 0,
            sequence: 0,
            stamp: Moment::default(),
            index: 0,
            behind: None,
            seen: Moment::default(),
            bounds: Bounds::new(ageing),
            acknowledged: Moment::default(),
            left: false,
            gone: None,
            swept: false,
            epoch: ledger.epoch,
            replaced: ledger.replaced.clone(),
            other: None,
        }
    }

    /// Whether this ledger belongs to the other process of this name.
    fn is_other_process(&self, ledger: &Ledger) -> bool {
        let is_other =
            |other: &Other| other.peer.boot == ledger.boot && (!other.yields || self.is_live());
        self.other.as_deref().is_some_and(is_other)
            || (self.boot != ledger.boot && self.replaced.as_ref() == Some(&ledger.boot))
    }

    fn is_live(&self) -> bool {
        self.gone.is_none() && !self.left
    }

    /// Whether `ledger` was written after the newest one received. Within one process the sequence
    /// decides; between two processes the versions, which rise within an epoch.
    fn is_older_than(&self, ledger: &Ledger) -> bool {
        if self.boot == ledger.boot {
            return self.sequence < ledger.sequence;
        }
        (self.epoch, self.version) < (ledger.epoch, ledger.version)
    }

    /// Until when it may confirm heartbeats that it never reports; then it is fenced. `now` is a moment
    /// after its ledger was received.
    fn confirms_until(&self, now: Moment) -> Moment {
        self.bounds.latest(self.stamp.after(SILENCE)).unwrap_or_else(|| now.after(SILENCE))
    }
}

impl<R: Rules> Peers<R> {
    pub(super) fn new(own: Arc<str>, boot: Arc<str>) -> Self {
        Self { own, boot, rules: PhantomData, peers: BTreeMap::new(), former: None, epoch: 0 }
    }

    /// Sets the current epoch.
    pub(super) fn update_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Applies another replica's ledger.
    pub(super) fn apply(&mut self, ledger: &Ledger, arrival: Arrival, now: Moment) -> LedgerNews {
        let mut gap = false;
        let old = self.peers.get(&ledger.replica);
        if old.is_some_and(|old| old.is_other_process(ledger)) && R::DUPLICATES_ARE_DISTINGUISHED {
            return self.apply_other_process(ledger, now);
        }
        let old = self.peers.get(&ledger.replica);
        if old.is_some_and(|old| !old.is_older_than(ledger)) {
            self.update_version(ledger, arrival);
            return LedgerNews::default();
        }
        let mut replaced = None;
        if old.is_some_and(|old| old.boot != ledger.boot) && R::CHANGED_BOOT_IS_GONE {
            (gap, replaced) = self.end_process(&ledger.replica, arrival, now);
        }
        let replaced = replaced.filter(|peer| ledger.replaced.as_ref() == Some(&peer.boot));
        let other = replaced.map(|peer| Box::new(Other { peer, writes: 0, yields: false }));
        let (own, boot) = (self.own.clone(), self.boot.clone());
        let fresh = || Peer::new(ledger, R::AGEING);
        let peer = self.peers.entry(ledger.replica.clone()).or_insert_with(fresh);
        if peer.boot != ledger.boot {
            // Only reached if the rules ignore changed boots.
            (peer.boot, peer.sequence) = (ledger.boot.clone(), ledger.sequence.saturating_sub(1));
        }
        peer.bounds.record_received(ledger.stamp, now);
        let us = ledger.peers.iter().find(|seen| seen.replica == own && seen.boot == boot);
        if let Some(us) = us {
            peer.bounds.record_reported(us.stamp, us.at);
            peer.acknowledged = peer.acknowledged.max(us.stamp);
        }
        if peer.bounds.contradict(ledger.stamp) {
            gap = true;
            peer.bounds = Bounds::new(R::AGEING);
            peer.bounds.record_received(ledger.stamp, now);
        }
        let missing = !covers(&ledger.segments, peer.sequence, ledger.sequence);
        gap |= arrival != Arrival::FirstList && missing && R::MISSING_IS_GAP;
        let beats = match arrival {
            Arrival::FirstList => Vec::new(),
            _ => heartbeats_since(ledger, &peer.bounds, peer.sequence, now),
        };
        (peer.version, peer.sequence) = (ledger.version, ledger.sequence);
        (peer.stamp, peer.seen) = (ledger.stamp, now);
        peer.behind = (ledger.horizon.0 > 0).then(|| ledger.stamp.since(ledger.horizon));
        (peer.index, peer.left, peer.gone) = (ledger.index, ledger.leaving, None);
        (peer.epoch, peer.swept) = (ledger.epoch, false);
        if other.is_some() {
            peer.other = other;
        }
        LedgerNews { gap, asks: ledger.ask, beats }
    }

    /// A relist shows a known ledger in another version: the store went back, and the ledger with it. A later
    /// write must name that version.
    fn update_version(&mut self, ledger: &Ledger, arrival: Arrival) {
        let peer = self.peers.get_mut(&ledger.replica).filter(|peer| peer.boot == ledger.boot);
        if let Some(peer) =
            peer.filter(|peer| arrival == Arrival::Relist && peer.version != ledger.version)
        {
            (peer.version, peer.swept) = (ledger.version, false);
        }
    }

    /// Another process now runs under the name of this peer. The former process has ended, or still runs
    /// and confirms heartbeats until it is fenced. Returns whether that is a gap, and the former peer,
    /// whose ledgers can still arrive.
    fn end_process(
        &mut self,
        replica: &Arc<str>,
        arrival: Arrival,
        now: Moment,
    ) -> (bool, Option<Peer>) {
        let Some(peer) = self.peers.remove(replica).filter(|peer| !peer.left) else {
            return (false, None);
        };
        self.former = self.former.max(peer.gone.or_else(|| Some(peer.confirms_until(now))));
        (arrival != Arrival::Watch, Some(peer))
    }

    /// Applies a ledger of the other process of a name. The heartbeats that it reports count in any case. Two
    /// different ledgers of the replaced process prove that both run, and from then on the older one counts.
    fn apply_other_process(&mut self, ledger: &Ledger, now: Moment) -> LedgerNews {
        let Some(peer) = self.peers.get_mut(&ledger.replica) else { return LedgerNews::default() };
        let fresh =
            || Box::new(Other { peer: Peer::new(ledger, R::AGEING), writes: 0, yields: false });
        let mut other = peer.other.take().unwrap_or_else(fresh);
        let mut news = LedgerNews::default();
        if ledger.sequence > other.peer.sequence {
            news = ledger_news(ledger, &mut other.peer.bounds, other.peer.sequence, now);
            (other.peer.sequence, other.peer.stamp) = (ledger.sequence, ledger.stamp);
            (other.peer.version, other.peer.seen) = (ledger.version, now);
            (other.peer.epoch, other.peer.index) = (ledger.epoch, ledger.index);
            other.writes += 1;
            self.former = self.former.max(Some(other.peer.confirms_until(now)));
        }
        if other.yields || other.writes < 2 {
            peer.other = Some(other);
            return news;
        }
        // The younger process confirms heartbeats until it is fenced, and no longer reports them.
        self.former = self.former.max(Some(peer.confirms_until(now)));
        let older = Peer { gone: None, left: false, other: None, ..other.peer };
        let younger = std::mem::replace(peer, older);
        peer.other = Some(Box::new(Other { peer: younger, writes: 0, yields: true }));
        news
    }

    /// The identities under which two processes run, for reports.
    pub(super) fn duplicates(&self, now: Moment) -> impl Iterator<Item = Duplicate> {
        let duplicate = move |(replica, peer): (&Arc<str>, &Peer)| {
            let other = peer.other.as_deref().filter(|other| other.yields)?;
            let (older, younger) = (peer.boot.clone(), other.peer.boot.clone());
            let is_recent = now.since(other.peer.seen) <= SWEEP_AFTER;
            is_recent.then(|| Duplicate { replica: replica.clone(), older, younger })
        };
        self.peers.iter().filter_map(duplicate)
    }

    /// Drops the peers that are not in a relist. Returns whether that is a gap. A peer whose ledger was
    /// lost when the store went back is kept: it reports again in this epoch, or becomes silent.
    pub(super) fn keep_only(&mut self, listed: &[Arc<Ledger>], now: Moment) -> bool {
        let there = |name: &Arc<str>| listed.iter().any(|ledger| ledger.replica == *name);
        let current = self.peers.iter().filter(|(_, peer)| peer.epoch >= self.epoch);
        let vanished: Vec<_> =
            current.map(|(name, _)| name).filter(|name| !there(name)).cloned().collect();
        let mut gap = false;
        for replica in vanished {
            let peer = self.peers.remove(&replica).filter(|peer| !peer.left);
            gap |= peer.is_some();
            // If the replica still runs, it confirms heartbeats until it is fenced.
            self.former = self.former.max(peer.map(|peer| peer.confirms_until(now)));
        }
        gap
    }

    /// A ledger was deleted, either because its replica left or manually. In the second case the replica
    /// may still run.
    pub(super) fn deleted(&mut self, replica: &str, version: u64, now: Moment) {
        let peer = self.peers.get_mut(replica).filter(|peer| peer.version < version);
        if let Some(peer) = peer {
            peer.version = version;
            peer.gone = peer.gone.or_else(|| Some(peer.confirms_until(now)));
        }
    }

    /// Marks silent replicas as gone.
    pub(super) fn tick(&mut self, now: Moment) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_live()) {
            if now.since(peer.seen) > SILENCE {
                peer.gone = Some(peer.confirms_until(now));
            }
        }
        let former = &mut self.former;
        self.peers.retain(|_, peer| {
            let forgotten = now.since(peer.seen) > FORGET_AFTER && !peer.is_live();
            if forgotten && !peer.left {
                *former = (*former).max(peer.gone);
            }
            !forgotten
        });
    }

    /// A replica whose ledger is no longer needed, with the version of the ledger; each is returned once.
    /// Kubernetes itself deletes the ledger of a deleted pod; this function covers all other ledgers.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<(Arc<str>, u64)> {
        let is_of_no_use = |peer: &Peer| {
            let silent = now.since(peer.seen);
            !peer.swept
                && (peer.left && silent > SILENCE || peer.gone.is_some() && silent > SWEEP_AFTER)
        };
        let (replica, peer) = self.peers.iter_mut().find(|(_, peer)| is_of_no_use(peer))?;
        peer.swept = true;
        Some((replica.clone(), peer.version))
    }

    /// The moment from which every instance has a whole lease because of replicas that are gone.
    pub(super) fn not_before(&self) -> Option<Moment> {
        let gone = self.peers.values().filter(|peer| !peer.left).filter_map(|peer| peer.gone);
        let silent = if R::LATEST_GRACE_COUNTS { gone.max() } else { gone.min() };
        self.former.max(silent.filter(|_| R::SILENT_HOLDS))
    }

    /// The moment up to which all heartbeats of live replicas are known; `None` if no replica is live. The
    /// error names a replica whose clock is not known yet.
    pub(super) fn horizon(&self) -> Result<Option<Moment>, Arc<str>> {
        let mut horizon = None;
        for (name, peer) in self.peers.iter().filter(|(_, peer)| peer.is_live()) {
            if peer.epoch < self.epoch {
                return Err(name.clone());
            }
            let seen = match R::TWO_BOUNDS {
                true => peer.bounds.earliest(peer.stamp),
                false => peer.bounds.latest(peer.stamp),
            };
            let seen = seen.ok_or_else(|| name.clone())?;
            horizon = Some(horizon.map_or(seen, |horizon: Moment| horizon.min(seen)));
        }
        Ok(horizon)
    }

    /// Whether every live replica has reported that it has received this version of an instance.
    pub(super) fn have_acknowledged(&self, version: u64) -> bool {
        let mut live = self.peers.values().filter(|peer| peer.is_live());
        live.all(|peer| peer.epoch == self.epoch && peer.index >= version)
    }

    /// The stamp up to which every live replica has received this replica's ledgers; `None` if no other
    /// replica is live.
    pub(super) fn acknowledged_stamp(&self) -> Option<Moment> {
        self.peers.values().filter(|peer| peer.is_live()).map(|peer| peer.acknowledged).min()
    }

    /// The other replicas, for reports.
    pub(super) fn report(&self) -> Vec<report::Peer> {
        let presence = |peer: &Peer| match (peer.left, peer.gone) {
            (true, _) => Presence::Left,
            (_, Some(_)) => Presence::Gone,
            _ => Presence::Live,
        };
        let summary = |(replica, peer): (&Arc<str>, &Peer)| report::Peer {
            replica: replica.clone(),
            boot: peer.boot.clone(),
            seen: peer.seen,
            index: peer.index,
            behind: peer.behind,
            presence: presence(peer),
        };
        self.peers.iter().map(summary).collect()
    }

    /// The boot of a replica, according to its newest ledger.
    pub(super) fn boot_of(&self, replica: &str) -> Option<Arc<str>> {
        self.peers.get(replica).map(|peer| peer.boot.clone())
    }

    /// The newest ledger received from each live replica, for the replica's own ledger.
    pub(super) fn acknowledgements(&self) -> Vec<PeerSeen> {
        let live = self.peers.iter().filter(|(_, peer)| peer.is_live());
        let seen = live.map(|(replica, peer)| PeerSeen {
            replica: replica.clone(),
            boot: peer.boot.clone(),
            stamp: peer.stamp,
            at: peer.seen,
        });
        seen.collect()
    }
}

/// What a ledger reports beyond the ledger `last` of the same process, when two processes have the same
/// name.
pub(super) fn ledger_news(
    ledger: &Ledger,
    bounds: &mut Bounds,
    last: u64,
    now: Moment,
) -> LedgerNews {
    bounds.record_received(ledger.stamp, now);
    let gap = !covers(&ledger.segments, last, ledger.sequence);
    LedgerNews { gap, asks: false, beats: heartbeats_since(ledger, bounds, last, now) }
}

/// Whether the segments cover every ledger after `last`, up to `upto`.
fn covers(segments: &[Segment], last: u64, upto: u64) -> bool {
    let mut known = last;
    for segment in segments {
        if segment.first <= known.saturating_add(1) {
            known = known.max(segment.sequence);
        }
    }
    known >= upto
}

/// The heartbeats of a ledger that were not in a ledger up to `last`, on this replica's clock.
fn heartbeats_since(
    ledger: &Ledger,
    bounds: &Bounds,
    last: u64,
    now: Moment,
) -> Vec<(u64, Moment)> {
    let new = ledger.segments.iter().filter(|segment| segment.sequence > last);
    let reported = new.flat_map(|segment| segment.beats.iter());
    let beat = |(id, age): &(u64, u32)| {
        let at = Moment(ledger.stamp.0.saturating_sub(u64::from(*age)));
        // The heartbeat came before now, even if the bounds allow a later moment.
        (*id, bounds.latest(at).unwrap_or(now).min(now))
    };
    reported.map(beat).collect()
}
