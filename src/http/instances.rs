//! Calls on one instance: register, deregister, read.

use hyper::{
    HeaderMap, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, ETAG, LOCATION},
    http::request::Parts,
};
use rollcall_core::pulse::Slot;
use rollcall_model::{instance::Address, naming, registration::Registration};

use crate::auth::Caller;
use crate::clock;
use crate::http::{
    answer::Answer,
    body::{self, MAX_ONE, Object},
    door::{Door, Given},
    encode,
    preconditions::Attempts,
    problem::{Flaw, Kind, Problem},
    query,
    route::Names,
    validate::{self, RegistrationBody},
};
use crate::witness::Target;

/// `PUT /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn register(
    door: &Door,
    caller: Option<&Caller>,
    names: &Names<'_>,
    parts: &Parts,
    body: Incoming,
) -> Given {
    let uid = query::uid(parts.uri.query())?;
    let mut registration = read_registration(door, parts, body, None).await?;
    let target = names.target(uid.as_deref());
    registration.pod = door.doorman.own_pod(caller, &target);
    store(door, target, &parts.headers, &registration).await
}

/// `POST /v1/namespaces/{namespace}/services/{service}/instances`
pub(super) async fn register_named(
    door: &Door,
    names: &Names<'_>,
    parts: &Parts,
    body: Incoming,
) -> Given {
    let uid = query::uid(parts.uri.query())?;
    let registration = read_registration(door, parts, body, Some(&names.name)).await?;
    let name = derived_name(&registration);
    let namespace = &*names.namespace;
    let target = Target { namespace, name: &name, uid: uid.as_deref(), version: None };
    store(door, target, &parts.headers, &registration).await
}

/// `DELETE /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn deregister(door: &Door, names: &Names<'_>, parts: &Parts) -> Given {
    let uid = query::uid(parts.uri.query())?;
    let target = names.target(uid.as_deref());
    let mut attempts = match Attempts::new(door, target, &parts.headers).await {
        Err(problem) if problem.kind == Kind::Evicted => {
            return Err(Problem::unknown(target.namespace, target.name));
        }
        attempts => attempts?,
    };
    loop {
        match door.inbox.deregister(attempts.target()).await {
            Ok(is_covered) => {
                let answer = Answer::empty(StatusCode::NO_CONTENT);
                return Ok(Answer { index_is_known: is_covered, ..answer });
            }
            Err(refusal) => attempts.again(refusal)?,
        }
    }
}

/// `GET /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn read(door: &Door, names: &Names<'_>, parts: &Parts) -> Given {
    let uid = query::uid(parts.uri.query())?;
    let (namespace, name) = (&*names.namespace, &*names.name);
    let target = names.target(uid.as_deref());
    let found = door.inbox.find(&target).await;
    let slot = found.map_err(|refusal| Problem::refused(refusal, namespace, name))?;
    // It moves with every beat, and its ETag does not.
    Ok(one(door, StatusCode::OK, &slot).with_static(CACHE_CONTROL, "no-store"))
}

/// One instance, by the version that it is: what `If-Match` may name.
pub(super) fn one(door: &Door, status: StatusCode, slot: &Slot) -> Answer {
    let version = slot.record().resource_version;
    door.inbox.directory().raise_newest(version);
    let etag = format!("\"{version}\"");
    Answer::bytes(status, encode::single(door, slot, clock::now())).with(ETAG, etag)
}

async fn read_registration(
    door: &Door,
    parts: &Parts,
    body: Incoming,
    service: Option<&str>,
) -> Result<Registration, Problem> {
    let bytes = body::read(&door.limits, &parts.headers, body, MAX_ONE).await?;
    let read = body::json::<Object<RegistrationBody>>(&bytes);
    let Object(read) = read.map_err(explain_state)?;
    read.is_of_one()?;
    validate::registration(read, service)
}

/// `state` is a field of the stored object, but not of a registration: say whose it is.
pub(super) fn explain_state(problem: Problem) -> Problem {
    match problem.flaws.as_slice() {
        [flaw] if flaw.field == "state" && flaw.is_unknown => {
            let detail = "belongs to operators, and a registration never overwrites it: leave it \
                          out here, and set it with PUT …/state, or spec.state with kubectl";
            Problem::of(problem.kind, vec![Flaw::body("state", detail)])
        }
        _ => problem,
    }
}

async fn store(
    door: &Door,
    target: Target<'_>,
    headers: &HeaderMap,
    registration: &Registration,
) -> Given {
    let (namespace, name) = (target.namespace, target.name);
    let mut attempts = match Attempts::new(door, target, headers).await {
        Err(problem) if matches!(problem.kind, Kind::UnknownInstance | Kind::Evicted) => {
            return Err(Problem::not_there(namespace, name));
        }
        attempts => attempts?,
    };
    let stored = loop {
        match door.inbox.register(attempts.target(), registration).await {
            Ok(stored) => break stored,
            Err(refusal) => attempts.again_registering(refusal)?,
        }
    };
    if stored.created {
        let location = format!("/v1/namespaces/{namespace}/instances/{name}");
        return Ok(one(door, StatusCode::CREATED, &stored.slot).with(LOCATION, location));
    }
    Ok(one(door, StatusCode::OK, &stored.slot))
}

/// The name of an instance that brings none: a function of what it is and where, so that doing it
/// again means the same instance. The order of its addresses does not matter.
pub(super) fn derived_name(registration: &Registration) -> String {
    let mut place = match &registration.address {
        Address::Hostname(name) => vec![name.to_string()],
        Address::Ips(ips) => ips.iter().map(ToString::to_string).collect(),
    };
    place.sort_unstable();
    place.extend(registration.ports.first().map(|port| format!("{}/{}", port.port, port.protocol)));
    naming::derived_name(&registration.service, &place.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Result<Registration, Problem> {
        let bytes = serde_json::to_vec(body).unwrap();
        let read = body::json::<Object<RegistrationBody>>(&bytes).map_err(explain_state)?;
        validate::registration(read.0, Some("orders"))
    }

    fn name(addresses: &[&str], port: u16) -> String {
        let ports = [json!({"name": "http", "port": port}), json!({"name": "b", "port": 1})];
        derived_name(&read(&json!({"addresses": addresses, "ports": ports})).unwrap())
    }

    #[test]
    fn a_derived_name_is_of_the_place_and_nothing_else() {
        assert_eq!(name(&["10.0.0.7", "fd00::7"], 80), name(&["fd00::7", "10.0.0.7"], 80));
        assert_ne!(name(&["10.0.0.7"], 80), name(&["10.0.0.7"], 81));
        assert_ne!(name(&["10.0.0.7"], 80), name(&["10.0.0.8"], 80));
        assert!(name(&["10.0.0.7"], 80).starts_with("orders-"));
    }

    #[test]
    fn the_state_is_refused_with_the_words_whose_it_is() {
        let problem = read(&json!({"hostname": "a.b", "state": "Up"})).unwrap_err();
        assert_eq!((problem.kind, &*problem.flaws[0].field), (Kind::BadFields, "state"));
        assert!(problem.detail.contains("operators"));
    }
}
