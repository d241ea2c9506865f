//! Which status changes also produce an Event.
//!
//! Owns: that choice. Expiry and revival always produce one. A change of health does if it takes an instance
//! out of the answers or back in; for an instance that swings between the two, at most one a minute. Does not
//! own: the text of Events (`controller`).

use std::time::Duration;

use rollcall_model::{
    instance::{Instance, Phase},
    lease::Moment,
};

use crate::fact::Announcement;

/// The least time between two Events that report one instance as Critical.
const CRITICAL_EVERY: Duration = Duration::from_secs(60);

/// The last change to Critical that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnnouncedHealth {
    at: Moment,
    /// Whether its end has not been announced yet.
    open: bool,
}

/// The Event for an instance whose status changes from `stored` to `phase`, and what will then have been
/// announced of its health.
pub(super) fn choose(
    instance: &Instance,
    stored: Option<Phase>,
    phase: Phase,
    announced: Option<AnnouncedHealth>,
    now: Moment,
) -> (Option<Announcement>, Option<AnnouncedHealth>) {
    let lease = instance.lease;
    let announcement = match (stored, phase) {
        (_, Phase::Terminating) | (Some(Phase::Expired), Phase::Expired) => None,
        (_, Phase::Expired) => Some(Announcement::Expired { lease }),
        // An instance that became permanent did not need a heartbeat.
        (Some(Phase::Expired), _) => {
            lease.is_leased().then_some(Announcement::Revived { lease, phase })
        }
        (Some(Phase::Critical), Phase::Ready | Phase::Warning) if !is_closed(announced) => {
            return (Some(Announcement::Recovered), close(announced));
        }
        (Some(Phase::Ready | Phase::Warning), Phase::Critical) if is_due(announced, now) => {
            return (Some(Announcement::Critical), Some(AnnouncedHealth { at: now, open: true }));
        }
        _ => None,
    };
    (announcement, announced)
}

/// Whether the last announced change to Critical has ended and that was announced: then the end of a later
/// change that was not announced is not announced either. A new leader does not know, and announces it.
fn is_closed(announced: Option<AnnouncedHealth>) -> bool {
    announced.is_some_and(|announced| !announced.open)
}

fn is_due(announced: Option<AnnouncedHealth>, now: Moment) -> bool {
    announced.is_none_or(|announced| now.since(announced.at) >= CRITICAL_EVERY)
}

fn close(announced: Option<AnnouncedHealth>) -> Option<AnnouncedHealth> {
    announced.map(|announced| AnnouncedHealth { open: false, ..announced })
}
