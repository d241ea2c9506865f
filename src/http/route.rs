//! The paths of the API.
//!
//! Owns: the path templates, which are also the values of the metrics label `route`, and the validation of the names in
//! paths. Does not own: matching (axum) and the methods (`table`).

use rollcall_model::naming;

use crate::heartbeat::Target;
use crate::http::{
    percent,
    problem::{Flaw, Problem, ProblemKind},
    rules,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// The names in a path, decoded and valid; empty if the path has no names. `name` is the service or the instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathNames<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// [`PathNames`] without a reference to the request.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnedPathNames {
    namespace: Box<str>,
    name: Box<str>,
}

impl<'a> PathNames<'a> {
    /// The instance that the path names; if there is a uid, only the incarnation with that uid.
    pub(super) fn target(self, uid: Option<&'a str>) -> Target<'a> {
        Target { namespace: self.namespace, name: self.name, uid, version: None }
    }
}

impl OwnedPathNames {
    pub(super) fn get(&self) -> PathNames<'_> {
        PathNames { namespace: &self.namespace, name: &self.name }
    }

    /// Parses the names in a path that axum has matched with this template.
    ///
    /// # Errors
    /// 400 that lists every invalid name, before any lookup.
    pub(super) fn parse(template: &str, path: &str) -> Result<Self, Problem> {
        let (mut names, mut flaws) = (Self::default(), Vec::new());
        for (segment, raw) in template.split('/').zip(path.split('/')) {
            let parameter = segment.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
            let Some(parameter) = parameter else { continue };
            let (is_valid, rule): (fn(&str) -> bool, _) = match parameter {
                "name" => (naming::is_subdomain, rules::SUBDOMAIN),
                _ => (naming::is_label, rules::LABEL),
            };
            match percent::decode(raw, false).filter(|name| is_valid(name)) {
                None => flaws.push(Flaw::path(parameter, rule)),
                Some(name) if parameter == "namespace" => names.namespace = name.into(),
                Some(name) => names.name = name.into(),
            }
        }
        if flaws.is_empty() {
            Ok(names)
        } else {
            Err(Problem::from_flaws(ProblemKind::IllegalName, flaws))
        }
    }
}

impl Route {
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

    /// The path as axum, the OpenAPI document and metrics write it.
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
}
