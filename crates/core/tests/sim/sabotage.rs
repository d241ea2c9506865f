//! What is broken on purpose, to show that the checks can fail: each clause of the rules taken out, and
//! some faults of those who carry duties out. Owns the list; `main` says by what each is caught.

use rollcall_core::rules::AllRules;

use crate::{
    faults::{self, Theme},
    machine::{self, Make, machine},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// Nothing is broken; what goes wrong has to do with a store that goes back.
    OnlyRestores,
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
    MissingUnnoticed,
    SilenceUnnoticed,
    OwnLedgerUnseen,
    EvictsUnacknowledged,
    NobodyAsks,
    NoGuard,
    DuplicatesMistaken,
    StepsBackUnseen,
    OwnUnread,
    WatchGoesOn,
    DoubtForgotten,
    EpochIgnored,
}

impl Sabotage {
    /// Whether it shows only where the store goes back.
    pub fn is_about_restores(self) -> bool {
        matches!(self.theme(), Some(Theme::Any(kinds, _)) if kinds.iter().any(|kind| kind.is_restore()))
    }

    /// The faults that show it.
    pub fn theme(self) -> Option<Theme> {
        match self {
            Self::ChangedBootUnnoticed => Some(faults::DEATHS),
            Self::FloorsDoNotAdd => Some(Theme::Silences),
            Self::FenceBySight => Some(Theme::LateLedger),
            Self::MissingUnnoticed => Some(faults::MISSED),
            Self::FenceForgetsInstances => Some(Theme::Return),
            Self::EvictsUnacknowledged => Some(Theme::Newcomer),
            Self::LatestAttempt => Some(faults::LATE),
            Self::NoGuard => Some(faults::TOGETHER),
            Self::DuplicatesMistaken => Some(faults::DUPLICATES),
            Self::OnlyRestores
            | Self::StepsBackUnseen
            | Self::OwnUnread
            | Self::WatchGoesOn
            | Self::DoubtForgotten
            | Self::EpochIgnored => Some(faults::RESTORES),
            _ => None,
        }
    }

    /// The machine that is broken so.
    pub fn machine(self) -> Make {
        match self {
            // Often, so that there are some within a run.
            Self::CheckpointBeats => machine::<machine::CheckpointsOften>,
            Self::OneBound => machine::<machine::OneBound>,
            Self::BoundsNeverAge => machine::<machine::BoundsNeverAge>,
            Self::ChangedBootUnnoticed => machine::<machine::ChangedBootUnnoticed>,
            Self::FloorsDoNotAdd => machine::<machine::FloorsDoNotAdd>,
            Self::NoFence => machine::<machine::NoFence>,
            Self::FenceBySight => machine::<machine::FenceBySight>,
            Self::FenceForgetsInstances => machine::<machine::FenceForgetsInstances>,
            Self::LatestAttempt => machine::<machine::LatestAttempt>,
            Self::MissingUnnoticed => machine::<machine::MissingUnnoticed>,
            Self::SilenceUnnoticed => machine::<machine::SilenceUnnoticed>,
            Self::OwnLedgerUnseen => machine::<machine::OwnLedgerUnseen>,
            Self::EvictsUnacknowledged => machine::<machine::EvictsUnacknowledged>,
            Self::NobodyAsks => machine::<machine::NobodyAsks>,
            Self::NoGuard => machine::<machine::NoGuard>,
            Self::DuplicatesMistaken => machine::<machine::DuplicatesMistaken>,
            Self::StepsBackUnseen => machine::<machine::StepsBackUnseen>,
            Self::OwnUnread => machine::<machine::OwnUnread>,
            Self::WatchGoesOn => machine::<machine::WatchGoesOn>,
            Self::DoubtForgotten => machine::<machine::DoubtForgotten>,
            Self::EpochIgnored => machine::<machine::EpochIgnored>,
            _ => machine::<AllRules>,
        }
    }
}

/// Each, which promise it breaks (any when empty), and within how many seeds that is seen.
pub const ALL: &[(Sabotage, &str, u64)] = &[
    (Sabotage::AnswerIsSeen, "P1", 600),
    (Sabotage::Unordered, "P1", 600),
    (Sabotage::CheckpointBeats, "", 600),
    (Sabotage::EvictsAnyVersion, "P3", 3000),
    (Sabotage::WallDecides, "", 600),
    (Sabotage::AnswersFirst, "", 600),
    (Sabotage::SettlesWhileFrozen, "", 600),
    (Sabotage::HeaderFirst, "P1", 600),
    (Sabotage::OneBound, "P1", 1500),
    (Sabotage::BoundsNeverAge, "", 600),
    (Sabotage::ChangedBootUnnoticed, "P1", 2000),
    (Sabotage::FloorsDoNotAdd, "P1", 600),
    (Sabotage::NoFence, "", 600),
    (Sabotage::FenceBySight, "", 600),
    (Sabotage::FenceForgetsInstances, "P3", 3000),
    (Sabotage::LatestAttempt, "P1", 3000),
    (Sabotage::MissingUnnoticed, "P1", 600),
    (Sabotage::SilenceUnnoticed, "P1", 600),
    (Sabotage::OwnLedgerUnseen, "P1", 600),
    (Sabotage::EvictsUnacknowledged, "P3", 6000),
    (Sabotage::NobodyAsks, "P2", 600),
    (Sabotage::NoGuard, "P6", 600),
    (Sabotage::DuplicatesMistaken, "", 2000),
    (Sabotage::StepsBackUnseen, "", 6000),
    (Sabotage::OwnUnread, "", 6000),
    (Sabotage::WatchGoesOn, "", 6000),
    (Sabotage::DoubtForgotten, "P3", 20000),
    (Sabotage::EpochIgnored, "", 6000),
];
