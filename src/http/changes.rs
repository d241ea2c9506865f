//! Changes to a part of an instance: its attributes, and the operator's word.

use hyper::{StatusCode, body::Incoming, http::request::Parts};
use serde::Deserialize;

use crate::http::{
    body::{self, Entries, MAX_ENTRIES, MAX_ONE, Object},
    door::{Door, Given},
    instances, preconditions,
    problem::{Flaw, Kind, Problem},
    query,
    route::Names,
};
use crate::registry::instance::State;
use crate::witness::Change;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: String,
}

/// `PATCH /v1/namespaces/{namespace}/instances/{name}/attributes`: a JSON merge patch (RFC 7396).
pub(super) async fn attributes(
    door: &Door,
    names: &Names<'_>,
    parts: &Parts,
    body: Incoming,
) -> Given {
    let bytes = body::read_patch(&door.limits, &parts.headers, body, MAX_ONE).await?;
    let attributes = body::json::<Entries<Option<String>>>(&bytes)?;
    if attributes.are_more {
        let flaw = Flaw::body("", format!("at most {MAX_ENTRIES} attributes at a time"));
        return Err(Problem::of(Kind::BadFields, vec![flaw]));
    }
    change(door, names, parts, &Change::Attributes(attributes.entries)).await
}

/// `PUT /v1/namespaces/{namespace}/instances/{name}/state`
pub(super) async fn state(door: &Door, names: &Names<'_>, parts: &Parts, body: Incoming) -> Given {
    let bytes = body::read(&door.limits, &parts.headers, body, MAX_ONE).await?;
    let Object(StateBody { state }) = body::json::<Object<StateBody>>(&bytes)?;
    let state = State::parse(&state).ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        let flaw = Flaw::body("state", format!("must be one of {}", words.join(", ")));
        Problem::of(Kind::BadFields, vec![flaw])
    })?;
    change(door, names, parts, &Change::State(state)).await
}

async fn change(door: &Door, names: &Names<'_>, parts: &Parts, change: &Change) -> Given {
    let uid = query::uid(parts.uri.query())?;
    let version = preconditions::version(&parts.headers)?;
    let (namespace, name) = (&*names.namespace, &*names.name);
    let target = names.target(uid.as_deref(), version);
    let changed = door.inbox.change(&target, change).await;
    let slot = changed.map_err(|refusal| Problem::refused(refusal, namespace, name))?;
    Ok(instances::one(door, StatusCode::OK, &slot))
}
