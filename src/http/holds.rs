//! The held instances in `GET /v1/cluster`.

use rollcall_core::report::{Held, Hold};
use rollcall_model::{instance::ServiceKey, lease::Now};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::time::Time;

/// Instances that are held past the end of their leases, because too many leases ended together.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Held")]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldJson<'a> {
    /// The number of held instances.
    instances: usize,
    /// The hold of the whole cluster; null when only services are held.
    cluster: Option<HoldJson>,
    /// The services that are held, 100 at most.
    services: Vec<ServiceJson<'a>>,
    /// The number of further held services that are not listed.
    more_services: usize,
}

/// A service that is held.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HeldService")]
struct ServiceJson<'a> {
    namespace: &'a str,
    service: &'a str,
    #[serde(flatten)]
    hold: HoldJson,
}

/// A hold of a service or of the cluster.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Hold")]
struct HoldJson {
    /// When the first lease ended.
    since: Time,
    /// When the last held instance expires, unless it sends a heartbeat.
    until: Time,
    /// The number of instances that are held now.
    held: usize,
    /// The number of instances without recent heartbeats when the hold began.
    silent: usize,
    /// The number of instances when the hold began.
    of: usize,
}

impl<'a> HeldJson<'a> {
    pub(super) fn of(held: &'a Held, now: Now) -> Self {
        let service = |(key, hold): &'a (ServiceKey, Hold)| ServiceJson {
            namespace: &key.namespace,
            service: &key.service,
            hold: HoldJson::of(hold, now),
        };
        Self {
            instances: held.instances,
            cluster: held.cluster.as_ref().map(|hold| HoldJson::of(hold, now)),
            services: held.services.iter().map(service).collect(),
            more_services: held.more,
        }
    }
}

impl HoldJson {
    fn of(hold: &Hold, now: Now) -> Self {
        let time = |moment| Time(now.wall_of(moment));
        let Hold { since, until, held, silent, of, .. } = *hold;
        Self { since: time(since), until: time(until), held, silent, of }
    }
}
