//! The ledger: what a replica tells the others of the beats that it took, and how far it has seen.
//!
//! Owns: the shape of a ledger, and how one that is too large for an object is parted and joined.
//! Does not own: its bytes (`codec`), what is said when (`flush`), and what is made of another
//! replica's (`peers`).

use std::sync::Arc;

use rollcall_model::lease::Moment;
use xxhash_rust::xxh3::xxh3_64;

/// One ledger of one replica: the newest replaces the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The replica's name, and the object's.
    pub replica: Arc<str>,
    /// Tells this process from an earlier one of the same name.
    pub boot: Arc<str>,
    /// The process whose ledger this one found under its name when it began.
    pub replaced: Option<Arc<str>>,
    /// resourceVersion of the object that it was read from; 0 in one that is to be written.
    pub version: u64,
    /// Counts the ledgers that this process has tried to write, from 1.
    pub sequence: u64,
    /// When it was taken, on the witness's clock: every beat that it took up to then is in this
    /// ledger or in an earlier one.
    pub stamp: Moment,
    /// How often the store has gone back, as far as this replica knows: its versions are of this epoch.
    pub epoch: u64,
    /// Which ledger of each other replica was seen newest.
    pub peers: Vec<PeerSeen>,
    /// The highest resourceVersion of instances seen.
    pub index: u64,
    /// Its horizon, on its own clock; for people alone. 0 when it is not known.
    pub horizon: Moment,
    /// Somebody waits for the others' ledgers: whoever sees this answers with its own at once.
    pub ask: bool,
    /// The last one: this replica answers no beat any more.
    pub leaving: bool,
    /// The beats, oldest segment first.
    pub segments: Vec<Segment>,
}

/// A sighting of another replica's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeen {
    /// Whose.
    pub replica: Arc<str>,
    /// Of which of its processes.
    pub boot: Arc<str>,
    /// Its stamp, on the other replica's clock.
    pub stamp: Moment,
    /// When it was seen, on the clock of the replica that tells.
    pub at: Moment,
}

/// The beats of one flush, or of several of which it is not known whether they arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The first ledger that it belongs to; equal to `sequence` but where writes failed.
    pub first: u64,
    /// The last one.
    pub sequence: u64,
    /// The [`id`] of each instance, and how many milliseconds before the stamp of the ledger that
    /// carries it its last beat was. Sorted by id, each once.
    pub beats: Vec<(u64, u32)>,
}

/// What a ledger calls an instance: the 64-bit hash of its uid. Of 100,000 instances two have the
/// same with a probability of 3 in 10,000,000,000; then a beat of one counts for both.
#[must_use]
pub fn id(uid: &str) -> u64 {
    xxh3_64(uid.as_bytes())
}
