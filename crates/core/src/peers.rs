//! The other replicas, as their ledgers show them.
//!
//! Owns: which ledger of each was seen newest, the bounds of its clock, who is live, silent or gone,
//! and the grace that follow. Does not own: what the beats in a ledger do (`instances`), and the own
//! ledger (`flush`).
//!
//! A replica is *live* from the first sight of its ledger until it has said that it leaves, or its
//! ledger has not moved for 10 s, or is deleted, or another boot writes it. Until 10 s after its last
//! stamp it may have answered beats 200 that nobody will ever tell: so while it is *gone*, everybody has
//! a whole lease from then on. If the same boot comes back and nothing is missing, that is withdrawn.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use rollcall_model::lease::Moment;

use crate::{
    bounds::Bounds,
    ledger::{Ledger, PeerSeen, Segment},
    report::{self, Duplicate, Presence},
    rules::Rules,
};

/// A ledger that has not moved for so long is that of a replica that is gone; and one whose stamp is
/// as old fences its own replica.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// A replica that has been gone for so long is forgotten. Should it come back, that is a gap.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The ledger of one that has been gone for so long is deleted. Should it come back, it writes another, and
/// what it took meanwhile is told as far as it is kept.
const SWEPT: Duration = Duration::from_secs(300);

/// In what way a ledger came to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The first list: what was told before is covered by the lease that a start gives everybody.
    First,
    /// A later list: there may have been ledgers in between that were not seen.
    Relist,
    /// The watch, which leaves nothing out.
    Watch,
}

/// What a sighting leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Beats may have been told that were not seen: everybody has a lease from now on.
    pub(super) gap: bool,
    /// The replica waits for our ledger.
    pub(super) asks: bool,
    /// What it witnessed, and when at the latest, on our clock.
    pub(super) beats: Vec<(u64, Moment)>,
}

#[derive(Debug)]
struct Peer {
    boot: Arc<str>,
    /// The newest ledger seen.
    version: u64,
    sequence: u64,
    stamp: Moment,
    index: u64,
    /// How far its horizon was behind its stamp; none when it was not known.
    behind: Option<Duration>,
    /// When it was seen, on our clock.
    seen: Moment,
    bounds: Bounds,
    /// The stamp of the newest of our ledgers that it has seen.
    knows: Moment,
    /// It has said that it leaves.
    left: bool,
    /// From when on it is gone, at the latest.
    gone: Option<Moment>,
    /// Its ledger is being deleted.
    swept: bool,
    /// Of the store's history, when it wrote that ledger.
    epoch: u64,
    /// The boot that this process replaced, as it says.
    replaced: Option<Arc<str>>,
    /// Another process of this name that may still run: the one that this one replaced, or, where that has proved to run,
    /// the younger one, which yields.
    other: Option<Box<Other>>,
}

/// The other of two processes of one name.
#[derive(Debug)]
struct Other {
    peer: Peer,
    /// How many different ledgers of it were seen since the younger one's was.
    writes: u32,
    /// Both are proved to run, and this is the younger.
    yields: bool,
}

/// All others.
#[derive(Debug)]
pub(super) struct Peers<R: Rules> {
    own: Arc<str>,
    boot: Arc<str>,
    rules: PhantomData<R>,
    peers: BTreeMap<Arc<str>, Peer>,
    /// The latest end of a process that was not seen to come back.
    former: Option<Moment>,
    /// Of the store's history: ledgers of an earlier one say nothing of versions.
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
            knows: Moment::default(),
            left: false,
            gone: None,
            swept: false,
            epoch: ledger.epoch,
            replaced: ledger.replaced.clone(),
            other: None,
        }
    }

    /// Whether the process of this ledger is the other one of this name.
    fn is_beside(&self, ledger: &Ledger) -> bool {
        let is_other =
            |other: &Other| other.peer.boot == ledger.boot && (!other.yields || self.is_live());
        self.other.as_deref().is_some_and(is_other)
            || (self.boot != ledger.boot && self.replaced.as_ref() == Some(&ledger.boot))
    }

    fn is_live(&self) -> bool {
        self.gone.is_none() && !self.left
    }

    /// Whether this ledger was written later than the one seen newest. One process counts its ledgers; those of two are
    /// told apart by their versions, which rise within an epoch.
    fn is_older_than(&self, ledger: &Ledger) -> bool {
        if self.boot == ledger.boot {
            return self.sequence < ledger.sequence;
        }
        (self.epoch, self.version) < (ledger.epoch, ledger.version)
    }

    /// Up to when it may answer beats that it never told: then it is fenced. `now` has passed since its
    /// ledger was seen.
    fn end(&self, now: Moment) -> Moment {
        self.bounds.latest(self.stamp.after(SILENCE)).unwrap_or_else(|| now.after(SILENCE))
    }
}

impl<R: Rules> Peers<R> {
    pub(super) fn new(own: Arc<str>, boot: Arc<str>) -> Self {
        Self { own, boot, rules: PhantomData, peers: BTreeMap::new(), former: None, epoch: 0 }
    }

    /// The store's history is in this epoch from now on.
    pub(super) fn follow_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Another replica's ledger is seen.
    pub(super) fn see(&mut self, ledger: &Ledger, way: Way, now: Moment) -> Sighting {
        let mut gap = false;
        let old = self.peers.get(&ledger.replica);
        if old.is_some_and(|old| old.is_beside(ledger)) && R::DUPLICATES_ARE_TOLD_APART {
            return self.see_other(ledger, now);
        }
        let old = self.peers.get(&ledger.replica);
        if old.is_some_and(|old| !old.is_older_than(ledger)) {
            self.follow_version(ledger, way);
            return Sighting::default();
        }
        let mut replaced = None;
        if old.is_some_and(|old| old.boot != ledger.boot) && R::CHANGED_BOOT_IS_GONE {
            (gap, replaced) = self.end(&ledger.replica, way, now);
        }
        let replaced = replaced.filter(|peer| ledger.replaced.as_ref() == Some(&peer.boot));
        let other = replaced.map(|peer| Box::new(Other { peer, writes: 0, yields: false }));
        let (own, boot) = (self.own.clone(), self.boot.clone());
        let fresh = || Peer::new(ledger, R::AGEING);
        let peer = self.peers.entry(ledger.replica.clone()).or_insert_with(fresh);
        if peer.boot != ledger.boot {
            // Only where a changed boot goes unnoticed.
            (peer.boot, peer.sequence) = (ledger.boot.clone(), ledger.sequence.saturating_sub(1));
        }
        peer.bounds.seen(ledger.stamp, now);
        let us = ledger.peers.iter().find(|seen| seen.replica == own && seen.boot == boot);
        if let Some(us) = us {
            peer.bounds.was_seen(us.stamp, us.at);
            peer.knows = peer.knows.max(us.stamp);
        }
        if peer.bounds.contradict(ledger.stamp) {
            gap = true;
            peer.bounds = Bounds::new(R::AGEING);
            peer.bounds.seen(ledger.stamp, now);
        }
        let missing = !covers(&ledger.segments, peer.sequence, ledger.sequence);
        gap |= way != Way::First && missing && R::MISSING_IS_GAP;
        let beats = match way {
            Way::First => Vec::new(),
            _ => beats(ledger, &peer.bounds, peer.sequence, now),
        };
        (peer.version, peer.sequence) = (ledger.version, ledger.sequence);
        (peer.stamp, peer.seen) = (ledger.stamp, now);
        peer.behind = (ledger.horizon.0 > 0).then(|| ledger.stamp.since(ledger.horizon));
        (peer.index, peer.left, peer.gone) = (ledger.index, ledger.leaving, None);
        (peer.epoch, peer.swept) = (ledger.epoch, false);
        if other.is_some() {
            peer.other = other;
        }
        Sighting { gap, asks: ledger.ask, beats }
    }

    /// A relist shows the ledger that is known in another version: the store went back, and it with it. A write on it
    /// has to name that one.
    fn follow_version(&mut self, ledger: &Ledger, way: Way) {
        let peer = self.peers.get_mut(&ledger.replica).filter(|peer| peer.boot == ledger.boot);
        if let Some(peer) = peer.filter(|peer| way == Way::Relist && peer.version != ledger.version)
        {
            (peer.version, peer.swept) = (ledger.version, false);
        }
    }

    /// Another process bears the name of this one, which has ended, or runs beside it and promises until it is fenced.
    /// Answers whether that is a gap, and what was known of it: should it still run, its ledgers go on.
    fn end(&mut self, replica: &Arc<str>, way: Way, now: Moment) -> (bool, Option<Peer>) {
        let Some(peer) = self.peers.remove(replica).filter(|peer| !peer.left) else {
            return (false, None);
        };
        self.former = self.former.max(peer.gone.or_else(|| Some(peer.end(now))));
        (way != Way::Watch, Some(peer))
    }

    /// A ledger of the other process of a name. What it reports counts in any case; two different ledgers of the one that
    /// was replaced prove that both run, and from then on it is the older one that counts.
    fn see_other(&mut self, ledger: &Ledger, now: Moment) -> Sighting {
        let Some(peer) = self.peers.get_mut(&ledger.replica) else { return Sighting::default() };
        let fresh =
            || Box::new(Other { peer: Peer::new(ledger, R::AGEING), writes: 0, yields: false });
        let mut other = peer.other.take().unwrap_or_else(fresh);
        let mut sighting = Sighting::default();
        if ledger.sequence > other.peer.sequence {
            sighting = news(ledger, &mut other.peer.bounds, other.peer.sequence, now);
            (other.peer.sequence, other.peer.stamp) = (ledger.sequence, ledger.stamp);
            (other.peer.version, other.peer.seen) = (ledger.version, now);
            (other.peer.epoch, other.peer.index) = (ledger.epoch, ledger.index);
            other.writes += 1;
            self.former = self.former.max(Some(other.peer.end(now)));
        }
        if other.yields || other.writes < 2 {
            peer.other = Some(other);
            return sighting;
        }
        // The younger one promises until it is fenced, and reports no more.
        self.former = self.former.max(Some(peer.end(now)));
        let older = Peer { gone: None, left: false, other: None, ..other.peer };
        let younger = std::mem::replace(peer, older);
        peer.other = Some(Box::new(Other { peer: younger, writes: 0, yields: true }));
        sighting
    }

    /// Names that two processes bear, for people.
    pub(super) fn duplicates(&self, now: Moment) -> impl Iterator<Item = Duplicate> {
        let of = move |(replica, peer): (&Arc<str>, &Peer)| {
            let other = peer.other.as_deref().filter(|other| other.yields)?;
            let (older, younger) = (peer.boot.clone(), other.peer.boot.clone());
            let lately = now.since(other.peer.seen) <= SWEPT;
            lately.then(|| Duplicate { replica: replica.clone(), older, younger })
        };
        self.peers.iter().filter_map(of)
    }

    /// A relist did not bring these. Answers whether that is a gap. Where the store has gone back, and a ledger with it,
    /// its replica has yet to report in this epoch, or is silent.
    pub(super) fn keep_only(&mut self, listed: &[Arc<Ledger>], now: Moment) -> bool {
        let there = |name: &Arc<str>| listed.iter().any(|ledger| ledger.replica == *name);
        let current = self.peers.iter().filter(|(_, peer)| peer.epoch >= self.epoch);
        let vanished: Vec<_> =
            current.map(|(name, _)| name).filter(|name| !there(name)).cloned().collect();
        let mut gap = false;
        for replica in vanished {
            let peer = self.peers.remove(&replica).filter(|peer| !peer.left);
            gap |= peer.is_some();
            // It may be alive: then it answers until it is fenced.
            self.former = self.former.max(peer.map(|peer| peer.end(now)));
        }
        gap
    }

    /// A ledger was deleted: of a replica that has left, or by hand. Then its replica may be alive.
    pub(super) fn deleted(&mut self, replica: &str, version: u64, now: Moment) {
        let peer = self.peers.get_mut(replica).filter(|peer| peer.version < version);
        if let Some(peer) = peer {
            peer.version = version;
            peer.gone = peer.gone.or_else(|| Some(peer.end(now)));
        }
    }

    /// Notices who has fallen silent.
    pub(super) fn tick(&mut self, now: Moment) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_live()) {
            if now.since(peer.seen) > SILENCE {
                peer.gone = Some(peer.end(now));
            }
        }
        let former = &mut self.former;
        self.peers.retain(|_, peer| {
            let forgotten = now.since(peer.seen) > FORGOTTEN && !peer.is_live();
            if forgotten && !peer.left {
                *former = (*former).max(peer.gone);
            }
            !forgotten
        });
    }

    /// One whose ledger is of no use any more, with its version; each is named once. Where pods are deleted
    /// their ledgers go with them: these are the others.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<(Arc<str>, u64)> {
        let is_of_no_use = |peer: &Peer| {
            let silent = now.since(peer.seen);
            !peer.swept && (peer.left && silent > SILENCE || peer.gone.is_some() && silent > SWEPT)
        };
        let (replica, peer) = self.peers.iter_mut().find(|(_, peer)| is_of_no_use(peer))?;
        peer.swept = true;
        Some((replica.clone(), peer.version))
    }

    /// From when on everybody has a whole lease, because of those who are gone.
    pub(super) fn not_before(&self) -> Option<Moment> {
        let gone = self.peers.values().filter(|peer| !peer.left).filter_map(|peer| peer.gone);
        let silent = if R::GRACE_ADDS_UP { gone.max() } else { gone.min() };
        self.former.max(silent.filter(|_| R::SILENT_HOLDS))
    }

    /// The moment up to which everything that any live one witnessed was seen; none when nobody is
    /// live. The error says whose clock is not yet known.
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

    /// Whether every live one has said that it has seen this version of an instance.
    pub(super) fn have_seen(&self, version: u64) -> bool {
        let mut live = self.peers.values().filter(|peer| peer.is_live());
        live.all(|peer| peer.epoch == self.epoch && peer.index >= version)
    }

    /// The stamp up to which every live one has seen our ledgers; none when nobody is live.
    pub(super) fn know(&self) -> Option<Moment> {
        self.peers.values().filter(|peer| peer.is_live()).map(|peer| peer.knows).min()
    }

    /// For people.
    pub(super) fn report(&self) -> Vec<report::Peer> {
        let presence = |peer: &Peer| match (peer.left, peer.gone) {
            (true, _) => Presence::Left,
            (_, Some(_)) => Presence::Gone,
            _ => Presence::Live,
        };
        let tell = |(replica, peer): (&Arc<str>, &Peer)| report::Peer {
            replica: replica.clone(),
            boot: peer.boot.clone(),
            seen: peer.seen,
            index: peer.index,
            behind: peer.behind,
            presence: presence(peer),
        };
        self.peers.iter().map(tell).collect()
    }

    /// Tells the process of a replica from an earlier one, as its newest ledger says.
    pub(super) fn boot_of(&self, replica: &str) -> Option<Arc<str>> {
        self.peers.get(replica).map(|peer| peer.boot.clone())
    }

    /// What the own ledger says of the others.
    pub(super) fn seen(&self) -> Vec<PeerSeen> {
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

/// What a ledger of one of two processes of a name reports beyond its ledger `last`.
pub(super) fn news(ledger: &Ledger, bounds: &mut Bounds, last: u64, now: Moment) -> Sighting {
    bounds.seen(ledger.stamp, now);
    let gap = !covers(&ledger.segments, last, ledger.sequence);
    Sighting { gap, asks: false, beats: beats(ledger, bounds, last, now) }
}

/// Whether the segments tell of every ledger after `last`, up to `upto`.
fn covers(segments: &[Segment], last: u64, upto: u64) -> bool {
    let mut known = last;
    for segment in segments {
        if segment.first <= known.saturating_add(1) {
            known = known.max(segment.sequence);
        }
    }
    known >= upto
}

/// The beats of a ledger that were not told before, up to the ledger `last`, by our clock.
fn beats(ledger: &Ledger, bounds: &Bounds, last: u64, now: Moment) -> Vec<(u64, Moment)> {
    let news = ledger.segments.iter().filter(|segment| segment.sequence > last);
    let told = news.flat_map(|segment| segment.beats.iter());
    let beat = |(id, age): &(u64, u32)| {
        let at = Moment(ledger.stamp.0.saturating_sub(u64::from(*age)));
        // It was before now, whatever the bounds say.
        (*id, bounds.latest(at).unwrap_or(now).min(now))
    };
    told.map(beat).collect()
}
