//! The clauses of the protocol that can be taken out, one by one.
//!
//! For the simulation and the model alone: each clause is there because without it a promise is broken
//! (docs/protocol.md), and they prove that by taking it out and being broken. They are constants of a type, so the program
//! has no switch for any of them.

use std::{fmt, time::Duration};

/// Which clauses are kept; all but those that an implementation takes out.
#[doc(hidden)]
pub trait Rules: fmt::Debug + Send + Sync + 'static {
    /// Beats are moved by the upper bound of the clocks' difference, the horizon by the lower one;
    /// else both by the upper one.
    const TWO_BOUNDS: bool = true;
    /// How many milliseconds a bound loses a second.
    const AGEING: u64 = 1;
    /// A changed boot counts as gone.
    const CHANGED_BOOT_IS_GONE: bool = true;
    /// Grace add as a maximum; else a beat is extended once.
    const GRACE_ADDS_UP: bool = true;
    /// Nobody answers 200 whose ledger is not known to the others.
    const FENCE: bool = true;
    /// The fence counts from the stamp; else from when the own ledger was seen back.
    const FENCE_BY_STAMP: bool = true;
    /// After the fence beats are answered only behind a self-beat that was sent after it.
    const FENCE_WAITS_FOR_INSTANCES: bool = true;
    /// A self-beat counts from the first sending of its value; else from the latest attempt.
    const FIRST_SENDING: bool = true;
    /// A late beat is a revival, whatever grace there are.
    const LATE_BEAT_IS_REVIVAL: bool = true;
    /// Missing segments are a gap.
    const MISSING_IS_GAP: bool = true;
    /// A replica that fell silent holds deadlines.
    const SILENT_HOLDS: bool = true;
    /// Own ledgers hold the horizon.
    const OWN_LEDGER_HOLDS: bool = true;
    /// Objects are evicted only when all live replicas have seen them expired.
    const EVICTIONS_ACKNOWLEDGED: bool = true;
    /// A replica that others wait for answers at once.
    const ASK: bool = true;
    /// A proof that the store went back is heeded.
    const STEPS_BACK_ARE_SEEN: bool = true;
    /// The own instance is read before the first self-beat after an outage overwrites it.
    const OWN_IS_READ_AFTER_OUTAGE: bool = true;
    /// After an outage the watch does not go on from where it was.
    const OUTAGE_LISTS_ANEW: bool = true;
    /// Nothing is evicted after an outage before everything was listed anew.
    const DOUBT_STOPS_EVICTIONS: bool = true;
    /// A replica adopts the epoch of another.
    const EPOCH_IS_ADOPTED: bool = true;
    /// Of two processes of one identity the younger yields, and the others count the older.
    const DUPLICATES_ARE_TOLD_APART: bool = true;
    /// A service is not emptied at a stroke.
    const GUARD: bool = true;
    /// A checkpoint is refreshed by itself when it is this old. Each refresh is an event for all that watch the object, such
    /// as `kubectl get -w`, which shows the same line again.
    const CHECKPOINT_AGE: Duration = Duration::from_secs(600);
}

/// All clauses.
#[derive(Clone, Copy, Debug)]
pub struct AllRules;

impl Rules for AllRules {}
