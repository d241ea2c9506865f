//! The conditions that an object should have: those of rollcall's own types, merged into what is stored.
//!
//! Owns: their types, reasons and messages, and that neither the time of a transition nor a condition of another
//! controller is lost. Pure. Does not own: the phase (`rollcall-model`), and when a status is written (`outbox`).

use std::sync::Arc;

use rollcall_model::{
    condition::{self, Condition, ConditionType},
    instance::{Instance, Phase},
    lease::{OnExpiry, Wall},
    vocabulary::UnknownHealth,
};

use crate::sockets::Shared;

/// The most conditions that the definition allows. Ours go first.
const MOST: usize = 16;

/// What conditions are decided on.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// As it is stored.
    pub instance: &'a Instance,
    /// What it is.
    pub phase: Phase,
    /// An address and port that it shares with another one.
    pub shared: Option<&'a Shared>,
}

/// A condition to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// What it is about.
    pub type_: Arc<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Arc<str>,
    /// Why, in one word.
    pub reason: Arc<str>,
    /// Why, in a sentence, and what to do about it.
    pub message: Arc<str>,
    /// When the status last changed (RFC 3339); none when it changes with this write.
    pub transition: Option<Arc<str>>,
    /// `metadata.generation` that it was decided on.
    pub observed_generation: Option<i64>,
}

impl DesiredCondition {
    /// As it is stored once it is written at `now` (RFC 3339).
    #[must_use]
    pub fn stored(&self, now: &str) -> Condition {
        let Self { type_, status, reason, message, transition, observed_generation } = self.clone();
        let transition = transition.unwrap_or_else(|| now.into());
        Condition { type_, status, reason, message, transition, observed_generation }
    }
}

/// What a condition of ours should say.
struct Wanted {
    kind: ConditionType,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Wanted {
    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }

    /// Whether a condition has this status for this reason.
    fn is_of(&self, stored: &Condition) -> bool {
        &*stored.status == self.status() && &*stored.reason == self.reason
    }
}

/// All conditions to write: ours, then those of others as they are stored.
pub(crate) fn desired(judged: &Judged<'_>, last_heartbeat: Option<Wall>) -> Vec<DesiredCondition> {
    let Judged { instance, phase, .. } = *judged;
    let stored = &instance.stored.conditions;
    let mut wanted = vec![ready(instance, phase, last_heartbeat)];
    wanted.extend(warnings(judged));
    let mut desired: Vec<_> = wanted.iter().map(|it| decided(it, instance)).collect();
    let foreign = stored.iter().filter(|it| ConditionType::parse(&it.type_).is_none());
    desired.extend(foreign.take(MOST.saturating_sub(wanted.len())).map(kept));
    desired
}

/// Whether the stored conditions of our types say what they should. The message of `Ready` does not count, or would be
/// rewritten for ever: it has a time in it.
pub(crate) fn are_current(judged: &Judged<'_>) -> bool {
    let Judged { instance, phase, .. } = *judged;
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

/// Ours, with the time of the last transition where the status does not change.
fn decided(wanted: &Wanted, instance: &Instance) -> DesiredCondition {
    let stored = condition::find(&instance.stored.conditions, wanted.kind);
    let unchanged = stored.filter(|stored| &*stored.status == wanted.status());
    DesiredCondition {
        type_: wanted.kind.as_str().into(),
        status: wanted.status().into(),
        reason: wanted.reason.into(),
        message: wanted.message.as_str().into(),
        transition: unchanged.map(|stored| stored.transition.clone()),
        observed_generation: Some(instance.generation),
    }
}

/// Another controller's, as it is.
fn kept(condition: &Condition) -> DesiredCondition {
    let Condition { type_, status, reason, message, transition, observed_generation } =
        condition.clone();
    let transition = Some(transition);
    DesiredCondition { type_, status, reason, message, transition, observed_generation }
}

/// The conditions that are there only while they hold. Most instances have none.
fn warnings(judged: &Judged<'_>) -> Vec<Wanted> {
    let Judged { instance, phase: _, shared } = *judged;
    let mut warnings = Vec::new();
    if let Some(word) = &instance.unknown_health {
        warnings.push(Wanted {
            kind: ConditionType::UnknownHealth,
            holds: true,
            reason: "UnknownWord",
            message: UnknownHealth(word.clone()).to_string(),
        });
    }
    if let Some(shared) = shared {
        warnings.push(Wanted {
            kind: ConditionType::AddressShared,
            holds: true,
            reason: "OfferedTwice",
            message: shared.sentence(&instance.key),
        });
    }
    warnings
}

/// Whether the instance is discoverable.
fn ready(instance: &Instance, phase: Phase, last_heartbeat: Option<Wall>) -> Wanted {
    Wanted {
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
                "no heartbeat for a whole lease of {seconds} s: the last one was at {last}. \
                 A heartbeat brings it back{fate}"
            )
        }
        Phase::OutOfService => "taken out of service by its operator (spec.state)".to_owned(),
        Phase::Draining => "being drained by its operator (spec.state)".to_owned(),
        Phase::Stopping => "reports that it is stopping, and is not discoverable: it goes when it deregisters or its lease ends. \
                            The health Passing, or a registration by another pod, ends that"
            .to_owned(),
        Phase::Critical => "reports itself as Critical, and is not discoverable".to_owned(),
        Phase::Warning => "reports itself as Warning, and is still discoverable".to_owned(),
        Phase::Ready if instance.lease.is_leased() => {
            format!("heartbeats arrive within the lease of {seconds} s")
        }
        Phase::Ready => "permanent: needs no heartbeats".to_owned(),
    }
}

/// What holds an object that is being deleted, and what to do.
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
        [] => "it is about to be gone".to_owned(),
        shown => format!("it is held by its finalizers ({}{more})", shown.join(", ")),
    };
    format!(
        "the object is being deleted, and {held}: no heartbeat and no registration brings the instance back. Wait until the \
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

    fn judged(instance: &Instance, phase: Phase) -> Judged<'_> {
        Judged { instance, phase, shared: None }
    }

    fn of(instance: &Instance, phase: Phase) -> Vec<DesiredCondition> {
        desired(&judged(instance, phase), None)
    }

    #[test]
    fn a_transition_is_kept_while_the_status_is_and_conditions_of_others_stay_as_they_are() {
        let foreign = stored("example.com/Reviewed", "Unknown", "Waits", "t2");
        let instance =
            with(vec![foreign.clone(), stored("Ready", "True", "ReportedWarning", "t1")]);
        let desired = of(&instance, Phase::Ready);
        assert_eq!(desired[0].transition.as_deref(), Some("t1"), "another reason is no transition");
        assert_eq!(desired[1].stored("now"), foreign);
        assert_eq!(desired.len(), 2);
        let critical = of(&instance, Phase::Critical);
        assert_eq!((&*critical[0].status, &critical[0].transition), ("False", &None));
        assert_eq!(critical[1].stored("now"), foreign);
    }

    #[test]
    fn a_warning_is_there_while_it_holds_and_is_written_anew_for_another_word() {
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
        assert_eq!(again[1].transition.as_deref(), Some("t2"), "it held all the time");
        instance.unknown_health = None;
        assert!(!is_current(&instance));
        assert_eq!(of(&instance, Phase::Warning).len(), 1);
    }

    #[test]
    fn ours_are_written_however_many_there_are_of_others() {
        let foreign = |at: usize| stored(&format!("example.com/{at}"), "True", "Some", "t");
        let mut instance = with((0..MOST).map(foreign).collect());
        instance.unknown_health = Some("Fine".into());
        let desired = of(&instance, Phase::Warning);
        assert_eq!(desired.len(), MOST);
        assert_eq!((&*desired[0].type_, &*desired[1].type_), ("Ready", "UnknownHealth"));
    }
}
