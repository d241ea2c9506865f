//! Calls on one instance: register, deregister, get.
//!
//! Owns: these calls, and the derived name of an instance. Does not own: the bodies (`validate`, `detail`).

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
    answer::{Answer, HandlerResult},
    app::AppState,
    body::{self, Object, RequestBody, SingleInstance},
    context::Context,
    detail,
    preconditions::{Attempts, IfMatch},
    problem::{Flaw, Problem, ProblemKind},
    query::{Query, Uid},
    validate::{self, RegistrationBody},
};

/// `PUT /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn register(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    RequestBody(body, _): RequestBody<SingleInstance>,
) -> HandlerResult {
    let mut registration = read_registration(&body, None)?;
    let target = context.names().target(uid.get());
    registration.pod = app.authorization.own_pod(context.caller(), &target);
    store(&app, &context, target, condition, &registration).await
}

/// `POST /v1/namespaces/{namespace}/services/{service}/instances`
pub(super) async fn register_named(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
    RequestBody(body, _): RequestBody<SingleInstance>,
) -> HandlerResult {
    let names = context.names();
    let registration = read_registration(&body, Some(names.name))?;
    let name = derived_name(&registration);
    let target = Target { name: &name, ..names.target(uid.get()) };
    store(&app, &context, target, condition, &registration).await
}

/// `DELETE /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn deregister(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
    condition: IfMatch,
) -> HandlerResult {
    let target = context.names().target(uid.get());
    let line = app.writes.begin(&context, "deregister", &target);
    let deleted = delete(&app, target, condition).await;
    line.end(deleted.as_ref().map(|deleted| (StatusCode::NO_CONTENT, &*deleted.uid)));
    let answer = Answer::empty(StatusCode::NO_CONTENT);
    Ok(if deleted?.covered { answer } else { answer.without_index() })
}

async fn delete(
    app: &AppState,
    target: Target<'_>,
    condition: IfMatch,
) -> Result<Deregistered, Problem> {
    let mut attempts = match Attempts::new(app, target, condition).await {
        Err(problem) if problem.kind == ProblemKind::Evicted => {
            return Err(Problem::unknown_instance(target.namespace, target.name));
        }
        attempts => attempts?,
    };
    loop {
        match app.intake.deregister(attempts.target()).await {
            Ok(deleted) => return Ok(deleted),
            Err(refusal) => attempts.retry(refusal)?,
        }
    }
}

/// `GET /v1/namespaces/{namespace}/instances/{name}`
pub(super) async fn get(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(uid): Query<Uid>,
) -> HandlerResult {
    let names = context.names();
    let found = app.intake.find(&names.target(uid.get())).await;
    let slot = found.map_err(|refusal| Problem::refused(refusal, names.namespace, names.name))?;
    // The body changes with every heartbeat, and the ETag does not, so a cache must not keep it.
    let answer = self::answer(&app, StatusCode::OK, &slot, (app.clock)());
    Ok(answer.with_static(CACHE_CONTROL, "no-store"))
}

/// The answer with one instance. Its ETag is its version, for `If-Match`.
pub(super) fn answer(app: &AppState, status: StatusCode, slot: &Slot, now: Now) -> Answer {
    let version = slot.record().resource_version;
    app.intake.directory().raise_newest(version);
    let etag = format!("\"{version}\"");
    Answer::bytes(status, detail::to_json(app, slot, now)).with(ETAG, etag)
}

fn read_registration(body: &[u8], service: Option<&str>) -> Result<Registration, Problem> {
    let read = body::json::<Object<RegistrationBody>>(body);
    let Object(read) = read.map_err(explain_state)?;
    read.check_path_fields(service.is_none())?;
    validate::registration(read, service)
}

/// `state` is a field of the stored object, but not of a registration, so the generic error for unknown fields would be
/// confusing.
pub(super) fn explain_state(problem: Problem) -> Problem {
    match problem.flaws.as_slice() {
        [flaw] if flaw.field == "state" && flaw.is_unknown => {
            let detail = "belongs to operators, and registrations do not change it; leave it out \
                          here, and set it with PUT …/state, or spec.state with kubectl";
            Problem::from_flaws(problem.kind, vec![Flaw::body("state", detail)])
        }
        _ => problem,
    }
}

async fn store(
    app: &AppState,
    context: &Context,
    target: Target<'_>,
    condition: IfMatch,
    registration: &Registration,
) -> HandlerResult {
    let line = app.writes.begin(context, "register", &target);
    let stored = write(app, target, condition, registration).await;
    match &stored {
        Ok((_, Registered { written: false, .. })) => line.discard(),
        Ok((status, stored)) => line.end(Ok((*status, &stored.slot.record().uid))),
        Err(problem) => line.end(Err(problem)),
    }
    let (status, Registered { slot, created, .. }) = stored?;
    let answer = self::answer(app, status, &slot, (app.clock)());
    if !created {
        return Ok(answer);
    }
    let Target { namespace, name, .. } = target;
    Ok(answer.with(LOCATION, format!("/v1/namespaces/{namespace}/instances/{name}")))
}

async fn write(
    app: &AppState,
    target: Target<'_>,
    condition: IfMatch,
    registration: &Registration,
) -> Result<(StatusCode, Registered), Problem> {
    let mut attempts = match Attempts::new(app, target, condition).await {
        Err(problem)
            if matches!(problem.kind, ProblemKind::UnknownInstance | ProblemKind::Evicted) =>
        {
            return Err(Problem::no_instance_to_match(target.namespace, target.name));
        }
        attempts => attempts?,
    };
    loop {
        match app.intake.register(attempts.target(), registration).await {
            Ok(stored) if stored.created => return Ok((StatusCode::CREATED, stored)),
            Ok(stored) => return Ok((StatusCode::OK, stored)),
            Err(refusal) => attempts.retry_registration(refusal)?,
        }
    }
}

/// The name of an instance that is registered without one. It depends only on the service, the set of addresses and the
/// first port, so that repeating the call registers the same instance.
pub(super) fn derived_name(registration: &Registration) -> String {
    let mut parts = match &registration.address {
        Address::Hostname(name) => vec![name.to_string()],
        Address::Ips(ips) => ips.iter().map(ToString::to_string).collect(),
    };
    parts.sort_unstable();
    parts.extend(registration.ports.first().map(|port| format!("{}/{}", port.port, port.protocol)));
    naming::derived_name(&registration.service, &parts.join(" "))
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
    fn derived_name_depends_on_addresses_and_first_port_only() {
        assert_eq!(name(&["10.0.0.7", "fd00::7"], 80), name(&["fd00::7", "10.0.0.7"], 80));
        assert_ne!(name(&["10.0.0.7"], 80), name(&["10.0.0.7"], 81));
        assert_ne!(name(&["10.0.0.7"], 80), name(&["10.0.0.8"], 80));
        assert!(name(&["10.0.0.7"], 80).starts_with("orders-"));
    }

    #[test]
    fn state_in_a_registration_is_refused_with_an_explanation() {
        let problem = read(&json!({"hostname": "a.b", "state": "Up"})).unwrap_err();
        assert_eq!((problem.kind, &*problem.flaws[0].field), (ProblemKind::BadFields, "state"));
        assert!(problem.detail.contains("operators"));
    }
}
