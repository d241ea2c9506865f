//! Changes to a part of an instance: its attributes, and the operator's word.

use hyper::{StatusCode, body::Incoming, http::request::Parts};
use rollcall_model::instance::State;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::http::{
    body::{self, Entries, MAX_ENTRIES, MAX_ONE, Object},
    contract::words,
    door::{Door, Given},
    instances,
    preconditions::Attempts,
    problem::{Flaw, Kind, Problem},
    query,
    route::Names,
    validate,
};
use crate::witness::Change;

/// The operator's word on an instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StateChange")]
pub(super) struct StateBody {
    /// From now on.
    #[schemars(with = "words::State")]
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
        let flaw = Flaw::body("attributes", format!("at most {MAX_ENTRIES} attributes at a time"));
        return Err(Problem::of(Kind::BadFields, vec![flaw]));
    }
    validate::patch(&attributes.entries)?;
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
    let target = names.target(uid.as_deref());
    let mut attempts = Attempts::new(door, target, &parts.headers).await?;
    loop {
        match door.inbox.change(attempts.target(), change).await {
            Ok(slot) => return Ok(instances::one(door, StatusCode::OK, &slot)),
            Err(refusal) => attempts.again(refusal)?,
        }
    }
}
