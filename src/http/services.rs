//! Lists of services: names, how many are in each phase, and the revision of all of them.

use std::{cmp::Ordering, sync::Arc};

use hyper::StatusCode;
use serde::Serialize;

use crate::http::{
    answer::Answer,
    door::{Door, Given},
    phases::Phases,
    query,
};
use crate::registry::view::View;

#[derive(Serialize)]
struct ServicesJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    services: Vec<ServiceJson<'a>>,
}

#[derive(Serialize)]
struct ServiceJson<'a> {
    namespace: &'a str,
    service: &'a str,
    /// As of a discovery with `health=any`.
    revision: String,
    instances: usize,
    phases: Phases,
}

/// `GET /v1/services` and `GET /v1/namespaces/{namespace}/services`
pub(super) fn list(door: &Door, namespace: Option<&str>, query: Option<&str>) -> Given {
    query::none(query)?;
    namespace.map_or(Ok(()), |namespace| door.covers(namespace))?;
    let mut views = door.inbox.directory().all_services(namespace);
    views.sort_unstable_by(by_name);
    let services = views.iter().map(|view| ServiceJson {
        namespace: &view.key.namespace,
        service: &view.key.service,
        revision: view.revision.to_string(),
        instances: view.members.len(),
        phases: Phases::of(view),
    });
    Ok(Answer::json(StatusCode::OK, &ServicesJson { namespace, services: services.collect() }))
}

fn by_name(a: &Arc<View>, b: &Arc<View>) -> Ordering {
    a.key.cmp(&b.key)
}
