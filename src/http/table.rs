//! The table of operations: one row makes the route, the rights, what works before the first list of instances, and the
//! OpenAPI document.
//!
//! Owns: which handler answers what, and the words about it. Does not own: the shape of a row (`operation`).

use axum::routing::on;
use hyper::Method;

use crate::auth::Right;
use crate::http::{
    access::Needs,
    batch, body, changes, cluster, contract, discover, heartbeats, instances,
    operation::{Body, Content, Group, Load, Operation, Query, Success},
    page,
    problem::Kind,
    route::Route,
    services, snapshot, watch,
};

const OF_INSTANCE: &[&str] = &["ETag"];
const OF_CHANGE: &[&str] = &["If-Match"];
const OF_SET: &[&str] = &["ETag", "Cache-Control"];
const OF_READ: &[&str] = &["Cache-Control"];

/// What any write of an instance may be refused for, once its body is read.
const WRITTEN: &[Kind] = &[
    Kind::UnknownInstance,
    Kind::Terminating,
    Kind::OtherIncarnation,
    Kind::OtherVersion,
    Kind::Refused(400),
    Kind::Refused(403),
    Kind::Refused(409),
    Kind::Refused(422),
    Kind::Refused(502),
    Kind::Overloaded,
];

/// A registration makes what is not there.
const REGISTER: &[&[Kind]] = &[WRITTEN, &[Kind::UnknownNamespace]];

/// A change of one that may have been evicted.
const CHANGE: &[&[Kind]] = &[WRITTEN, &[Kind::Evicted]];

const fn json_of(schema: &'static str) -> Option<Body> {
    Some(Body { schema, required: true, types: body::JSON })
}

const fn gives(
    status: u16,
    says: &'static str,
    schema: &'static str,
    headers: &'static [&'static str],
) -> Success {
    Success { status, says, content: Content::Json(schema), headers }
}

/// Every operation, those of one path beside each other.
pub(super) static OPERATIONS: [Operation; 19] = [
    Operation {
        route: Route::Instance,
        method: Method::PUT,
        handler: |method| on(method, instances::register),
        id: "registerInstance",
        summary: "Register an instance, or register it again",
        description: "Replaces its facts and renews its lease; when nothing differs it is just a heartbeat. Then call \
                      `heartbeat` every `lease.renewAfterSeconds`.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Create, Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: json_of("Registration"),
        gives: &[
            gives(200, "It was there, and is registered anew.", "InstanceDetail", OF_INSTANCE),
            gives(201, "It is new.", "InstanceDetail", &["ETag", "Location"]),
        ],
        refuses: REGISTER,
    },
    Operation {
        route: Route::Instance,
        method: Method::GET,
        handler: |method| on(method, instances::read),
        id: "getInstance",
        summary: "One instance, with its lease and why it is in its phase",
        description: "As the replica that answers sees it. What discovery shows, and beside it when the lease ends, the last \
                      heartbeat, and what the verdict rests on.",
        group: Group::Instances,
        needs: Needs::Read(&[Right::Get]),
        load: Load::Work,
        query: Query::Uid,
        headers: &[],
        body: None,
        gives: &[gives(200, "The instance.", "InstanceDetail", &["ETag", "Cache-Control"])],
        refuses: &[&[
            Kind::UnknownInstance,
            Kind::Evicted,
            Kind::OtherIncarnation,
            Kind::Refused(502),
            Kind::Unavailable,
            Kind::Overloaded,
        ]],
    },
    Operation {
        route: Route::Instance,
        method: Method::DELETE,
        handler: |method| on(method, instances::deregister),
        id: "deregisterInstance",
        summary: "Take an instance away",
        description: "It is out of all answers when this replica has answered, and out of those of the others some milliseconds \
                      later.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Delete]),
        load: Load::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: None,
        gives: &[Success {
            status: 204,
            says: "It is gone.",
            content: Content::Nothing,
            headers: &[],
        }],
        refuses: &[WRITTEN],
    },
    Operation {
        route: Route::ServiceInstances,
        method: Method::POST,
        handler: |method| on(method, instances::register_named),
        id: "registerInstanceOfService",
        summary: "Register an instance without choosing a name",
        description: "Its name is made from the service, the addresses (or the hostname) and the first port, so that doing it \
                      again is a registration of the same instance.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Create, Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: json_of("RegistrationOfService"),
        gives: &[
            gives(200, "It was there, and is registered anew.", "InstanceDetail", OF_INSTANCE),
            gives(201, "It is new.", "InstanceDetail", &["ETag", "Location"]),
        ],
        refuses: REGISTER,
    },
    Operation {
        route: Route::Instances,
        method: Method::POST,
        handler: |method| on(method, batch::register),
        id: "registerInstances",
        summary: "Register up to 1,000 instances at once",
        description: "Each has a result of its own, in their order. A body that is not of this shape is refused whole, but a \
                      value that is out of bounds spoils only its own registration. Those left after 20 s have the \
                      status 503: send them again. It holds no `If-Match`: register those one by one for which it matters.",
        group: Group::Instances,
        needs: Needs::WriteEach,
        load: Load::Work,
        query: Query::None,
        headers: &[],
        body: json_of("RegistrationBatch"),
        gives: &[gives(200, "What came of each.", "RegistrationBatchResult", &[])],
        refuses: &[&[Kind::Overloaded]],
    },
    Operation {
        route: Route::Attributes,
        method: Method::PATCH,
        handler: |method| on(method, changes::attributes),
        id: "changeAttributes",
        summary: "Change some attributes of an instance",
        description: "A JSON merge patch (RFC 7396): null takes one away, what is not named stays. Whoever watches the service is \
                      told. A later registration replaces them all.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: Some(Body { schema: "AttributesPatch", required: true, types: body::PATCH }),
        gives: &[gives(200, "The instance after it.", "InstanceDetail", &["ETag", "Accept-Patch"])],
        refuses: CHANGE,
    },
    Operation {
        route: Route::State,
        method: Method::PUT,
        handler: |method| on(method, changes::state),
        id: "setState",
        summary: "Say the operator's word: Up, Draining or OutOfService",
        description: "No registration overwrites it, and no heartbeat; but Draining ends with a registration by another pod that \
                      takes the instance over.",
        group: Group::Instances,
        needs: Needs::Write(&[Right::State]),
        load: Load::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: json_of("StateChange"),
        gives: &[gives(200, "The instance after it.", "InstanceDetail", OF_INSTANCE)],
        refuses: CHANGE,
    },
    Operation {
        route: Route::Heartbeat,
        method: Method::PUT,
        handler: |method| on(method, heartbeats::heartbeat),
        id: "heartbeat",
        summary: "Renew the lease of an instance",
        description: "Call it every `renewAfterSeconds`, a third of the lease, so that two lost calls do no harm. 404 and 410 \
                      mean: register again. 409 of the type terminating means: wait until the object is gone, then register again. 503 means: nobody knows, beat on. It holds no `If-Match`: `uid` says which \
                      incarnation is meant.",
        group: Group::Heartbeats,
        needs: Needs::Write(&[Right::Heartbeat]),
        load: Load::Work,
        query: Query::Uid,
        headers: &[],
        body: Some(Body { schema: "Heartbeat", required: false, types: body::JSON }),
        gives: &[
            gives(200, "Renewed: every replica keeps it for its whole lease.", "Renewal", &[]),
            gives(
                202,
                "Noted on this replica, and promised by none: beat on, by a new connection where this one is closed.",
                "Renewal",
                &[],
            ),
        ],
        refuses: &[&[
            Kind::UnknownInstance,
            Kind::Evicted,
            Kind::Terminating,
            Kind::OtherIncarnation,
            Kind::Refused(403),
            Kind::Refused(409),
            Kind::Refused(422),
            Kind::Refused(502),
            Kind::Overloaded,
        ]],
    },
    Operation {
        route: Route::Heartbeats,
        method: Method::POST,
        handler: |method| on(method, heartbeats::batch),
        id: "heartbeats",
        summary: "Renew the leases of up to 10,000 instances at once",
        description: "Register the `unknown` and the `gone` again; each of the `refused` says why. A body that is not of this \
                      shape is refused whole, but a value that is out of bounds spoils only its own heartbeat. It holds no \
                      `If-Match`: the `uid` of each says which incarnation is meant.",
        group: Group::Heartbeats,
        needs: Needs::WriteEach,
        load: Load::Work,
        query: Query::None,
        headers: &[],
        body: json_of("HeartbeatBatch"),
        gives: &[gives(
            200,
            "How many were renewed, and who was not.",
            "HeartbeatBatchResult",
            &[],
        )],
        refuses: &[&[Kind::Overloaded]],
    },
    Operation {
        route: Route::Lease,
        method: Method::PUT,
        handler: |method| on(method, heartbeats::renew_lease),
        id: "renewLease",
        summary: "Renew a lease with another length",
        description: "From now on a heartbeat is good for so long. A later registration that has a lease says it anew.",
        group: Group::Heartbeats,
        needs: Needs::Write(&[Right::Patch]),
        load: Load::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: json_of("LeaseLength"),
        gives: &[
            gives(200, "Renewed, with the new length.", "Renewal", &[]),
            gives(202, "Noted on this replica, and promised by none.", "Renewal", &[]),
        ],
        refuses: CHANGE,
    },
    Operation {
        route: Route::Service,
        method: Method::GET,
        handler: |method| on(method, discover::discover),
        id: "discover",
        summary: "The instances of a service that are discoverable",
        description: "Those that are Ready or Warning and match. An unknown service is an empty set, not an error. With `wait` and \
                      If-None-Match it is answered when the set is another one, or with 304 when the time is over.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::Discovery,
        headers: &["If-None-Match"],
        body: None,
        gives: &[
            gives(200, "The set.", "Discovery", OF_SET),
            Success {
                status: 304,
                says: "It is the set that is known.",
                content: Content::Nothing,
                headers: OF_SET,
            },
        ],
        refuses: &[&[Kind::TooManySubscribers]],
    },
    Operation {
        route: Route::ServiceWatch,
        method: Method::GET,
        handler: |method| on(method, watch::one),
        id: "watchService",
        summary: "Be told of the set, and of each change in it",
        description: "Server-Sent Events: a `snapshot`, then `upsert` and `remove`. The stream ends now and then: connect again, to any \
                      replica, with the id of the last event as Last-Event-ID, after `retry` milliseconds.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::Watch,
        headers: &["Last-Event-ID"],
        body: None,
        gives: &[Success {
            status: 200,
            says: "Events, without end.",
            content: Content::Events,
            headers: OF_READ,
        }],
        refuses: &[&[Kind::TooManySubscribers]],
    },
    Operation {
        route: Route::Watch,
        method: Method::GET,
        handler: |method| on(method, watch::many),
        id: "watch",
        summary: "The same of up to 100 services in one stream",
        description: "As `watchService`. An id is the revision of each service, in the order asked, joined by commas.",
        group: Group::Services,
        needs: Needs::Read(&[]),
        load: Load::Memory,
        query: Query::WatchMany,
        headers: &["Last-Event-ID"],
        body: None,
        gives: &[Success {
            status: 200,
            says: "Events, without end.",
            content: Content::Events,
            headers: OF_READ,
        }],
        refuses: &[&[Kind::Refused(421), Kind::TooManySubscribers]],
    },
    Operation {
        route: Route::NamespaceServices,
        method: Method::GET,
        handler: |method| on(method, services::list_of_namespace),
        id: "listServicesOfNamespace",
        summary: "The services of one namespace, with counts by phase",
        description: "By name. A revision is that of a discovery with `health=any`.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[gives(200, "The services.", "Services", OF_READ)],
        refuses: &[],
    },
    Operation {
        route: Route::Services,
        method: Method::GET,
        handler: |method| on(method, services::list),
        id: "listServices",
        summary: "All services, with counts by phase",
        description: "By namespace and name. A revision is that of a discovery with `health=any`.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[gives(200, "The services.", "Services", OF_READ)],
        refuses: &[],
    },
    Operation {
        route: Route::Snapshot,
        method: Method::GET,
        handler: |method| on(method, snapshot::snapshot),
        id: "snapshot",
        summary: "Every instance, whatever its phase, one a line",
        description: "Made while it is read, service by service: what changes meanwhile may be in it or not.",
        group: Group::Services,
        needs: Needs::Read(&[Right::List]),
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[Success {
            status: 200,
            says: "Lines of JSON.",
            content: Content::Lines,
            headers: OF_READ,
        }],
        refuses: &[],
    },
    Operation {
        route: Route::Cluster,
        method: Method::GET,
        handler: |method| on(method, cluster::cluster),
        id: "getCluster",
        summary: "The replicas as this one sees them, and what somebody has to mend",
        description: "Answered from the start on, also while everything else is 503.",
        group: Group::Replicas,
        needs: Needs::Token,
        load: Load::Memory,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[gives(200, "The replicas.", "Cluster", OF_READ)],
        refuses: &[],
    },
    Operation {
        route: Route::Contract,
        method: Method::GET,
        handler: |method| on(method, contract::contract),
        id: "getContract",
        summary: "This contract, as OpenAPI 3.1",
        description: "Made from the code that answers. The same on every replica of a version.",
        group: Group::Replicas,
        needs: Needs::Nothing,
        load: Load::Memory,
        query: Query::None,
        headers: &["If-None-Match"],
        body: None,
        gives: &[
            Success {
                status: 200,
                says: "The document.",
                content: Content::Contract,
                headers: OF_SET,
            },
            Success {
                status: 304,
                says: "It is the one that is known.",
                content: Content::Nothing,
                headers: OF_SET,
            },
        ],
        refuses: &[],
    },
    Operation {
        route: Route::Page,
        method: Method::GET,
        handler: |method| on(method, page::page),
        id: "getPage",
        summary: "A page for a person with a browser",
        description: "What this is, the calls, and the services, if the caller may list them.",
        group: Group::Replicas,
        needs: Needs::Nothing,
        load: Load::Work,
        query: Query::None,
        headers: &["Accept"],
        body: None,
        gives: &[Success {
            status: 200,
            says: "HTML.",
            content: Content::Html,
            headers: &[
                "Cache-Control",
                "Content-Security-Policy",
                "Referrer-Policy",
                "X-Frame-Options",
            ],
        }],
        refuses: &[&[Kind::NotAcceptable, Kind::Overloaded]],
    },
];

/// The OpenAPI document of all operations, as it is committed and served.
#[must_use]
pub fn document() -> Vec<u8> {
    contract::text(&OPERATIONS)
}

/// The same as HTML, for the page.
pub(super) fn calls() -> String {
    page::calls(&OPERATIONS)
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
    fn every_method_of_every_route_is_one_call_and_head_goes_with_get() {
        for route in Route::ALL {
            for method in METHODS {
                let rows = OPERATIONS.iter().filter(|it| it.route == route && it.method == method);
                let count = rows.count();
                let (template, allow) = (route.template(), allow(&OPERATIONS, route));
                let allows = |method: &Method| allow.split(", ").any(|it| it == method.as_str());
                if method == Method::HEAD {
                    assert_eq!(count, 0, "{template}: HEAD goes without saying");
                    assert_eq!(allows(&method), allows(&Method::GET), "{template}");
                } else {
                    assert_eq!(count, usize::from(allows(&method)), "{method} {template}");
                }
            }
        }
        assert_eq!(Route::ALL.into_iter().collect::<HashSet<_>>().len(), Route::ALL.len());
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_one_line() {
        let ids: HashSet<_> = OPERATIONS.iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), OPERATIONS.len());
        for operation in &OPERATIONS {
            let Operation { id, summary, description, .. } = operation;
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
            assert!(summary.len() < 80 && !summary.ends_with('.'), "{summary}");
            assert!(description.ends_with('.'), "{id}: {description}");
            let method = operation.method.clone();
            assert!(MethodFilter::try_from(method).is_ok(), "{id}: axum does not know its method");
        }
    }

    #[test]
    fn every_kind_of_problem_can_come_of_a_call_or_of_none() {
        let of_none = [Kind::UnknownRoute, Kind::MethodNotAllowed];
        let slug = |kind: Kind| kind.words().0;
        let known: HashSet<_> =
            OPERATIONS.iter().flat_map(Operation::problems).chain(of_none).map(slug).collect();
        for kind in Kind::ALL {
            assert!(known.contains(slug(kind)), "{kind:?} is in no call");
        }
        assert_eq!(known.len(), Kind::ALL.len());
    }
}
