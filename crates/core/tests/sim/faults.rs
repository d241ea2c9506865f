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
    /// The API server is away, and back with an older store.
    GoesBack,
    /// The same, and others have written more since than was lost.
    GoesBackAndOn,
    /// The same, and versions go on far above those that were given out (`etcdutl snapshot restore --bump-revision
    /// --mark-compacted`).
    Leaps,
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
    /// A second process of the replica's name runs beside it, and is killed in the end.
    Duplicate,
    /// Most clients die together, and come back together.
    MassDeath,
    /// All clients beat at once, several times.
    Storm,
}

/// To stop the API servers, restore etcd and start them again takes so long at least.
const RESTORE: Time = 5_500;

/// How long a second process of the same name runs: long enough that what is dead by then has to be gone.
const DUPLICATE: Time = 70_000;

impl Kind {
    /// Whether the store goes back.
    pub fn is_restore(self) -> bool {
        matches!(self, Self::GoesBack | Self::GoesBackAndOn | Self::Leaps)
    }
}

/// What can befall one replica that keeps no ledger.
const ALONE: usize = 16;

const KINDS: [Kind; 22] = [
    Kind::Refuse,
    Kind::Hang,
    Kind::ReadOnly,
    Kind::Slow,
    Kind::LoseAnswers,
    Kind::GoesBack,
    Kind::GoesBackAndOn,
    Kind::Leaps,
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
    Kind::Duplicate,
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

/// What a world is about. Some mistakes show only where certain faults meet.
#[derive(Clone, Copy, Debug)]
pub enum Theme {
    /// Faults of these kinds at any time; at this watch, where they are about one.
    Any(&'static [Kind], Option<Feed>),
    /// Two replicas fall silent at different times, and answer until they are fenced.
    Silences,
    /// A replica's own ledger comes back late, then it is not heard.
    LateLedger,
    /// A replica was not heard, comes back, and does not see instances; the others hear of it late.
    Return,
    /// A replica starts anew, and soon sees no instances any more; clients die before, and come back after.
    Newcomer,
}

/// Anything.
const ANYTHING: Theme = Theme::Any(&KINDS, None);
/// Replicas die, and are back soon.
pub const DEATHS: Theme = Theme::Any(&[Kind::Crash, Kind::Crash, Kind::Leave], None);
/// Replicas are not heard, then die.
const CUT_OFF: Theme =
    Theme::Any(&[Kind::Mute, Kind::Freeze, Kind::Crash, Kind::Slow, Kind::Lag], None);
/// Ledgers are missed.
pub const MISSED: Theme = Theme::Any(
    &[Kind::Relist, Kind::Relist, Kind::Replay, Kind::Stall, Kind::DeleteLedger],
    Some(Feed::Ledgers),
);
/// Replicas join or come back, and do not see instances.
const BLIND: Theme = Theme::Any(
    &[Kind::Stall, Kind::Lag, Kind::Crash, Kind::Mute, Kind::Freeze],
    Some(Feed::Instances),
);
/// Writes arrive late.
pub const LATE: Theme = Theme::Any(&[Kind::Hang, Kind::Slow, Kind::LoseAnswers, Kind::Lag], None);

/// Nothing but clients who die as one, or beat as one.
pub const TOGETHER: Theme = Theme::Any(&[Kind::MassDeath, Kind::MassDeath, Kind::Storm], None);

/// The store goes back, while something else is wrong.
pub const RESTORES: Theme = Theme::Any(
    &[
        Kind::GoesBack,
        Kind::GoesBackAndOn,
        Kind::Leaps,
        Kind::GoesBack,
        Kind::GoesBackAndOn,
        Kind::Lag,
        Kind::Stall,
        Kind::Freeze,
        Kind::Mute,
    ],
    None,
);

/// Two processes of one name, while clients die.
pub const DUPLICATES: Theme =
    Theme::Any(&[Kind::Duplicate, Kind::Duplicate, Kind::MassDeath, Kind::Storm], None);

const THEMES: [Theme; 16] = [
    ANYTHING,
    ANYTHING,
    ANYTHING,
    ANYTHING,
    DEATHS,
    CUT_OFF,
    MISSED,
    BLIND,
    LATE,
    TOGETHER,
    RESTORES,
    DUPLICATES,
    Theme::Silences,
    Theme::LateLedger,
    Theme::Return,
    Theme::Newcomer,
];

/// A plan of `count` faults, each between 0.3 and 30 s long, all within a minute or so.
pub fn plan(
    rng: &mut fastrand::Rng,
    count: usize,
    replicas: usize,
    theme: Option<Theme>,
) -> Vec<Fault> {
    match theme.unwrap_or_else(|| THEMES[rng.usize(..THEMES.len())]) {
        Theme::Any(kinds, feed) => (0..count).map(|_| any(rng, replicas, kinds, feed)).collect(),
        _ if count == 0 => Vec::new(),
        Theme::Silences => silences(rng, replicas),
        Theme::LateLedger => late_ledger(rng, replicas),
        Theme::Return => returns(rng, replicas),
        Theme::Newcomer => newcomer(rng, replicas),
    }
}

fn any(rng: &mut fastrand::Rng, replicas: usize, kinds: &[Kind], only: Option<Feed>) -> Fault {
    let from = rng.u64(10_000..60_000);
    let length = (300.0 * 100f64.powf(rng.f64())) as u64;
    let kind = kinds[rng.usize(..kinds.len())];
    let length = match kind {
        Kind::Duplicate => DUPLICATE,
        _ if kind.is_restore() => length.max(RESTORE),
        _ => length,
    };
    let feed = [None, Some(FEEDS[0]), Some(FEEDS[1])][rng.usize(..3)];
    Fault { kind, replica: rng.usize(..replicas), feed: only.or(feed), from, to: from + length }
}

fn mute(replica: usize, from: Time, to: Time) -> Fault {
    Fault { kind: Kind::Mute, replica, feed: None, from, to }
}

fn silences(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (one, from) = (rng.usize(..replicas), rng.u64(15_000..30_000));
    let later = from + rng.u64(2_000..9_500);
    let to = later + rng.u64(12_000..35_000);
    vec![mute(one, from, to), mute((one + 1) % replicas, later, to + rng.u64(0..5_000))]
}

fn late_ledger(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (replica, from) = (rng.usize(..replicas), rng.u64(15_000..30_000));
    let (feed, to) = (Some(Feed::Ledgers), from + 30_000);
    let lag = Fault { kind: Kind::Lag, replica, feed, from: from - 8_000, to };
    vec![lag, mute(replica, from, from + rng.u64(14_000..30_000))]
}

fn returns(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (replica, from) = (rng.usize(..replicas), rng.u64(15_000..30_000));
    let back = from + rng.u64(12_500..25_000);
    let to = back + rng.u64(2_000..12_000);
    let instances = Some(Feed::Instances);
    let stall = Fault { kind: Kind::Stall, replica, feed: instances, from, to };
    let mut faults = vec![mute(replica, from, back), stall];
    for other in (0..replicas).filter(|other| *other != replica) {
        let (feed, from) = (Some(Feed::Ledgers), back - 3_000);
        faults.push(Fault { kind: Kind::Lag, replica: other, feed, from, to: back + 6_000 });
    }
    faults
}

fn newcomer(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (replica, start) = (rng.usize(..replicas), rng.u64(25_000..40_000));
    let about = |kind, feed, from, to| Fault { kind, replica, feed, from, to };
    let blind = start + rng.u64(500..2_500);
    let died = start - rng.u64(0..12_000);
    vec![
        about(Kind::Crash, None, start - 1_000, start),
        about(Kind::Stall, Some(Feed::Instances), blind, blind + 25_000),
        about(Kind::MassDeath, None, died, start + rng.u64(3_000..18_000)),
    ]
}

/// The same for a replica that keeps no ledger.
pub fn plan_alone(rng: &mut fastrand::Rng, count: usize) -> Vec<Fault> {
    const KINDS_ALONE: Theme = Theme::Any(KINDS.split_at(ALONE).0, None);
    let mut faults = plan(rng, count, 1, Some(KINDS_ALONE));
    faults.iter_mut().for_each(|fault| fault.feed = None);
    faults
}
