//! Every right that rollcall needs in its cluster, and what does not work without it.
//!
//! Owns: the table. `deploy/rbac` grants exactly these, which a test holds together; another shows that
//! none of them is unused. Does not own: asking whether they are there (`preflight`).

use rollcall_api::GROUP;

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Where instances are looked after: one namespace, or all.
    Watched,
    /// The namespace that rollcall itself lives in.
    Home,
    /// The whole cluster.
    Cluster,
}

/// When it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Without it there is nothing to answer from: rollcall waits for it.
    Start,
    /// Rollcall works without it, but not as it should.
    Always,
    /// The same, with `--auth token` only.
    Auth,
    /// The same, where besides tokens are reviewed.
    Review,
    /// The same, where besides the cluster's keys tell whose a token is.
    Jwks,
}

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// Resource, with its subresource after a slash; or a path of no resource, which begins with one.
    pub resource: &'static str,
    /// On the object of this name alone.
    pub name: Option<&'static str>,
    /// Verb.
    pub verb: &'static str,
    /// Where.
    pub place: Place,
    /// When.
    pub need: Need,
    /// The role of `deploy/rbac` that grants it.
    pub role: &'static str,
    /// What does not work without it, as the end of a sentence that begins with "without it".
    pub without: &'static str,
}

impl Right {
    /// Whether it is over a path of the API server that is no resource.
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
    place: Place::Watched,
    need: Need::Start,
    role: "ClusterRole rollcall-instances",
    without: "there is nothing to answer from",
};

const EVENT: Right = Right {
    group: "events.k8s.io",
    resource: "events",
    verb: "create",
    need: Need::Always,
    without: "kubectl events tells of no expiry, revival or eviction",
    ..INSTANCE
};

const REVIEW: Right = Right {
    group: "authentication.k8s.io",
    resource: "tokenreviews",
    verb: "create",
    place: Place::Cluster,
    need: Need::Review,
    role: "ClusterRole rollcall-server",
    without: "nobody can be let in who writes over HTTP",
    ..INSTANCE
};

const KEYS: Right = Right {
    group: "",
    resource: "/openid/v1/jwks",
    verb: "get",
    need: Need::Jwks,
    without: "the cluster's keys are not known (--auth-tokens jwks), and nobody can be let in who writes over \
              HTTP",
    ..REVIEW
};

const LEASE: Right = Right {
    group: "coordination.k8s.io",
    resource: "leases",
    name: Some("rollcall"),
    verb: "get",
    place: Place::Home,
    need: Need::Always,
    role: "Role rollcall",
    without: "this replica never leads: nobody may be there to write status and Events, and to evict",
};

const LEDGER: Right = Right {
    group: GROUP,
    resource: "heartbeatledgers",
    name: None,
    verb: "list",
    without: "this replica does not hear which beats the others take: no lease is judged, and beats are \
              answered 202",
    ..LEASE
};

/// All of them, those first without which nothing works.
pub const RIGHTS: &[Right] = &[
    INSTANCE,
    Right {
        verb: "watch",
        without: "changes and heartbeats by annotation are not seen",
        ..INSTANCE
    },
    Right {
        verb: "get",
        need: Need::Always,
        without: "whatever is not known here is answered 403 instead of 404, and this replica does not \
                  take leave when it ends",
        ..INSTANCE
    },
    Right {
        verb: "create",
        need: Need::Always,
        without: "nothing new can be registered over HTTP, nor this replica itself: no lease is judged",
        ..INSTANCE
    },
    Right {
        verb: "patch",
        need: Need::Always,
        without: "nobody can register or be revived over HTTP, and no lease is judged, since the \
                  self-beat cannot be written",
        ..INSTANCE
    },
    Right {
        verb: "delete",
        need: Need::Always,
        without: "nobody can deregister over HTTP, and expired objects are not evicted",
        ..INSTANCE
    },
    Right {
        resource: "serviceinstances/status",
        verb: "patch",
        need: Need::Always,
        without: "kubectl shows no phase, and nothing is evicted",
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
        without: "nobody notices definitions that are older than this rollcall",
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
        without: "the ledgers of replicas that are gone stay, unless their pods are deleted: each start waits \
                  10 s for them",
        ..LEDGER
    },
];
