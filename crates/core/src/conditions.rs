//! Conditions: the ones that an object should have, merged into the stored ones.
//!
//! Owns: the types, reasons and messages of rollcall's conditions, and that transition times and
//! conditions of other controllers are kept. The functions here are pure. Does not own: the phase
//! (`rollcall-model`), and when a status is written (`outbox`).

use std::sync::Arc;

use rollcall_model::{
    condition::{self, Condition, ConditionType},
    instance::{Instance, Phase},
    lease::{OnExpiry, Wall},
    vocabulary::UnknownHealth,
};

use crate::endpoints::SharedAddress;

/// Maximum number of conditions that the CRD allows. Rollcall's own conditions come first.
const MAX_CONDITIONS: usize = 16;

/// The input of a decision about conditions.
#[derive(Clone, Copy, Debug)]
pub struct ConditionInput<'a> {
    pub instance: &'a Instance,
    /// The phase of the instance.
    pub phase: Phase,
    /// An endpoint that it shares with another instance.
    pub shared: Option<&'a SharedAddress>,
}

/// A condition to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    pub type_: Arc<str>,
    pub status: Arc<str>,
    /// The reason, in one word.
    pub reason: Arc<str>,
    /// The reason and the fix, as a sentence.
    pub message: Arc<str>,
    /// When the status last changed (RFC 3339); `None` if it changes with this write.
    pub transition: Option<Arc<str>>,
    pub observed_generation: Option<i64>,
}

impl DesiredCondition {
    /// The stored form after a write at `now` (RFC 3339).
    #[must_use]
    pub fn stored(&self, now: &str) -> Condition {
        let Self { type_, status, reason, message, transition, observed_generation } = self.clone();
        let transition = transition.unwrap_or_else(|| now.into());
        Condition { type_, status, reason, message, transition, observed_generation }
    }
}

/// A condition of rollcall's own types.
struct OwnCondition {
    kind: ConditionType,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl OwnCondition {
    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }

    /// Whether a stored condition has this status and reason.
    fn is_of(&self, stored: &Condition) -> bool {
        &*stored.status == self.status() && &*stored.reason == self.reason
    }
}

/// All conditions to write: rollcall's own, then the stored ones of other controllers.
pub(crate) fn desired(
    judged: &ConditionInput<'_>,
    last_heartbeat: Option<Wall>,
) -> Vec<DesiredCondition> {
    let ConditionInput { instance, phase, .. } = *judged;
    let stored = &instance.stored.conditions;
    let mut wanted = vec![ready(instance, phase, last_heartbeat)];
    wanted.extend(warnings(judged));
    let mut desired: Vec<_> = wanted.iter().map(|it| with_transition(it, instance)).collect();
    let foreign = stored.iter().filter(|it| ConditionType::parse(&it.type_).is_none());
    desired.extend(foreign.take(MAX_CONDITIONS.saturating_sub(wanted.len())).map(unchanged));
    desired
}

/// Whether the stored conditions of rollcall's types are correct. The message of `Ready` is not compared: it
/// contains a time, so it would be rewritten forever.
pub(crate) fn are_current(judged: &ConditionInput<'_>) -> bool {
    let ConditionInput { instance, phase, .. } = *judged;
    let stored = |kind| condition::find(&instance.stored.conditions, kind);
    let is_ready_current = stored(ConditionType::Ready).is_some_and(|stored| {
        let status = if phase.is_discoverable() { "True" } else { "False" };
        &*stored.status == status && &*stored.reason == reason(instance, phase)
    });
    let wanted = warnings(judged);
    let warnings = ConditionType::ALL.iter().filter(|kind| **kind != ConditionType::Ready);
    is_ready_current
        && warnings.into_iter().all(|kind| {
            match (stored(*kind), wanted.iter().find(|wanted| wanted.kind == *kind)) {
                (None, None) => true,
                (Some(stored), Some(wanted)) => {
                    wanted.is_of(stored) && *stored.message == wanted.message
                }
                _ => false,
            }
        })
}

/// A condition of rollcall's own, with the stored transition time if the status does not change.
fn with_transition(wanted: &OwnCondition, instance: &Instance) -> DesiredCondition {
    let stored = condition::find(&instance.stored.conditions, wanted.kind);
    let same = stored.filter(|stored| &*stored.status == wanted.status());
    DesiredCondition {
        type_: wanted.kind.as_str().into(),
        status: wanted.status().into(),
        reason: wanted.reason.into(),
        message: wanted.message.as_str().into(),
        transition: same.map(|stored| stored.transition.clone()),
        observed_generation: Some(instance.generation),
    }
}

/// A condition of another controller, unchanged.
fn unchanged(condition: &Condition) -> DesiredCondition {
    let Condition { type_, status, reason, message, transition, observed_generation } =
        condition.clone();
    let transition = Some(transition);
    DesiredCondition { type_, status, reason, message, transition, observed_generation }
}

/// The conditions that exist only while they hold. Most instances have none.
fn warnings(judged: &ConditionInput<'_>) -> Vec<OwnCondition> {
    let ConditionInput { instance, phase: _, shared } = *judged;
    let mut warnings = Vec::new();
    if let Some(word) = &instance.unknown_health {
        warnings.push(OwnCondition {
            kind: ConditionType::UnknownHealth,
            holds: true,
            reason: "UnknownWord",
            message: UnknownHealth(word.clone()).to_string(),
        });
    }
    if let Some(shared) = shared {
        warnings.push(OwnCondition {
            kind: ConditionType::AddressShared,
            holds: true,
            reason: "SharedEndpoint",
            message: shared.sentence(&instance.key),
        });
    }
    warnings
}

/// The condition `Ready`, which says whether the instance is discoverable.
fn ready(instance: &Instance, phase: Phase, last_heartbeat: Option<Wall>) -> OwnCondition {
    OwnCondition {
        kind: ConditionType::Ready,
        holds: phase.is_discoverable(),
        reason: reason(instance, phase),
        message: message(instance, phase, last_heartbeat),
    }
}

fn reason(instance: &Instance, phase: Phase) -> &'static str {
    match phase {
        Phase::Terminating => "Terminating",
        Phase::Expired => "LeaseExpired",
        Phase::OutOfService => "OutOfService",
        Phase::Draining => "Draining",
        Phase::Stopping => "Stopping",
        Phase::Critical => "ReportedCritical",
        Phase::Warning => "ReportedWarning",
        Phase::Ready if instance.lease.is_leased() => "LeaseRenewed",
        Phase::Ready => "Permanent",
    }
}

fn message(instance: &Instance, phase: Phase, last_heartbeat: Option<Wall>) -> String {
    let seconds = instance.lease.duration.as_secs();
    match phase {
        Phase::Terminating => terminating(instance),
        Phase::Expired => {
            let last = last_heartbeat.map(|wall| wall.to_string()).unwrap_or_default();
            let fate = match instance.lease.on_expiry {
                OnExpiry::Retain => String::new(),
                OnExpiry::Evict => format!(
                    "; without one the object is deleted after {} s",
                    instance.lease.evict_after.as_secs()
                ),
            };
            format!(
                "no heartbeat since {last}, so the lease of {seconds} s has ended. \
                 A heartbeat revives the instance{fate}"
            )
        }
        Phase::OutOfService => "an operator set spec.state to OutOfService".to_owned(),
        Phase::Draining => "an operator set spec.state to Draining".to_owned(),
        Phase::Stopping => "reports Stopping and is not discoverable: it is removed when it deregisters or its lease ends. \
                            The health Passing, or a registration by another pod, makes it discoverable again"
            .to_owned(),
        Phase::Critical => "reports the health Critical and is not discoverable".to_owned(),
        Phase::Warning => "reports the health Warning and is still discoverable".to_owned(),
        Phase::Ready if instance.lease.is_leased() => {
            format!("has a lease of {seconds} s, which heartbeats renew")
        }
        Phase::Ready => "is permanent and needs no heartbeats".to_owned(),
    }
}

/// Says which finalizers keep an object that is being deleted, and what to do.
#[must_use]
pub fn terminating(instance: &Instance) -> String {
    const SHOWN: usize = 3;
    let finalizers = instance.terminating.as_deref().unwrap_or_default();
    let shown: Vec<&str> = finalizers.iter().take(SHOWN).map(|it| &**it).collect();
    let more = match finalizers.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let held = match shown.as_slice() {
        [] => "it will be gone in a moment".to_owned(),
        shown => format!("its finalizers keep it ({}{more})", shown.join(", ")),
    };
    format!(
        "the object is being deleted, and {held}: heartbeats and registrations do not revive the instance. Wait until the \
         object is gone, then register again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(type_: &str, status: &str, reason: &str, transition: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: "m".into(),
            transition: transition.into(),
            observed_generation: Some(1),
        }
    }

    fn with(conditions: Vec<Condition>) -> Instance {
        let mut instance = Instance::sample("shop", "a");
        instance.stored.conditions = conditions.into();
        instance
    }

    fn judged(instance: &Instance, phase: Phase) -> ConditionInput<'_> {
        ConditionInput { instance, phase, shared: None }
    }

    fn of(instance: &Instance, phase: Phase) -> Vec<DesiredCondition> {
        desired(&judged(instance, phase), None)
    }

    #[test]
    fn transition_time_and_foreign_conditions_are_kept() {
        let foreign = stored("example.com/Reviewed", "Unknown", "Waits", "t2");
        let instance =
            with(vec![foreign.clone(), stored("Ready", "True", "ReportedWarning", "t1")]);
        let desired = of(&instance, Phase::Ready);
        assert_eq!(
            desired[0].transition.as_deref(),
            Some("t1"),
            "another reason alone is not a transition"
        );
        assert_eq!(desired[1].stored("now"), foreign);
        assert_eq!(desired.len(), 2);
        let critical = of(&instance, Phase::Critical);
        assert_eq!((&*critical[0].status, &critical[0].transition), ("False", &None));
        assert_eq!(critical[1].stored("now"), foreign);
    }

    #[test]
    fn warning_condition_follows_the_health_annotation() {
        let mut instance = with(vec![stored("Ready", "True", "ReportedWarning", "t1")]);
        let is_current = |instance: &Instance| are_current(&judged(instance, Phase::Warning));
        assert!(is_current(&instance));
        instance.unknown_health = Some("Fine".into());
        assert!(!is_current(&instance));
        let desired = of(&instance, Phase::Warning);
        assert!(desired[1].message.contains("\"Fine\""), "{}", desired[1].message);
        instance.stored.conditions = desired.iter().map(|it| it.stored("t2")).collect();
        assert!(is_current(&instance));
        instance.unknown_health = Some("Good".into());
        assert!(!is_current(&instance));
        let again = of(&instance, Phase::Warning);
        assert_eq!(again[1].transition.as_deref(), Some("t2"), "the condition held all the time");
        instance.unknown_health = None;
        assert!(!is_current(&instance));
        assert_eq!(of(&instance, Phase::Warning).len(), 1);
    }

    #[test]
    fn own_conditions_take_precedence_over_foreign_ones() {
        let foreign = |at: usize| stored(&format!("example.com/{at}"), "True", "Some", "t");
        let mut instance = with((0..MAX_CONDITIONS).map(foreign).collect());
        instance.unknown_health = Some("Fine".into());
        let desired = of(&instance, Phase::Warning);
        assert_eq!(desired.len(), MAX_CONDITIONS);
        assert_eq!((&*desired[0].type_, &*desired[1].type_), ("Ready", "UnknownHealth"));
    }
}
