//! Mutations: deliberate errors that show that the checks can fail. Each one removes a clause of the rules, or
//! breaks the code around the state machine. Owns: the list. Does not own: which promise a mutation breaks in
//! a run (`main`).

use rollcall_core::rules::AllRules;

use crate::{
    faults::{self, Theme},
    mutants::{self, BuildMachine, build},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// Nothing is broken. Only faults around a store that steps back are planned.
    OnlyRestoreFaults,
    /// A self-beat counts as observed when its write is answered: the horizon runs ahead of the watch.
    SelfBeatObservedByResponse,
    /// The watch reports the replica's own instance before earlier changes of other objects.
    OwnInstanceOvertakes,
    /// A checkpoint counts as a heartbeat.
    CheckpointCountsAsHeartbeat,
    /// Evictions carry no resourceVersion.
    EvictsWithoutVersion,
    /// Leases are judged by the wall clock.
    WallClockDecides,
    /// A revival is answered 200 before it is written.
    RespondsBeforeWrite,
    /// A frozen process continues to judge leases, so that it never detects its stall.
    SettlesWhileFrozen,
    /// The header of a ledger is written before its other parts.
    HeaderFirst,
    SingleClockBound,
    ClockBoundsNeverAge,
    ChangedBootIgnored,
    EarliestGraceCounts,
    NoFence,
    FenceByObservation,
    FenceIgnoresInstances,
    SelfBeatByLatestAttempt,
    MissingSegmentsIgnored,
    SilentReplicaIgnored,
    OwnLedgerIgnored,
    EvictsWithoutAcknowledgement,
    LedgerNeverAsks,
    NoGuard,
    DuplicatesNotDistinguished,
    StepBackIgnored,
    OwnInstanceNotRead,
    NoListAfterOutage,
    EvictsInDoubt,
    EpochIgnored,
}

impl Mutation {
    /// Whether only faults around a store that steps back reveal it.
    pub fn is_about_restores(self) -> bool {
        matches!(self.theme(), Some(Theme::Any(kinds, _)) if kinds.iter().any(|kind| kind.is_restore()))
    }

    /// The faults that reveal it.
    pub fn theme(self) -> Option<Theme> {
        match self {
            Self::ChangedBootIgnored => Some(faults::CRASHES),
            Self::EarliestGraceCounts => Some(Theme::StaggeredSilence),
            Self::FenceByObservation => Some(Theme::LateLedger),
            Self::MissingSegmentsIgnored => Some(faults::MISSED_LEDGERS),
            Self::FenceIgnoresInstances => Some(Theme::Rejoin),
            Self::EvictsWithoutAcknowledgement => Some(Theme::RestartThenStall),
            Self::SelfBeatByLatestAttempt => Some(faults::LATE),
            Self::NoGuard => Some(faults::CORRELATED_CLIENTS),
            Self::DuplicatesNotDistinguished => Some(faults::DUPLICATES),
            Self::OnlyRestoreFaults
            | Self::StepBackIgnored
            | Self::OwnInstanceNotRead
            | Self::NoListAfterOutage
            | Self::EvictsInDoubt
            | Self::EpochIgnored => Some(faults::RESTORES),
            _ => None,
        }
    }

    /// The state machine with this mutation.
    pub fn state_machine(self) -> BuildMachine {
        match self {
            // Frequent checkpoints, so that a run has some.
            Self::CheckpointCountsAsHeartbeat => build::<mutants::FrequentCheckpoints>,
            Self::SingleClockBound => build::<mutants::SingleClockBound>,
            Self::ClockBoundsNeverAge => build::<mutants::ClockBoundsNeverAge>,
            Self::ChangedBootIgnored => build::<mutants::ChangedBootIgnored>,
            Self::EarliestGraceCounts => build::<mutants::EarliestGraceCounts>,
            Self::NoFence => build::<mutants::NoFence>,
            Self::FenceByObservation => build::<mutants::FenceByObservation>,
            Self::FenceIgnoresInstances => build::<mutants::FenceIgnoresInstances>,
            Self::SelfBeatByLatestAttempt => build::<mutants::SelfBeatByLatestAttempt>,
            Self::MissingSegmentsIgnored => build::<mutants::MissingSegmentsIgnored>,
            Self::SilentReplicaIgnored => build::<mutants::SilentReplicaIgnored>,
            Self::OwnLedgerIgnored => build::<mutants::OwnLedgerIgnored>,
            Self::EvictsWithoutAcknowledgement => build::<mutants::EvictsWithoutAcknowledgement>,
            Self::LedgerNeverAsks => build::<mutants::LedgerNeverAsks>,
            Self::NoGuard => build::<mutants::NoGuard>,
            Self::DuplicatesNotDistinguished => build::<mutants::DuplicatesNotDistinguished>,
            Self::StepBackIgnored => build::<mutants::StepBackIgnored>,
            Self::OwnInstanceNotRead => build::<mutants::OwnInstanceNotRead>,
            Self::NoListAfterOutage => build::<mutants::NoListAfterOutage>,
            Self::EvictsInDoubt => build::<mutants::EvictsInDoubt>,
            Self::EpochIgnored => build::<mutants::EpochIgnored>,
            _ => build::<AllRules>,
        }
    }
}

/// Each mutation, the promise that it breaks (any when empty), and the number of seeds within which it does.
pub const ALL: &[(Mutation, &str, u64)] = &[
    (Mutation::SelfBeatObservedByResponse, "P1", 600),
    (Mutation::OwnInstanceOvertakes, "P1", 600),
    (Mutation::CheckpointCountsAsHeartbeat, "", 600),
    (Mutation::EvictsWithoutVersion, "P3", 3000),
    (Mutation::WallClockDecides, "", 600),
    (Mutation::RespondsBeforeWrite, "", 600),
    (Mutation::SettlesWhileFrozen, "", 600),
    (Mutation::HeaderFirst, "P1", 600),
    (Mutation::SingleClockBound, "P1", 1500),
    (Mutation::ClockBoundsNeverAge, "", 600),
    (Mutation::ChangedBootIgnored, "P1", 2000),
    (Mutation::EarliestGraceCounts, "P1", 600),
    (Mutation::NoFence, "", 600),
    (Mutation::FenceByObservation, "", 600),
    (Mutation::FenceIgnoresInstances, "P3", 3000),
    (Mutation::SelfBeatByLatestAttempt, "P1", 3000),
    (Mutation::MissingSegmentsIgnored, "P1", 600),
    (Mutation::SilentReplicaIgnored, "P1", 600),
    (Mutation::OwnLedgerIgnored, "P1", 600),
    (Mutation::EvictsWithoutAcknowledgement, "P3", 6000),
    (Mutation::LedgerNeverAsks, "P2", 600),
    (Mutation::NoGuard, "P6", 600),
    (Mutation::DuplicatesNotDistinguished, "", 2000),
    (Mutation::StepBackIgnored, "", 6000),
    (Mutation::OwnInstanceNotRead, "", 6000),
    (Mutation::NoListAfterOutage, "", 6000),
    (Mutation::EvictsInDoubt, "P3", 20000),
    (Mutation::EpochIgnored, "", 6000),
];
