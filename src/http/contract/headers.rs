//! Headers of requests and responses in the contract.

use serde_json::{Map, Value, json};

use super::{names, values};

/// Headers of requests.
const REQUEST_HEADERS: [&str; 6] =
    ["Rollcall-Min-Index", "X-Request-Id", "If-Match", "If-None-Match", "Last-Event-ID", "Accept"];

/// Headers of every response.
const EVERY_RESPONSE: [&str; 7] = [
    "Rollcall-Replica",
    "Rollcall-Index",
    "Rollcall-Index-Reset",
    "Rollcall-Age",
    "Rollcall-Stale",
    "X-Request-Id",
    "X-Content-Type-Options",
];

/// Headers that are always present in the responses for which the contract lists them.
const ALWAYS_PRESENT: [&str; 12] = [
    "Rollcall-Replica",
    "Rollcall-Stale",
    "X-Content-Type-Options",
    "ETag",
    "Location",
    "Retry-After",
    "Accept",
    "Allow",
    "Cache-Control",
    "Content-Security-Policy",
    "Referrer-Policy",
    "X-Frame-Options",
];

/// The parameter objects of all request headers, by component name.
pub(super) fn parameters() -> Map<String, Value> {
    REQUEST_HEADERS.iter().map(|name| (names::parameter(name), parameter(name))).collect()
}

fn parameter(name: &str) -> Value {
    let text = || json!({"type": "string"});
    let (description, schema) = match name {
        "Rollcall-Min-Index" => (
            "The Rollcall-Index of an earlier response of any replica. This replica answers when it has applied that \
             index, or with 503 after 5 s, so reads never go back in time and include writes through other replicas. \
             If the store itself has not reached the index, the response comes at once, with Rollcall-Index-Reset.",
            // An index is an unsigned 64-bit number; etcd uses only the lower half of the range.
            json!({"type": "integer", "format": values::integer_format(None), "minimum": 0, "maximum": u64::MAX}),
        ),
        "X-Request-Id" => (
            "An id of the request, of at most 128 characters. It is returned in the response and written to the \
             access log.",
            text(),
        ),
        "If-Match" => (
            "Makes the call only if the instance has one of these versions; otherwise the response is 412. A version \
             is the ETag of a response, such as `\"12345\"`; separate several by commas. `*` matches every version \
             of an existing instance. A weak ETag never matches.",
            json!({"type": "string", "pattern": "^([*]|((W/)?\"[!#-~]*\"(, ?(W/)?\"[!#-~]*\")*)?)$"}),
        ),
        "If-None-Match" => (
            "The ETag that the client has: the response is 304 while it is current. With wait, the response waits \
             for a change first.",
            text(),
        ),
        "Last-Event-ID" => (
            "The id of the last event that the client received, from any replica: the stream continues after that \
             event.",
            text(),
        ),
        _ => (
            "The media types that the client accepts; the page is text/html.",
            json!({"type": "string", "default": "text/html"}),
        ),
    };
    let mut parameter = json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema});
    let example = match name {
        "If-Match" => "*",
        "If-None-Match" => "\"8f14e45fceea167a\"",
        "Last-Event-ID" => "8f14e45fceea167a",
        "X-Request-Id" => "checkout-4711",
        _ => return parameter,
    };
    if let Some(parameter) = parameter.as_object_mut() {
        parameter.insert("example".to_owned(), example.into());
    }
    parameter
}

/// The header objects of all responses, by name.
pub(super) fn components() -> Map<String, Value> {
    let others = [
        "ETag",
        "Location",
        "Retry-After",
        "WWW-Authenticate",
        "Allow",
        "Accept",
        "Accept-Patch",
        "Cache-Control",
    ];
    let page = ["Content-Security-Policy", "Referrer-Policy", "X-Frame-Options"];
    let all = EVERY_RESPONSE.into_iter().chain(others).chain(page);
    all.map(|name| (name.to_owned(), header(name))).collect()
}

fn header(name: &str) -> Value {
    let text = || json!({"type": "string"});
    let (description, schema) = match name {
        "Rollcall-Replica" => ("The replica that answered.", text()),
        "Rollcall-Index" => (
            "The resourceVersion up to which the response is current: it covers everything that this replica has \
             applied and its own writes, including the write of this call. On one replica it never falls, unless the \
             store was restored (epoch in /v1/cluster). Absent after a deletion whose version neither the watch nor \
             the store reported in time.",
            values::count().into(),
        ),
        "Rollcall-Index-Reset" => (
            "The store has not reached the Rollcall-Min-Index of the request: the index comes from another store \
             (etcd was restored from a backup), or was made up. Continue with the Rollcall-Index of this response, \
             although it is lower.",
            json!({"type": "string", "enum": ["true"]}),
        ),
        "Rollcall-Age" => (
            "The age of the replica's horizon in milliseconds. The replica knows every heartbeat up to its horizon. \
             Absent until the horizon is known.",
            values::count().into(),
        ),
        "Rollcall-Stale" => (
            "Whether the horizon is older than 15 s: later changes can be missing from the response.",
            json!({"type": "string", "enum": ["true", "false"]}),
        ),
        "X-Request-Id" => ("The X-Request-Id of the request, if it had one.", text()),
        "X-Content-Type-Options" => (
            "Browsers must not guess another type than Content-Type.",
            json!({"type": "string", "enum": ["nosniff"]}),
        ),
        "ETag" => (
            "For a set, its revision: weak when the set is not ordered by name, or limited. For an instance, its \
             version.",
            json!({"type": "string", "pattern": "^(W/)?\"[^\"]+\"$"}),
        ),
        "Location" => {
            ("The path of the instance.", json!({"type": "string", "format": "uri-reference"}))
        }
        "Retry-After" => (
            "When to try again, in seconds, with random jitter, so that clients do not retry at the same time.",
            json!({"type": "integer", "format": "int64", "minimum": 1}),
        ),
        "WWW-Authenticate" => ("The authentication that is needed (RFC 6750).", text()),
        "Allow" => ("The methods that the path takes.", text()),
        "Accept" => ("The media types that the call takes (RFC 9110 §12.5.1).", text()),
        "Accept-Patch" => ("The media types that the call takes as a patch (RFC 5789).", text()),
        "Cache-Control" => (
            "no-cache: a cache must revalidate with If-None-Match; no-store: nothing may be cached.",
            text(),
        ),
        _ => ("Restricts what a browser does with the page.", text()),
    };
    json!({"description": description, "required": ALWAYS_PRESENT.contains(&name), "schema": schema})
}

/// A header that is not always present.
pub(super) fn optional(name: &str) -> Value {
    let mut header = header(name);
    if let Some(header) = header.as_object_mut() {
        header.insert("required".to_owned(), false.into());
    }
    header
}

/// The headers of a response: those of every response, then `more`.
pub(super) fn response(more: &[&str]) -> Map<String, Value> {
    references(&EVERY_RESPONSE).into_iter().chain(references(more)).collect()
}

/// The additional headers of a problem.
pub(super) fn for_problem(status: u16) -> &'static [&'static str] {
    match status {
        401 | 403 => &["Cache-Control", "WWW-Authenticate"],
        405 => &["Cache-Control", "Allow"],
        415 => &["Cache-Control", "Accept", "Accept-Patch"],
        429 | 503 => &["Cache-Control", "Retry-After"],
        _ => &["Cache-Control"],
    }
}

/// References to only these headers.
pub(super) fn references(names: &[&str]) -> Map<String, Value> {
    let reference = |name: &&str| json!({"$ref": format!("#/components/headers/{name}")});
    names.iter().map(|name| ((*name).to_owned(), reference(name))).collect()
}
