//! Why an instance is in its phase, as a sentence for a person in a hurry.

use std::sync::Arc;

use rollcall_core::{conditions, report::Standstill, sockets::Shared};
use rollcall_model::{
    instance::{Instance, Phase, State},
    lease::{Moment, Now, OnExpiry, Wall},
};

/// What a verdict rests on, and what it leads to.
pub(super) struct Grounds<'a> {
    pub(super) instance: &'a Instance,
    pub(super) phase: Phase,
    pub(super) now: Now,
    /// The horizon.
    pub(super) horizon: Moment,
    /// Why it stands still, if it does.
    pub(super) standstill: Option<&'a Standstill>,
    /// None for a permanent instance.
    pub(super) life: Option<Life>,
    /// Whether it is kept past its lease, since many fell silent together.
    pub(super) held: bool,
    /// Whether it was expired already when this replica started.
    pub(super) carried_over: bool,
    /// When the object is to be deleted, if that is decided.
    pub(super) evict_at: Option<Moment>,
    /// An address that it shares with another instance.
    pub(super) shared: Option<Shared>,
    /// Who writes the status.
    pub(super) leader: Option<Arc<str>>,
}

/// The life of an instance that needs heartbeats.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) last_heartbeat: Wall,
    pub(super) deadline: Wall,
    /// Where the deadline would be, had no time been given back; none when it is there.
    pub(super) without_grace: Option<Wall>,
}

/// Phase and reason.
pub(super) fn sentence(grounds: &Grounds<'_>) -> String {
    let phase = grounds.phase;
    let reason = match phase {
        Phase::Terminating => conditions::terminating(grounds.instance),
        Phase::Expired => expired(grounds),
        Phase::OutOfService | Phase::Draining => of(grounds, "its operator says so (spec.state)"),
        Phase::Stopping => {
            of(grounds, "it reports that it is leaving (Stopping), until it reports Passing")
        }
        Phase::Critical => of(grounds, "it reports itself so, and is not discoverable"),
        Phase::Warning => of(grounds, "it reports itself so, and is still discoverable"),
        Phase::Ready => of(grounds, "it is Up and reports itself as Passing"),
    };
    format!("{phase}: {reason}{}{}", shared(grounds), stored(grounds))
}

fn of(grounds: &Grounds<'_>, reason: &str) -> String {
    let Some(life) = grounds.life else {
        return format!("{reason}; it is permanent and needs no heartbeats");
    };
    let until = life.deadline;
    if grounds.held {
        return format!("{reason}; {}", held(grounds, life));
    }
    if life.deadline < grounds.now.wall {
        return format!("{reason}; {}", unjudged(grounds, until));
    }
    let given_back = life.without_grace.map_or_else(String::new, |end| {
        format!(
            ", not only until {}, since time in which heartbeats could not be heard is given back",
            end
        )
    });
    format!("{reason}; its lease runs until {until}{given_back}")
}

fn held(grounds: &Grounds<'_>, life: Life) -> String {
    let lease = i64::try_from(grounds.instance.lease.duration.as_millis()).unwrap_or(i64::MAX);
    let until = Wall(life.deadline.0.saturating_add(lease));
    if life.deadline >= grounds.now.wall {
        return format!(
            "its lease ended, but too many fell silent together, so it is kept in the answers (held); time was given back \
             since, so until {} at least and {until} at most; /v1/cluster has the numbers",
            life.deadline
        );
    }
    format!(
        "its lease ended at {}, but too many fell silent together, so it is kept in the answers (held) \
         until {until} at most; /v1/cluster has the numbers",
        life.deadline
    )
}

fn unjudged(grounds: &Grounds<'_>, until: Wall) -> String {
    let horizon = grounds.now.wall_of(grounds.horizon);
    let held = grounds
        .standstill
        .map_or_else(String::new, |standstill| format!(" ({})", standstill.sentence(grounds.now)));
    format!(
        "its lease ended at {until}, but this replica knows of all heartbeats only up to {horizon} \
         (the horizon), so it is not yet judged{held}"
    )
}

fn expired(grounds: &Grounds<'_>) -> String {
    let seconds = grounds.instance.lease.duration.as_secs();
    let last = grounds.life.map_or_else(String::new, |life| life.last_heartbeat.to_string());
    let cause = if grounds.carried_over {
        format!(
            "it was stored so before this replica started, after a lease of {seconds} s without a \
             heartbeat; the last one noted was at {last}"
        )
    } else {
        let horizon = grounds.now.wall_of(grounds.horizon);
        format!(
            "no heartbeat is known after {last}, so its lease of {seconds} s ended, and the horizon \
             ({horizon}) has passed that"
        )
    };
    format!("{cause}. A heartbeat brings it back; {}", fate(grounds))
}

fn fate(grounds: &Grounds<'_>) -> String {
    let (lease, state) = (grounds.instance.lease, grounds.instance.state);
    match (lease.on_expiry, grounds.evict_at) {
        (OnExpiry::Retain, _) => "the object stays".to_owned(),
        (OnExpiry::Evict, _) if state == State::OutOfService => {
            format!("the object stays while its operator says {state} (spec.state)")
        }
        (OnExpiry::Evict, Some(at)) if at > grounds.now.moment => {
            format!("else the object is deleted at {}", grounds.now.wall_of(at))
        }
        (OnExpiry::Evict, Some(_)) => "else the object is deleted now".to_owned(),
        (OnExpiry::Evict, None) => {
            let seconds = lease.evict_after.as_secs();
            format!("else the object is deleted {seconds} s after it is stored as Expired")
        }
    }
}

/// Whose address it may be by now.
fn shared(grounds: &Grounds<'_>) -> String {
    let sentence = |shared: &Shared| format!(". {}", shared.sentence(&grounds.instance.key));
    grounds.shared.as_ref().map_or_else(String::new, sentence)
}

/// What kubectl shows meanwhile, where that is another phase.
fn stored(grounds: &Grounds<'_>) -> String {
    let leader = grounds.leader.as_deref();
    let who = leader.map_or_else(|| "nobody does at present".to_owned(), |it| format!("{it} does"));
    match grounds.instance.stored.phase {
        Some(stored) if stored != grounds.phase => {
            format!(". Its status still says {stored}: whoever leads writes it, and {who}")
        }
        None if leader.is_none() => {
            format!(". Its status is not written yet: whoever leads writes it, and {who}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollcall_core::report::Cause;
    use rollcall_model::instance::StoredStatus;

    fn instance() -> Instance {
        let stored = StoredStatus { phase: Some(Phase::Ready), ..StoredStatus::default() };
        Instance { stored, ..Instance::sample("shop", "a") }
    }

    /// At second 100 of both clocks.
    fn grounds(instance: &Instance, phase: Phase, deadline: i64) -> Grounds<'_> {
        let life = Life { last_heartbeat: Wall(0), deadline: Wall(deadline), without_grace: None };
        Grounds {
            instance,
            phase,
            now: Now { moment: Moment(100_000), wall: Wall(100_000) },
            horizon: Moment(90_000),
            standstill: None,
            life: Some(life),
            held: false,
            carried_over: false,
            evict_at: None,
            shared: None,
            leader: Some("r0".into()),
        }
    }

    #[test]
    fn a_floor_that_moves_the_deadline_is_said_with_the_end_without_it() {
        let instance = instance();
        let mut grounds = grounds(&instance, Phase::Ready, 120_000);
        grounds.life = grounds.life.map(|life| Life { without_grace: Some(Wall(30_000)), ..life });
        assert_eq!(
            sentence(&grounds),
            "Ready: it is Up and reports itself as Passing; its lease runs until \
             1970-01-01T00:02:00.000Z, not only until 1970-01-01T00:00:30.000Z, since time in \
             which heartbeats could not be heard is given back"
        );
    }

    #[test]
    fn a_floor_that_lies_ahead_is_no_end_of_the_lease_of_one_that_is_held() {
        let instance = instance();
        let held = Grounds { held: true, ..grounds(&instance, Phase::Ready, 120_000) };
        assert_eq!(
            sentence(&held),
            "Ready: it is Up and reports itself as Passing; its lease ended, but too many fell silent together, so it is kept \
             in the answers (held); time was given back since, so until 1970-01-01T00:02:00.000Z at least and \
             1970-01-01T00:02:30.000Z at most; /v1/cluster has the numbers"
        );
    }

    #[test]
    fn the_held_are_said_to_be_so_and_for_how_long_at_most() {
        let instance = instance();
        let held = Grounds { held: true, ..grounds(&instance, Phase::Ready, 95_000) };
        assert_eq!(
            sentence(&held),
            "Ready: it is Up and reports itself as Passing; its lease ended at \
             1970-01-01T00:01:35.000Z, but too many fell silent together, so it is kept in the \
             answers (held) until 1970-01-01T00:02:05.000Z at most; /v1/cluster has the numbers"
        );
    }

    #[test]
    fn a_lease_that_waits_for_the_horizon_is_said_with_what_holds_it_back() {
        let instance = instance();
        let cause = Cause::Unwritten("refused with 403: no".into());
        let standstill = Standstill { since: Moment(91_000), cause };
        let mut grounds = grounds(&instance, Phase::Ready, 95_000);
        grounds.standstill = Some(&standstill);
        let said = sentence(&grounds);
        assert!(
            said.ends_with(
                "so it is not yet judged (this replica's writes to the Kubernetes API have failed \
             since 1970-01-01T00:01:31.000Z: refused with 403: no)"
            ),
            "{said}"
        );
    }

    #[test]
    fn the_expired_learn_when_they_are_deleted_and_what_kubectl_still_shows() {
        let instance = instance();
        let mut grounds = grounds(&instance, Phase::Expired, 30_000);
        assert!(sentence(&grounds).ends_with(
            "else the object is deleted 60 s after it is stored as Expired. Its status still says \
             Ready: whoever leads writes it, and r0 does"
        ));
        grounds.evict_at = Some(Moment(130_000));
        grounds.leader = None;
        assert!(sentence(&grounds).ends_with(
            "else the object is deleted at 1970-01-01T00:02:10.000Z. Its status still says Ready: \
             whoever leads writes it, and nobody does at present"
        ));
    }
}
