//! Lists of services: names, how many are in each phase, and the revision of all of them.

use std::{cmp::Ordering, sync::Arc};

use axum::extract::State;
use hyper::{StatusCode, header::CACHE_CONTROL};
use rollcall_model::view::View;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::{
    answer::{Answer, Answered},
    app::App,
    context::Context,
    contract::words,
    phases::Phases,
    query::Query,
};

/// A list of services, by name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Services")]
pub(super) struct ServicesJson<'a> {
    /// Where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    namespace: Option<&'a str>,
    /// Each that has an instance, in whatever phase.
    services: Vec<ServiceJson<'a>>,
}

/// One of the services.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServiceSummary")]
struct ServiceJson<'a> {
    namespace: &'a str,
    service: &'a str,
    /// As of a discovery with `health=any`.
    #[schemars(with = "words::Revision")]
    revision: String,
    /// How many it has, in whatever phase.
    instances: usize,
    /// How many are in each phase.
    phases: Phases,
}

/// `GET /v1/services`
pub(super) async fn list(State(app): State<Arc<App>>, Query(()): Query<()>) -> Answered {
    Ok(answer(&app, None))
}

/// `GET /v1/namespaces/{namespace}/services`
pub(super) async fn list_of_namespace(
    State(app): State<Arc<App>>,
    context: Context,
    Query(()): Query<()>,
) -> Answered {
    let namespace = context.names().namespace;
    app.covers(namespace)?;
    Ok(answer(&app, Some(namespace)))
}

fn answer(app: &App, namespace: Option<&str>) -> Answer {
    let mut views = app.intake.directory().all_services(namespace);
    views.sort_unstable_by(by_name);
    let services = views.iter().map(|view| ServiceJson {
        namespace: &view.key.namespace,
        service: &view.key.service,
        revision: view.revision.to_string(),
        instances: view.members.len(),
        phases: Phases::of(view),
    });
    let all = ServicesJson { namespace, services: services.collect() };
    Answer::json(StatusCode::OK, &all).with_static(CACHE_CONTROL, "no-store")
}

fn by_name(a: &Arc<View>, b: &Arc<View>) -> Ordering {
    a.key.cmp(&b.key)
}
