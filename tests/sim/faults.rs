//! What goes wrong, and when: a random plan a seed. Owns the plan; `world` carries it out.

use crate::{
    Time,
    watch::{FEEDS, Feed},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The API server refuses connections; watches break.
    Refuse,
    /// The API server is stopped: calls hang until it goes on, and are then carried out.
    Hang,
    /// Reads and watches work, writes are refused.
    ReadOnly,
    /// Each way takes up to four seconds.
    Slow,
    /// Many answers are lost though the write was done.
    LoseAnswers,
    /// The watch says nothing.
    Stall,
    /// The watch says everything seconds late.
    Lag,
    /// The watch breaks, and resumes from where it was.
    Drop,
    /// The watch breaks, and begins anew with a list: its place was compacted.
    Relist,
    /// The same, and then tells again what was before the list.
    Replay,
    /// The process is stopped.
    Freeze,
    /// The process dies, and starts anew at the end.
    Crash,
    /// The wall clock jumps.
    WallJump,
    /// The process leaves in good order, and another one of its name joins at the end.
    Leave,
    /// Nothing that the replica sends reaches the API server; what that sends arrives.
    Mute,
    /// Somebody deletes the replica's ledger.
    DeleteLedger,
    /// Most clients die together, and come back together.
    MassDeath,
    /// All clients beat at once, several times.
    Storm,
}

/// What can befall one replica that keeps no ledger.
const ALONE: usize = 13;

const KINDS: [Kind; 18] = [
    Kind::Refuse,
    Kind::Hang,
    Kind::ReadOnly,
    Kind::Slow,
    Kind::LoseAnswers,
    Kind::Stall,
    Kind::Lag,
    Kind::Drop,
    Kind::Relist,
    Kind::Replay,
    Kind::Freeze,
    Kind::Crash,
    Kind::WallJump,
    Kind::Leave,
    Kind::Mute,
    Kind::DeleteLedger,
    Kind::MassDeath,
    Kind::Storm,
];

/// One fault, at one replica where it is about one.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub replica: usize,
    /// Which watch, where it is about one; both when none.
    pub feed: Option<Feed>,
    pub from: Time,
    pub to: Time,
}

/// A plan of `count` faults, each between 0.3 and 30 s long, all within a minute or so.
pub fn plan(rng: &mut fastrand::Rng, count: usize, replicas: usize, alone: bool) -> Vec<Fault> {
    let kinds = if alone { &KINDS[..ALONE] } else { &KINDS };
    let fault = |_| {
        let from = rng.u64(10_000..60_000);
        let length = (300.0 * 100f64.powf(rng.f64())) as u64;
        let kind = kinds[rng.usize(..kinds.len())];
        let feed = [None, Some(FEEDS[0]), Some(FEEDS[1])][rng.usize(..3)];
        let feed = feed.filter(|_| !alone);
        Fault { kind, replica: rng.usize(..replicas), feed, from, to: from + length }
    };
    (0..count).map(fault).collect()
}
