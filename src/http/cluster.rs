//! `GET /v1/cluster`: the replicas as this one sees them.

use std::sync::Arc;

use axum::extract::State;
use hyper::{StatusCode, header::CACHE_CONTROL};
use rollcall_core::report::{Duplicate, LastGap, Overlap, Peer, Presence, Report, Standstill};
use rollcall_model::lease::{Now, millis};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::{
    answer::{Answer, Answered},
    app::App,
    context::Context,
    contract::words,
    holds::HeldJson,
    phases::Phases,
    query::Query,
    time::Time,
};

/// What concerns all replicas stands beside the list.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Cluster", description = "The replicas as one of them sees them.")]
pub(super) struct ClusterJson<'a> {
    /// Whose view this is.
    answered_by: &'a str,
    /// The DNS zone.
    zone: &'a str,
    /// Who writes status and evicts; null while an election is under way.
    leader: Option<&'a str>,
    /// Since when, as the leader has written it.
    leader_since: Option<Time>,
    /// The one that answers first, then the others by name.
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
    /// `self`: it is the replica that answers.
    #[schemars(with = "words::Oneself")]
    presence: &'static str,
    /// Of rollcall.
    version: &'static str,
    /// Tells this process from an earlier one of the same name.
    boot: &'a str,
    started_at: Option<Time>,
    /// Whether the first list of all instances has been taken in.
    synced: bool,
    /// Whether beats are answered 200; else 202.
    promises: bool,
    /// How far its horizon is behind now; null before its first self-beat is back.
    #[schemars(with = "Option<words::Millis>")]
    horizon_age_ms: Option<u64>,
    /// Whether that is more than 15 s.
    stale: bool,
    /// What holds the horizon back, when something does.
    standstill: Option<StandstillJson>,
    /// Whether calls to the Kubernetes API go out.
    breakers: BreakersJson,
    /// What somebody has to mend in the cluster, each with what to do.
    problems: &'a [&'a str],
    /// The highest resourceVersion that it has applied.
    index: u64,
    /// Up to when it may write as the leader, unless it renews that; null when it does not lead.
    leads_until: Option<Time>,
    /// How many it knows.
    instances: usize,
    /// How many it knows in each phase.
    phases: Phases,
    /// Leases that have ended and wait for the horizon.
    due: usize,
    /// Who is kept past the lease, since many fell silent together; null when nobody is.
    held: Option<HeldJson<'a>>,
    /// Objects that it cannot read.
    unreadable: usize,
    /// How often everybody was given back time.
    gaps: u64,
    /// The last such time.
    last_gap: Option<LastGapJson>,
    /// How often the store has gone back, as after a restore of etcd, as far as the replicas that ran together know.
    epoch: u64,
    /// The last time that it did while this replica ran; null when it did not.
    step_back: Option<StepBackJson>,
}

/// The store went back.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StepBack")]
struct StepBackJson {
    /// When this replica learned of it.
    noticed_at: Time,
    /// What proves it, as a sentence.
    why: String,
}

/// `closed`: calls go out; `open`: they fail at once, as it has not answered, but for one now and then.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Breakers")]
struct BreakersJson {
    /// Of instances.
    #[schemars(with = "words::Breaker")]
    writes: &'static str,
    /// Of callers.
    #[schemars(with = "words::Breaker")]
    reviews: &'static str,
}

/// Another replica, as its newest ledger tells.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OtherReplica")]
struct PeerJson<'a> {
    identity: &'a str,
    /// `live`; `gone` when its ledger has not moved for 10 s; `left` when it has said so.
    #[schemars(with = "words::Presence")]
    presence: &'static str,
    /// Tells its process from an earlier one of the same name.
    boot: &'a str,
    /// When its newest ledger was seen.
    seen_at: Time,
    /// How far its horizon was behind then, and how long ago that is, together; null when it did not say.
    #[schemars(with = "Option<words::Millis>")]
    horizon_age_ms: Option<u64>,
    /// The highest resourceVersion that it had applied then.
    index: u64,
}

/// What holds a horizon back.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Standstill")]
struct StandstillJson {
    since: Time,
    /// As a sentence.
    why: String,
}

/// A time that was given back to everybody.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LastGap")]
struct LastGapJson {
    ended_at: Time,
    /// Null when nobody knows.
    #[schemars(with = "Option<words::Millis>")]
    lost_ms: Option<u64>,
}

/// `GET /v1/cluster`
pub(super) async fn cluster(
    State(app): State<Arc<App>>,
    context: Context,
    Query(()): Query<()>,
) -> Answered {
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
    let own = own(app, &report, &problems, leads_until, now);
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

fn own<'a>(
    app: &'a App,
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
        horizon_age_ms: measured.then(|| millis(directory.age(now.moment))),
        stale: directory.is_stale(now.moment),
        standstill: report.standstill.as_ref().map(|it| StandstillJson::of(it, now)),
        breakers: BreakersJson {
            writes: app.breakers.word("writes"),
            reviews: app.breakers.word("reviews"),
        },
        problems,
        index: directory.index(),
        leads_until,
        instances: directory.len(),
        phases: Phases::of_all(&directory.all_services(None)),
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
