//! Routes: which call a path means, with which methods, and the names in it.
//!
//! Owns: the table of calls, the legality of names in paths. Does not own: answering. The
//! templates are the `route` of the metrics, so they are as many as there are calls.

use std::borrow::Cow;

use hyper::Method;
use rollcall_model::naming;

use crate::http::{
    percent,
    problem::{Flaw, Kind, Problem},
};
use crate::witness::Target;

/// Every path that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Route {
    Page,
    Contract,
    Services,
    Heartbeats,
    Watch,
    Cluster,
    NamespaceServices,
    Service,
    ServiceWatch,
    ServiceInstances,
    Instance,
    Heartbeat,
    Lease,
    Attributes,
    State,
    Instances,
    Snapshot,
}

/// The names in a path, decoded and legal; empty where the route has none.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) namespace: Cow<'a, str>,
    /// Of the service or of the instance.
    pub(super) name: Cow<'a, str>,
}

impl Names<'_> {
    /// The same, without the path.
    pub(super) fn to_owned(&self) -> Names<'static> {
        let owned = |name: &Cow<'_, str>| Cow::Owned(name.clone().into_owned());
        Names { namespace: owned(&self.namespace), name: owned(&self.name) }
    }

    /// The instance that a path names: this incarnation, if one is given.
    pub(super) fn target<'n>(&'n self, uid: Option<&'n str>) -> Target<'n> {
        Target { namespace: &self.namespace, name: &self.name, uid, version: None }
    }
}

/// The route of a path, with its names as they stand there.
pub(super) fn find(path: &str) -> Option<(Route, [&str; 2])> {
    let Some(below) = path.strip_prefix("/v1/") else {
        return match path {
            "/" => Some((Route::Page, ["", ""])),
            "/openapi.json" => Some((Route::Contract, ["", ""])),
            _ => None,
        };
    };
    let mut segments = below.split('/');
    let mut next = || segments.next();
    match (next(), next(), next(), next(), next(), next()) {
        (Some("services"), None, ..) => Some((Route::Services, ["", ""])),
        (Some("heartbeats"), None, ..) => Some((Route::Heartbeats, ["", ""])),
        (Some("instances"), None, ..) => Some((Route::Instances, ["", ""])),
        (Some("snapshot"), None, ..) => Some((Route::Snapshot, ["", ""])),
        (Some("watch"), None, ..) => Some((Route::Watch, ["", ""])),
        (Some("cluster"), None, ..) => Some((Route::Cluster, ["", ""])),
        (Some("namespaces"), Some(ns), Some("services"), name, child, None) => {
            match (name, child) {
                (None, _) => Some((Route::NamespaceServices, [ns, ""])),
                (Some(name), None) => Some((Route::Service, [ns, name])),
                (Some(name), Some("watch")) => Some((Route::ServiceWatch, [ns, name])),
                (Some(name), Some("instances")) => Some((Route::ServiceInstances, [ns, name])),
                _ => None,
            }
        }
        (Some("namespaces"), Some(ns), Some("instances"), Some(name), child, None) => match child {
            None => Some((Route::Instance, [ns, name])),
            Some("heartbeat") => Some((Route::Heartbeat, [ns, name])),
            Some("lease") => Some((Route::Lease, [ns, name])),
            Some("attributes") => Some((Route::Attributes, [ns, name])),
            Some("state") => Some((Route::State, [ns, name])),
            _ => None,
        },
        _ => None,
    }
}

impl Route {
    /// Each of them.
    pub(super) const ALL: [Self; 17] = [
        Self::Page,
        Self::Contract,
        Self::Services,
        Self::Heartbeats,
        Self::Watch,
        Self::Cluster,
        Self::NamespaceServices,
        Self::Service,
        Self::ServiceWatch,
        Self::ServiceInstances,
        Self::Instance,
        Self::Heartbeat,
        Self::Lease,
        Self::Attributes,
        Self::State,
        Self::Instances,
        Self::Snapshot,
    ];

    /// As documents and metrics write it.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Contract => "/openapi.json",
            Self::Services => "/v1/services",
            Self::Heartbeats => "/v1/heartbeats",
            Self::Watch => "/v1/watch",
            Self::Cluster => "/v1/cluster",
            Self::NamespaceServices => "/v1/namespaces/{namespace}/services",
            Self::Service => "/v1/namespaces/{namespace}/services/{service}",
            Self::ServiceWatch => "/v1/namespaces/{namespace}/services/{service}/watch",
            Self::ServiceInstances => "/v1/namespaces/{namespace}/services/{service}/instances",
            Self::Instance => "/v1/namespaces/{namespace}/instances/{name}",
            Self::Heartbeat => "/v1/namespaces/{namespace}/instances/{name}/heartbeat",
            Self::Lease => "/v1/namespaces/{namespace}/instances/{name}/lease",
            Self::Attributes => "/v1/namespaces/{namespace}/instances/{name}/attributes",
            Self::State => "/v1/namespaces/{namespace}/instances/{name}/state",
            Self::Instances => "/v1/instances",
            Self::Snapshot => "/v1/snapshot",
        }
    }

    /// The methods it takes, as `Allow` lists them (RFC 9110 §10.2.1).
    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::Page
            | Self::Contract
            | Self::Services
            | Self::Watch
            | Self::Cluster
            | Self::Snapshot
            | Self::NamespaceServices
            | Self::Service
            | Self::ServiceWatch => "GET, HEAD",
            Self::Heartbeats | Self::Instances | Self::ServiceInstances => "POST",
            Self::Instance => "GET, HEAD, PUT, DELETE",
            Self::Heartbeat | Self::Lease | Self::State => "PUT",
            Self::Attributes => "PATCH",
        }
    }

    /// Whether it takes a method.
    pub(super) fn allows(self, method: &Method) -> bool {
        // Of a pattern of two characters the search alone would cost more than all of the comparisons.
        self.allow().split(',').any(|allowed| allowed.trim_ascii_start() == method.as_str())
    }

    /// The names in its path.
    ///
    /// # Errors
    /// A problem that names each path parameter that is not legal, before anything is looked up.
    pub(super) fn names(self, [namespace, name]: [&str; 2]) -> Result<Names<'_>, Problem> {
        let parameter = match self {
            Self::Page
            | Self::Contract
            | Self::Services
            | Self::Heartbeats
            | Self::Instances
            | Self::Watch
            | Self::Snapshot
            | Self::Cluster => {
                return Ok(Names::default());
            }
            Self::NamespaceServices => None,
            Self::Service | Self::ServiceWatch | Self::ServiceInstances => {
                Some(("service", Legal::Label))
            }
            Self::Instance | Self::Heartbeat | Self::Lease | Self::Attributes | Self::State => {
                Some(("name", Legal::Subdomain))
            }
        };
        let mut flaws = Vec::new();
        let names = Names {
            namespace: legal("namespace", Legal::Label, namespace, &mut flaws),
            name: parameter.map_or(Cow::Borrowed(""), |(parameter, rule)| {
                legal(parameter, rule, name, &mut flaws)
            }),
        };
        if flaws.is_empty() { Ok(names) } else { Err(Problem::of(Kind::IllegalName, flaws)) }
    }
}

#[derive(Clone, Copy)]
enum Legal {
    Label,
    Subdomain,
}

impl Legal {
    fn admits(self, name: &str) -> bool {
        match self {
            Self::Label => naming::is_label(name),
            Self::Subdomain => naming::is_subdomain(name),
        }
    }

    const fn rule(self) -> &'static str {
        match self {
            Self::Label => {
                "must be a DNS label: at most 63 lower-case letters, digits and '-', beginning \
                 and ending with a letter or digit"
            }
            Self::Subdomain => {
                "must be a DNS subdomain: at most 253 characters, labels of lower-case letters, \
                 digits and '-' joined by '.'"
            }
        }
    }
}

fn legal<'a>(parameter: &str, rule: Legal, raw: &'a str, flaws: &mut Vec<Flaw>) -> Cow<'a, str> {
    let decoded = percent::decode(raw, false);
    if let Some(name) = decoded.filter(|name| rule.admits(name)) {
        return name;
    }
    flaws.push(Flaw::path(parameter, rule.rule()));
    Cow::Borrowed("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_means_one_call() {
        for (path, route, names) in [
            ("/", Route::Page, ["", ""]),
            ("/openapi.json", Route::Contract, ["", ""]),
            ("/v1/services", Route::Services, ["", ""]),
            ("/v1/heartbeats", Route::Heartbeats, ["", ""]),
            ("/v1/watch", Route::Watch, ["", ""]),
            ("/v1/cluster", Route::Cluster, ["", ""]),
            ("/v1/namespaces/a/services", Route::NamespaceServices, ["a", ""]),
            ("/v1/namespaces/a/services/b", Route::Service, ["a", "b"]),
            ("/v1/namespaces/a/services/b/watch", Route::ServiceWatch, ["a", "b"]),
            ("/v1/namespaces/a/services/b/instances", Route::ServiceInstances, ["a", "b"]),
            ("/v1/namespaces/a/instances/b", Route::Instance, ["a", "b"]),
            ("/v1/namespaces/a/instances/b/heartbeat", Route::Heartbeat, ["a", "b"]),
            ("/v1/namespaces/a/instances/b/lease", Route::Lease, ["a", "b"]),
            ("/v1/namespaces/a/instances/b/attributes", Route::Attributes, ["a", "b"]),
            ("/v1/namespaces/a/instances/b/state", Route::State, ["a", "b"]),
            ("/v1/instances", Route::Instances, ["", ""]),
            ("/v1/snapshot", Route::Snapshot, ["", ""]),
        ] {
            assert_eq!(find(path), Some((route, names)), "{path}");
        }
    }

    #[test]
    fn everything_else_means_nothing() {
        for path in [
            "",
            "//",
            "/openapi.json/",
            "/v1",
            "/v1/",
            "/v2/services",
            "/v1/services/",
            "/v1/namespaces",
            "/v1/namespaces/a",
            "/v1/namespaces/a/instances",
            "/v1/namespaces/a/instances/b/",
            "/v1/namespaces/a/instances/b/heartbeat/now",
            "/v1/namespaces/a/services/b/instances/c",
            "/v1/namespaces/a/services/b/watch/c",
            "/v1/watch/a",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn illegal_names_are_each_named() {
        let problem = Route::Instance.names(["Shop", "a%2Fb"]).unwrap_err();
        let fields: Vec<_> = problem.flaws.iter().map(|flaw| flaw.field.as_str()).collect();
        assert_eq!(fields, ["namespace", "name"]);
        assert_eq!(Route::Service.names(["shop", "a.b"]).unwrap_err().flaws[0].field, "service");
        assert_eq!(Route::Instance.names(["shop", "%61.b"]).unwrap().name, "a.b");
    }

    #[test]
    fn methods_are_those_that_allow_says() {
        assert!(Route::Instance.allows(&Method::HEAD));
        assert!(!Route::Heartbeat.allows(&Method::POST));
        assert!(!Route::Services.allows(&Method::OPTIONS));
    }
}
