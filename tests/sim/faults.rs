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

/// What a world is about: of these kinds, several at once. Some mistakes show only where two faults meet.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    kinds: &'static [Kind],
    /// Only this watch.
    feed: Option<Feed>,
}

/// Anything.
pub const ANYTHING: Theme = Theme { kinds: &KINDS, feed: None };
/// Replicas die, and are back soon.
pub const DEATHS: Theme = Theme { kinds: &[Kind::Crash, Kind::Crash, Kind::Leave], feed: None };
/// Replicas are not heard, then die.
pub const CUT_OFF: Theme =
    Theme { kinds: &[Kind::Mute, Kind::Freeze, Kind::Crash, Kind::Slow, Kind::Lag], feed: None };
/// Ledgers are missed.
pub const MISSED: Theme = Theme {
    kinds: &[Kind::Relist, Kind::Relist, Kind::Replay, Kind::Stall, Kind::DeleteLedger],
    feed: Some(Feed::Ledgers),
};
/// Replicas join or come back, and do not see instances.
pub const BLIND: Theme = Theme {
    kinds: &[Kind::Stall, Kind::Lag, Kind::Crash, Kind::Mute, Kind::Freeze],
    feed: Some(Feed::Instances),
};
/// Writes arrive late.
pub const LATE: Theme =
    Theme { kinds: &[Kind::Hang, Kind::Slow, Kind::LoseAnswers, Kind::Lag], feed: None };

const THEMES: [Theme; 6] = [ANYTHING, DEATHS, CUT_OFF, MISSED, BLIND, LATE];

/// A plan of `count` faults, each between 0.3 and 30 s long, all within a minute or so.
pub fn plan(
    rng: &mut fastrand::Rng,
    count: usize,
    replicas: usize,
    theme: Option<Theme>,
) -> Vec<Fault> {
    let theme = theme.unwrap_or_else(|| THEMES[rng.usize(..2 * THEMES.len()) % 7 % THEMES.len()]);
    let fault = |_| {
        let from = rng.u64(10_000..60_000);
        let length = (300.0 * 100f64.powf(rng.f64())) as u64;
        let kind = theme.kinds[rng.usize(..theme.kinds.len())];
        let feed = [None, Some(FEEDS[0]), Some(FEEDS[1])][rng.usize(..3)];
        let feed = theme.feed.or(feed);
        Fault { kind, replica: rng.usize(..replicas), feed, from, to: from + length }
    };
    (0..count).map(fault).collect()
}

/// The same for a replica that keeps no ledger.
pub fn plan_alone(rng: &mut fastrand::Rng, count: usize) -> Vec<Fault> {
    const KINDS_ALONE: Theme = Theme { kinds: KINDS.split_at(ALONE).0, feed: None };
    let mut faults = plan(rng, count, 1, Some(KINDS_ALONE));
    faults.iter_mut().for_each(|fault| fault.feed = None);
    faults
}
