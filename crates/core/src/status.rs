//! The status that an object should have, and whether the stored one is equivalent.
//!
//! Owns: the comparison that avoids redundant writes. Does not own: conditions (`conditions`), when a status
//! is written (`outbox`), and how (`controller` in the server).

use std::sync::Arc;

use rollcall_model::{
    installation::Installation,
    instance::{Health, Instance, Phase},
    lease::Wall,
    naming,
};

use crate::{
    columns,
    conditions::{self, ConditionInput, DesiredCondition},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredStatus {
    pub phase: Phase,
    /// All conditions, including those of other controllers.
    pub conditions: Vec<DesiredCondition>,
    /// The `metadata.generation` that the verdict is based on.
    pub observed_generation: i64,
    /// The heartbeat annotation that the verdict is based on.
    pub observed_heartbeat: Option<Arc<str>>,
    /// When the last heartbeat was; `None` for a permanent instance.
    pub last_heartbeat: Option<Wall>,
    pub dns_name: String,
    /// For a column.
    pub addresses: String,
    /// For a column.
    pub ports: Option<String>,
    /// The installation that writes the status, if its name is known.
    pub installation: Option<Installation>,
    /// For a column.
    pub health: Health,
}

#[must_use]
pub fn desired(
    judged: &ConditionInput<'_>,
    last_heartbeat: Option<Wall>,
    zone: &str,
    installation: Option<&Installation>,
) -> DesiredStatus {
    let ConditionInput { instance, phase, .. } = *judged;
    DesiredStatus {
        phase,
        conditions: conditions::desired(judged, last_heartbeat),
        observed_generation: instance.generation,
        observed_heartbeat: instance.heartbeat.clone(),
        last_heartbeat,
        dns_name: dns_name(instance, zone),
        addresses: columns::addresses(instance),
        ports: columns::ports(instance),
        installation: installation.cloned(),
        health: instance.health,
    }
}

/// Whether the stored verdict is current. The checkpoint is not compared: otherwise it would be rewritten all
/// the time.
#[must_use]
pub fn is_current(judged: &ConditionInput<'_>) -> bool {
    let ConditionInput { instance, phase, .. } = *judged;
    let stored = &instance.stored;
    stored.phase == Some(phase)
        && conditions::are_current(judged)
        && stored.observed_generation == instance.generation
        && (phase != Phase::Expired || stored.observed_heartbeat == instance.heartbeat)
}

/// Whether the stored columns are current. This is separate from the verdict, because an API server with an
/// older CRD drops columns that it does not know.
#[must_use]
pub fn has_current_columns(instance: &Instance, zone: &str) -> bool {
    let stored = &instance.stored;
    stored.dns_name.as_deref() == Some(&*dns_name(instance, zone))
        && stored.addresses.as_deref() == Some(&*columns::addresses(instance))
        && stored.ports.as_deref() == columns::ports(instance).as_deref()
        && stored.health == Some(instance.health)
}

fn dns_name(instance: &Instance, zone: &str) -> String {
    naming::instance_name(&instance.key.name, &instance.service, &instance.key.namespace, zone)
}
