//! Slots: the moment of each instance's last heartbeat, in an atomic that request handlers write and the
//! catalog reads.
//!
//! Owns: [`Slot`], and with it the most important race. A heartbeat and the verdict on its instance are
//! resolved by a single compare-and-swap, so a heartbeat either counts before the verdict or is known to
//! be too late. Does not own: what a late heartbeat leads to (`heartbeat` in the server).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rollcall_model::{
    instance::Instance,
    lease::{Moment, Now, Wall},
    view::HeartbeatRecord,
};

use crate::ledger;

/// Set in the word of a slot whose instance was judged expired.
const EXPIRED: u64 = 1 << 63;

/// Set while the last heartbeat is recorded only here, because the API server did not answer. Writes that
/// were decided before it (an expiry, an eviction) can still be under way, and only a stored heartbeat
/// makes them fail. So every heartbeat must be written before it is confirmed, until one has been stored.
const UNWRITTEN: u64 = 1 << 62;

/// The bits of the moment: enough milliseconds for 146 million years.
const MOMENT: u64 = UNWRITTEN - 1;

/// How this replica learned of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Source {
    /// No heartbeat is known: this replica started, and a start gives every instance a lease.
    Start,
    /// The object was created.
    Creation,
    /// The terms of the lease changed, and new terms begin with a whole lease.
    Terms,
    /// The heartbeat annotation changed.
    Annotation,
    /// This replica took a registration and stored it.
    Registration,
    /// This replica took a heartbeat over HTTP.
    Http,
    /// Another replica took a heartbeat and reported it in its ledger.
    Ledger,
}

impl Source {
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Creation,
        Self::Terms,
        Self::Annotation,
        Self::Registration,
        Self::Http,
        Self::Ledger,
    ];

    /// The value in metrics and HTTP answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Creation => "creation",
            Self::Terms => "terms",
            Self::Annotation => "annotation",
            Self::Registration => "registration",
            Self::Http => "http",
            Self::Ledger => "ledger",
        }
    }

    /// Whether this replica took the heartbeat itself.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self, Self::Registration | Self::Http)
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Creation,
            2 => Self::Terms,
            3 => Self::Annotation,
            4 => Self::Registration,
            5 => Self::Http,
            6 => Self::Ledger,
            _ => Self::Start,
        }
    }
}

/// The result of a heartbeat that is taken in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOutcome {
    Counted,
    /// It came later than one lease after the last one known, or after one that could not be stored: a
    /// revival, which must be written first.
    Late,
    /// Its instance was judged expired: a revival, which must be written first.
    Expired,
}

/// What request handlers and the catalog share about one incarnation of an instance.
#[derive(Debug)]
pub struct Slot {
    /// The moment of the last heartbeat, with [`EXPIRED`] once the instance was judged expired and
    /// [`UNWRITTEN`] while the heartbeat is not stored.
    word: AtomicU64,
    source: AtomicU8,
    /// Whether its instance was stored as expired when this replica first received it.
    began_expired: bool,
    /// The id of the instance in ledgers.
    id: u64,
    /// The last heartbeat that this replica took itself; 0 if none.
    taken_here: AtomicU64,
    /// The stamp of the flush before the one that will report the heartbeat.
    queued: AtomicU64,
    /// When its object can be evicted if nothing changes until then; 0 if never.
    evict_at: AtomicU64,
    record: ArcSwap<Instance>,
}

impl Slot {
    /// A slot whose first heartbeat was at `beat`, or counts as if it had been.
    #[must_use]
    pub fn new(record: Arc<Instance>, beat: Moment, source: Source, expired: bool) -> Self {
        Self {
            word: AtomicU64::new(beat.0 | if expired { EXPIRED } else { 0 }),
            source: AtomicU8::new(source as u8),
            began_expired: expired,
            id: ledger::id(&record.uid),
            taken_here: AtomicU64::new(0),
            queued: AtomicU64::new(u64::MAX),
            evict_at: AtomicU64::new(0),
            record: ArcSwap::new(record),
        }
    }

    #[must_use]
    pub fn record(&self) -> Arc<Instance> {
        self.record.load_full()
    }

    #[must_use]
    pub fn last_heartbeat(&self) -> Moment {
        Moment(self.word.load(Ordering::Acquire) & MOMENT)
    }

    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.word.load(Ordering::Acquire) & EXPIRED != 0
    }

    /// Whether the instance was stored as expired before this replica started, with no heartbeat since
    /// then. In that case this replica has not judged it itself.
    #[must_use]
    pub fn is_carried_over(&self) -> bool {
        self.began_expired && self.is_expired() && self.source() == Source::Start
    }

    /// How the last heartbeat was received.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::from_byte(self.source.load(Ordering::Relaxed))
    }

    /// The answer to a write of this replica shows that this replica took a heartbeat that the watch
    /// delivered. Later heartbeats keep their source.
    pub(crate) fn claim(&self, source: Source) {
        if source.is_own() && !self.source().is_own() {
            self.source.store(source as u8, Ordering::Relaxed);
        }
    }

    /// The wall time of the last heartbeat, as far as it is known. A start of this replica is not a
    /// heartbeat: if there was none since then, this is the stored checkpoint or else the creation time.
    #[must_use]
    pub fn last_heartbeat_time(&self, record: &Instance, now: Now) -> Wall {
        match self.source() {
            Source::Start => record.stored.last_heartbeat.unwrap_or(record.created),
            _ => now.wall_of(self.last_heartbeat()),
        }
    }

    /// When its object is evicted if nothing changes until then.
    #[must_use]
    pub fn evict_at(&self) -> Option<Moment> {
        Some(Moment(self.evict_at.load(Ordering::Relaxed))).filter(|at| at.0 != 0)
    }

    pub(crate) fn set_evict_at(&self, at: Option<Moment>) {
        self.evict_at.store(at.map_or(0, |at| at.0), Ordering::Relaxed);
    }

    /// Takes a heartbeat in memory. `deadline` maps the last heartbeat to the end of the lease that it
    /// started.
    pub fn take_heartbeat(&self, now: Moment, deadline: impl Fn(Moment) -> Moment) -> SlotOutcome {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & EXPIRED != 0 {
                return SlotOutcome::Expired;
            }
            if word & UNWRITTEN != 0 || now > deadline(Moment(word)) {
                return SlotOutcome::Late;
            }
            if now.0 <= word {
                return SlotOutcome::Counted;
            }
            match self.word.compare_exchange_weak(word, now.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    self.source.store(Source::Http as u8, Ordering::Relaxed);
                    return SlotOutcome::Counted;
                }
                Err(newer) => word = newer,
            }
        }
    }

    /// The id of this incarnation in ledgers.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn taken_here(&self) -> Moment {
        Moment(self.taken_here.load(Ordering::SeqCst))
    }

    pub(crate) fn record_taken_here(&self, at: Moment) {
        self.taken_here.fetch_max(at.0, Ordering::SeqCst);
    }

    /// Whether it is already queued for the flush after `flush`.
    pub(crate) fn is_queued(&self, flush: u64) -> bool {
        self.queued.load(Ordering::SeqCst) == flush
    }

    pub(crate) fn set_queued(&self, flush: u64) {
        self.queued.store(flush, Ordering::SeqCst);
    }

    /// A heartbeat that another replica took. It changes no verdict.
    pub(crate) fn record_remote(&self, at: Moment) {
        let mut word = self.word.load(Ordering::Acquire);
        while at.0 > word & MOMENT {
            let next = at.0 | (word & !MOMENT);
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.source.store(Source::Ledger as u8, Ordering::Relaxed),
                Err(newer) => word = newer,
            }
        }
    }

    /// A heartbeat that counts even if the instance was judged expired.
    pub(crate) fn revive(&self, at: Moment, source: Source) {
        self.set(at, source, 0);
    }

    /// Like [`Self::revive`], for a heartbeat that could not be stored.
    pub(crate) fn revive_unwritten(&self, at: Moment) {
        self.set(at, Source::Http, UNWRITTEN);
    }

    fn set(&self, at: Moment, source: Source, flag: u64) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = at.0.max(word & MOMENT) | flag;
            if at.0 < word & MOMENT && next == word {
                return;
            }
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.source.store(source as u8, Ordering::Relaxed),
                Err(newer) => word = newer,
            }
        }
    }

    /// Sets the verdict unless a heartbeat came after `beat`. Returns whether the verdict stands.
    pub(crate) fn expire(&self, beat: Moment) -> bool {
        let word = self.word.load(Ordering::Acquire);
        let verdict = beat.0 | EXPIRED;
        word & !UNWRITTEN == beat.0
            && self
                .word
                .compare_exchange(word, verdict, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    pub(crate) fn replace_record(&self, record: Arc<Instance>) {
        self.record.store(record);
    }

    /// When the lease that the last heartbeat started ends, without grace.
    #[must_use]
    pub fn lease_end(&self, duration: Duration) -> Moment {
        self.last_heartbeat().after(duration)
    }
}

impl HeartbeatRecord for Slot {
    fn last_heartbeat(&self) -> Moment {
        Self::last_heartbeat(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_instances_stored_as_expired_without_a_heartbeat_since_are_carried_over() {
        let record = Arc::new(Instance::sample("shop", "a"));
        let slot = |source, expired| Slot::new(record.clone(), Moment(5), source, expired);
        let judged = slot(Source::Start, false);
        assert!(judged.expire(Moment(5)) && !judged.is_carried_over(), "this replica judged it");
        assert!(!slot(Source::Creation, true).is_carried_over());
        let carried = slot(Source::Start, true);
        assert!(carried.is_carried_over());
        carried.revive(Moment(6), Source::Http);
        assert!(!carried.is_carried_over());
        assert!(carried.expire(Moment(6)) && !carried.is_carried_over());
    }
}
