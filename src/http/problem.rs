//! Problems: every error response, as `application/problem+json`.
//!
//! Source: RFC 9457. Owns: the type of a problem, and the wording of the intake's refusals. Does not own: finding the
//! fault in a request (`body`, `validate`, `query`, `route`).

mod kind;
pub(in crate::http) mod wire;

use std::{borrow::Cow, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

pub(super) use kind::ProblemKind;

use crate::heartbeat::{Fault, Refusal};
use crate::http::clip;

/// The maximum number of flaws in a problem: most bodies have fewer fields.
const MAX_FLAWS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, description = "The part of the request that is wrong.")]
pub(super) enum FlawLocation {
    Path,
    Query,
    Header,
    Body,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Flaw {
    #[serde(rename = "in")]
    pub(super) location: FlawLocation,
    /// Path of the field within that part, such as `ports[0].name`; empty when the whole part is wrong.
    pub(super) field: String,
    /// What is wrong, and how to correct it.
    pub(super) detail: Cow<'static, str>,
    /// Whether the body's type does not have this field.
    #[serde(skip)]
    pub(super) is_unknown: bool,
}

/// An error response.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    pub(super) detail: Cow<'static, str>,
    pub(super) flaws: Vec<Flaw>,
    /// Extension members (RFC 9457 §3.2).
    pub(super) extensions: Map<String, Value>,
    /// In seconds, before jitter is added.
    pub(super) retry_after: Option<u32>,
    /// The methods that the path takes.
    pub(super) allow: Option<Box<str>>,
    /// The media types that the call takes.
    pub(super) accept: Option<&'static str>,
    /// Whether the store has not reached the request's `Rollcall-Min-Index`.
    pub(super) index_reset: bool,
}

impl Flaw {
    pub(super) fn body(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlawLocation::Body, field, detail)
    }

    /// A field that the body's type does not have.
    pub(super) fn unknown_field(field: &str, known: &[&str]) -> Self {
        let expected = match known {
            [] => "there are no fields".to_owned(),
            [only] => format!("expected {only}"),
            [first, second] => format!("expected {first} or {second}"),
            many => format!("expected one of {}", many.join(", ")),
        };
        let flaw = Self::body(field, format!("unknown field; {expected}"));
        Self { is_unknown: true, ..flaw }
    }

    pub(super) fn query(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlawLocation::Query, field, detail)
    }

    pub(super) fn header(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlawLocation::Header, field, detail)
    }

    pub(super) fn path(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FlawLocation::Path, field, detail)
    }

    fn new(
        location: FlawLocation,
        field: impl Into<String>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (field, detail) =
            (clip::truncate_name(field.into()), clip::truncate_sentence(detail.into()));
        Self { location, field, detail, is_unknown: false }
    }
}

impl From<Fault> for Flaw {
    /// A flaw that the API server found. It names fields of the stored object, such as `spec.ports`; the body of a
    /// request is flat.
    fn from(fault: Fault) -> Self {
        // The API server writes `<nil>` for the whole object.
        let field =
            Some(fault.field.as_str()).filter(|field| *field != "<nil>").unwrap_or_default();
        let flat = field.strip_prefix("spec.").or_else(|| field.strip_prefix("metadata."));
        Self::body(flat.unwrap_or(field), fault.message)
    }
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: clip::truncate_sentence(detail.into()),
            flaws: Vec::new(),
            extensions: Map::new(),
            retry_after: None,
            allow: None,
            accept: None,
            index_reset: false,
        }
    }

    /// A problem whose detail is derived from its flaws.
    pub(super) fn from_flaws(kind: ProblemKind, flaws: Vec<Flaw>) -> Self {
        let detail = match flaws.as_slice() {
            [only] if only.field.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.field, only.detail).into(),
            many => format!("{} fields are invalid; see errors", many.len()).into(),
        };
        Self { flaws, ..Self::new(kind, detail) }.truncate_flaws(MAX_FLAWS)
    }

    /// Drops all but the first `max` flaws. `detail` still has the total number.
    pub(super) fn truncate_flaws(mut self, max: usize) -> Self {
        self.flaws.truncate(max);
        self
    }

    pub(super) fn unknown_route(path: &str) -> Self {
        Self::new(
            ProblemKind::UnknownRoute,
            format!("there is no call with the path {path}; see docs/api.md"),
        )
    }

    pub(super) fn method_not_allowed(template: &str, allow: String) -> Self {
        let detail = format!("{template} takes {allow}");
        Self { allow: Some(allow.into()), ..Self::new(ProblemKind::MethodNotAllowed, detail) }
    }

    pub(super) fn internal(detail: &'static str) -> Self {
        Self::new(ProblemKind::Internal, detail)
    }

    /// The first list of instances is not complete.
    pub(super) fn not_synced() -> Self {
        let detail = "this replica has not yet read all instances from the Kubernetes API; try again, and if this \
                      persists, GET /v1/cluster says what is wrong";
        Self { retry_after: Some(1), ..Self::new(ProblemKind::NotSynced, detail) }
    }

    /// The namespace is outside `--watch-namespace`.
    fn namespace_not_watched(scope: &str, namespace: &str) -> Self {
        let detail = format!(
            "this replica serves namespace {scope} only (--watch-namespace); ask a replica that serves \
             {namespace}"
        );
        let flaw = Flaw::path("namespace", format!("this replica serves {scope} only"));
        // Misdirected Request, RFC 9110 §15.5.20.
        Self { flaws: vec![flaw], ..Self::new(ProblemKind::Refused(421), detail) }
    }

    /// The problem for a refusal of the intake.
    pub(super) fn refused(refusal: Refusal, namespace: &str, name: &str) -> Self {
        match refusal {
            Refusal::Unknown => Self::unknown_instance(namespace, name),
            Refusal::NamespaceMissing => Self::unknown_namespace(namespace),
            Refusal::Gone(recent_eviction) => {
                let when = recent_eviction.evicted.to_string();
                let reason = &recent_eviction.reason;
                let detail = format!(
                    "instance {namespace}/{name} was evicted at {when}: {reason}. Register again"
                );
                let mut problem = Self::new(ProblemKind::Evicted, detail);
                problem.extensions.insert("evictedAt".to_owned(), when.into());
                problem.extensions.insert("reason".to_owned(), reason.as_ref().into());
                problem
            }
            Refusal::Terminating(reason) => Self {
                retry_after: Some(5),
                ..Self::new(ProblemKind::Terminating, format!("{namespace}/{name}: {reason}"))
            },
            Refusal::OtherUid(uid) => {
                let detail = format!("the instance {namespace}/{name} now has uid {uid}");
                let flaw = Flaw::query("uid", format!("the instance with this name has uid {uid}"));
                let mut problem = Self::new(ProblemKind::OtherIncarnation, detail);
                problem.flaws.push(flaw);
                problem.extensions.insert("uid".to_owned(), uid.as_ref().into());
                problem
            }
            Refusal::OtherVersion(version) => Self::other_version(version, namespace, name),
            Refusal::Invalid(faults) => {
                let flaws: Vec<_> = faults.into_iter().map(Flaw::from).collect();
                // In addition to a fault, the API server reports that it skipped the CEL rules, which is not a fault.
                let located = flaws.iter().filter(|flaw| !flaw.field.is_empty()).cloned();
                let located: Vec<_> = located.collect();
                Self::from_flaws(
                    ProblemKind::BadFields,
                    if located.is_empty() { flaws } else { located },
                )
            }
            Refusal::Refused { status, message } => {
                Self::new(ProblemKind::Refused(status), message)
            }
            Refusal::Incapable(message) => {
                let detail = format!(
                    "rollcall itself lacks a right in Kubernetes; the request is not at fault: {message}. \
                     GET /v1/cluster and the log name the right; try again when it is granted"
                );
                Self { retry_after: Some(10), ..Self::new(ProblemKind::Unavailable, detail) }
            }
            Refusal::Unserved => Self::types_not_installed(),
            Refusal::NotCovered(scope) => Self::namespace_not_watched(&scope, namespace),
            Refusal::Unavailable { is_busy, retry_after } => {
                let detail = if is_busy {
                    "the Kubernetes API is refusing more requests for now (429); try again"
                } else {
                    "the Kubernetes API did not answer in time; the request was not refused, so try \
                     again"
                };
                let problem = Self::new(ProblemKind::Unavailable, detail);
                Self { retry_after: Some(ceil_seconds(retry_after)), ..problem }
            }
        }
    }

    fn unknown_namespace(namespace: &str) -> Self {
        let detail = format!(
            "namespace {namespace} does not exist or is being deleted; create it first: \
             kubectl create namespace {namespace}"
        );
        let flaw = Flaw::path("namespace", "does not exist or is being deleted");
        Self { flaws: vec![flaw], ..Self::new(ProblemKind::UnknownNamespace, detail) }
    }

    /// The custom resource definitions are not installed.
    fn types_not_installed() -> Self {
        let detail = "the definitions of rollcall's types are not installed in Kubernetes; the request is not at \
                      fault. Install them with kubectl apply -k crds, and try again";
        Self { retry_after: Some(10), ..Self::new(ProblemKind::Unavailable, detail) }
    }

    pub(super) fn unknown_instance(namespace: &str, name: &str) -> Self {
        let detail = format!(
            "there is no instance {name} in namespace {namespace} (checked with the Kubernetes API); \
             register it with PUT /v1/namespaces/{namespace}/instances/{name}"
        );
        Self::new(ProblemKind::UnknownInstance, detail)
    }

    /// The replica already has the maximum number of waits and watches.
    pub(super) fn too_many_subscribers() -> Self {
        let detail = "this replica cannot take another wait or watch; try again over a new connection, which can \
                      reach another replica, or ask without wait";
        Self { retry_after: Some(5), ..Self::new(ProblemKind::TooManySubscribers, detail) }
    }

    /// `If-Match` names a version, but the instance does not exist.
    pub(super) fn no_instance_to_match(namespace: &str, name: &str) -> Self {
        let detail =
            format!("there is no instance {namespace}/{name}; leave If-Match out to register it");
        let flaw = Flaw::header("If-Match", "there is no such instance");
        Self { flaws: vec![flaw], ..Self::new(ProblemKind::OtherVersion, detail) }
    }

    /// The version of the instance is not one that `If-Match` names.
    fn other_version(version: u64, namespace: &str, name: &str) -> Self {
        let detail = format!(
            "{namespace}/{name} has changed: its ETag is now \"{version}\"; read it again, then decide"
        );
        let flaw = Flaw::header("If-Match", format!("the instance has version \"{version}\""));
        let mut problem = Self::new(ProblemKind::OtherVersion, detail);
        problem.flaws.push(flaw);
        problem.extensions.insert("resourceVersion".to_owned(), version.to_string().into());
        problem
    }
}

/// Whole seconds, rounded up: `Retry-After` has no fractions.
fn ceil_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;
    use rollcall_core::directory::RecentEviction;
    use rollcall_model::lease::{Moment, Wall};

    fn json(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.to_json()).unwrap()
    }

    #[test]
    fn single_flaw_becomes_the_detail() {
        let problem =
            Problem::from_flaws(ProblemKind::BadFields, vec![Flaw::body("weight", "too heavy")]);
        assert_eq!(
            json(&problem),
            serde_json::json!({
                "type": "tag:rollcall.dev,2026:bad-fields",
                "title": "Some fields are invalid",
                "status": 422,
                "detail": "weight: too heavy",
                "errors": [{"in": "body", "field": "weight", "detail": "too heavy"}],
            })
        );
    }

    #[test]
    fn eviction_problem_has_time_and_reason() {
        let recent_eviction =
            RecentEviction { at: Moment(0), evicted: Wall(0), reason: "no heartbeat".into() };
        let problem = json(&Problem::refused(Refusal::Gone(recent_eviction), "shop", "orders-1"));
        assert_eq!(problem["status"], 410);
        assert_eq!(problem["evictedAt"], "1970-01-01T00:00:00.000Z");
        assert_eq!(problem["reason"], "no heartbeat");
    }

    #[test]
    fn stored_field_is_named_as_in_the_flat_body() {
        let fault = Fault { field: "spec.ports[0].name".to_owned(), message: "bad".to_owned() };
        let problem = json(&Problem::refused(Refusal::Invalid(vec![fault]), "shop", "orders-1"));
        assert_eq!(problem["errors"][0]["field"], "ports[0].name");
        let fault = |field: &str| Fault { field: field.to_owned(), message: "bad".to_owned() };
        let faults = vec![fault("<nil>"), fault("spec.attributes")];
        let problem = json(&Problem::refused(Refusal::Invalid(faults), "shop", "orders-1"));
        assert_eq!(problem["errors"].as_array().unwrap().len(), 1);
        assert_eq!(problem["errors"][0]["field"], "attributes");
        let problem = json(&Problem::refused(Refusal::Invalid(vec![fault("<nil>")]), "shop", "a"));
        assert_eq!(problem["errors"][0]["field"], "");
    }

    #[test]
    fn refused_status_is_always_an_error_of_the_contract() {
        assert_eq!(ProblemKind::Refused(409).status(), StatusCode::CONFLICT);
        assert_eq!(
            ProblemKind::Refused(418).status(),
            StatusCode::FORBIDDEN,
            "418 is not in the contract"
        );
        assert_eq!(ProblemKind::Refused(200).status(), StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn retry_after_rounds_up() {
        let refusal =
            Refusal::Unavailable { is_busy: false, retry_after: Duration::from_millis(1200) };
        assert_eq!(Problem::refused(refusal, "a", "b").retry_after, Some(2));
    }
}
