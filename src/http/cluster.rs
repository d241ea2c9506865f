//! `GET /v1/cluster`: the replicas as this one sees them.

use hyper::StatusCode;
use serde::Serialize;

use crate::clock;
use crate::http::{
    answer::Answer,
    door::{Door, Given},
    query,
};
use crate::registry::lease::millis;

/// Further replicas are further entries; what concerns all of them stands beside the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterJson<'a> {
    /// Whose view this is.
    answered_by: &'a str,
    zone: &'a str,
    /// Who writes status and evicts; none while an election is under way.
    leader: Option<&'a str>,
    replicas: [ReplicaJson<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaJson<'a> {
    identity: &'a str,
    /// How far its horizon is behind now.
    horizon_age_ms: u64,
    stale: bool,
    index: u64,
    instances: usize,
}

/// `GET /v1/cluster`
pub(super) fn cluster(door: &Door, query: Option<&str>) -> Given {
    query::none(query)?;
    let directory = door.inbox.directory();
    let now = clock::moment();
    let own = ReplicaJson {
        identity: &door.identity,
        horizon_age_ms: millis(directory.age(now)),
        stale: directory.is_stale(now),
        index: directory.index(),
        instances: directory.len(),
    };
    let leadership = directory.leadership();
    let cluster = ClusterJson {
        answered_by: &door.identity,
        zone: &door.zone,
        leader: leadership.leader.as_deref(),
        replicas: [own],
    };
    Ok(Answer::json(StatusCode::OK, &cluster))
}
