//! Why an instance is in its phase, as a sentence.
//!
//! Owns: the member `why`. Does not own: the phase (`rollcall_model`), and collecting the evidence (`detail`).

use std::sync::Arc;

use rollcall_core::{conditions, endpoints::SharedAddress, report::Standstill};
use rollcall_model::{
    instance::{Instance, Phase, State},
    lease::{Moment, Now, OnExpiry, Wall},
};

/// The evidence for the phase of an instance, and what happens next.
pub(super) struct Evidence<'a> {
    pub(super) instance: &'a Instance,
    pub(super) phase: Phase,
    pub(super) now: Now,
    pub(super) horizon: Moment,
    /// Why the horizon does not move, if it does not.
    pub(super) standstill: Option<&'a Standstill>,
    /// `None` for a permanent instance.
    pub(super) times: Option<LeaseTimes>,
    /// Whether the guard holds the instance past the end of its lease.
    pub(super) held: bool,
    /// Whether the instance was already expired when this replica started.
    pub(super) carried_over: bool,
    /// When the object is due for eviction, if that is decided.
    pub(super) evict_at: Option<Moment>,
    /// An address that the instance shares with another instance.
    pub(super) shared: Option<SharedAddress>,
    /// The last known leader, which writes the status.
    pub(super) leader: Option<Arc<str>>,
}

/// The times of a lease that needs heartbeats.
#[derive(Clone, Copy)]
pub(super) struct LeaseTimes {
    pub(super) last_heartbeat: Wall,
    pub(super) deadline: Wall,
    /// The deadline without the time that was given back; `None` when that makes no difference.
    pub(super) without_grace: Option<Wall>,
}

/// Explains the phase of an instance.
pub(super) fn sentence(evidence: &Evidence<'_>) -> String {
    let phase = evidence.phase;
    let reason = match phase {
        Phase::Terminating => conditions::terminating(evidence.instance),
        Phase::Expired => describe_expiry(evidence),
        Phase::OutOfService | Phase::Draining => {
            with_lease(evidence, &format!("its operator state is {phase} (spec.state)"))
        }
        Phase::Stopping => with_lease(
            evidence,
            "it reported Stopping, and stays out of the answers until it reports Passing",
        ),
        Phase::Critical => {
            with_lease(evidence, "its health is Critical, so it is not discoverable")
        }
        Phase::Warning => {
            with_lease(evidence, "its health is Warning, and it is still discoverable")
        }
        Phase::Ready => with_lease(evidence, "its state is Up and its health is Passing"),
    };
    format!(
        "{phase}: {reason}{}{}",
        describe_shared_address(evidence),
        describe_stored_phase(evidence)
    )
}

fn with_lease(evidence: &Evidence<'_>, reason: &str) -> String {
    let Some(times) = evidence.times else {
        return format!("{reason}; its lease is Permanent and needs no heartbeats");
    };
    let until = times.deadline;
    if evidence.held {
        return format!("{reason}; {}", describe_hold(evidence, times));
    }
    if times.deadline < evidence.now.wall {
        return format!("{reason}; {}", describe_unjudged(evidence, until));
    }
    let extension = times.without_grace.map_or_else(String::new, |end| {
        format!(
            " instead of {end}, because time in which heartbeats may have been missed was given back"
        )
    });
    format!("{reason}; its lease runs until {until}{extension}")
}

fn describe_hold(evidence: &Evidence<'_>, times: LeaseTimes) -> String {
    let duration = i64::try_from(evidence.instance.lease.duration.as_millis()).unwrap_or(i64::MAX);
    let until = Wall(times.deadline.0.saturating_add(duration));
    if times.deadline >= evidence.now.wall {
        return format!(
            "its lease ended, but too many leases ended together, so it is held and stays in the answers; time was \
             given back since then, so it stays until {} at the earliest and {until} at the latest; GET /v1/cluster has the \
             numbers",
            times.deadline
        );
    }
    format!(
        "its lease ended at {}, but too many leases ended together, so it is held and stays in the answers \
         until {until} at the latest; GET /v1/cluster has the numbers",
        times.deadline
    )
}

fn describe_unjudged(evidence: &Evidence<'_>, until: Wall) -> String {
    let horizon = evidence.now.wall_of(evidence.horizon);
    let standstill = evidence
        .standstill
        .map_or_else(String::new, |standstill| format!(" ({})", standstill.sentence(evidence.now)));
    format!(
        "its lease ended at {until}, but it stays in the answers, because this replica knows every heartbeat only \
         up to {horizon} (the horizon){standstill}"
    )
}

fn describe_expiry(evidence: &Evidence<'_>) -> String {
    let seconds = evidence.instance.lease.duration.as_secs();
    let last = evidence.times.map_or_else(String::new, |times| times.last_heartbeat.to_string());
    let cause = if evidence.carried_over {
        format!(
            "it was stored as Expired before this replica started: no heartbeat is recorded after {last}, and its \
             lease of {seconds} s has ended"
        )
    } else {
        let horizon = evidence.now.wall_of(evidence.horizon);
        format!(
            "no heartbeat is known after {last}, so its lease of {seconds} s has ended; this replica knows every \
             heartbeat up to {horizon} (the horizon)"
        )
    };
    format!("{cause}. A heartbeat revives it; {}", describe_eviction(evidence))
}

fn describe_eviction(evidence: &Evidence<'_>) -> String {
    let (lease, state) = (evidence.instance.lease, evidence.instance.state);
    match (lease.on_expiry, evidence.evict_at) {
        (OnExpiry::Retain, _) => "without one the object is kept (onExpiry Retain)".to_owned(),
        (OnExpiry::Evict, _) if state == State::OutOfService => {
            format!(
                "without one the object is kept while its operator state is {state} (spec.state)"
            )
        }
        (OnExpiry::Evict, Some(at)) if at > evidence.now.moment => {
            format!("without one the object is deleted at {}", evidence.now.wall_of(at))
        }
        (OnExpiry::Evict, Some(_)) => "without one the object is deleted now".to_owned(),
        (OnExpiry::Evict, None) => {
            let seconds = lease.evict_after.as_secs();
            format!("without one the object is deleted {seconds} s after its status says Expired")
        }
    }
}

/// Describes the other instance with the same address.
fn describe_shared_address(evidence: &Evidence<'_>) -> String {
    let sentence =
        |shared: &SharedAddress| format!(". {}", shared.sentence(&evidence.instance.key));
    evidence.shared.as_ref().map_or_else(String::new, sentence)
}

/// Describes the stored phase, which kubectl shows, if it differs.
fn describe_stored_phase(evidence: &Evidence<'_>) -> String {
    let leader = evidence.leader.as_deref();
    let leadership = leader.map_or_else(
        || "there is no leader at the moment".to_owned(),
        |leader| format!("the last known leader is {leader}"),
    );
    match evidence.instance.stored.phase {
        Some(stored) if stored != evidence.phase => {
            format!(". Its status still says {stored}: the leader writes it, and {leadership}")
        }
        None if leader.is_none() => {
            format!(". Its status is not written yet: the leader writes it, and {leadership}")
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
    fn evidence(instance: &Instance, phase: Phase, deadline: i64) -> Evidence<'_> {
        let times =
            LeaseTimes { last_heartbeat: Wall(0), deadline: Wall(deadline), without_grace: None };
        Evidence {
            instance,
            phase,
            now: Now { moment: Moment(100_000), wall: Wall(100_000) },
            horizon: Moment(90_000),
            standstill: None,
            times: Some(times),
            held: false,
            carried_over: false,
            evict_at: None,
            shared: None,
            leader: Some("r0".into()),
        }
    }

    #[test]
    fn extended_deadline_is_explained_with_the_original_one() {
        let instance = instance();
        let mut evidence = evidence(&instance, Phase::Ready, 120_000);
        evidence.times =
            evidence.times.map(|times| LeaseTimes { without_grace: Some(Wall(30_000)), ..times });
        assert_eq!(
            sentence(&evidence),
            "Ready: its state is Up and its health is Passing; its lease runs until \
             1970-01-01T00:02:00.000Z instead of 1970-01-01T00:00:30.000Z, because time in \
             which heartbeats may have been missed was given back"
        );
    }

    #[test]
    fn held_instance_with_later_grace_has_earliest_and_latest_end() {
        let instance = instance();
        let held = Evidence { held: true, ..evidence(&instance, Phase::Ready, 120_000) };
        assert_eq!(
            sentence(&held),
            "Ready: its state is Up and its health is Passing; its lease ended, but too many leases ended together, \
             so it is held and stays in the answers; time was given back since then, so it stays until \
             1970-01-01T00:02:00.000Z at the earliest and 1970-01-01T00:02:30.000Z at the latest; GET /v1/cluster has \
             the numbers"
        );
    }

    #[test]
    fn held_instance_is_explained_with_its_latest_end() {
        let instance = instance();
        let held = Evidence { held: true, ..evidence(&instance, Phase::Ready, 95_000) };
        assert_eq!(
            sentence(&held),
            "Ready: its state is Up and its health is Passing; its lease ended at \
             1970-01-01T00:01:35.000Z, but too many leases ended together, so it is held and stays in \
             the answers until 1970-01-01T00:02:05.000Z at the latest; GET /v1/cluster has the numbers"
        );
    }

    #[test]
    fn ended_lease_behind_the_horizon_is_explained_with_the_standstill() {
        let instance = instance();
        let cause = Cause::Unwritten("refused with 403: no".into());
        let standstill = Standstill { since: Moment(91_000), cause };
        let mut evidence = evidence(&instance, Phase::Ready, 95_000);
        evidence.standstill = Some(&standstill);
        let why = sentence(&evidence);
        let cause = standstill.sentence(evidence.now);
        assert!(cause.contains("refused with 403: no"), "{cause}");
        assert!(
            why.ends_with(&format!("1970-01-01T00:01:30.000Z (the horizon) ({cause})")),
            "{why}"
        );
    }

    #[test]
    fn expired_instance_is_explained_with_eviction_and_stored_phase() {
        let instance = instance();
        let mut evidence = evidence(&instance, Phase::Expired, 30_000);
        assert!(sentence(&evidence).ends_with(
            "without one the object is deleted 60 s after its status says Expired. Its status still \
             says Ready: the leader writes it, and the last known leader is r0"
        ));
        evidence.evict_at = Some(Moment(130_000));
        evidence.leader = None;
        assert!(sentence(&evidence).ends_with(
            "without one the object is deleted at 1970-01-01T00:02:10.000Z. Its status still says \
             Ready: the leader writes it, and there is no leader at the moment"
        ));
    }
}
