//! A single instance as JSON, with members that change with every heartbeat and are not in sets: the last heartbeat,
//! the verdict, and the reason for the phase.
//!
//! Owns: these members. Does not own: the members that sets have too (`encode`), and the sentence (`why`).

use std::sync::Arc;

use rollcall_core::slot::Slot;
use rollcall_model::{
    instance::{Instance, Phase},
    lease::{Now, Wall},
    naming,
    view::Member,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::{
    app::AppState,
    contract::values,
    encode::{InstanceJson, Renewal},
    time::Time,
    why::{self, Evidence, LeaseTimes},
};

/// The additional members of a single instance.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[schemars(with = "values::ResourceVersion")]
    resource_version: String,
    /// The last heartbeat that this replica knows; null for a permanent instance.
    last_heartbeat: Option<LastHeartbeat>,
    /// What the phase is based on.
    verdict: Verdict,
    /// Why the instance is in its phase, as a sentence.
    why: String,
}

/// The last heartbeat of an instance.
#[derive(Serialize, JsonSchema)]
struct LastHeartbeat {
    /// When the heartbeat was received.
    at: Time,
    /// How the heartbeat arrived.
    #[schemars(with = "values::HeartbeatSource")]
    source: &'static str,
    /// The replica that received the heartbeat; null when it came through Kubernetes.
    replica: Option<String>,
}

/// The information on which this replica judges the lease, in addition to the end of the lease.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    /// The moment up to which the replica knows every heartbeat; null until it is known.
    horizon: Option<Time>,
    /// The lease does not end before this moment, because time was given back; null when that does not move its end.
    not_before: Option<Time>,
    /// When the object is due for eviction; null when it is not.
    evicts_at: Option<Time>,
    /// The status that the leader has stored; null before the first one.
    stored: Option<StoredStatusJson>,
}

/// The stored status of an object.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredStatus")]
struct StoredStatusJson {
    /// The stored phase.
    #[schemars(with = "values::Phase")]
    phase: &'static str,
    /// The reason of the condition Ready, for programs.
    reason: Option<String>,
}

/// The JSON of a single instance.
pub(super) fn to_json(app: &AppState, slot: &Slot, now: Now) -> Vec<u8> {
    let record = slot.record();
    let (phase, held) = current_phase(app, slot, &record);
    let mut json = InstanceJson::new(&record, phase, held, &app.zone);
    let (renewal, detail) = build(app, slot, &record, phase, held, now);
    json.lease.renewal = Some(renewal);
    json.detail = Some(detail);
    // Serializing strings and numbers under string keys cannot fail.
    serde_json::to_vec(&json).unwrap_or_default()
}

/// The additional members of an instance, and the remaining time of its lease.
fn build(
    app: &AppState,
    slot: &Slot,
    record: &Instance,
    phase: Phase,
    held: bool,
    now: Now,
) -> (Renewal, Detail) {
    let directory = app.intake.directory();
    let (horizon, report) = (directory.horizon(), directory.report());
    let times = lease_times(app, slot, record, now);
    let evict_at = slot.evict_at().filter(|_| phase == Phase::Expired);
    let evidence = Evidence {
        instance: record,
        phase,
        now,
        horizon,
        standstill: report.standstill.as_ref(),
        times,
        held,
        carried_over: slot.is_carried_over(),
        evict_at,
        shared: directory.shared_address(&record.facts),
        leader: directory.leadership().leader.clone(),
    };
    let time = |moment| Time(now.wall_of(moment));
    let not_before = times.filter(|times| times.without_grace.is_some());
    let stored = &record.stored;
    let verdict = Verdict {
        horizon: Some(horizon).filter(|horizon| horizon.0 > 0).map(time),
        not_before: not_before.map(|times| Time(times.deadline)),
        evicts_at: evict_at.map(time),
        stored: stored.phase.map(|phase| StoredStatusJson {
            phase: phase.as_str(),
            reason: stored.reason().map(str::to_owned),
        }),
    };
    let detail = Detail {
        resource_version: record.resource_version.to_string(),
        last_heartbeat: times.map(|times| LastHeartbeat {
            at: Time(times.last_heartbeat),
            source: slot.source().as_str(),
            replica: slot.source().is_own().then(|| app.identity.clone()),
        }),
        verdict,
        why: why::sentence(&evidence),
    };
    (Renewal::ending(record.lease, times.map(|times| times.deadline), now), detail)
}

/// The times of a lease that needs heartbeats. Grace no longer moves the end of an expired lease. For a lease that was
/// already expired when this replica started, only the stored heartbeat is known.
fn lease_times(app: &AppState, slot: &Slot, record: &Instance, now: Now) -> Option<LeaseTimes> {
    let deadline = app.intake.directory().deadline(slot)?;
    let duration = record.lease.duration;
    if slot.is_expired() {
        let last_heartbeat = slot.last_heartbeat_time(record, now);
        let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let deadline = Wall(last_heartbeat.0.saturating_add(duration_ms));
        return Some(LeaseTimes { last_heartbeat, deadline, without_grace: None });
    }
    let end = slot.lease_end(duration);
    Some(LeaseTimes {
        last_heartbeat: now.wall_of(slot.last_heartbeat()),
        deadline: now.wall_of(deadline),
        without_grace: (end < deadline).then(|| now.wall_of(end)),
    })
}

/// The phase in the view of the service, and whether the instance is held. If the view does not have this
/// incarnation, its phase is computed.
fn current_phase(app: &AppState, slot: &Slot, record: &Instance) -> (Phase, bool) {
    let view = app.intake.directory().service(&record.key.namespace, &record.service);
    let is_this = |member: &&Arc<Member>| member.facts.uid == record.uid;
    let viewed = view.as_deref().and_then(|view| {
        let by_label = view.by_label(&naming::label(&record.key.name)).filter(is_this);
        by_label
            .or_else(|| view.members.iter().find(is_this))
            .map(|member| (member.phase, member.held))
    });
    viewed.unwrap_or_else(|| (record.phase(slot.is_expired()), false))
}
