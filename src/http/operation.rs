//! One operation of the HTTP API: its route and method, its handler, the rights that it needs, and its description.
//!
//! Owns: the type of a row of the table. The rows are in `table`; `router` makes routes of them, `admission` reads
//! the rights and the load, `contract` writes them as OpenAPI. Does not own: the schemas of values (`contract`).

use std::sync::Arc;

use axum::routing::{MethodFilter, MethodRouter};
use hyper::Method;

use crate::http::{access::Needs, app::App, problem::Kind, route::Route};

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) route: Route,
    /// `HEAD` works wherever `GET` does, and does not have a row.
    pub(super) method: Method,
    /// Binds the handler to the method.
    pub(super) handler: fn(MethodFilter) -> MethodRouter<Arc<App>>,
    /// Generated clients name their method after it.
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
    pub(super) gives: &'static [Success],
    /// Problems in addition to those that follow from the other fields.
    pub(super) refuses: &'static [&'static [Kind]],
}

/// The subject of an operation: a tag in OpenAPI, and a section of the page.
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
    /// Like `Work`, and it makes one write in the namespace of its path.
    Write,
}

/// The query parameters that an operation takes.
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
    /// Its media types, as `Accept` lists them.
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
    /// Whether it can be answered before the first list of instances is complete.
    pub(super) const fn works_before_sync(&self) -> bool {
        matches!(self.needs, Needs::Nothing | Needs::Token)
    }

    /// Whether its path names an instance.
    pub(super) fn names_instance(&self) -> bool {
        self.route.template().contains("{name}")
    }

    /// Every problem that this operation can answer with.
    pub(super) fn problems(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::BadQuery, Kind::BadHeader];
        let mut add =
            |when: bool, more: &[Kind]| kinds.extend(more.iter().copied().filter(|_| when));
        let has_names = self.route.template().contains('{');
        add(has_names, &[Kind::IllegalName, Kind::Refused(421)]);
        add(
            self.body.is_some(),
            &[
                Kind::BadBody,
                Kind::SlowBody,
                Kind::TooLarge,
                Kind::WrongContentType,
                Kind::BadFields,
            ],
        );
        add(
            self.needs != Needs::Nothing,
            &[Kind::Unauthenticated, Kind::BadToken, Kind::Unavailable],
        );
        add(matches!(self.needs, Needs::Read(_) | Needs::Write(_)), &[Kind::Forbidden]);
        self.refuses.iter().for_each(|kinds| add(true, kinds));
        add(true, &[Kind::TooManyRequests]);
        // Also for answers from memory: over HTTP/2 the number of open streams is limited.
        add(true, &[Kind::Overloaded]);
        add(!self.works_before_sync(), &[Kind::NotSynced]);
        add(true, &[Kind::Behind, Kind::Internal]);
        kinds
    }
}
