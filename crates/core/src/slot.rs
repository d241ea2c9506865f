//! The pulse: the moment of each instance's last beat, in an atomic that doors write and the
//! catalog reads.
//!
//! Owns: [`Slot`], and with it the one race that matters: a beat and the verdict on its instance
//! meet in a single compare-and-swap, so a beat is either counted before the verdict or told that
//! it came too late. Does not own: what a late beat does then (`witness`).

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

/// Set in the word of a slot whose instance was judged dead.
const EXPIRED: u64 = 1 << 63;

/// Set while the last beat of a slot is noted here alone, because the API server was away. Writes
/// that were decided before it (an expiry, an eviction) may still be under way, and only a stored
/// beat makes them fail: so until then every beat is to be written before it is promised anything.
const UNWRITTEN: u64 = 1 << 62;

/// The bits of the moment: 146 million years of milliseconds.
const MOMENT: u64 = UNWRITTEN - 1;

/// By which way this replica learned of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Source {
    /// None is known: this replica started, and gave everybody a lease.
    Start,
    /// The object was created, by whomever.
    Creation,
    /// Other terms of its lease began, with a whole lease.
    Terms,
    /// The heartbeat annotation changed.
    Annotation,
    /// A registration that this replica took, and that was stored.
    Registration,
    /// A heartbeat that this replica took.
    Http,
    /// A heartbeat that another replica took, and told.
    Ledger,
}

impl Source {
    /// Every way.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Creation,
        Self::Terms,
        Self::Annotation,
        Self::Registration,
        Self::Http,
        Self::Ledger,
    ];

    /// As metrics and answers write it.
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

    /// Whether this replica took it first-hand.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self, Self::Registration | Self::Http)
    }

    const fn of(byte: u8) -> Self {
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

/// What came of an ordinary beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// It came later than one lease after the last one known, or after one that could not be
    /// stored: a revival, to be written first.
    Late,
    /// Its instance was judged dead: a revival, to be written first.
    Dead,
}

/// What doors and the catalog share of one incarnation of an instance.
#[derive(Debug)]
pub struct Slot {
    /// The last beat's moment; with [`EXPIRED`] once judged, with [`UNWRITTEN`] when not stored.
    word: AtomicU64,
    source: AtomicU8,
    /// Whether its instance was dead when it became known.
    began_dead: bool,
    /// What ledgers call it.
    id: u64,
    /// The last beat that this replica took itself; 0 when none.
    witnessed: AtomicU64,
    /// The flush before the one that will tell of it.
    queued: AtomicU64,
    /// When its object may be evicted, if nothing comes between; 0 when not.
    evict_at: AtomicU64,
    record: ArcSwap<Instance>,
}

impl Slot {
    /// A slot whose first beat was at `beat`, or counts as such.
    #[must_use]
    pub fn new(record: Arc<Instance>, beat: Moment, source: Source, dead: bool) -> Self {
        Self {
            word: AtomicU64::new(beat.0 | if dead { EXPIRED } else { 0 }),
            source: AtomicU8::new(source as u8),
            began_dead: dead,
            id: ledger::id(&record.uid),
            witnessed: AtomicU64::new(0),
            queued: AtomicU64::new(u64::MAX),
            evict_at: AtomicU64::new(0),
            record: ArcSwap::new(record),
        }
    }

    /// The newest record.
    #[must_use]
    pub fn record(&self) -> Arc<Instance> {
        self.record.load_full()
    }

    /// The moment of the last beat.
    #[must_use]
    pub fn last_heartbeat(&self) -> Moment {
        Moment(self.word.load(Ordering::Acquire) & MOMENT)
    }

    /// Whether the instance was judged dead.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.word.load(Ordering::Acquire) & EXPIRED != 0
    }

    /// Whether it was stored as expired before this replica started, and no beat has come since: then
    /// nobody here has judged it.
    #[must_use]
    pub fn is_carried_over(&self) -> bool {
        self.began_dead && self.is_expired() && self.source() == Source::Start
    }

    /// By which way the last beat came.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::of(self.source.load(Ordering::Relaxed))
    }

    /// A beat that the watch brought turns out to be one that this replica took: the answer to its
    /// write came later. Beats taken since stay what they are.
    pub(crate) fn claim(&self, source: Source) {
        if source.is_own() && !self.source().is_own() {
            self.source.store(source as u8, Ordering::Relaxed);
        }
    }

    /// When a beat was last heard, as far as that is known: a start is none, so of the time before it
    /// the store tells, or the creation.
    #[must_use]
    pub fn last_heard(&self, record: &Instance, now: Now) -> Wall {
        match self.source() {
            Source::Start => record.stored.last_heartbeat.unwrap_or(record.created),
            _ => now.wall_of(self.last_heartbeat()),
        }
    }

    /// When its object is to be evicted, should nothing come between.
    #[must_use]
    pub fn evict_at(&self) -> Option<Moment> {
        Some(Moment(self.evict_at.load(Ordering::Relaxed))).filter(|at| at.0 != 0)
    }

    pub(crate) fn set_evict_at(&self, at: Option<Moment>) {
        self.evict_at.store(at.map_or(0, |at| at.0), Ordering::Relaxed);
    }

    /// An ordinary beat. `deadline` says, for a given last beat, until when it was good.
    pub fn beat(&self, now: Moment, deadline: impl Fn(Moment) -> Moment) -> Taken {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & EXPIRED != 0 {
                return Taken::Dead;
            }
            if word & UNWRITTEN != 0 || now > deadline(Moment(word)) {
                return Taken::Late;
            }
            if now.0 <= word {
                return Taken::Counted;
            }
            match self.word.compare_exchange_weak(word, now.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    self.source.store(Source::Http as u8, Ordering::Relaxed);
                    return Taken::Counted;
                }
                Err(newer) => word = newer,
            }
        }
    }

    /// What ledgers call this incarnation.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The last beat that this replica took itself.
    pub(crate) fn witnessed(&self) -> Moment {
        Moment(self.witnessed.load(Ordering::SeqCst))
    }

    pub(crate) fn witness(&self, at: Moment) {
        self.witnessed.fetch_max(at.0, Ordering::SeqCst);
    }

    /// Whether it is queued already for the flush after `flush`.
    pub(crate) fn is_queued(&self, flush: u64) -> bool {
        self.queued.load(Ordering::SeqCst) == flush
    }

    pub(crate) fn set_queued(&self, flush: u64) {
        self.queued.store(flush, Ordering::SeqCst);
    }

    /// A beat that another replica took. Changes no verdict.
    pub(crate) fn tell(&self, at: Moment) {
        let mut word = self.word.load(Ordering::Acquire);
        while at.0 > word & MOMENT {
            let next = at.0 | (word & !MOMENT);
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.source.store(Source::Ledger as u8, Ordering::Relaxed),
                Err(newer) => word = newer,
            }
        }
    }

    /// A beat that the catalog knows to count, whatever was judged before.
    pub(crate) fn revive(&self, at: Moment, source: Source) {
        self.set(at, source, 0);
    }

    /// The same for a beat that could not be stored.
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

    /// The verdict, if no beat came after `beat`; whether it stands.
    pub(crate) fn expire(&self, beat: Moment) -> bool {
        let word = self.word.load(Ordering::Acquire);
        let verdict = beat.0 | EXPIRED;
        word & !UNWRITTEN == beat.0
            && self
                .word
                .compare_exchange(word, verdict, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Replaces the record by a newer version of the same incarnation.
    pub(crate) fn replace_record(&self, record: Arc<Instance>) {
        self.record.store(record);
    }

    /// When the lease ends for which the last beat counts, grace aside; none without a lease.
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
    fn only_what_was_dead_at_the_start_and_has_not_beaten_since_is_carried_over() {
        let record = Arc::new(Instance::sample("shop", "a"));
        let slot = |source, dead| Slot::new(record.clone(), Moment(5), source, dead);
        let judged = slot(Source::Start, false);
        assert!(judged.expire(Moment(5)) && !judged.is_carried_over(), "it was judged here");
        assert!(!slot(Source::Creation, true).is_carried_over());
        let carried = slot(Source::Start, true);
        assert!(carried.is_carried_over());
        carried.revive(Moment(6), Source::Http);
        assert!(!carried.is_carried_over());
        assert!(carried.expire(Moment(6)) && !carried.is_carried_over());
    }
}
