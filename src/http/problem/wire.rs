//! The response for a problem: its body and its headers.
//!
//! Source: RFC 9457.

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::http::{
    headers,
    problem::{Flaw, Problem, ProblemKind},
};

/// An error, as RFC 9457 defines it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(in crate::http) struct ProblemBody<'a> {
    /// The kind of problem, for programs.
    #[schemars(with = "TypeSchema")]
    r#type: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// The status of the response; in a batch, the status that a single call would have had.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What is wrong with this request, and what to do about it.
    detail: &'a str,
    /// Every flaw that was found, 64 at most; absent when no part of the request is at fault.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Flaw],
    #[serde(flatten)]
    #[schemars(with = "ExtensionsSchema")]
    extensions: &'a Map<String, Value>,
}

/// Schema of the `type` member.
enum TypeSchema {}

impl JsonSchema for TypeSchema {
    fn schema_name() -> Cow<'static, str> {
        "ProblemType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let types: Vec<_> = ProblemKind::ALL.into_iter().map(ProblemKind::uri).collect();
        json_schema!({"type": "string", "enum": types, "description": "The kind of problem, for programs."})
    }
}

/// Schema of the extension members (RFC 9457 §3.2).
enum ExtensionsSchema {}

impl JsonSchema for ExtensionsSchema {
    fn schema_name() -> Cow<'static, str> {
        "ProblemMembers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |description: &str| json!({"type": "string", "description": description});
        json_schema!({
            "type": "object",
            "properties": {
                "user": text("forbidden: the user name of the caller, as Kubernetes reports it."),
                "verb": text("forbidden: the verb that this user lacks."),
                "resource": text("forbidden: the resource that the verb is for."),
                "namespace": {"type": ["string", "null"], "description": "forbidden: the namespace of the right; \
                                                                          null means all namespaces."},
                "evictedAt": {"type": "string", "format": "date-time", "description": "evicted: when the instance was evicted."},
                "reason": text("evicted: why the instance was evicted."),
                "uid": text("other-incarnation: the uid of the instance that has the name now."),
                "resourceVersion": text("other-version: the current version; absent when there is no such instance."),
            },
        })
    }
}

impl Problem {
    /// The status and the body, for the result of a batch.
    pub(in crate::http) fn to_value(&self) -> (u16, Value) {
        let value = serde_json::from_slice(&self.to_json()).unwrap_or_default();
        (self.kind.status().as_u16(), value)
    }

    /// The body of the response.
    pub(in crate::http) fn to_json(&self) -> Vec<u8> {
        let body = ProblemBody {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            errors: &self.flaws,
            extensions: &self.extensions,
        };
        // Serializing strings and numbers under string keys cannot fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.reserve(headers::USUAL_COUNT);
        let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
        set(CONTENT_TYPE, "application/problem+json");
        // By default, caches may store responses with some of these statuses (RFC 9110 §15.1), but all of them are
        // temporary.
        set(CACHE_CONTROL, "no-store");
        // RFC 6750 §3.
        match self.kind {
            ProblemKind::Unauthenticated => set(WWW_AUTHENTICATE, "Bearer realm=\"rollcall\""),
            ProblemKind::BadToken => {
                set(WWW_AUTHENTICATE, "Bearer realm=\"rollcall\", error=\"invalid_token\"");
            }
            ProblemKind::Forbidden => {
                set(WWW_AUTHENTICATE, "Bearer realm=\"rollcall\", error=\"insufficient_scope\"");
            }
            // The rest of the body is not read, so the connection cannot be used again.
            ProblemKind::SlowBody | ProblemKind::TooLarge => set(CONNECTION, "close"),
            _ => {}
        }
        if self.index_reset {
            set(headers::INDEX_RESET, "true");
        }
        if let Some(types) = self.accept {
            set(ACCEPT, types);
        }
        if let Some(seconds) = self.retry_after {
            // With jitter, so that clients that were refused together do not retry together.
            let later = seconds + fastrand::u32(0..=seconds.div_ceil(2));
            headers.insert(RETRY_AFTER, HeaderValue::from(later));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}
