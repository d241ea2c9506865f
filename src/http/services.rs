//! Lists of services: names, how many are in each phase, and the revision of all of them.

use std::{cmp::Ordering, sync::Arc};

use hyper::StatusCode;
use serde::{Serialize, Serializer};

use crate::http::{
    answer::Answer,
    door::{Door, Given},
    query,
};
use crate::registry::{instance::Phase, view::View};

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

/// How many are in each phase, in the order of [`Phase::ALL`].
struct Phases([usize; Phase::ALL.len()]);

impl Serialize for Phases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Phase::ALL.iter().map(|phase| phase.as_str()).zip(self.0))
    }
}

impl Phases {
    fn of(view: &View) -> Self {
        let mut counts = [0; Phase::ALL.len()];
        for (count, phase) in counts.iter_mut().zip(Phase::ALL) {
            *count = view.count(*phase);
        }
        Self(counts)
    }
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
