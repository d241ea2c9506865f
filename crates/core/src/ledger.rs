//! The ledger: the heartbeats that a replica took, and what it has received, as reported to the other
//! replicas.
//!
//! Owns: the fields of a ledger. Does not own: its bytes and parts (`codec`), when it is written and what it
//! contains (`flush`), and what follows from another replica's ledger (`peers`).

use std::sync::Arc;

use rollcall_model::lease::Moment;
use xxhash_rust::xxh3::xxh3_64;

/// One ledger of one replica. Each replaces the previous one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The replica's name, which is also the object's name.
    pub replica: Arc<str>,
    /// Distinguishes this process from an earlier one of the same replica.
    pub boot: Arc<str>,
    /// The boot of the process whose ledger this process found under its name when it started.
    pub replaced: Option<Arc<str>>,
    /// resourceVersion of the object that it was read from; 0 for a ledger that is still to be written.
    pub version: u64,
    /// Counts the ledgers that this process has tried to write, from 1.
    pub sequence: u64,
    /// When the ledger was taken, on the clock of the replica that wrote it. Every heartbeat that the
    /// replica took before that is in this ledger or an earlier one.
    pub stamp: Moment,
    /// How often the store has gone back, as far as this replica knows. Its resourceVersions belong to this
    /// epoch.
    pub epoch: u64,
    /// The newest ledger that this replica received from each other replica.
    pub peers: Vec<PeerSeen>,
    /// The highest resourceVersion of instances that this replica has received.
    pub index: u64,
    /// Its horizon, on its own clock; informational. 0 if it is not known.
    pub horizon: Moment,
    /// Asks the other replicas to write their ledgers at once.
    pub ask: bool,
    /// This is the last ledger: the replica confirms no more heartbeats.
    pub leaving: bool,
    /// The heartbeats, oldest segment first.
    pub segments: Vec<Segment>,
}

/// The newest ledger that was received from another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeen {
    pub replica: Arc<str>,
    pub boot: Arc<str>,
    /// On the other replica's clock.
    pub stamp: Moment,
    /// When it was received, on the clock of the replica that reports this.
    pub at: Moment,
}

/// The heartbeats of one flush, or of several flushes whose writes may have failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The first ledger that it belongs to. Differs from `sequence` only if writes failed.
    pub first: u64,
    /// The last ledger that it belongs to.
    pub sequence: u64,
    /// For each instance its [`id`], and by how many milliseconds its last heartbeat came before the stamp of
    /// the ledger. Sorted by id, each id once.
    pub beats: Vec<(u64, u32)>,
}

/// The id of an instance in ledgers: the 64-bit hash of its uid. Among 100,000 instances, two share an id
/// with a probability of 3 in 10,000,000,000; a heartbeat of one then counts for both.
#[must_use]
pub fn id(uid: &str) -> u64 {
    xxh3_64(uid.as_bytes())
}
