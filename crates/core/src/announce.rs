//! Which status changes also produce an Event.
//!
//! Owns: that choice. Expiry and revival always produce an Event. A change of health produces one if the
//! instance stops or starts being discoverable because of it. An instance whose health changes back and
//! forth gets at most one such Event a minute. Does not own: the text of Events (`controller`).

use std::time::Duration;

use rollcall_model::{
    instance::{Instance, Phase},
    lease::Moment,
};

use crate::fact::Announcement;

/// Minimum time between two Events that report the same instance as Critical.
const CRITICAL_EVERY: Duration = Duration::from_secs(60);

/// The last change to Critical that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnnouncedHealth {
    at: Moment,
    /// Whether the return to Passing or Warning has not been announced yet.
    open: bool,
}

/// Returns the Event for an instance whose status changes from `stored` to `phase`, and the record of what
/// has been announced about its health after that Event.
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

/// Whether the end of the last announced change to Critical has been announced, too. If a later change to
/// Critical is not announced, neither is its end. A new leader does not know what was announced, so it
/// announces the end.
fn is_closed(announced: Option<AnnouncedHealth>) -> bool {
    announced.is_some_and(|announced| !announced.open)
}

fn is_due(announced: Option<AnnouncedHealth>, now: Moment) -> bool {
    announced.is_none_or(|announced| now.since(announced.at) >= CRITICAL_EVERY)
}

fn close(announced: Option<AnnouncedHealth>) -> Option<AnnouncedHealth> {
    announced.map(|announced| AnnouncedHealth { open: false, ..announced })
}
