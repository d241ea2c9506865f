//! What only the page of a single instance shows, because it moves with every beat: the last beat,
//! what the verdict rests on, and why.

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
    app::App,
    contract::words,
    encode::{InstanceJson, Renewal},
    time::Time,
    why::{self, Grounds, Life},
};

/// What an instance that is shown alone has beside the rest.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[schemars(with = "words::ResourceVersion")]
    resource_version: String,
    /// The last one that this replica knows of; null for a permanent instance.
    last_heartbeat: Option<LastHeartbeat>,
    /// What its phase rests on.
    verdict: Verdict,
    /// Why it is in its phase, as a sentence.
    why: String,
}

/// A heartbeat.
#[derive(Serialize, JsonSchema)]
struct LastHeartbeat {
    /// When it was heard.
    at: Time,
    /// By which way.
    #[schemars(with = "words::HeartbeatSource")]
    source: &'static str,
    /// The replica that took it first-hand; null when it came through Kubernetes.
    replica: Option<String>,
}

/// What this replica judges by, beside the deadline.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    /// Up to when it knows of every heartbeat; null until it is known.
    horizon: Option<Time>,
    /// Before when no such lease ends, where that is later than the last heartbeat makes it.
    not_before: Option<Time>,
    /// When an expired object is to be deleted.
    evicts_at: Option<Time>,
    /// What the leader has written.
    stored: Option<Stored>,
}

/// What stands in the status of an object.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredStatus")]
struct Stored {
    /// Which the leader has written.
    #[schemars(with = "words::Phase")]
    phase: &'static str,
    /// Of the condition Ready, for programs.
    reason: Option<String>,
}

/// A single instance as JSON, with its deadline and the reason for its phase.
pub(super) fn single(app: &App, slot: &Slot, now: Now) -> Vec<u8> {
    let record = slot.record();
    let (phase, held) = shown(app, slot, &record);
    let mut json = InstanceJson::new(&record, phase, held, &app.zone);
    let (renewal, detail) = of(app, slot, &record, phase, held, now);
    json.lease.renewal = Some(renewal);
    json.detail = Some(detail);
    // Strings and numbers with string keys cannot fail to be written.
    serde_json::to_vec(&json).unwrap_or_default()
}

/// The detail of an instance in its phase, and how long its lease has to run.
fn of(
    app: &App,
    slot: &Slot,
    record: &Instance,
    phase: Phase,
    held: bool,
    now: Now,
) -> (Renewal, Detail) {
    let directory = app.intake.directory();
    let (horizon, report) = (directory.horizon(), directory.report());
    let life = life(app, slot, record, now);
    let evict_at = slot.evict_at().filter(|_| phase == Phase::Expired);
    let grounds = Grounds {
        instance: record,
        phase,
        now,
        horizon,
        standstill: report.standstill.as_ref(),
        life,
        held,
        carried_over: slot.is_carried_over(),
        evict_at,
        shared: directory.shared_address(&record.facts),
        leader: directory.leadership().leader.clone(),
    };
    let time = |moment| Time(now.wall_of(moment));
    let not_before = life.filter(|life| life.without_grace.is_some());
    let stored = &record.stored;
    let verdict = Verdict {
        horizon: Some(horizon).filter(|horizon| horizon.0 > 0).map(time),
        not_before: not_before.map(|life| Time(life.deadline)),
        evicts_at: evict_at.map(time),
        stored: stored.phase.map(|phase| Stored {
            phase: phase.as_str(),
            reason: stored.reason().map(str::to_owned),
        }),
    };
    let detail = Detail {
        resource_version: record.resource_version.to_string(),
        last_heartbeat: life.map(|life| LastHeartbeat {
            at: Time(life.last_heartbeat),
            source: slot.source().as_str(),
            replica: slot.source().is_own().then(|| app.identity.clone()),
        }),
        verdict,
        why: why::sentence(&grounds),
    };
    (Renewal::ending(record.lease, life.map(|life| life.deadline), now), detail)
}

/// The moments of a leased life. Of the dead, grace do not move the end any more; of those who were
/// dead when this replica started, only what is stored is known.
fn life(app: &App, slot: &Slot, record: &Instance, now: Now) -> Option<Life> {
    let deadline = app.intake.directory().deadline(slot)?;
    let duration = record.lease.duration;
    if slot.is_expired() {
        let last_heartbeat = slot.last_heard(record, now);
        let lasted = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let deadline = Wall(last_heartbeat.0.saturating_add(lasted));
        return Some(Life { last_heartbeat, deadline, without_grace: None });
    }
    let end = slot.lease_end(duration);
    Some(Life {
        last_heartbeat: now.wall_of(slot.last_heartbeat()),
        deadline: now.wall_of(deadline),
        without_grace: (end < deadline).then(|| now.wall_of(end)),
    })
}

/// The phase that readers are shown, and whether the instance is held; while no view shows this
/// incarnation, what it would get.
fn shown(app: &App, slot: &Slot, record: &Instance) -> (Phase, bool) {
    let view = app.intake.directory().service(&record.key.namespace, &record.service);
    let is_it = |member: &&Arc<Member>| member.facts.uid == record.uid;
    let shown = view.as_deref().and_then(|view| {
        let by_label = view.by_label(&naming::label(&record.key.name)).filter(is_it);
        by_label
            .or_else(|| view.members.iter().find(is_it))
            .map(|member| (member.phase, member.held))
    });
    shown.unwrap_or_else(|| (record.phase(slot.is_expired()), false))
}
