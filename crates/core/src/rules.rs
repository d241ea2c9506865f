//! The clauses of the protocol. Each can be switched off.
//!
//! Only the simulation and the model switch clauses off, to prove that each clause is necessary: without
//! it, a promise is broken (docs/protocol.md). The clauses are constants of a type, so the program itself
//! has no switch for any of them.

use std::{fmt, time::Duration};

/// The clauses that are in force: all of them, except those that an implementation overrides.
#[doc(hidden)]
pub trait Rules: fmt::Debug + Send + Sync + 'static {
    /// Heartbeats are converted with the upper bound of the clock difference and the horizon with the lower
    /// bound; without this clause both use the upper bound.
    const TWO_BOUNDS: bool = true;
    /// By how many milliseconds a bound weakens per second.
    const AGEING: u64 = 1;
    /// A replica whose boot changed counts as gone.
    const CHANGED_BOOT_IS_GONE: bool = true;
    /// Of several grants of grace the latest counts. Without this clause the earliest does.
    const LATEST_GRACE_COUNTS: bool = true;
    /// A replica answers 200 only while the other replicas have its recent ledger.
    const FENCE: bool = true;
    /// The fence counts from the stamp of the own ledger; without this clause, from the moment at which
    /// the watch delivered the ledger.
    const FENCE_BY_STAMP: bool = true;
    /// After a fence, heartbeats are answered 200 only once the watch has delivered a self-beat that was
    /// sent after the fence opened.
    const FENCE_WAITS_FOR_INSTANCES: bool = true;
    /// A self-beat counts from the first time its value was sent; without this clause, from the latest
    /// attempt.
    const FIRST_SENDING: bool = true;
    /// A late heartbeat is a revival, regardless of grace.
    const LATE_HEARTBEAT_IS_REVIVAL: bool = true;
    /// Missing segments count as a gap.
    const MISSING_IS_GAP: bool = true;
    /// A silent replica delays deadlines.
    const SILENT_HOLDS: bool = true;
    /// The replica's own ledger limits the horizon.
    const OWN_LEDGER_HOLDS: bool = true;
    /// An object is evicted only when all live replicas have received its verdict.
    const EVICTIONS_ACKNOWLEDGED: bool = true;
    /// A replica that others wait for writes its ledger at once.
    const ASK: bool = true;
    /// A replica acts on a proof that the store went back.
    const STEPS_BACK_ARE_NOTICED: bool = true;
    /// After an outage the replica reads its own instance before the first self-beat overwrites it.
    const OWN_IS_READ_AFTER_OUTAGE: bool = true;
    /// After an outage the watch lists again instead of resuming from its position.
    const OUTAGE_RELISTS: bool = true;
    /// After an outage nothing is evicted until everything was listed again.
    const DOUBT_STOPS_EVICTIONS: bool = true;
    /// A replica adopts a higher epoch of another replica.
    const EPOCH_IS_ADOPTED: bool = true;
    /// Of two processes with the same identity, the younger yields, and the other replicas count only the
    /// older one.
    const DUPLICATES_ARE_DISTINGUISHED: bool = true;
    /// The guard keeps one mass expiry from emptying a service.
    const GUARD: bool = true;
    /// A checkpoint older than this is refreshed even if nothing else changes. Every refresh is an event for
    /// all watchers of the object: `kubectl get -w` prints the same line again.
    const CHECKPOINT_AGE: Duration = Duration::from_secs(600);
}

/// The rules with all clauses in force, as the server uses them.
#[derive(Clone, Copy, Debug)]
pub struct AllRules;

impl Rules for AllRules {}
