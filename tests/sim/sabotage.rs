//! What is broken on purpose, to show that the checks can fail: each clause of the rules taken out, and
//! some faults of those who carry duties out. Owns the list; `main` says by what each is caught.

use rollcall::registry::rules::Rules;

use crate::faults::{self, Theme};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// A self-beat counts as seen when its write is answered: the horizon runs ahead of the watch.
    AnswerIsSeen,
    /// What a replica says of itself overtakes other changes in the watch.
    Unordered,
    /// A checkpoint counts as a beat.
    CheckpointBeats,
    /// Evictions carry no resourceVersion.
    EvictsAnyVersion,
    /// Leases are judged by the wall clock.
    WallDecides,
    /// A revival is answered 200 before it is written.
    AnswersFirst,
    /// A frozen process goes on judging, so that it never notices that it was deaf.
    SettlesWhileFrozen,
    /// The header of a ledger is written before its other parts.
    HeaderFirst,
    OneBound,
    BoundsNeverAge,
    ChangedBootUnnoticed,
    FloorsDoNotAdd,
    NoFence,
    FenceBySight,
    FenceForgetsInstances,
    LatestAttempt,
    LateBeatIsOrdinary,
    MissingUnnoticed,
    SilenceUnnoticed,
    OwnLedgerUnseen,
    EvictsUnacknowledged,
    NobodyAsks,
}

impl Sabotage {
    /// The faults that show it.
    pub fn theme(self) -> Option<Theme> {
        match self {
            Self::ChangedBootUnnoticed | Self::FloorsDoNotAdd => Some(faults::DEATHS),
            Self::FenceBySight | Self::LateBeatIsOrdinary => Some(faults::CUT_OFF),
            Self::MissingUnnoticed => Some(faults::MISSED),
            Self::FenceForgetsInstances | Self::EvictsUnacknowledged => Some(faults::BLIND),
            Self::LatestAttempt => Some(faults::LATE),
            _ => None,
        }
    }

    pub fn rules(self) -> Rules {
        let mut rules = Rules::default();
        match self {
            Self::OneBound => rules.two_bounds = false,
            Self::BoundsNeverAge => rules.ageing = 0,
            Self::ChangedBootUnnoticed => rules.changed_boot_is_gone = false,
            Self::FloorsDoNotAdd => rules.floors_add_up = false,
            Self::NoFence => rules.fence = false,
            Self::FenceBySight => rules.fence_by_stamp = false,
            Self::FenceForgetsInstances => rules.fence_waits_for_instances = false,
            Self::LatestAttempt => rules.first_sending = false,
            Self::LateBeatIsOrdinary => rules.late_beat_is_revival = false,
            Self::MissingUnnoticed => rules.missing_is_gap = false,
            Self::SilenceUnnoticed => rules.silent_holds = false,
            Self::OwnLedgerUnseen => rules.own_ledger_holds = false,
            Self::EvictsUnacknowledged => rules.evictions_acknowledged = false,
            Self::NobodyAsks => rules.ask = false,
            _ => {}
        }
        rules
    }
}

/// Each, and which promise it breaks.
pub const ALL: &[(Sabotage, &str)] = &[
    (Sabotage::AnswerIsSeen, "P1"),
    (Sabotage::Unordered, "P1"),
    (Sabotage::CheckpointBeats, ""),
    (Sabotage::EvictsAnyVersion, "P3"),
    (Sabotage::WallDecides, ""),
    (Sabotage::AnswersFirst, ""),
    (Sabotage::SettlesWhileFrozen, "P5"),
    (Sabotage::HeaderFirst, "P1"),
    (Sabotage::OneBound, "P1"),
    (Sabotage::BoundsNeverAge, ""),
    (Sabotage::ChangedBootUnnoticed, "P1"),
    (Sabotage::FloorsDoNotAdd, "P1"),
    (Sabotage::NoFence, ""),
    (Sabotage::FenceBySight, ""),
    (Sabotage::FenceForgetsInstances, "P3"),
    (Sabotage::LatestAttempt, "P1"),
    (Sabotage::LateBeatIsOrdinary, ""),
    (Sabotage::MissingUnnoticed, "P1"),
    (Sabotage::SilenceUnnoticed, "P1"),
    (Sabotage::OwnLedgerUnseen, "P1"),
    (Sabotage::EvictsUnacknowledged, "P3"),
    (Sabotage::NobodyAsks, "P2"),
];
