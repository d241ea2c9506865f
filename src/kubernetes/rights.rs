//! Every right that rollcall needs in its cluster, and what does not work without it.
//!
//! Owns: the table. `deploy/rbac` grants exactly these: one test keeps the two in sync, another shows that every right is
//! used. Does not own: checking whether they are granted (`preflight`).

use rollcall_api::GROUP;

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RightScope {
    /// The namespaces whose instances rollcall serves: one, or all.
    Watched,
    /// The namespace in which rollcall runs.
    OwnNamespace,
    /// The whole cluster.
    Cluster,
}

/// When a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// At the start: without the right, rollcall has no data to answer with, so it waits until the right is granted.
    Start,
    /// Always. Rollcall works without the right, but not completely.
    Always,
    /// Like `Always`, with `--auth token` only.
    Auth,
    /// Like `Auth`, with `--auth-tokens review` only.
    Review,
    /// Like `Auth`, with `--auth-tokens jwks` only.
    Jwks,
}

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// Resource, with its subresource after a slash; or a path that is not a resource, which begins with a slash.
    pub resource: &'static str,
    /// The name of the only object that the right is for, if there is one.
    pub name: Option<&'static str>,
    /// Verb.
    pub verb: &'static str,
    /// Where it is needed.
    pub scope: RightScope,
    /// When it is needed.
    pub need: Need,
    /// The role in `deploy/rbac` that grants it.
    pub role: &'static str,
    /// What does not work without it, as the end of a sentence that begins with "without it".
    pub without: &'static str,
}

impl Right {
    /// Whether the right is for a path of the API server that is not a resource.
    #[must_use]
    pub fn is_path(&self) -> bool {
        self.resource.starts_with('/')
    }
}

const INSTANCE: Right = Right {
    group: GROUP,
    resource: "serviceinstances",
    name: None,
    verb: "list",
    scope: RightScope::Watched,
    need: Need::Start,
    role: "ClusterRole rollcall-instances",
    without: "rollcall has no data to answer with",
};

const EVENT: Right = Right {
    group: "events.k8s.io",
    resource: "events",
    verb: "create",
    need: Need::Always,
    without: "kubectl events shows no expiry, revival or eviction",
    ..INSTANCE
};

const REVIEW: Right = Right {
    group: "authentication.k8s.io",
    resource: "tokenreviews",
    verb: "create",
    scope: RightScope::Cluster,
    need: Need::Review,
    role: "ClusterRole rollcall-server",
    without: "every write over HTTP is refused, because rollcall cannot authenticate and authorize callers",
    ..INSTANCE
};

const KEYS: Right = Right {
    group: "",
    resource: "/openid/v1/jwks",
    verb: "get",
    need: Need::Jwks,
    without: "rollcall cannot read the cluster's keys (--auth-tokens jwks), and every write over HTTP is refused",
    ..REVIEW
};

const LEASE: Right = Right {
    group: "coordination.k8s.io",
    resource: "leases",
    name: Some("rollcall"),
    verb: "get",
    scope: RightScope::OwnNamespace,
    need: Need::Always,
    role: "Role rollcall",
    without: "this replica never leads; if no replica leads, status and Events are not written and nothing is \
              evicted",
};

const LEDGER: Right = Right {
    group: GROUP,
    resource: "heartbeatledgers",
    name: None,
    verb: "list",
    without: "this replica does not learn which heartbeats the other replicas take: it judges no lease, and \
              answers heartbeats with 202",
    ..LEASE
};

/// All rights; those that rollcall waits for come first.
pub const RIGHTS: &[Right] = &[
    INSTANCE,
    Right {
        verb: "watch",
        without: "rollcall does not observe changes and heartbeats by annotation",
        ..INSTANCE
    },
    Right {
        verb: "get",
        need: Need::Always,
        without: "requests for unknown instances are answered 503 instead of 404, and this replica \
                  does not deregister itself when it ends",
        ..INSTANCE
    },
    Right {
        verb: "create",
        need: Need::Always,
        without: "no new instance can register over HTTP, and this replica cannot register itself: it judges \
                  no lease",
        ..INSTANCE
    },
    Right {
        verb: "patch",
        need: Need::Always,
        without: "no instance can register or be revived over HTTP, and no lease is judged, because this \
                  replica cannot write its own heartbeat",
        ..INSTANCE
    },
    Right {
        verb: "delete",
        need: Need::Always,
        without: "no instance can deregister over HTTP, and expired objects are not evicted",
        ..INSTANCE
    },
    Right {
        resource: "serviceinstances/status",
        verb: "patch",
        need: Need::Always,
        without: "kubectl shows no phase, and no instance is evicted",
        ..INSTANCE
    },
    EVENT,
    Right { verb: "patch", without: "an Event that repeats is not counted", ..EVENT },
    REVIEW,
    Right {
        group: "authorization.k8s.io",
        resource: "subjectaccessreviews",
        need: Need::Auth,
        ..REVIEW
    },
    KEYS,
    Right { resource: "/.well-known/openid-configuration", ..KEYS },
    Right {
        group: "apiextensions.k8s.io",
        resource: "customresourcedefinitions",
        name: Some("serviceinstances.rollcall.dev"),
        verb: "get",
        need: Need::Always,
        without: "rollcall cannot detect definitions that are older than itself",
        ..REVIEW
    },
    Right { name: None, verb: "create", ..LEASE },
    LEASE,
    Right { verb: "update", ..LEASE },
    LEDGER,
    Right { verb: "watch", ..LEDGER },
    Right { verb: "create", ..LEDGER },
    Right { verb: "patch", ..LEDGER },
    Right {
        verb: "delete",
        without: "ledgers of replicas that are gone remain until their pods are deleted, and each start waits \
                  10 s for them",
        ..LEDGER
    },
];
