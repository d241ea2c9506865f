//! The status that an object should have, and whether the stored one means the same.
//!
//! Owns: reasons, messages, and the comparison that keeps us from writing what is there already.
//! Does not own: when to write (`outbox`) and how (`controller`).

use std::sync::Arc;

use rollcall_model::{
    installation::Installation,
    instance::{Instance, Phase},
    lease::{OnExpiry, Wall},
    naming,
};

use crate::columns;

/// The status to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The verdict.
    pub phase: Phase,
    /// Reason of the condition `Ready`, CamelCase.
    pub reason: &'static str,
    /// Its message: what happened, and what to do about it.
    pub message: String,
    /// When `Ready` last changed its status, if it does not change now (RFC 3339).
    pub transition: Option<Arc<str>>,
    /// The generation judged.
    pub observed_generation: i64,
    /// The heartbeat annotation that the verdict rests on.
    pub observed_heartbeat: Option<Arc<str>>,
    /// When the last beat was; none for an instance that needs none.
    pub last_heartbeat: Option<Wall>,
    /// Its name in DNS.
    pub dns_name: String,
    /// Where it is, for a column.
    pub addresses: String,
    /// Its ports, for a column.
    pub ports: Option<String>,
    /// The installation that writes it, if that is known.
    pub installation: Option<Installation>,
}

/// Whether the condition `Ready` holds in a phase.
#[must_use]
pub fn is_ready(phase: Phase) -> bool {
    phase.is_discoverable()
}

/// The status that `instance` should have.
#[must_use]
pub fn desired(
    instance: &Instance,
    phase: Phase,
    last_heartbeat: Option<Wall>,
    zone: &str,
    installation: Option<&Installation>,
) -> Desired {
    let (reason, message) = explain(instance, phase, last_heartbeat);
    let unchanged = instance.stored.phase.is_some_and(|stored| is_ready(stored) == is_ready(phase));
    Desired {
        phase,
        reason,
        message,
        transition: instance.stored.transition.clone().filter(|_| unchanged),
        observed_generation: instance.generation,
        observed_heartbeat: instance.heartbeat.clone(),
        last_heartbeat,
        dns_name: dns_name(instance, zone),
        addresses: columns::addresses(instance),
        ports: columns::ports(instance),
        installation: installation.cloned(),
    }
}

/// Whether the stored verdict is this one. The words of the message and the checkpoint do not
/// count: they would have to be rewritten for ever.
#[must_use]
pub fn is_current(instance: &Instance, phase: Phase) -> bool {
    let stored = &instance.stored;
    stored.phase == Some(phase)
        && stored.reason.as_deref() == Some(reason(instance, phase))
        && stored.observed_generation == instance.generation
        && (phase != Phase::Expired || stored.observed_heartbeat == instance.heartbeat)
}

/// Whether the stored columns are what the object says now. Apart from the verdict, because an API
/// server whose definition of the type is older than we are drops those that it does not know.
#[must_use]
pub fn shows(instance: &Instance, zone: &str) -> bool {
    let stored = &instance.stored;
    stored.dns_name.as_deref() == Some(&*dns_name(instance, zone))
        && stored.addresses.as_deref() == Some(&*columns::addresses(instance))
        && stored.ports.as_deref() == columns::ports(instance).as_deref()
}

fn dns_name(instance: &Instance, zone: &str) -> String {
    naming::instance_name(&instance.key.name, &instance.service, &instance.key.namespace, zone)
}

fn reason(instance: &Instance, phase: Phase) -> &'static str {
    match phase {
        Phase::Expired => "LeaseExpired",
        Phase::OutOfService => "OutOfService",
        Phase::Draining => "Draining",
        Phase::Critical => "ReportedCritical",
        Phase::Warning => "ReportedWarning",
        Phase::Ready if instance.lease.is_leased() => "LeaseHeld",
        Phase::Ready => "Permanent",
    }
}

fn explain(
    instance: &Instance,
    phase: Phase,
    last_heartbeat: Option<Wall>,
) -> (&'static str, String) {
    let seconds = instance.lease.duration.as_secs();
    let message = match phase {
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
        Phase::Critical => "reports itself as Critical, and is not offered".to_owned(),
        Phase::Warning => "reports itself as Warning, and is still offered".to_owned(),
        Phase::Ready if instance.lease.is_leased() => {
            format!("heartbeats arrive within the lease of {seconds} s")
        }
        Phase::Ready => "permanent: needs no heartbeats".to_owned(),
    };
    (reason(instance, phase), message)
}
