//! `GET /v1/cluster`: the replicas, as known to the replica that answers.

use std::sync::Arc;

use axum::extract::State;
use hyper::{StatusCode, header::CACHE_CONTROL};
use rollcall_core::report::{Duplicate, LastGap, Overlap, Peer, Presence, Report, Standstill};
use rollcall_model::lease::{Now, millis};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::{
    answer::{Answer, HandlerResult},
    app::AppState,
    context::Context,
    contract::values,
    holds::HeldJson,
    phases::Phases,
    query::Query,
    time::Time,
};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Cluster", description = "The replicas, as known to the replica that answers.")]
pub(super) struct ClusterJson<'a> {
    /// The replica that answers.
    answered_by: &'a str,
    /// The DNS zone.
    zone: &'a str,
    /// The leader, which writes statuses and evicts; null while an election is in progress.
    leader: Option<&'a str>,
    /// The start of its leadership, by the clock of the leader.
    leader_since: Option<Time>,
    /// The replica that answers first, then the others by name.
    replicas: Vec<ReplicaJson<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Replica", description = "The replica that answers, or another.")]
#[serde(untagged)]
enum ReplicaJson<'a> {
    Own(Box<OwnJson<'a>>),
    Peer(PeerJson<'a>),
}

/// The replica that answers.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OwnReplica")]
struct OwnJson<'a> {
    identity: &'a str,
    /// `self`: the replica that answers.
    #[schemars(with = "values::SelfPresence")]
    presence: &'static str,
    /// The version of rollcall.
    version: &'static str,
    /// An id of the process, which distinguishes it from an earlier process with the same identity.
    boot: &'a str,
    /// When the process started.
    started_at: Option<Time>,
    /// Whether the replica has read the first list of all instances.
    synced: bool,
    /// Whether heartbeats are answered with 200 (else 202).
    promises: bool,
    /// The age of the replica's horizon; null until the replica has observed its first self-beat.
    #[schemars(with = "Option<values::Millis>")]
    horizon_age_ms: Option<u64>,
    /// Whether the horizon is older than 15 s.
    stale: bool,
    /// Why the horizon does not move; null when it does.
    standstill: Option<StandstillJson>,
    /// The circuit breakers of calls to the Kubernetes API.
    breakers: BreakersJson,
    /// Problems of the cluster that an operator must solve, each with its remedy.
    problems: &'a [&'a str],
    /// The highest resourceVersion that the replica has applied.
    index: u64,
    /// When its leadership ends unless it is renewed; null when the replica does not lead.
    leads_until: Option<Time>,
    /// The number of instances that the replica knows.
    instances: usize,
    /// The number of instances in each phase.
    phases: Phases,
    /// The number of ended leases that are not judged yet, because the horizon has not passed their end.
    due: usize,
    /// Instances held past the end of their leases, because many leases ended together; null when there are none.
    held: Option<HeldJson<'a>>,
    /// The number of objects that the replica cannot read.
    unreadable: usize,
    /// How often lost time was given back to all instances.
    gaps: u64,
    /// The last gap for which time was given back; null when there was none.
    last_gap: Option<LastGapJson>,
    /// How often the store has stepped back, for example by a restore of etcd, as far as the replicas that ran at the
    /// time know.
    epoch: u64,
    /// The last step back while this replica was running; null when there was none.
    step_back: Option<StepBackJson>,
}

/// A step back of the store to an older state.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StepBack")]
struct StepBackJson {
    /// When this replica detected it.
    noticed_at: Time,
    /// The evidence, as a sentence.
    why: String,
}

/// `closed`: calls are made; `open`: calls fail at once, except for occasional trial calls, because the Kubernetes
/// API did not answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Breakers")]
struct BreakersJson {
    /// The breaker of writes of instances.
    #[schemars(with = "values::BreakerState")]
    writes: &'static str,
    /// The breaker of reviews of callers.
    #[schemars(with = "values::BreakerState")]
    reviews: &'static str,
}

/// Another replica, as its newest ledger describes it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OtherReplica")]
struct PeerJson<'a> {
    identity: &'a str,
    /// `live`; `gone` when its ledger has not changed for 10 s; `left` when it announced that it stopped.
    #[schemars(with = "values::PeerPresence")]
    presence: &'static str,
    /// An id of the process, which distinguishes it from an earlier process with the same identity.
    boot: &'a str,
    /// When this replica observed the newest ledger.
    seen_at: Time,
    /// The age of its horizon in that ledger, plus the time since then; null when the ledger has no horizon.
    #[schemars(with = "Option<values::Millis>")]
    horizon_age_ms: Option<u64>,
    /// The highest resourceVersion that it had applied at that time.
    index: u64,
}

/// Why the horizon does not move.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Standstill")]
struct StandstillJson {
    /// When the horizon stopped.
    since: Time,
    /// The cause, as a sentence.
    why: String,
}

/// Time that was given back to all instances.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LastGap")]
struct LastGapJson {
    /// The end of the gap.
    ended_at: Time,
    /// The length of the gap; null when it is unknown.
    #[schemars(with = "Option<values::Millis>")]
    lost_ms: Option<u64>,
}

/// `GET /v1/cluster`
pub(super) async fn cluster(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(()): Query<()>,
) -> HandlerResult {
    let app = &*app;
    let directory = app.intake.directory();
    let now = context.now;
    let (leadership, report) = (directory.leadership(), directory.report());
    let tenure = Some(leadership.tenure).filter(|_| leadership.is_own(now.moment));
    let leads_until = tenure.map(|until| Time(now.wall_of(until)));
    let problems = app.problems.shown();
    let overlap = report.overlap.as_ref().map(Overlap::sentence);
    let duplicates: Vec<String> = report.duplicates.iter().map(Duplicate::sentence).collect();
    let problems = problems.all().chain(&overlap).chain(&duplicates);
    let problems: Vec<&str> = problems.map(String::as_str).collect();
    let own = own_replica(app, &report, &problems, leads_until, now);
    let peers = report.replicas.iter().map(|peer| ReplicaJson::Peer(PeerJson::of(peer, now)));
    let cluster = ClusterJson {
        answered_by: &app.identity,
        zone: &app.zone,
        leader: leadership.leader.as_deref(),
        leader_since: leadership.since.map(Time),
        replicas: std::iter::once(ReplicaJson::Own(Box::new(own))).chain(peers).collect(),
    };
    Ok(Answer::json(StatusCode::OK, &cluster).with_static(CACHE_CONTROL, "no-store"))
}

fn own_replica<'a>(
    app: &'a AppState,
    report: &'a Report,
    problems: &'a [&'a str],
    leads_until: Option<Time>,
    now: Now,
) -> OwnJson<'a> {
    let directory = app.intake.directory();
    let measured = directory.horizon().0 > 0;
    OwnJson {
        identity: &app.identity,
        presence: "self",
        version: env!("CARGO_PKG_VERSION"),
        boot: &report.boot,
        started_at: report.started.map(|started| Time(now.wall_of(started))),
        synced: directory.is_synced(),
        promises: !directory.is_fenced(now.moment),
        horizon_age_ms: measured.then(|| millis(directory.horizon_age(now.moment))),
        stale: directory.is_stale(now.moment),
        standstill: report.standstill.as_ref().map(|it| StandstillJson::of(it, now)),
        breakers: BreakersJson {
            writes: app.breakers.state_name("writes"),
            reviews: app.breakers.state_name("reviews"),
        },
        problems,
        index: directory.index(),
        leads_until,
        instances: directory.len(),
        phases: Phases::of_all(&directory.views_in(None)),
        due: report.due,
        held: report.held.as_deref().map(|held| HeldJson::of(held, now)),
        unreadable: report.unreadable,
        gaps: report.gaps,
        last_gap: report.last_gap.map(|gap| LastGapJson::of(gap, now)),
        epoch: report.epoch,
        step_back: report.step_back.as_ref().map(|it| StepBackJson {
            noticed_at: Time(now.wall_of(it.at)),
            why: it.reason.to_string(),
        }),
    }
}

impl<'a> PeerJson<'a> {
    fn of(peer: &'a Peer, now: Now) -> Self {
        let since = now.moment.since(peer.seen);
        Self {
            identity: &peer.replica,
            presence: match peer.presence {
                Presence::Live => "live",
                Presence::Gone => "gone",
                Presence::Left => "left",
            },
            boot: &peer.boot,
            seen_at: Time(now.wall_of(peer.seen)),
            horizon_age_ms: peer.behind.map(|behind| millis(behind + since)),
            index: peer.index,
        }
    }
}

impl StandstillJson {
    fn of(standstill: &Standstill, now: Now) -> Self {
        Self { since: Time(now.wall_of(standstill.since)), why: standstill.sentence(now) }
    }
}

impl LastGapJson {
    fn of(gap: LastGap, now: Now) -> Self {
        Self { ended_at: Time(now.wall_of(gap.ended)), lost_ms: gap.lost.map(millis) }
    }
}
