//! Which changes of a status are told to people, beside being written.
//!
//! Owns: that choice. A change of life is always told; one of health when it takes an instance out
//! of the answers or back in, and that not for ever: of an instance that swings to and fro the
//! first in a minute. Does not own: the words (`cluster::events`).

use std::time::Duration;

use rollcall_model::{
    instance::{Instance, Phase},
    lease::Moment,
};

use crate::fact::Announcement;

/// How often an instance's turn to Critical is told at most.
const CRITICAL_EVERY: Duration = Duration::from_secs(60);

/// The last turn to Critical that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    at: Moment,
    /// Whether its end is still to be told.
    open: bool,
}

/// What to tell of an instance whose status, which has said `stored`, is now to say `phase`, and what will have been told
/// of its health then.
pub(super) fn choose(
    instance: &Instance,
    stored: Option<Phase>,
    phase: Phase,
    told: Option<Told>,
    now: Moment,
) -> (Option<Announcement>, Option<Told>) {
    let lease = instance.lease;
    let what = match (stored, phase) {
        (_, Phase::Terminating) | (Some(Phase::Expired), Phase::Expired) => None,
        (_, Phase::Expired) => Some(Announcement::Expired { lease }),
        // Made permanent, it needed no beat.
        (Some(Phase::Expired), _) => {
            lease.is_leased().then_some(Announcement::Revived { lease, phase })
        }
        (Some(Phase::Critical), Phase::Ready | Phase::Warning) if !is_closed(told) => {
            return (Some(Announcement::Recovered), close(told));
        }
        (Some(Phase::Ready | Phase::Warning), Phase::Critical) if is_due(told, now) => {
            return (Some(Announcement::Critical), Some(Told { at: now, open: true }));
        }
        _ => None,
    };
    (what, told)
}

/// Whether the end of what was told last was told too: then that of another, untold turn is not. A
/// new leader does not know, and tells.
fn is_closed(told: Option<Told>) -> bool {
    told.is_some_and(|told| !told.open)
}

fn is_due(told: Option<Told>, now: Moment) -> bool {
    told.is_none_or(|told| now.since(told.at) >= CRITICAL_EVERY)
}

fn close(told: Option<Told>) -> Option<Told> {
    told.map(|told| Told { open: false, ..told })
}
