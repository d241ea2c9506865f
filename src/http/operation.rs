//! One operation of the HTTP API: its route and method, its handler, the rights that it needs, and its description.
//!
//! Owns: the type of a row of the table. The rows are in `table`; `router` creates routes from them, `admission` reads
//! the rights and the load, and `contract` describes them as OpenAPI. Does not own: the schemas of values (`contract`).

use std::sync::Arc;

use axum::routing::{MethodFilter, MethodRouter};
use hyper::Method;

use crate::http::{access::Needs, app::AppState, problem::ProblemKind, route::Route};

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) route: Route,
    /// `HEAD` works wherever `GET` does, and does not have a row.
    pub(super) method: Method,
    /// Binds the handler to the method.
    pub(super) handler: fn(MethodFilter) -> MethodRouter<Arc<AppState>>,
    /// The OpenAPI `operationId`, after which generated clients name their method.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) group: Group,
    pub(super) needs: Needs,
    pub(super) load: Load,
    pub(super) query: Query,
    /// Request headers in addition to those of every operation.
    pub(super) headers: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) responses: &'static [Success],
    /// Problems in addition to those that follow from the other fields.
    pub(super) extra_problems: &'static [&'static [ProblemKind]],
}

/// The subject of an operation: a tag in OpenAPI, and a section of the overview page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Instances,
    Heartbeats,
    Services,
    Replicas,
}

/// The resources that a running operation can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// The answer comes from memory, or the request waits as a subscriber; subscribers have their own limit.
    Memory,
    /// It can wait for its body or for Kubernetes: it takes a permit of
    /// [`Limits::enter`](super::limits::Limits::enter).
    Work,
    /// Like `Work`, and it also makes one write in the namespace of its path.
    Write,
}

/// The query parameters that an operation accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    None,
    Uid,
    Discovery,
    Watch,
    WatchMany,
}

/// The request body of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    /// The name of the schema.
    pub(super) schema: &'static str,
    pub(super) required: bool,
    /// Its media types, in the form of the header `Accept`.
    pub(super) types: &'static str,
}

/// A response that is not a problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) content: Content,
    /// In addition to those of every response.
    pub(super) headers: &'static [&'static str],
}

/// The body of a response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Nothing,
    /// JSON with this schema.
    Json(&'static str),
    /// The OpenAPI document.
    Contract,
    /// Server-Sent Events.
    Events,
    /// One instance per line.
    Lines,
    Html,
}

impl Group {
    pub(super) const ALL: [Self; 4] =
        [Self::Instances, Self::Heartbeats, Self::Services, Self::Replicas];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Instances => "Instances",
            Self::Heartbeats => "Heartbeats",
            Self::Services => "Services",
            Self::Replicas => "Replicas",
        }
    }

    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Instances => "Register, change and deregister instances.",
            Self::Heartbeats => "Renew leases, every renewAfterSeconds.",
            Self::Services => {
                "Find instances: once, after the next change, or as a stream of changes."
            }
            Self::Replicas => "The replicas of rollcall, and this API.",
        }
    }
}

impl Operation {
    /// Whether the operation can be answered before the first list of instances is complete.
    pub(super) const fn works_before_sync(&self) -> bool {
        matches!(self.needs, Needs::Nothing | Needs::Token)
    }

    /// Whether the operation's path names an instance.
    pub(super) fn names_instance(&self) -> bool {
        self.route.template().contains("{name}")
    }

    /// Every kind of problem that this operation can return.
    pub(super) fn problems(&self) -> Vec<ProblemKind> {
        let mut kinds = vec![ProblemKind::BadQuery, ProblemKind::BadHeader];
        let mut add =
            |when: bool, more: &[ProblemKind]| kinds.extend(more.iter().copied().filter(|_| when));
        let has_names = self.route.template().contains('{');
        add(has_names, &[ProblemKind::IllegalName, ProblemKind::Refused(421)]);
        add(
            self.body.is_some(),
            &[
                ProblemKind::BadBody,
                ProblemKind::SlowBody,
                ProblemKind::TooLarge,
                ProblemKind::WrongContentType,
                ProblemKind::BadFields,
            ],
        );
        add(
            self.needs != Needs::Nothing,
            &[ProblemKind::Unauthenticated, ProblemKind::BadToken, ProblemKind::Unavailable],
        );
        add(matches!(self.needs, Needs::Read(_) | Needs::Write(_)), &[ProblemKind::Forbidden]);
        self.extra_problems.iter().for_each(|kinds| add(true, kinds));
        add(true, &[ProblemKind::TooManyRequests]);
        // This also applies to answers from memory: over HTTP/2 the number of open streams is limited.
        add(true, &[ProblemKind::Overloaded]);
        add(!self.works_before_sync(), &[ProblemKind::NotSynced]);
        add(true, &[ProblemKind::Behind, ProblemKind::Internal]);
        kinds
    }
}
