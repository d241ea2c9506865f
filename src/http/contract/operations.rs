//! The calls, one by one: what each takes, what it gives, and what it refuses.
//!
//! The table beside `Route`: a unit test demands a call here for every route and method, and the page lists them
//! from here. Owns: the words about them. Does not own: how they are written down (`document`).

use super::table;
use crate::http::{problem::Kind, route::Route};

/// One call.
#[derive(Debug)]
pub(in crate::http) struct Operation {
    pub(in crate::http) route: Route,
    /// In capitals. `HEAD` works wherever `GET` does, and stands nowhere.
    pub(in crate::http) method: &'static str,
    /// Makes a good name of a method.
    pub(in crate::http) id: &'static str,
    /// One line.
    pub(in crate::http) summary: &'static str,
    pub(super) description: &'static str,
    pub(in crate::http) group: Group,
    pub(super) needs: Needs,
    pub(super) query: Query,
    /// Headers beside those of every call.
    pub(super) headers: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) gives: &'static [Success],
    /// What it refuses beside what follows from the rest.
    pub(super) refuses: &'static [&'static [Kind]],
}

/// What calls are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Group {
    Instances,
    Heartbeats,
    Services,
    Replicas,
}

/// What it needs of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Everybody may.
    Nothing,
    /// A token that may read, with `--read-auth`.
    Read,
    /// Only a token, with `--read-auth`.
    Token,
    /// A token that may write, unless with `--auth none`.
    Write,
    /// The same, decided for each of a batch.
    WriteEach,
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
    /// JSON, and what else.
    pub(super) types: &'static [&'static str],
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
    /// This document.
    Contract,
    /// Server-Sent Events.
    Events,
    /// An instance a line.
    Lines,
    Html,
}

impl Group {
    pub(in crate::http) const ALL: [Self; 4] =
        [Self::Instances, Self::Heartbeats, Self::Services, Self::Replicas];

    pub(in crate::http) const fn name(self) -> &'static str {
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
    /// All of them, those of one path beside each other.
    pub(in crate::http) fn all() -> impl Iterator<Item = &'static Self> {
        table::INSTANCES.iter().chain(table::READING)
    }

    /// Whether it knows nothing before the first list of instances.
    fn waits_for_sync(&self) -> bool {
        !matches!(self.route, Route::Page | Route::Contract | Route::Cluster)
    }

    /// All that it may refuse.
    pub(super) fn problems(&self) -> Vec<Kind> {
        let template = self.route.template();
        let mut kinds = vec![Kind::BadQuery, Kind::BadHeader];
        let mut add =
            |when: bool, more: &[Kind]| kinds.extend(more.iter().copied().filter(|_| when));
        add(template.contains('{'), &[Kind::IllegalName, Kind::Refused(421)]);
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
        add(matches!(self.needs, Needs::Read | Needs::Write), &[Kind::Forbidden]);
        self.refuses.iter().for_each(|kinds| add(true, kinds));
        add(true, &[Kind::TooManyRequests]);
        add(self.waits_for_sync(), &[Kind::NotSynced]);
        add(true, &[Kind::Behind]);
        kinds
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hyper::Method;

    use super::*;

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
                let count = Operation::all()
                    .filter(|it| it.route == route && it.method == method.as_str())
                    .count();
                let template = route.template();
                if method == Method::HEAD {
                    assert_eq!(count, 0, "{template}: HEAD goes without saying");
                    assert_eq!(route.allows(&method), route.allows(&Method::GET), "{template}");
                } else {
                    assert_eq!(count, usize::from(route.allows(&method)), "{method} {template}");
                }
            }
        }
        assert_eq!(Route::ALL.into_iter().collect::<HashSet<_>>().len(), Route::ALL.len());
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_one_line() {
        let ids: HashSet<_> = Operation::all().map(|it| it.id).collect();
        assert_eq!(ids.len(), Operation::all().count());
        for operation in Operation::all() {
            let Operation { id, summary, description, .. } = operation;
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
            assert!(summary.len() < 80 && !summary.ends_with('.'), "{summary}");
            assert!(description.ends_with('.'), "{id}: {description}");
        }
    }

    #[test]
    fn every_kind_of_problem_can_come_of_a_call_or_of_none() {
        let of_none = [Kind::UnknownRoute, Kind::MethodNotAllowed];
        let slug = |kind: Kind| kind.words().0;
        let known: HashSet<_> =
            Operation::all().flatten_problems().chain(of_none).map(slug).collect();
        for kind in Kind::ALL {
            assert!(known.contains(slug(kind)), "{kind:?} is in no call");
        }
        assert_eq!(known.len(), Kind::ALL.len());
    }

    trait Problems {
        fn flatten_problems(self) -> impl Iterator<Item = Kind>;
    }

    impl<T: Iterator<Item = &'static Operation>> Problems for T {
        fn flatten_problems(self) -> impl Iterator<Item = Kind> {
            self.flat_map(Operation::problems)
        }
    }
}
