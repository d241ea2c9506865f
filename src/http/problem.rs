//! Problems: every answer that is not what was asked for, as `application/problem+json`.
//!
//! Source: RFC 9457. Owns: what a problem is, and the wording of what the intake refuses. Does not own: finding what is wrong
//! (`body`, `validate`, `query`, `route`).

mod kind;
pub(in crate::http) mod wire;

use std::{borrow::Cow, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

pub(super) use kind::Kind;

use crate::heartbeat::{Fault, Refusal};
use crate::http::clip;

/// Flaws that are shown of one request: more than most have fields.
const MOST_FLAWS: usize = 64;

/// Where a flaw is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, description = "Where it is.")]
pub(super) enum Place {
    Path,
    Query,
    Header,
    Body,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Flaw {
    #[serde(rename = "in")]
    pub(super) place: Place,
    /// Path of the field within its place, such as `ports[0].name`; empty for the whole.
    pub(super) field: String,
    /// What is wrong, and what to do about it.
    pub(super) detail: Cow<'static, str>,
    /// Whether the body's type has no such field.
    #[serde(skip)]
    pub(super) is_unknown: bool,
}

/// An answer that says why not.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    pub(super) detail: Cow<'static, str>,
    pub(super) flaws: Vec<Flaw>,
    /// Members beyond those of the RFC.
    pub(super) more: Map<String, Value>,
    /// Seconds.
    pub(super) retry_after: Option<u32>,
    /// The methods that would have been allowed.
    pub(super) allow: Option<Box<str>>,
    /// The media types that would have been taken.
    pub(super) accept: Option<&'static str>,
    /// Whether `Rollcall-Min-Index` was of another store.
    pub(super) index_reset: bool,
}

impl Flaw {
    pub(super) fn body(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::at(Place::Body, field, detail)
    }

    /// A field that is none of these.
    pub(super) fn unknown_field(field: &str, known: &[&str]) -> Self {
        let listed = match known {
            [] => "there are no fields".to_owned(),
            [only] => format!("expected {only}"),
            [one, other] => format!("expected {one} or {other}"),
            many => format!("expected one of {}", many.join(", ")),
        };
        let flaw = Self::body(field, format!("unknown field; {listed}"));
        Self { is_unknown: true, ..flaw }
    }

    pub(super) fn query(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::at(Place::Query, field, detail)
    }

    pub(super) fn header(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::at(Place::Header, field, detail)
    }

    pub(super) fn path(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::at(Place::Path, field, detail)
    }

    fn at(place: Place, field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        let (field, detail) = (clip::name(field.into()), clip::sentence(detail.into()));
        Self { place, field, detail, is_unknown: false }
    }
}

impl From<Fault> for Flaw {
    /// The API server names fields of the stored object; the body here is flat.
    fn from(fault: Fault) -> Self {
        // `<nil>` is the whole object.
        let field =
            Some(fault.field.as_str()).filter(|field| *field != "<nil>").unwrap_or_default();
        let flat = field.strip_prefix("spec.").or_else(|| field.strip_prefix("metadata."));
        Self::body(flat.unwrap_or(field), fault.message)
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: clip::sentence(detail.into()),
            flaws: Vec::new(),
            more: Map::new(),
            retry_after: None,
            allow: None,
            accept: None,
            index_reset: false,
        }
    }

    /// A problem whose flaws say it all.
    pub(super) fn of(kind: Kind, flaws: Vec<Flaw>) -> Self {
        let detail = match flaws.as_slice() {
            [only] if only.field.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.field, only.detail).into(),
            many => format!("{} fields are wrong; see errors", many.len()).into(),
        };
        Self { flaws, ..Self::new(kind, detail) }.with_at_most(MOST_FLAWS)
    }

    /// The same with so many flaws at most; `detail` says how many there were.
    pub(super) fn with_at_most(mut self, flaws: usize) -> Self {
        self.flaws.truncate(flaws);
        self
    }

    /// No route has this path.
    pub(super) fn unknown_route(path: &str) -> Self {
        Self::new(Kind::UnknownRoute, format!("no call has the path {path}; see docs/api.md"))
    }

    /// A route does not take this method.
    pub(super) fn method_not_allowed(template: &str, allow: String) -> Self {
        let detail = format!("{template} takes {allow}");
        Self { allow: Some(allow.into()), ..Self::new(Kind::MethodNotAllowed, detail) }
    }

    /// The fault is ours.
    pub(super) fn internal(detail: &'static str) -> Self {
        Self::new(Kind::Internal, detail)
    }

    /// The first list of instances is still on its way.
    pub(super) fn not_synced() -> Self {
        let detail = "it has not yet read all instances from Kubernetes; ask again in a second";
        Self { retry_after: Some(1), ..Self::new(Kind::NotSynced, detail) }
    }

    /// Another replica may know.
    fn not_covered(scope: &str, namespace: &str) -> Self {
        let detail = format!(
            "this replica looks after namespace {scope} only (--watch-namespace); ask one that \
             looks after {namespace}"
        );
        let flaw = Flaw::path("namespace", format!("this replica looks after {scope} only"));
        // Misdirected Request, RFC 9110 §15.5.20.
        Self { flaws: vec![flaw], ..Self::new(Kind::Refused(421), detail) }
    }

    /// What the intake refuses to do with an instance.
    pub(super) fn refused(refusal: Refusal, namespace: &str, name: &str) -> Self {
        match refusal {
            Refusal::Unknown => Self::unknown(namespace, name),
            Refusal::NamespaceMissing => Self::unknown_namespace(namespace),
            Refusal::Gone(recent_eviction) => {
                let when = recent_eviction.evicted.to_string();
                let reason = &recent_eviction.reason;
                let detail = format!(
                    "instance {namespace}/{name} was evicted at {when}: {reason}. Register again"
                );
                let mut gone = Self::new(Kind::Evicted, detail);
                gone.more.insert("evictedAt".to_owned(), when.into());
                gone.more.insert("reason".to_owned(), reason.as_ref().into());
                gone
            }
            Refusal::Terminating(why) => Self {
                retry_after: Some(5),
                ..Self::new(Kind::Terminating, format!("{namespace}/{name}: {why}"))
            },
            Refusal::OtherUid(uid) => {
                let detail = format!("the name {namespace}/{name} is borne by the uid {uid} now");
                let flaw = Flaw::query("uid", format!("the instance of this name has uid {uid}"));
                let mut other = Self::new(Kind::OtherIncarnation, detail);
                other.flaws.push(flaw);
                other.more.insert("uid".to_owned(), uid.as_ref().into());
                other
            }
            Refusal::OtherVersion(version) => Self::other_version(version, namespace, name),
            Refusal::Invalid(faults) => {
                let flaws: Vec<_> = faults.into_iter().map(Flaw::from).collect();
                // Beside a fault there stands that the rules were not looked at, which is no fault.
                let named = flaws.iter().filter(|flaw| !flaw.field.is_empty()).cloned();
                let named: Vec<_> = named.collect();
                Self::of(Kind::BadFields, if named.is_empty() { flaws } else { named })
            }
            Refusal::Refused { status, message } => Self::new(Kind::Refused(status), message),
            Refusal::Incapable(message) => {
                let detail = format!(
                    "rollcall itself lacks a right in Kubernetes, and nothing is wrong with the call: \
                     {message}. GET /v1/cluster and its log say which; try again when it is granted"
                );
                Self { retry_after: Some(10), ..Self::new(Kind::Unavailable, detail) }
            }
            Refusal::Unserved => Self::unserved(),
            Refusal::NotCovered(scope) => Self::not_covered(&scope, namespace),
            Refusal::Away { is_busy, retry_after } => {
                let detail = if is_busy {
                    "the Kubernetes API says that it takes no more now (429); try again"
                } else {
                    "the Kubernetes API does not answer, or not in time; nothing was refused, so \
                     try again"
                };
                let away = Self::new(Kind::Unavailable, detail);
                Self { retry_after: Some(seconds_up(retry_after)), ..away }
            }
        }
    }

    /// No such namespace.
    fn unknown_namespace(namespace: &str) -> Self {
        let detail = format!(
            "namespace {namespace} does not exist or is being deleted; create it first: \
             kubectl create namespace {namespace}"
        );
        let flaw = Flaw::path("namespace", "does not exist or is being deleted");
        Self { flaws: vec![flaw], ..Self::new(Kind::UnknownNamespace, detail) }
    }

    /// The definitions are not installed.
    fn unserved() -> Self {
        let detail = "the definitions of rollcall's types are not installed in Kubernetes, and nothing is wrong with \
                      the call: install them with kubectl apply -k crds, and try again";
        Self { retry_after: Some(10), ..Self::new(Kind::Unavailable, detail) }
    }

    /// No such instance.
    pub(super) fn unknown(namespace: &str, name: &str) -> Self {
        let detail = format!(
            "no instance {name} in namespace {namespace}, as the API server says; register it \
             with PUT /v1/namespaces/{namespace}/instances/{name}"
        );
        Self::new(Kind::UnknownInstance, detail)
    }

    /// Nobody more may wait for changes here.
    pub(super) fn too_many_subscribers() -> Self {
        let detail = "no more waits and watches fit here; try again, by a new connection that may lead \
                      to another replica, or ask without wait";
        Self { retry_after: Some(5), ..Self::new(Kind::TooManySubscribers, detail) }
    }

    /// A version was meant, and there is none.
    pub(super) fn not_there(namespace: &str, name: &str) -> Self {
        let detail = format!("there is no {namespace}/{name}: leave If-Match out to register it");
        let flaw = Flaw::header("If-Match", "the instance is not there");
        Self { flaws: vec![flaw], ..Self::new(Kind::OtherVersion, detail) }
    }

    /// Another version than was meant.
    fn other_version(version: u64, namespace: &str, name: &str) -> Self {
        let detail = format!(
            "{namespace}/{name} has changed since: its ETag is \"{version}\" now; read it, and decide anew"
        );
        let flaw = Flaw::header("If-Match", format!("the instance is version \"{version}\""));
        let mut other = Self::new(Kind::OtherVersion, detail);
        other.flaws.push(flaw);
        other.more.insert("resourceVersion".to_owned(), version.to_string().into());
        other
    }
}

/// Whole seconds, rounded up: `Retry-After` knows no others.
fn seconds_up(span: Duration) -> u32 {
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
    fn a_single_flaw_is_the_detail_and_every_flaw_names_its_field() {
        let problem = Problem::of(Kind::BadFields, vec![Flaw::body("weight", "too heavy")]);
        assert_eq!(
            json(&problem),
            serde_json::json!({
                "type": "tag:rollcall.dev,2026:bad-fields",
                "title": "Some fields are not as they must be",
                "status": 422,
                "detail": "weight: too heavy",
                "errors": [{"in": "body", "field": "weight", "detail": "too heavy"}],
            })
        );
    }

    #[test]
    fn an_eviction_says_when_and_why() {
        let recent_eviction =
            RecentEviction { at: Moment(0), evicted: Wall(0), reason: "no beat".into() };
        let problem = json(&Problem::refused(Refusal::Gone(recent_eviction), "shop", "orders-1"));
        assert_eq!(problem["status"], 410);
        assert_eq!(problem["evictedAt"], "1970-01-01T00:00:00.000Z");
        assert_eq!(problem["reason"], "no beat");
    }

    #[test]
    fn a_field_of_the_stored_object_is_named_as_in_the_flat_body() {
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
    fn the_api_server_cannot_make_a_refusal_look_like_success() {
        assert_eq!(Kind::Refused(409).status(), StatusCode::CONFLICT);
        assert_eq!(Kind::Refused(418).status(), StatusCode::FORBIDDEN, "as the contract knows it");
        assert_eq!(Kind::Refused(200).status(), StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn retry_after_is_never_shorter_than_asked() {
        let refusal = Refusal::Away { is_busy: false, retry_after: Duration::from_millis(1200) };
        assert_eq!(Problem::refused(refusal, "a", "b").retry_after, Some(2));
    }
}
