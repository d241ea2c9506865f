//! Why a call to the Kubernetes API failed, as far as it makes a difference to the caller.

use std::time::Duration;

use kube::core::Status;
use thiserror::Error;

use crate::telemetry::problems::Lack;

/// A field that the API server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its path, as in `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A failed call.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Failure {
    /// No answer in time, no connection, or an answer that says so (5xx).
    #[error("the Kubernetes API is away or too slow: {0}")]
    Away(String),
    /// 429: it lives, and takes no more now.
    #[error("the Kubernetes API takes no more now: {message}")]
    Busy {
        /// The API server's sentence.
        message: String,
        /// When it wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// 404 of the path: not an object is missing, but the type is not served.
    #[error("the Kubernetes API does not serve this type: are the definitions (crds/) installed?")]
    Unserved,
    /// 404.
    #[error("not found: {0}")]
    NotFound(String),
    /// The namespace itself is missing (404), or being deleted (403).
    #[error("{0}")]
    NoNamespace(String),
    /// 409, or a precondition that does not hold any more.
    #[error("the object has changed: {0}")]
    Conflict(String),
    /// 422: these fields.
    #[error("refused as invalid: {message}")]
    Invalid {
        /// The API server's sentence.
        message: String,
        /// Each bad field.
        faults: Vec<Fault>,
    },
    /// Any other refusal.
    #[error("refused with {code}: {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// The API server's sentence.
        message: String,
    },
    /// Not sent: this replica does not lead any more.
    #[error("not sent: this replica no longer leads")]
    NotLeading,
    /// An answer that is not what was asked for.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

impl Failure {
    /// Whether it is rollcall's own right that is missing (RBAC), and not something that the caller asked
    /// for which the API server will not have.
    ///
    /// The API server refuses both with the same code, reason and details, without causes (`ForbiddenStatusError` and
    /// `NewForbidden` in k8s.io/apiserver): only its sentence tells one from the other.
    #[must_use]
    pub fn is_own_right(&self) -> bool {
        match self {
            Self::Refused { code: 401, .. } => true,
            Self::Refused { code: 403, message } => {
                message.contains(" is forbidden: User ") && message.contains(" cannot ")
            }
            _ => false,
        }
    }

    /// What is missing for rollcall itself, if a refusal says so: with the verb and the resource where it names them.
    pub(super) fn lack(&self) -> Option<(Lack, Option<(&str, &str)>)> {
        match self {
            Self::Unserved => Some((Lack::Type, None)),
            Self::Refused { code: 403, message } if self.is_own_right() => {
                Some((Lack::Right, refused_right(message)))
            }
            _ => None,
        }
    }

    /// Whether the namespace itself is missing or being deleted.
    #[must_use]
    pub fn is_missing_namespace(&self) -> bool {
        matches!(self, Self::NoNamespace(_))
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(*status),
            kube::Error::SerdeError(error) => Self::Unreadable(error.to_string()),
            other => Self::Away(root(&other)),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let is_no_namespace = is_no_namespace(&status);
        let message = status.message;
        match status.code {
            _ if is_no_namespace => Self::NoNamespace(message),
            404 if status.reason == "NotFound" => Self::NotFound(message),
            404 => Self::Unserved,
            409 => Self::Conflict(message),
            422 => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                let fault = |c: kube::core::response::StatusCause| Fault {
                    field: c.field,
                    message: c.message,
                };
                Self::Invalid { message, faults: causes.into_iter().map(fault).collect() }
            }
            429 => {
                let seconds = status.details.map_or(0, |details| details.retry_after_seconds);
                let retry_after = Some(Duration::from_secs(seconds.into()));
                Self::Busy { message, retry_after: retry_after.filter(|span| !span.is_zero()) }
            }
            500.. => Self::Away(message),
            code => Self::Refused { code, message },
        }
    }
}

/// Whether the namespace is missing, or (by the cause that admission gives: corev1.NamespaceTerminatingCause) being deleted.
fn is_no_namespace(status: &Status) -> bool {
    let Some(details) = &status.details else { return false };
    match status.code {
        404 => {
            status.reason == "NotFound" && details.group.is_empty() && details.kind == "namespaces"
        }
        403 => details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"),
        _ => false,
    }
}

/// Nothing else says it: an apply needs the verbs create and patch, and the details name the object alone.
///
/// Of `… is forbidden: User "u" cannot patch resource "serviceinstances/status" in API group "rollcall.dev" …` the verb and
/// the resource.
fn refused_right(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, _) = rest.split_once('"')?;
    Some((verb, resource))
}

/// The innermost cause, which is what a person wants to read.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_right_that_is_missing() {
        let message = "serviceinstances.rollcall.dev \"a\" is forbidden: User \"rollcall\" cannot patch resource \
                       \"serviceinstances/status\" in API group \"rollcall.dev\" in the namespace \"shop\"";
        let right = Some((Lack::Right, Some(("patch", "serviceinstances/status"))));
        assert_eq!(status(403, "Forbidden", message).lack(), right);
        let policy = "serviceinstances.rollcall.dev \"a\" is forbidden: exceeded quota";
        assert_eq!(status(403, "Forbidden", policy).lack(), None, "it is the caller's matter");
        let unserved = status(404, "", "404 page not found");
        assert_eq!(unserved.lack(), Some((Lack::Type, None)));
    }

    fn status(code: u16, reason: &str, message: &str) -> Failure {
        detailed(code, reason, message, serde_json::json!(null))
    }

    fn detailed(code: u16, reason: &str, message: &str, details: serde_json::Value) -> Failure {
        let details = serde_json::from_value(details).unwrap();
        let (reason, message) = (reason.to_owned(), message.to_owned());
        Failure::from(Status { code, reason, message, details, ..Status::default() })
    }

    #[test]
    fn missing_namespace_is_known_by_its_details_not_its_message() {
        let missing = serde_json::json!({"name": "a", "kind": "namespaces"});
        assert!(detailed(404, "NotFound", "", missing).is_missing_namespace());
        let cause =
            serde_json::json!({"reason": "NamespaceTerminating", "field": "metadata.namespace"});
        let details = serde_json::json!({"name": "a", "causes": [cause]});
        assert!(detailed(403, "Forbidden", "", details).is_missing_namespace());
        let said = "a webhook says: the pod is being terminated";
        assert!(!status(403, "Forbidden", said).is_missing_namespace());
        let object =
            serde_json::json!({"name": "a", "group": "rollcall.dev", "kind": "serviceinstances"});
        let misleading = "namespaces of this object: none; not found";
        assert!(!detailed(404, "NotFound", misleading, object).is_missing_namespace());
    }

    #[test]
    fn a_type_that_is_not_served_is_not_a_missing_object() {
        let unserved = status(404, "Failed to parse error data", "404 page not found\n");
        assert!(unserved == Failure::Unserved && unserved.to_string().contains("crds/"));
        let missing = status(404, "NotFound", "serviceinstances.rollcall.dev \"a\" not found");
        assert!(matches!(missing, Failure::NotFound(_)));
        assert!(!missing.is_missing_namespace());
    }
}
