//! One operation of the HTTP API: its route and method, its handler, the rights that it needs, and what the contract says.
//!
//! Owns: the shape of a row. The rows are in `table`; `router` makes routes of them, `admission` reads the rights and the
//! load, `contract` writes them down as OpenAPI. Does not own: the words and schemas of values (`contract`).

use std::sync::Arc;

use axum::routing::{MethodFilter, MethodRouter};
use hyper::Method;

use crate::http::{access::Needs, app::App, problem::Kind, route::Route};

/// One operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) route: Route,
    /// `HEAD` is answered wherever `GET` is, and has no row.
    pub(super) method: Method,
    /// Binds the handler to the method.
    pub(super) handler: fn(MethodFilter) -> MethodRouter<Arc<App>>,
    /// A good name of a method of a client.
    pub(super) id: &'static str,
    /// One line.
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) group: Group,
    pub(super) needs: Needs,
    pub(super) load: Load,
    pub(super) query: Query,
    /// Request headers beside those of every operation.
    pub(super) headers: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) gives: &'static [Success],
    /// Problems beside those that follow from the other fields.
    pub(super) refuses: &'static [&'static [Kind]],
}

/// What operations are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Instances,
    Heartbeats,
    Services,
    Replicas,
}

/// What an operation costs while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// It is answered from memory, or waits as a subscriber, which has bounds of its own.
    Memory,
    /// It may wait for its body or for Kubernetes: a place among [`Limits::enter`](super::limits::Limits::enter).
    Work,
    /// The same, and it ends in one write in the namespace of its path.
    Write,
}

/// What its query may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    None,
    Uid,
    Discovery,
    Watch,
    WatchMany,
}

/// What its body is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    /// Name of the schema.
    pub(super) schema: &'static str,
    pub(super) required: bool,
    /// Its media types, as `Accept` lists them.
    pub(super) types: &'static str,
}

/// An answer that is no problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) says: &'static str,
    pub(super) content: Content,
    /// Beside those of every answer.
    pub(super) headers: &'static [&'static str],
}

/// What is in an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// The contract.
    Contract,
    /// Server-Sent Events.
    Events,
    /// An instance a line.
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

    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Instances => "Register, change and take away what is to be found.",
            Self::Heartbeats => "Keep it there: every renewAfterSeconds.",
            Self::Services => "Who is there: ask, wait for a change, or be told of each.",
            Self::Replicas => "Rollcall itself.",
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

    /// Every problem that it may answer with.
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
        // Over HTTP/2 also for what is answered from memory.
        add(true, &[Kind::Overloaded]);
        add(!self.works_before_sync(), &[Kind::NotSynced]);
        add(true, &[Kind::Behind, Kind::Internal]);
        kinds
    }
}
