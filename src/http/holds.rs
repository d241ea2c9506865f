//! Who is kept past the lease, as `/v1/cluster` shows it.

use rollcall_core::report::{Held, Hold};
use rollcall_model::{instance::ServiceKey, lease::Now};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::time::Time;

/// Who is kept past the lease, since too many fell silent together.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Held")]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldJson<'a> {
    /// How many in all.
    instances: usize,
    /// Of the greater part of the cluster; null when only services are held.
    cluster: Option<HoldJson>,
    /// A hundred at most.
    services: Vec<ServiceJson<'a>>,
    /// Services that are held too and not shown.
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

/// What is held.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Hold")]
struct HoldJson {
    /// When the first lease ended.
    since: Time,
    /// When the last one is given up, unless it beats.
    until: Time,
    /// How many are held now.
    held: usize,
    /// How many had fallen silent when it began, of how many.
    silent: usize,
    /// How many there were.
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
            cluster: held.everybody.as_ref().map(|hold| HoldJson::of(hold, now)),
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
