//! Calls on one instance: register, deregister, read.

use std::sync::Arc;

use axum::extract::State;
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, ETAG, LOCATION},
};
use rollcall_core::slot::Slot;
use rollcall_model::{instance::Address, lease::Now, naming, registration::Registration};

use crate::heartbeat::{Deregistered, Registered, Target};
use crate::http::{
    answer::{Answer, Answered},
    app::App,
    body::{self, BodyOf, Object, One},
    context::Context,
    detail,
    preconditions::{Attempts, IfMatch},
    problem::{Flaw, Kind, Problem},
    query::{Query, Uid},
    validate::{self, RegistrationBody},
};

/// `PUT /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn register(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    BodyOf(body, _): BodyOf<One>,
) -> Answered {
    let mut registration = read_registration(&body, None)?;
    let target = context.names().target(uid.get());
    registration.pod = app.authorization.own_pod(context.caller(), &target);
    store(&app, &context, target, condition, &registration).await
}

/// `POST /v1/namespaces/{namespace}/services/{service}/instances`
pub(super) async fn register_named(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    BodyOf(body, _): BodyOf<One>,
) -> Answered {
    let names = context.names();
    let registration = read_registration(&body, Some(names.name))?;
    let name = derived_name(&registration);
    let target = Target { name: &name, ..names.target(uid.get()) };
    store(&app, &context, target, condition, &registration).await
}

/// `DELETE /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn deregister(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
) -> Answered {
    let target = context.names().target(uid.get());
    let line = app.writes.begin(&context, "deregister", &target);
    let deleted = delete(&app, target, condition).await;
    line.end(deleted.as_ref().map(|deleted| (StatusCode::NO_CONTENT, &*deleted.uid)));
    let answer = Answer::empty(StatusCode::NO_CONTENT);
    Ok(if deleted?.covered { answer } else { answer.without_index() })
}

async fn delete(
    app: &App,
    target: Target<'_>,
    condition: IfMatch,
) -> Result<Deregistered, Problem> {
    let mut attempts = match Attempts::new(app, target, condition).await {
        Err(problem) if problem.kind == Kind::Evicted => {
            return Err(Problem::unknown(target.namespace, target.name));
        }
        attempts => attempts?,
    };
    loop {
        match app.intake.deregister(attempts.target()).await {
            Ok(deleted) => return Ok(deleted),
            Err(refusal) => attempts.again(refusal)?,
        }
    }
}

/// `GET /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn read(
    State(app): State<Arc<App>>,
    context: Context,
    Query(uid): Query<Uid>,
) -> Answered {
    let names = context.names();
    let found = app.intake.find(&names.target(uid.get())).await;
    let slot = found.map_err(|refusal| Problem::refused(refusal, names.namespace, names.name))?;
    // It moves with every heartbeat, and its ETag does not.
    let answer = one(&app, StatusCode::OK, &slot, (app.clock)());
    Ok(answer.with_static(CACHE_CONTROL, "no-store"))
}

/// One instance, by the version that it is: what `If-Match` may name.
pub(super) fn one(app: &App, status: StatusCode, slot: &Slot, now: Now) -> Answer {
    let version = slot.record().resource_version;
    app.intake.directory().raise_newest(version);
    let etag = format!("\"{version}\"");
    Answer::bytes(status, detail::single(app, slot, now)).with(ETAG, etag)
}

fn read_registration(body: &[u8], service: Option<&str>) -> Result<Registration, Problem> {
    let read = body::json::<Object<RegistrationBody>>(body);
    let Object(read) = read.map_err(explain_state)?;
    read.is_of_one(service.is_none())?;
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
    app: &App,
    context: &Context,
    target: Target<'_>,
    condition: IfMatch,
    registration: &Registration,
) -> Answered {
    let line = app.writes.begin(context, "register", &target);
    let stored = write(app, target, condition, registration).await;
    match &stored {
        Ok((_, Registered { written: false, .. })) => line.nothing(),
        Ok((status, stored)) => line.end(Ok((*status, &stored.slot.record().uid))),
        Err(problem) => line.end(Err(problem)),
    }
    let (status, Registered { slot, created, .. }) = stored?;
    let answer = one(app, status, &slot, (app.clock)());
    if !created {
        return Ok(answer);
    }
    let Target { namespace, name, .. } = target;
    Ok(answer.with(LOCATION, format!("/v1/namespaces/{namespace}/instances/{name}")))
}

async fn write(
    app: &App,
    target: Target<'_>,
    condition: IfMatch,
    registration: &Registration,
) -> Result<(StatusCode, Registered), Problem> {
    let mut attempts = match Attempts::new(app, target, condition).await {
        Err(problem) if matches!(problem.kind, Kind::UnknownInstance | Kind::Evicted) => {
            return Err(Problem::not_there(target.namespace, target.name));
        }
        attempts => attempts?,
    };
    loop {
        match app.intake.register(attempts.target(), registration).await {
            Ok(stored) if stored.created => return Ok((StatusCode::CREATED, stored)),
            Ok(stored) => return Ok((StatusCode::OK, stored)),
            Err(refusal) => attempts.again_registering(refusal)?,
        }
    }
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
