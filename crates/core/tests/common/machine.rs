//! The state machine under any rules: all of them, or all but one.
//!
//! Owns: the rules that have a clause taken out, and the one face of machines that differ by their rules. Does not own: by
//! what each is caught (`sim`, `model`).

use std::{fmt, sync::Arc, time::Duration};

use rollcall_core::{
    catalog::{Catalog, Counts, Settings},
    directory::Directory,
    fact::{Duty, Fact},
    rules::Rules,
};
use rollcall_model::{
    instance::ServiceKey,
    lease::{Moment, Now},
};

/// A [`Catalog`], whatever its rules.
pub trait Machine: fmt::Debug + Send {
    fn apply(&mut self, fact: Fact, now: Now);
    fn settle(&mut self, now: Now, room: usize) -> Vec<Duty>;
    fn next_settle(&self, now: Moment) -> Moment;
    fn counts(&self) -> Counts;
    fn take_revised(&mut self) -> Vec<ServiceKey>;
}

impl<R: Rules> Machine for Catalog<R> {
    fn apply(&mut self, fact: Fact, now: Now) {
        self.apply(fact, now);
    }

    fn settle(&mut self, now: Now, room: usize) -> Vec<Duty> {
        self.settle(now, room)
    }

    fn next_settle(&self, now: Moment) -> Moment {
        self.next_settle(now)
    }

    fn counts(&self) -> Counts {
        self.counts()
    }

    fn take_revised(&mut self) -> Vec<ServiceKey> {
        self.take_revised()
    }
}

/// Makes a machine that publishes into a directory.
pub type Make = fn(Settings, Arc<Directory>) -> Box<dyn Machine>;

/// A machine with these rules.
pub fn machine<R: Rules>(settings: Settings, directory: Arc<Directory>) -> Box<dyn Machine> {
    Box::new(Catalog::<R>::new(settings, directory))
}

/// Declares rules with one clause taken out each.
macro_rules! without {
    ($($name:ident: $clause:ident: $type:ty = $value:expr,)+) => {$(
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Rules for $name {
            const $clause: $type = $value;
        }
    )+};
}

without! {
    CheckpointsOften: CHECKPOINT_AGE: Duration = Duration::ZERO,
    OneBound: TWO_BOUNDS: bool = false,
    BoundsNeverAge: AGEING: u64 = 0,
    ChangedBootUnnoticed: CHANGED_BOOT_IS_GONE: bool = false,
    FloorsDoNotAdd: GRACE_ADDS_UP: bool = false,
    NoFence: FENCE: bool = false,
    FenceBySight: FENCE_BY_STAMP: bool = false,
    FenceForgetsInstances: FENCE_WAITS_FOR_INSTANCES: bool = false,
    LatestAttempt: FIRST_SENDING: bool = false,
    LateBeatCounts: LATE_BEAT_IS_REVIVAL: bool = false,
    MissingUnnoticed: MISSING_IS_GAP: bool = false,
    SilenceUnnoticed: SILENT_HOLDS: bool = false,
    OwnLedgerUnseen: OWN_LEDGER_HOLDS: bool = false,
    EvictsUnacknowledged: EVICTIONS_ACKNOWLEDGED: bool = false,
    NobodyAsks: ASK: bool = false,
    NoGuard: GUARD: bool = false,
    DuplicatesMistaken: DUPLICATES_ARE_TOLD_APART: bool = false,
    StepsBackUnseen: STEPS_BACK_ARE_SEEN: bool = false,
    OwnUnread: OWN_IS_READ_AFTER_OUTAGE: bool = false,
    WatchGoesOn: OUTAGE_LISTS_ANEW: bool = false,
    DoubtForgotten: DOUBT_STOPS_EVICTIONS: bool = false,
    EpochIgnored: EPOCH_IS_ADOPTED: bool = false,
}
