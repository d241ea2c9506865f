//! The status that an object should have, and whether the stored one means the same.
//!
//! Owns: the comparison that keeps us from writing what is there already. Does not own: conditions (`conditions`), when to
//! write (`outbox`) and how (`controller`).

use std::sync::Arc;

use rollcall_model::{
    installation::Installation,
    instance::{Health, Instance, Phase},
    lease::Wall,
    naming,
};

use crate::{
    columns,
    conditions::{self, DesiredCondition, Judged},
};

/// The status to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The verdict.
    pub phase: Phase,
    /// All conditions, those of others among them.
    pub conditions: Vec<DesiredCondition>,
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
    /// Its health, for a column.
    pub health: Health,
}

/// The status that an instance should have.
#[must_use]
pub fn desired(
    judged: &Judged<'_>,
    last_heartbeat: Option<Wall>,
    zone: &str,
    installation: Option<&Installation>,
) -> Desired {
    let Judged { instance, phase, .. } = *judged;
    Desired {
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

/// Whether the stored verdict is this one. The checkpoint does not count: it would have to be rewritten for ever.
#[must_use]
pub fn is_current(judged: &Judged<'_>) -> bool {
    let Judged { instance, phase, .. } = *judged;
    let stored = &instance.stored;
    stored.phase == Some(phase)
        && conditions::are_current(judged)
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
        && stored.health == Some(instance.health)
}

fn dns_name(instance: &Instance, zone: &str) -> String {
    naming::instance_name(&instance.key.name, &instance.service, &instance.key.namespace, zone)
}
