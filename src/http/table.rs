//! The table of operations: each row defines a route, its rights, its load, and its part of the OpenAPI document.
//!
//! Owns: which handler serves which call, and the description of each call. Does not own: the type of a row
//! (`operation`).

use axum::routing::on;
use hyper::Method;

use crate::auth::Right;
use crate::http::{
    access::Needs,
    batch, body, changes, cluster, contract, discover, heartbeats, instances,
    operation::{Body, Content, Group, Load, Operation, Query, Success},
    page,
    problem::ProblemKind,
    route::Route,
    services, snapshot, watch,
};

const INSTANCE_HEADERS: &[&str] = &["ETag"];
const WRITE_REQUEST_HEADERS: &[&str] = &["If-Match"];
const SET_HEADERS: &[&str] = &["ETag", "Cache-Control"];
const READ_HEADERS: &[&str] = &["Cache-Control"];

/// Problems that every write of an instance can return after its body is read.
const WRITE_PROBLEMS: &[ProblemKind] = &[
    ProblemKind::UnknownInstance,
    ProblemKind::Terminating,
    ProblemKind::OtherIncarnation,
    ProblemKind::OtherVersion,
    ProblemKind::Refused(400),
    ProblemKind::Refused(403),
    ProblemKind::Refused(409),
    ProblemKind::Refused(422),
    ProblemKind::Refused(502),
    ProblemKind::Overloaded,
];

/// A registration can create an instance, so it needs an existing namespace.
const REGISTRATION_PROBLEMS: &[&[ProblemKind]] =
    &[WRITE_PROBLEMS, &[ProblemKind::UnknownNamespace]];

/// A change does not create an instance, so it also fails after an eviction.
const CHANGE_PROBLEMS: &[&[ProblemKind]] = &[WRITE_PROBLEMS, &[ProblemKind::Evicted]];

const fn json_body(schema: &'static str) -> Option<Body> {
    Some(Body { schema, required: true, types: body::JSON })
}

const fn json_success(
    status: u16,
    description: &'static str,
    schema: &'static str,
    headers: &'static [&'static str],
) -> Success {
    Success { status, description, content: Content::Json(schema), headers }
}

/// Every operation; operations with the same path are next to each other.
pub(super) static OPERATIONS: [Operation; 19] = [
    Operation {
        route: Route::Instance,
        method: Method::PUT,
        handler: |method| on(method, instances::register),
        id: "registerInstance",
        summary: "Register an instance, or register it again",
        description: "Replaces the facts of the instance and renews its lease; when no fact differs, it counts as a \
                      heartbeat. Afterwards call `heartbeat` every `lease.renewAfterSeconds`.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Create, Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: WRITE_REQUEST_HEADERS,
        body: json_body("Registration"),
        responses: &[
            json_success(
                200,
                "The instance existed, and its registration was replaced.",
                "InstanceDetail",
                INSTANCE_HEADERS,
            ),
            json_success(201, "The instance was created.", "InstanceDetail", &["ETag", "Location"]),
        ],
        extra_problems: REGISTRATION_PROBLEMS,
    },
    Operation {
        route: Route::Instance,
        method: Method::GET,
        handler: |method| on(method, instances::get),
        id: "getInstance",
        summary: "Get an instance, with its lease and the reason for its phase",
        description: "The instance as known to the replica that answers: everything that discovery returns, the end \
                      of the lease, the last heartbeat, and the reason for the phase.",
        group: Group::Instances,
        needs: Needs::Read(&[Right::Get]),
        load: Load::Work,
        query: Query::Uid,
        headers: &[],
        body: None,
        responses: &[json_success(
            200,
            "The instance.",
            "InstanceDetail",
            &["ETag", "Cache-Control"],
        )],
        extra_problems: &[&[
            ProblemKind::UnknownInstance,
            ProblemKind::Evicted,
            ProblemKind::OtherIncarnation,
            ProblemKind::Refused(502),
            ProblemKind::Unavailable,
            ProblemKind::Overloaded,
        ]],
    },
    Operation {
        route: Route::Instance,
        method: Method::DELETE,
        handler: |method| on(method, instances::deregister),
        id: "deregisterInstance",
        summary: "Deregister an instance",
        description: "When this call returns, the instance has left the answers of this replica; it leaves those of \
                      the other replicas some milliseconds later.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Delete]),
        load: Load::Write,
        query: Query::Uid,
        headers: WRITE_REQUEST_HEADERS,
        body: None,
        responses: &[Success {
            status: 204,
            description: "The instance was deregistered.",
            content: Content::Nothing,
            headers: &[],
        }],
        extra_problems: &[WRITE_PROBLEMS],
    },
    Operation {
        route: Route::ServiceInstances,
        method: Method::POST,
        handler: |method| on(method, instances::register_named),
        id: "registerInstanceOfService",
        summary: "Register an instance without choosing a name",
        description: "The name is derived from the service, the addresses (or the hostname) and the first port, so \
                      repeating the call registers the same instance again.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Create, Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: WRITE_REQUEST_HEADERS,
        body: json_body("RegistrationOfService"),
        responses: &[
            json_success(
                200,
                "The instance existed, and its registration was replaced.",
                "InstanceDetail",
                INSTANCE_HEADERS,
            ),
            json_success(201, "The instance was created.", "InstanceDetail", &["ETag", "Location"]),
        ],
        extra_problems: REGISTRATION_PROBLEMS,
    },
    Operation {
        route: Route::Instances,
        method: Method::POST,
        handler: |method| on(method, batch::register),
        id: "registerInstances",
        summary: "Register up to 1,000 instances at once",
        description: "Each registration has its own result, in the order of the request. A body with the wrong \
                      structure is refused as a whole; a value that is out of bounds fails only its own \
                      registration. Registrations that are not finished after 20 s have the status 503: send them \
                      again. `If-Match` is not supported: register an instance on its own if you need it.",
        group: Group::Instances,
        needs: Needs::WriteEach,
        load: Load::Work,
        query: Query::None,
        headers: &[],
        body: json_body("RegistrationBatch"),
        responses: &[json_success(
            200,
            "The result of each registration.",
            "RegistrationBatchResult",
            &[],
        )],
        extra_problems: &[&[ProblemKind::Overloaded]],
    },
    Operation {
        route: Route::Attributes,
        method: Method::PATCH,
        handler: |method| on(method, changes::attributes),
        id: "changeAttributes",
        summary: "Change some attributes of an instance",
        description: "A JSON merge patch (RFC 7396): null removes an attribute, and attributes that are not named \
                      stay. Watches of the service report the change. A later registration replaces all attributes.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: WRITE_REQUEST_HEADERS,
        body: Some(Body { schema: "AttributesPatch", required: true, types: body::PATCH }),
        responses: &[json_success(
            200,
            "The changed instance.",
            "InstanceDetail",
            &["ETag", "Accept-Patch"],
        )],
        extra_problems: CHANGE_PROBLEMS,
    },
    Operation {
        route: Route::State,
        method: Method::PUT,
        handler: |method| on(method, changes::state),
        id: "setState",
        summary: "Set the operator state: Up, Draining or OutOfService",
        description: "Registrations and heartbeats do not change the state, with one exception: when another pod \
                      takes over the instance by registering it, Draining becomes Up.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::State]),
        load: Load::Write,
        query: Query::Uid,
        headers: WRITE_REQUEST_HEADERS,
        body: json_body("StateChange"),
        responses: &[json_success(
            200,
            "The changed instance.",
            "InstanceDetail",
            INSTANCE_HEADERS,
        )],
        extra_problems: CHANGE_PROBLEMS,
    },
    Operation {
        route: Route::Heartbeat,
        method: Method::PUT,
        handler: |method| on(method, heartbeats::heartbeat),
        id: "heartbeat",
        summary: "Renew the lease of an instance",
        description: "Call it every `renewAfterSeconds`, a third of the lease, so that two lost calls do no harm. \
                      After 404 or 410, register again. After 409 with the type `terminating`, wait until the object \
                      is gone, then register again. After 503, continue with heartbeats: the replica could not find \
                      out whether the instance exists. `If-Match` is not supported: use `uid` to name the \
                      incarnation.",
        group: Group::Heartbeats,
        needs: Needs::Write(&[Right::Heartbeat]),
        load: Load::Work,
        query: Query::Uid,
        headers: &[],
        body: Some(Body { schema: "Heartbeat", required: false, types: body::JSON }),
        responses: &[
            json_success(200, "The lease is renewed on every replica.", "Renewal", &[]),
            json_success(
                202,
                "The heartbeat is recorded on this replica only: continue with heartbeats, over a new connection if \
                 this one is closed.",
                "Renewal",
                &[],
            ),
        ],
        extra_problems: &[&[
            ProblemKind::UnknownInstance,
            ProblemKind::Evicted,
            ProblemKind::Terminating,
            ProblemKind::OtherIncarnation,
            ProblemKind::Refused(403),
            ProblemKind::Refused(409),
            ProblemKind::Refused(422),
            ProblemKind::Refused(502),
            ProblemKind::Overloaded,
        ]],
    },
    Operation {
        route: Route::Heartbeats,
        method: Method::POST,
        handler: |method| on(method, heartbeats::batch),
        id: "heartbeats",
        summary: "Renew the leases of up to 10,000 instances at once",
        description: "Register the `unknown` and `gone` instances again; each of the `refused` has a reason. A body \
                      with the wrong structure is refused as a whole; a value that is out of bounds fails only its \
                      own heartbeat. `If-Match` is not supported: use the `uid` of each heartbeat to name the \
                      incarnation.",
        group: Group::Heartbeats,
        needs: Needs::WriteEach,
        load: Load::Work,
        query: Query::None,
        headers: &[],
        body: json_body("HeartbeatBatch"),
        responses: &[json_success(
            200,
            "How many leases were renewed, and which were not.",
            "HeartbeatBatchResult",
            &[],
        )],
        extra_problems: &[&[ProblemKind::Overloaded]],
    },
    Operation {
        route: Route::Lease,
        method: Method::PUT,
        handler: |method| on(method, heartbeats::renew_lease),
        id: "renewLease",
        summary: "Renew a lease and change its length",
        description: "From now on, every heartbeat renews the lease for this length. A later registration with a \
                      lease replaces it.",
        group: Group::Heartbeats,
        needs: Needs::Write(&[Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: WRITE_REQUEST_HEADERS,
        body: json_body("LeaseLength"),
        responses: &[
            json_success(200, "The lease is renewed, with the new length.", "Renewal", &[]),
            json_success(202, "The renewal is recorded on this replica only.", "Renewal", &[]),
        ],
        extra_problems: CHANGE_PROBLEMS,
    },
    Operation {
        route: Route::Service,
        method: Method::GET,
        handler: |method| on(method, discover::discover),
        id: "discover",
        summary: "List the discoverable instances of a service",
        description: "The instances that are in Ready or Warning and match the query. An unknown service has an \
                      empty set; it is not an error. With `wait` and If-None-Match the response comes when the set \
                      has changed, or with 304 after that time.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::Discovery,
        headers: &["If-None-Match"],
        body: None,
        responses: &[
            json_success(200, "The set of instances.", "Discovery", SET_HEADERS),
            Success {
                status: 304,
                description: "The set is the one that the client has.",
                content: Content::Nothing,
                headers: SET_HEADERS,
            },
        ],
        extra_problems: &[&[ProblemKind::TooManySubscribers]],
    },
    Operation {
        route: Route::ServiceWatch,
        method: Method::GET,
        handler: |method| on(method, watch::one),
        id: "watchService",
        summary: "Watch the instances of a service",
        description: "Server-Sent Events: a `snapshot`, then `upsert` and `remove` events. The stream ends from time \
                      to time: connect to any replica again after `retry` milliseconds, with the id of the last \
                      event as Last-Event-ID.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::Watch,
        headers: &["Last-Event-ID"],
        body: None,
        responses: &[Success {
            status: 200,
            description: "An open-ended stream of events.",
            content: Content::Events,
            headers: READ_HEADERS,
        }],
        extra_problems: &[&[ProblemKind::TooManySubscribers]],
    },
    Operation {
        route: Route::Watch,
        method: Method::GET,
        handler: |method| on(method, watch::many),
        id: "watch",
        summary: "Watch up to 100 services in one stream",
        description: "Works like `watchService`. An event id is the revision of each service, in the order of the \
                      query, separated by commas.",
        group: Group::Services,
        needs: Needs::Read(&[]),
        load: Load::Memory,
        query: Query::WatchMany,
        headers: &["Last-Event-ID"],
        body: None,
        responses: &[Success {
            status: 200,
            description: "An open-ended stream of events.",
            content: Content::Events,
            headers: READ_HEADERS,
        }],
        extra_problems: &[&[ProblemKind::Refused(421), ProblemKind::TooManySubscribers]],
    },
    Operation {
        route: Route::NamespaceServices,
        method: Method::GET,
        handler: |method| on(method, services::list_of_namespace),
        id: "listServicesOfNamespace",
        summary: "List the services of one namespace, with counts by phase",
        description: "Sorted by name. A revision is that of discovery with `health=any`.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        responses: &[json_success(200, "The services.", "Services", READ_HEADERS)],
        extra_problems: &[],
    },
    Operation {
        route: Route::Services,
        method: Method::GET,
        handler: |method| on(method, services::list),
        id: "listServices",
        summary: "List all services, with counts by phase",
        description: "Sorted by namespace and name. A revision is that of discovery with `health=any`.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        responses: &[json_success(200, "The services.", "Services", READ_HEADERS)],
        extra_problems: &[],
    },
    Operation {
        route: Route::Snapshot,
        method: Method::GET,
        handler: |method| on(method, snapshot::snapshot),
        id: "snapshot",
        summary: "List every instance in every phase, one per line",
        description: "Written service by service while the client reads, so it can contain or miss changes that are \
                      made during that time.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        responses: &[Success {
            status: 200,
            description: "One JSON object per line.",
            content: Content::Lines,
            headers: READ_HEADERS,
        }],
        extra_problems: &[],
    },
    Operation {
        route: Route::Cluster,
        method: Method::GET,
        handler: |method| on(method, cluster::cluster),
        id: "getCluster",
        summary: "Get the replicas and the problems of the cluster, as known to this replica",
        description: "Answered from the start on, even while other calls are 503.",
        group: Group::Replicas,
        needs: Needs::Token,
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        responses: &[json_success(200, "The replicas.", "Cluster", READ_HEADERS)],
        extra_problems: &[],
    },
    Operation {
        route: Route::Contract,
        method: Method::GET,
        handler: |method| on(method, contract::contract),
        id: "getContract",
        summary: "Get this contract, as OpenAPI 3.1",
        description: "Generated from the code that serves the calls. All replicas of one version serve the same \
                      document.",
        group: Group::Replicas,
        needs: Needs::Nothing,
        load: Load::Memory,
        query: Query::None,
        headers: &["If-None-Match"],
        body: None,
        responses: &[
            Success {
                status: 200,
                description: "The document.",
                content: Content::Contract,
                headers: SET_HEADERS,
            },
            Success {
                status: 304,
                description: "The document is the one that the client has.",
                content: Content::Nothing,
                headers: SET_HEADERS,
            },
        ],
        extra_problems: &[],
    },
    Operation {
        route: Route::Page,
        method: Method::GET,
        handler: |method| on(method, page::page),
        id: "getPage",
        summary: "Get an overview page for browsers",
        description: "The replica, the calls, and, if the caller is allowed to list them, the services.",
        group: Group::Replicas,
        needs: Needs::Nothing,
        load: Load::Work,
        query: Query::None,
        headers: &["Accept"],
        body: None,
        responses: &[Success {
            status: 200,
            description: "The page.",
            content: Content::Html,
            headers: &[
                "Cache-Control",
                "Content-Security-Policy",
                "Referrer-Policy",
                "X-Frame-Options",
            ],
        }],
        extra_problems: &[&[ProblemKind::NotAcceptable, ProblemKind::Overloaded]],
    },
];

/// The OpenAPI document of all operations, as it is committed and served.
#[must_use]
pub fn document() -> Vec<u8> {
    contract::text(&OPERATIONS)
}

/// The list of all operations as HTML, for the page.
pub(super) fn calls() -> String {
    page::operations_html(&OPERATIONS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use axum::routing::MethodFilter;
    use hyper::Method;

    use super::*;
    use crate::http::router::allow;

    const METHODS: [Method; 8] = [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ];

    #[test]
    fn every_method_of_a_route_has_one_operation_and_head_follows_get() {
        for route in Route::ALL {
            for method in METHODS {
                let rows = OPERATIONS
                    .iter()
                    .filter(|operation| operation.route == route && operation.method == method);
                let count = rows.count();
                let (template, allow) = (route.template(), allow(&OPERATIONS, route));
                let allows =
                    |method: &Method| allow.split(", ").any(|allowed| allowed == method.as_str());
                if method == Method::HEAD {
                    assert_eq!(count, 0, "{template}: HEAD must not have a row");
                    assert_eq!(allows(&method), allows(&Method::GET), "{template}");
                } else {
                    assert_eq!(count, usize::from(allows(&method)), "{method} {template}");
                }
            }
        }
        assert_eq!(Route::ALL.into_iter().collect::<HashSet<_>>().len(), Route::ALL.len());
    }

    #[test]
    fn operation_ids_are_unique_and_summaries_fit_one_line() {
        let ids: HashSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), OPERATIONS.len());
        for operation in &OPERATIONS {
            let Operation { id, summary, description, .. } = operation;
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
            assert!(summary.len() < 80 && !summary.ends_with('.'), "{summary}");
            assert!(description.ends_with('.'), "{id}: {description}");
            let method = operation.method.clone();
            assert!(
                MethodFilter::try_from(method).is_ok(),
                "{id}: axum does not support its method"
            );
        }
    }

    #[test]
    fn every_kind_of_problem_is_listed() {
        let of_no_operation = [ProblemKind::UnknownRoute, ProblemKind::MethodNotAllowed];
        let slug = |kind: ProblemKind| kind.slug();
        let known: HashSet<_> = OPERATIONS
            .iter()
            .flat_map(Operation::problems)
            .chain(of_no_operation)
            .map(slug)
            .collect();
        for kind in ProblemKind::ALL {
            assert!(known.contains(slug(kind)), "{kind:?} is listed by no operation");
        }
        assert_eq!(known.len(), ProblemKind::ALL.len());
    }
}
