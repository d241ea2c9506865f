//! Lists of services: names, counts by phase, and the revision of all instances.

use std::{cmp::Ordering, sync::Arc};

use axum::extract::State;
use hyper::{StatusCode, header::CACHE_CONTROL};
use rollcall_model::view::View;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::{
    answer::{Answer, HandlerResult},
    app::AppState,
    context::Context,
    contract::values,
    phases::Phases,
    query::Query,
};

/// A list of services, by name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Services")]
pub(super) struct ServicesJson<'a> {
    /// The namespace of the request; absent in the list of all services.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    namespace: Option<&'a str>,
    /// Every service with an instance in any phase.
    services: Vec<ServiceJson<'a>>,
}

/// A service, and counts of its instances.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServiceSummary")]
struct ServiceJson<'a> {
    namespace: &'a str,
    service: &'a str,
    /// The revision of discovery with `health=any`.
    #[schemars(with = "values::Revision")]
    revision: String,
    /// The number of instances, in any phase.
    instances: usize,
    /// The number of instances in each phase.
    phases: Phases,
}

/// `GET /v1/services`
pub(super) async fn list(State(app): State<Arc<AppState>>, Query(()): Query<()>) -> HandlerResult {
    Ok(answer(&app, None))
}

/// `GET /v1/namespaces/{namespace}/services`
pub(super) async fn list_of_namespace(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(()): Query<()>,
) -> HandlerResult {
    let namespace = context.names().namespace;
    app.check_namespace(namespace)?;
    Ok(answer(&app, Some(namespace)))
}

fn answer(app: &AppState, namespace: Option<&str>) -> Answer {
    let mut views = app.intake.directory().views_in(namespace);
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
