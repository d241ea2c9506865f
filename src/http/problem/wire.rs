//! A problem as it is sent: its body and its headers.
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
    problem::{Flaw, Kind, Problem},
};

/// What went wrong, as RFC 9457 writes it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(in crate::http) struct Wire<'a> {
    /// For programs.
    #[schemars(with = "Type")]
    r#type: String,
    /// The same for people.
    title: &'static str,
    /// The status of the answer; inside a batch, the one that it would have had alone.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What is wrong with this request, and what to do.
    detail: &'a str,
    /// Every flaw that was found; not there when there is none to be named.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Flaw],
    #[serde(flatten)]
    #[schemars(with = "More")]
    more: &'a Map<String, Value>,
}

/// The `type` of a problem.
enum Type {}

impl JsonSchema for Type {
    fn schema_name() -> Cow<'static, str> {
        "ProblemType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let types: Vec<_> = Kind::ALL.into_iter().map(Kind::uri).collect();
        json_schema!({"type": "string", "enum": types, "description": "What went wrong, for programs."})
    }
}

/// Members beyond those of the RFC.
enum More {}

impl JsonSchema for More {
    fn schema_name() -> Cow<'static, str> {
        "ProblemMembers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |says: &str| json!({"type": "string", "description": says});
        json_schema!({
            "type": "object",
            "properties": {
                "user": text("forbidden: who is calling, as Kubernetes says."),
                "verb": text("forbidden: what is missing for this user."),
                "resource": text("forbidden: on what."),
                "namespace": {"type": ["string", "null"], "description": "forbidden: where; null means everywhere."},
                "evictedAt": {"type": "string", "format": "date-time", "description": "evicted: when."},
                "reason": text("evicted: why."),
                "uid": text("other-incarnation: the one that bears the name."),
                "resourceVersion": text("other-version: the one that it has; not there where it is not there."),
            },
        })
    }
}

impl Problem {
    /// The same inside another answer, with its status.
    pub(in crate::http) fn to_value(&self) -> (u16, Value) {
        let value = serde_json::from_slice(&self.to_json()).unwrap_or_default();
        (self.kind.status().as_u16(), value)
    }

    /// The body of the answer.
    pub(in crate::http) fn to_json(&self) -> Vec<u8> {
        let (_, title) = self.kind.words();
        let wire = Wire {
            r#type: self.kind.uri(),
            title,
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            errors: &self.flaws,
            more: &self.more,
        };
        // Strings and numbers with string keys cannot fail to be written.
        serde_json::to_vec(&wire).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.reserve(headers::USUAL);
        let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
        set(CONTENT_TYPE, "application/problem+json");
        // Some statuses may be kept unless it is said (RFC 9110 §15.1), and none of these lasts.
        set(CACHE_CONTROL, "no-store");
        // RFC 6750 §3.
        match self.kind {
            Kind::Unauthenticated => set(WWW_AUTHENTICATE, "Bearer realm=\"rollcall\""),
            Kind::BadToken => {
                set(WWW_AUTHENTICATE, "Bearer realm=\"rollcall\", error=\"invalid_token\"");
            }
            Kind::Forbidden => {
                set(WWW_AUTHENTICATE, "Bearer realm=\"rollcall\", error=\"insufficient_scope\"");
            }
            // What is left of the body is not worth reading.
            Kind::SlowBody | Kind::TooLarge => set(CONNECTION, "close"),
            _ => {}
        }
        if self.index_reset {
            set(headers::INDEX_RESET, "true");
        }
        if let Some(types) = self.accept {
            set(ACCEPT, types);
        }
        if let Some(seconds) = self.retry_after {
            // With jitter: clients that were refused together should not come back together.
            let later = seconds + fastrand::u32(0..=seconds.div_ceil(2));
            headers.insert(RETRY_AFTER, HeaderValue::from(later));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}
