//! The table of the calls.

use super::operations::{Body, Content, Group, Needs, Operation, Query, Success};
use crate::http::{problem::Kind, route::Route};

const JSON: &[&str] = &["application/json"];
const PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

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
    Some(Body { schema, required: true, types: JSON })
}

const fn gives(
    status: u16,
    says: &'static str,
    schema: &'static str,
    headers: &'static [&'static str],
) -> Success {
    Success { status, says, content: Content::Json(schema), headers }
}

/// Calls on instances.
pub(super) const INSTANCES: &[Operation] = &[
    Operation {
        route: Route::Instance,
        method: "PUT",
        id: "registerInstance",
        summary: "Register an instance, or register it again",
        description: "Replaces its facts and renews its lease; when nothing differs it is just a heartbeat. Then call \
                      `heartbeat` every `lease.renewAfterSeconds`.",
        group: Group::Instances,
        needs: Needs::Write,
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
        method: "GET",
        id: "getInstance",
        summary: "One instance, with its lease and why it is in its phase",
        description: "As the replica that answers sees it. What discovery shows, and beside it when the lease ends, the last \
                      heartbeat, and what the verdict rests on.",
        group: Group::Instances,
        needs: Needs::Read,
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
        method: "DELETE",
        id: "deregisterInstance",
        summary: "Take an instance away",
        description: "It is out of all answers when this replica has answered, and out of those of the others some milliseconds \
                      later.",
        group: Group::Instances,
        needs: Needs::Write,
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
        method: "POST",
        id: "registerInstanceOfService",
        summary: "Register an instance without choosing a name",
        description: "Its name is made from the service, the addresses (or the hostname) and the first port, so that doing it \
                      again is a registration of the same instance.",
        group: Group::Instances,
        needs: Needs::Write,
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
        method: "POST",
        id: "registerInstances",
        summary: "Register up to 1,000 instances at once",
        description: "Each has a result of its own, in their order. A body that is not of this shape is refused whole, but a \
                      value that is out of bounds spoils only its own registration. Those left after 20 s have the \
                      status 503: send them again. It holds no `If-Match`: register those one by one for which it matters.",
        group: Group::Instances,
        needs: Needs::WriteEach,
        query: Query::None,
        headers: &[],
        body: json_of("RegistrationBatch"),
        gives: &[gives(200, "What came of each.", "RegistrationBatchResult", &[])],
        refuses: &[&[Kind::Overloaded]],
    },
    Operation {
        route: Route::Attributes,
        method: "PATCH",
        id: "changeAttributes",
        summary: "Change some attributes of an instance",
        description: "A JSON merge patch (RFC 7396): null takes one away, what is not named stays. Whoever watches the service is \
                      told. A later registration replaces them all.",
        group: Group::Instances,
        needs: Needs::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: Some(Body { schema: "AttributesPatch", required: true, types: PATCH }),
        gives: &[gives(200, "The instance after it.", "InstanceDetail", &["ETag", "Accept-Patch"])],
        refuses: CHANGE,
    },
    Operation {
        route: Route::State,
        method: "PUT",
        id: "setState",
        summary: "Say the operator's word: Up, Draining or OutOfService",
        description: "No registration overwrites it, and no heartbeat; but Draining ends with a registration by another pod that \
                      takes the instance over.",
        group: Group::Instances,
        needs: Needs::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: json_of("StateChange"),
        gives: &[gives(200, "The instance after it.", "InstanceDetail", OF_INSTANCE)],
        refuses: CHANGE,
    },
    Operation {
        route: Route::Heartbeat,
        method: "PUT",
        id: "heartbeat",
        summary: "Renew the lease of an instance",
        description: "Call it every `renewAfterSeconds`, a third of the lease, so that two lost calls do no harm. 404 and 410 \
                      mean: register again. 409 of the type terminating means: wait until the object is gone, then register again. 503 means: nobody knows, beat on. It holds no `If-Match`: `uid` says which \
                      incarnation is meant.",
        group: Group::Heartbeats,
        needs: Needs::Write,
        query: Query::Uid,
        headers: &[],
        body: Some(Body { schema: "Heartbeat", required: false, types: JSON }),
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
        method: "POST",
        id: "heartbeats",
        summary: "Renew the leases of up to 10,000 instances at once",
        description: "Register the `unknown` and the `gone` again; each of the `refused` says why. A body that is not of this \
                      shape is refused whole, but a value that is out of bounds spoils only its own heartbeat. It holds no \
                      `If-Match`: the `uid` of each says which incarnation is meant.",
        group: Group::Heartbeats,
        needs: Needs::WriteEach,
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
        method: "PUT",
        id: "renewLease",
        summary: "Renew a lease with another length",
        description: "From now on a heartbeat is good for so long. A later registration that has a lease says it anew.",
        group: Group::Heartbeats,
        needs: Needs::Write,
        query: Query::Uid,
        headers: OF_CHANGE,
        body: json_of("LeaseLength"),
        gives: &[
            gives(200, "Renewed, with the new length.", "Renewal", &[]),
            gives(202, "Noted on this replica, and promised by none.", "Renewal", &[]),
        ],
        refuses: CHANGE,
    },
];

/// Calls that only read.
pub(super) const READING: &[Operation] = &[
    Operation {
        route: Route::Service,
        method: "GET",
        id: "discover",
        summary: "The instances of a service that are offered",
        description: "Those that are Ready or Warning and match. An unknown service is an empty set, not an error. With `wait` and \
                      If-None-Match it is answered when the set is another one, or with 304 when the time is over.",
        group: Group::Services,
        needs: Needs::Read,
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
        method: "GET",
        id: "watchService",
        summary: "Be told of the set, and of each change in it",
        description: "Server-Sent Events: a `snapshot`, then `upsert` and `remove`. The stream ends now and then: connect again, to any \
                      replica, with the id of the last event as Last-Event-ID, after `retry` milliseconds.",
        group: Group::Services,
        needs: Needs::Read,
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
        method: "GET",
        id: "watch",
        summary: "The same of up to 100 services in one stream",
        description: "As `watchService`. An id is the revision of each service, in the order asked, joined by commas.",
        group: Group::Services,
        needs: Needs::Read,
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
        method: "GET",
        id: "listServicesOfNamespace",
        summary: "The services of one namespace, with counts by phase",
        description: "By name. A revision is that of a discovery with `health=any`.",
        group: Group::Services,
        needs: Needs::Read,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[gives(200, "The services.", "Services", OF_READ)],
        refuses: &[],
    },
    Operation {
        route: Route::Services,
        method: "GET",
        id: "listServices",
        summary: "All services, with counts by phase",
        description: "By namespace and name. A revision is that of a discovery with `health=any`.",
        group: Group::Services,
        needs: Needs::Read,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[gives(200, "The services.", "Services", OF_READ)],
        refuses: &[],
    },
    Operation {
        route: Route::Snapshot,
        method: "GET",
        id: "snapshot",
        summary: "Every instance, whatever its phase, one a line",
        description: "Made while it is read, service by service: what changes meanwhile may be in it or not.",
        group: Group::Services,
        needs: Needs::Read,
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
        method: "GET",
        id: "getCluster",
        summary: "The replicas as this one sees them, and what somebody has to mend",
        description: "Answered from the start on, also while everything else is 503.",
        group: Group::Replicas,
        needs: Needs::Token,
        query: Query::None,
        headers: &[],
        body: None,
        gives: &[gives(200, "The replicas.", "Cluster", OF_READ)],
        refuses: &[],
    },
    Operation {
        route: Route::Contract,
        method: "GET",
        id: "getContract",
        summary: "This contract, as OpenAPI 3.1",
        description: "Made from the code that answers. The same on every replica of a version.",
        group: Group::Replicas,
        needs: Needs::Nothing,
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
        method: "GET",
        id: "getPage",
        summary: "A page for a person with a browser",
        description: "What this is, the calls, and the services, if the caller may list them.",
        group: Group::Replicas,
        needs: Needs::Nothing,
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
