//! Which faults happen and when: a random plan for each seed. Owns: the plan. Does not own: its execution
//! (`world`).

use crate::{
    Time,
    watches::{RESOURCES, Resource},
};

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The API server refuses connections; watches break.
    Refuse,
    /// The API server is stopped: calls hang until it continues, and are then carried out.
    Hang,
    /// Reads and watches work, writes are refused.
    ReadOnly,
    /// Requests and responses take up to four seconds each.
    Slow,
    /// Many responses are lost although the write was done.
    LoseResponses,
    /// The API server is unavailable, then comes back with an older store.
    Restore,
    /// Like `Restore`, and other clients have since written more versions than were lost.
    RestoreThenWrites,
    /// As `Restore`, and new versions are far above those that were given out (`etcdutl snapshot restore
    /// --bump-revision --mark-compacted`).
    RestoreWithRevisionBump,
    /// The watch reports nothing.
    Stall,
    /// The watch reports every change seconds late.
    Lag,
    /// The watch breaks, and resumes where it was.
    Drop,
    /// The watch breaks and starts again with a list, because its position was compacted.
    Relist,
    /// Like `Relist`, and the watch then repeats changes from before the list.
    Replay,
    /// The process is stopped.
    Freeze,
    /// The process crashes, and starts again at the end of the fault.
    Crash,
    /// The wall clock jumps.
    WallClockJump,
    /// The process shuts down gracefully, and another process of this replica starts at the end of the fault.
    Leave,
    /// No request of the replica reaches the API server. Watches still work.
    CutOff,
    /// An operator deletes the replica's ledger.
    DeleteLedger,
    /// A second process with the replica's identity runs at the same time, and is killed at the end.
    Duplicate,
    /// Most clients stop together, and come back together.
    MassExpiry,
    /// All clients send several heartbeats at once.
    HeartbeatStorm,
}

/// The shortest time to stop the API servers, restore etcd and start them again.
const SHORTEST_RESTORE: Time = 5_500;

/// How long a second process with the same identity runs: long enough that instances that expire while
/// it runs must have left.
const DUPLICATE_LENGTH: Time = 70_000;

impl FaultKind {
    /// Whether the store steps back.
    pub fn is_restore(self) -> bool {
        matches!(self, Self::Restore | Self::RestoreThenWrites | Self::RestoreWithRevisionBump)
    }
}

/// How many of `KINDS` apply to a single replica without a ledger.
const SINGLE_REPLICA_KINDS: usize = 16;

const KINDS: [FaultKind; 22] = [
    FaultKind::Refuse,
    FaultKind::Hang,
    FaultKind::ReadOnly,
    FaultKind::Slow,
    FaultKind::LoseResponses,
    FaultKind::Restore,
    FaultKind::RestoreThenWrites,
    FaultKind::RestoreWithRevisionBump,
    FaultKind::Stall,
    FaultKind::Lag,
    FaultKind::Drop,
    FaultKind::Relist,
    FaultKind::Replay,
    FaultKind::Freeze,
    FaultKind::Crash,
    FaultKind::WallClockJump,
    FaultKind::Leave,
    FaultKind::CutOff,
    FaultKind::DeleteLedger,
    FaultKind::Duplicate,
    FaultKind::MassExpiry,
    FaultKind::HeartbeatStorm,
];

/// One fault. It affects one replica or, for faults of the API server and the clients, all.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    pub replica: usize,
    /// The affected watch; `None` for both. Only for faults of watches.
    pub resource: Option<Resource>,
    pub from: Time,
    pub to: Time,
}

/// The theme of a world. Some errors show only where certain faults meet.
#[derive(Clone, Copy, Debug)]
pub enum Theme {
    /// Faults of these kinds at any time, on this watch where the kind affects a watch.
    Any(&'static [FaultKind], Option<Resource>),
    /// Two replicas are cut off one after the other, and answer heartbeats until they are fenced.
    StaggeredSilence,
    /// A replica's own ledger comes back late, then its requests no longer arrive.
    LateLedger,
    /// A replica returns after its requests did not arrive, and its instance watch is stalled. The others
    /// observe its ledgers late.
    Rejoin,
    /// A replica restarts and soon its instance watch stalls. Clients stop before that and come back after it.
    RestartThenStall,
}

/// Every kind of fault.
const ANYTHING: Theme = Theme::Any(&KINDS, None);
/// Processes of replicas end, and soon start again.
pub const CRASHES: Theme =
    Theme::Any(&[FaultKind::Crash, FaultKind::Crash, FaultKind::Leave], None);
/// Requests of replicas do not arrive, and processes freeze or crash.
const ISOLATED: Theme = Theme::Any(
    &[FaultKind::CutOff, FaultKind::Freeze, FaultKind::Crash, FaultKind::Slow, FaultKind::Lag],
    None,
);
/// Watches of ledgers miss changes.
pub const MISSED_LEDGERS: Theme = Theme::Any(
    &[
        FaultKind::Relist,
        FaultKind::Relist,
        FaultKind::Replay,
        FaultKind::Stall,
        FaultKind::DeleteLedger,
    ],
    Some(Resource::Ledgers),
);
/// Replicas join or come back while their instance watch is late.
const STALE_INSTANCES: Theme = Theme::Any(
    &[FaultKind::Stall, FaultKind::Lag, FaultKind::Crash, FaultKind::CutOff, FaultKind::Freeze],
    Some(Resource::Instances),
);
/// Writes arrive late.
pub const LATE: Theme =
    Theme::Any(&[FaultKind::Hang, FaultKind::Slow, FaultKind::LoseResponses, FaultKind::Lag], None);

/// Only clients that stop together, or send heartbeats together.
pub const CORRELATED_CLIENTS: Theme =
    Theme::Any(&[FaultKind::MassExpiry, FaultKind::MassExpiry, FaultKind::HeartbeatStorm], None);

/// The store steps back while other faults happen.
pub const RESTORES: Theme = Theme::Any(
    &[
        FaultKind::Restore,
        FaultKind::RestoreThenWrites,
        FaultKind::RestoreWithRevisionBump,
        FaultKind::Restore,
        FaultKind::RestoreThenWrites,
        FaultKind::Lag,
        FaultKind::Stall,
        FaultKind::Freeze,
        FaultKind::CutOff,
    ],
    None,
);

/// Two processes with one identity, while clients stop.
pub const DUPLICATES: Theme = Theme::Any(
    &[FaultKind::Duplicate, FaultKind::Duplicate, FaultKind::MassExpiry, FaultKind::HeartbeatStorm],
    None,
);

const THEMES: [Theme; 16] = [
    ANYTHING,
    ANYTHING,
    ANYTHING,
    ANYTHING,
    CRASHES,
    ISOLATED,
    MISSED_LEDGERS,
    STALE_INSTANCES,
    LATE,
    CORRELATED_CLIENTS,
    RESTORES,
    DUPLICATES,
    Theme::StaggeredSilence,
    Theme::LateLedger,
    Theme::Rejoin,
    Theme::RestartThenStall,
];

/// A plan of `count` faults, most of them between 0.3 and 30 s long, all within about a minute.
pub fn plan(
    rng: &mut fastrand::Rng,
    count: usize,
    replicas: usize,
    theme: Option<Theme>,
) -> Vec<Fault> {
    match theme.unwrap_or_else(|| THEMES[rng.usize(..THEMES.len())]) {
        Theme::Any(kinds, resource) => {
            (0..count).map(|_| random_fault(rng, replicas, kinds, resource)).collect()
        }
        _ if count == 0 => Vec::new(),
        Theme::StaggeredSilence => staggered_silence(rng, replicas),
        Theme::LateLedger => late_ledger(rng, replicas),
        Theme::Rejoin => rejoin(rng, replicas),
        Theme::RestartThenStall => restart_then_stall(rng, replicas),
    }
}

fn random_fault(
    rng: &mut fastrand::Rng,
    replicas: usize,
    kinds: &[FaultKind],
    only: Option<Resource>,
) -> Fault {
    let from = rng.u64(10_000..60_000);
    let length = (300.0 * 100f64.powf(rng.f64())) as u64;
    let kind = kinds[rng.usize(..kinds.len())];
    let length = match kind {
        FaultKind::Duplicate => DUPLICATE_LENGTH,
        _ if kind.is_restore() => length.max(SHORTEST_RESTORE),
        _ => length,
    };
    let resource = [None, Some(RESOURCES[0]), Some(RESOURCES[1])][rng.usize(..3)];
    Fault {
        kind,
        replica: rng.usize(..replicas),
        resource: only.or(resource),
        from,
        to: from + length,
    }
}

fn cut_off(replica: usize, from: Time, to: Time) -> Fault {
    Fault { kind: FaultKind::CutOff, replica, resource: None, from, to }
}

fn staggered_silence(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (first, from) = (rng.usize(..replicas), rng.u64(15_000..30_000));
    let later = from + rng.u64(2_000..9_500);
    let to = later + rng.u64(12_000..35_000);
    vec![cut_off(first, from, to), cut_off((first + 1) % replicas, later, to + rng.u64(0..5_000))]
}

fn late_ledger(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (replica, from) = (rng.usize(..replicas), rng.u64(15_000..30_000));
    let (resource, to) = (Some(Resource::Ledgers), from + 30_000);
    let lag = Fault { kind: FaultKind::Lag, replica, resource, from: from - 8_000, to };
    vec![lag, cut_off(replica, from, from + rng.u64(14_000..30_000))]
}

fn rejoin(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (replica, from) = (rng.usize(..replicas), rng.u64(15_000..30_000));
    let back = from + rng.u64(12_500..25_000);
    let to = back + rng.u64(2_000..12_000);
    let instances = Some(Resource::Instances);
    let stall = Fault { kind: FaultKind::Stall, replica, resource: instances, from, to };
    let mut faults = vec![cut_off(replica, from, back), stall];
    for other in (0..replicas).filter(|other| *other != replica) {
        let (resource, from) = (Some(Resource::Ledgers), back - 3_000);
        faults.push(Fault {
            kind: FaultKind::Lag,
            replica: other,
            resource,
            from,
            to: back + 6_000,
        });
    }
    faults
}

fn restart_then_stall(rng: &mut fastrand::Rng, replicas: usize) -> Vec<Fault> {
    let (replica, start) = (rng.usize(..replicas), rng.u64(25_000..40_000));
    let about = |kind, resource, from, to| Fault { kind, replica, resource, from, to };
    let stall_start = start + rng.u64(500..2_500);
    let expiry_start = start - rng.u64(0..12_000);
    vec![
        about(FaultKind::Crash, None, start - 1_000, start),
        about(FaultKind::Stall, Some(Resource::Instances), stall_start, stall_start + 25_000),
        about(FaultKind::MassExpiry, None, expiry_start, start + rng.u64(3_000..18_000)),
    ]
}

/// A plan for a single replica without a ledger.
pub fn plan_single_replica(rng: &mut fastrand::Rng, count: usize) -> Vec<Fault> {
    const THEME: Theme = Theme::Any(KINDS.split_at(SINGLE_REPLICA_KINDS).0, None);
    let mut faults = plan(rng, count, 1, Some(THEME));
    faults.iter_mut().for_each(|fault| fault.resource = None);
    faults
}
