//! Why a call to the Kubernetes API failed: the cases that callers handle differently.

use std::time::Duration;

use kube::core::Status;
use thiserror::Error;

use crate::telemetry::problems::MissingKind;

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
    /// No answer in time, no connection, or a server error (5xx).
    #[error("the Kubernetes API is unavailable or too slow: {0}")]
    Unavailable(String),
    /// 429: the API server is up, and limits its load.
    #[error("the Kubernetes API accepts no more requests now: {message}")]
    Busy {
        /// The API server's message.
        message: String,
        /// The pause that the API server asks for, if it does.
        retry_after: Option<Duration>,
    },
    /// 404 for the path: the API server does not know the type at all.
    #[error(
        "the Kubernetes API does not serve this type: install rollcall's definitions (kubectl apply -k crds)"
    )]
    Unserved,
    /// 404.
    #[error("not found: {0}")]
    NotFound(String),
    /// The namespace itself is missing (404), or being deleted (403).
    #[error("{0}")]
    NoNamespace(String),
    /// 409, or a precondition that no longer holds.
    #[error("the object has changed: {0}")]
    Conflict(String),
    /// 422: these fields are invalid.
    #[error("the Kubernetes API refused the object as invalid: {message}")]
    Invalid {
        /// The API server's message.
        message: String,
        /// Each invalid field.
        faults: Vec<Fault>,
    },
    /// Any other refusal.
    #[error("the Kubernetes API refused with {code}: {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// The API server's message.
        message: String,
    },
    /// The write was not sent, because this replica no longer leads.
    #[error("not sent: this replica no longer leads")]
    NotLeading,
    /// The answer cannot be decoded as what was requested.
    #[error("cannot read the answer of the Kubernetes API: {0}")]
    Unreadable(String),
}

impl Failure {
    /// Whether rollcall itself lacks a right (RBAC), as opposed to a policy that refuses the caller's request.
    ///
    /// The API server refuses both with the same code, reason and details, without causes (`ForbiddenStatusError` and
    /// `NewForbidden` in k8s.io/apiserver): only its message distinguishes them.
    #[must_use]
    pub fn is_missing_own_right(&self) -> bool {
        match self {
            Self::Refused { code: 401, .. } => true,
            Self::Refused { code: 403, message } => {
                message.contains(" is forbidden: User ") && message.contains(" cannot ")
            }
            _ => false,
        }
    }

    /// The definition or right that rollcall itself lacks, if the refusal reports one, with the verb and the resource
    /// where the message names them.
    pub(super) fn lack(&self) -> Option<(MissingKind, Option<(&str, &str)>)> {
        match self {
            Self::Unserved => Some((MissingKind::Type, None)),
            Self::Refused { code: 403, message } if self.is_missing_own_right() => {
                Some((MissingKind::Right, refused_right(message)))
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
            other => Self::Unavailable(root_cause(&other)),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let names_missing_namespace = names_missing_namespace(&status);
        let message = status.message;
        match status.code {
            _ if names_missing_namespace => Self::NoNamespace(message),
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
            500.. => Self::Unavailable(message),
            code => Self::Refused { code, message },
        }
    }
}

/// Whether the namespace is missing or being deleted. Admission reports the latter with a cause
/// (corev1.NamespaceTerminatingCause).
fn names_missing_namespace(status: &Status) -> bool {
    let Some(details) = &status.details else { return false };
    match status.code {
        404 => {
            status.reason == "NotFound" && details.group.is_empty() && details.kind == "namespaces"
        }
        403 => details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"),
        _ => false,
    }
}

/// The verb and the resource in `… is forbidden: User "u" cannot patch resource "serviceinstances/status" in API group
/// "rollcall.dev" …`.
///
/// They are only in the message: an apply needs the verbs create and patch, and the details name only the object.
fn refused_right(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, _) = rest.split_once('"')?;
    Some((verb, resource))
}

/// The innermost cause: the outer errors only say that a request failed.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
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
    fn refusal_names_the_missing_right() {
        let message = "serviceinstances.rollcall.dev \"a\" is forbidden: User \"rollcall\" cannot patch resource \
                       \"serviceinstances/status\" in API group \"rollcall.dev\" in the namespace \"shop\"";
        let right = Some((MissingKind::Right, Some(("patch", "serviceinstances/status"))));
        assert_eq!(status(403, "Forbidden", message).lack(), right);
        let policy = "serviceinstances.rollcall.dev \"a\" is forbidden: exceeded quota";
        assert_eq!(
            status(403, "Forbidden", policy).lack(),
            None,
            "a quota limits the caller, not rollcall"
        );
        let unserved = status(404, "", "404 page not found");
        assert_eq!(unserved.lack(), Some((MissingKind::Type, None)));
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
    fn missing_namespace_is_recognized_by_details_not_by_message() {
        let missing = serde_json::json!({"name": "a", "kind": "namespaces"});
        assert!(detailed(404, "NotFound", "", missing).is_missing_namespace());
        let cause =
            serde_json::json!({"reason": "NamespaceTerminating", "field": "metadata.namespace"});
        let details = serde_json::json!({"name": "a", "causes": [cause]});
        assert!(detailed(403, "Forbidden", "", details).is_missing_namespace());
        let webhook = "a webhook says: the pod is being terminated";
        assert!(!status(403, "Forbidden", webhook).is_missing_namespace());
        let object =
            serde_json::json!({"name": "a", "group": "rollcall.dev", "kind": "serviceinstances"});
        let misleading = "namespaces of this object: none; not found";
        assert!(!detailed(404, "NotFound", misleading, object).is_missing_namespace());
    }

    #[test]
    fn unserved_type_is_not_a_missing_object() {
        let unserved = status(404, "Failed to parse error data", "404 page not found\n");
        assert!(unserved == Failure::Unserved && unserved.to_string().contains("-k crds"));
        let missing = status(404, "NotFound", "serviceinstances.rollcall.dev \"a\" not found");
        assert!(matches!(missing, Failure::NotFound(_)));
        assert!(!missing.is_missing_namespace());
    }
}
