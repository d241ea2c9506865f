//! Why an instance is in its phase, as a sentence for a person in a hurry.

use crate::clock;
use crate::registry::{
    instance::{Instance, Phase},
    lease::{Moment, Now, OnExpiry},
};

/// The moments that a verdict rests on.
pub(super) struct Clock {
    pub(super) last_beat: Moment,
    /// None for a permanent instance.
    pub(super) deadline: Option<Moment>,
    pub(super) horizon: Moment,
    pub(super) now: Now,
}

/// Phase and reason.
pub(super) fn sentence(instance: &Instance, phase: Phase, clock: &Clock) -> String {
    let reason = match phase {
        Phase::Expired => return expired(instance, clock),
        Phase::OutOfService | Phase::Draining => "its operator says so (spec.state)",
        Phase::Critical => "it reports itself so, and is not offered",
        Phase::Warning => "it reports itself so, and is still offered",
        Phase::Ready => "it is Up and reports itself as Passing",
    };
    format!("{phase}: {reason}; {}", life(clock))
}

fn life(clock: &Clock) -> String {
    let Some(deadline) = clock.deadline else {
        return "it is permanent and needs no heartbeats".to_owned();
    };
    let show = |moment| clock::show(clock.now.wall_of(moment));
    let until = show(deadline);
    if deadline >= clock.now.moment {
        return format!("its lease runs until {until}");
    }
    format!(
        "its lease ended at {until}, but this replica knows of all heartbeats only up to {} (the \
         horizon), so it is not yet judged",
        show(clock.horizon)
    )
}

fn expired(instance: &Instance, clock: &Clock) -> String {
    let show = |moment| clock::show(clock.now.wall_of(moment));
    let fate = match instance.lease.on_expiry {
        OnExpiry::Retain => "the object stays".to_owned(),
        OnExpiry::Evict => {
            let seconds = instance.lease.evict_after.as_secs();
            format!("else the object is deleted {seconds} s after it expired")
        }
    };
    let seconds = instance.lease.duration.as_secs();
    format!(
        "Expired: no heartbeat is known after {}, so its lease of {seconds} s ended, and the \
         horizon ({}) has passed that. A heartbeat brings it back; {fate}",
        show(clock.last_beat),
        show(clock.horizon)
    )
}
