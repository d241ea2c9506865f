//! The state machine with any set of rules: all of them, or all but one.
//!
//! Owns: the rule sets that lack one clause, and a trait object for state machines with different rules. Does
//! not own: which test detects each missing clause (`sim`, `model`).
//!

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

/// A [`Catalog`] under any rules.
pub trait StateMachine: fmt::Debug + Send {
    fn apply(&mut self, fact: Fact, now: Now);
    fn settle(&mut self, now: Now, capacity: usize) -> Vec<Duty>;
    fn next_settle(&self, now: Moment) -> Moment;
    fn counts(&self) -> Counts;
    fn take_revised(&mut self) -> Vec<ServiceKey>;
}

impl<R: Rules> StateMachine for Catalog<R> {
    fn apply(&mut self, fact: Fact, now: Now) {
        self.apply(fact, now);
    }

    fn settle(&mut self, now: Now, capacity: usize) -> Vec<Duty> {
        self.settle(now, capacity)
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

/// Builds a state machine that publishes into a directory.
pub type BuildMachine = fn(Settings, Arc<Directory>) -> Box<dyn StateMachine>;

/// Builds a state machine with the rules `R`.
pub fn build<R: Rules>(settings: Settings, directory: Arc<Directory>) -> Box<dyn StateMachine> {
    Box::new(Catalog::<R>::new(settings, directory))
}

/// Declares rule sets that lack one clause each.
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
    FrequentCheckpoints: CHECKPOINT_AGE: Duration = Duration::ZERO,
    SingleClockBound: TWO_BOUNDS: bool = false,
    ClockBoundsNeverAge: AGEING: u64 = 0,
    ChangedBootIgnored: CHANGED_BOOT_IS_GONE: bool = false,
    EarliestGraceCounts: LATEST_GRACE_COUNTS: bool = false,
    NoFence: FENCE: bool = false,
    FenceByObservation: FENCE_BY_STAMP: bool = false,
    FenceIgnoresInstances: FENCE_WAITS_FOR_INSTANCES: bool = false,
    SelfBeatByLatestAttempt: FIRST_SENDING: bool = false,
    LateHeartbeatRenews: LATE_HEARTBEAT_IS_REVIVAL: bool = false,
    MissingSegmentsIgnored: MISSING_IS_GAP: bool = false,
    SilentReplicaIgnored: SILENT_HOLDS: bool = false,
    OwnLedgerIgnored: OWN_LEDGER_HOLDS: bool = false,
    EvictsWithoutAcknowledgement: EVICTIONS_ACKNOWLEDGED: bool = false,
    LedgerNeverAsks: ASK: bool = false,
    NoGuard: GUARD: bool = false,
    DuplicatesNotDistinguished: DUPLICATES_ARE_DISTINGUISHED: bool = false,
    StepBackIgnored: STEPS_BACK_ARE_NOTICED: bool = false,
    OwnInstanceNotRead: OWN_IS_READ_AFTER_OUTAGE: bool = false,
    NoListAfterOutage: OUTAGE_RELISTS: bool = false,
    EvictsInDoubt: DOUBT_STOPS_EVICTIONS: bool = false,
    EpochIgnored: EPOCH_IS_ADOPTED: bool = false,
}
