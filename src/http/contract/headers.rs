//! Headers of requests and answers, as the contract describes them.

use serde_json::{Map, Value, json};

use super::{names, words};

/// Headers that a request may have.
const REQUEST: [&str; 6] =
    ["Rollcall-Min-Index", "X-Request-Id", "If-Match", "If-None-Match", "Last-Event-ID", "Accept"];

/// On every answer.
const EVERY: [&str; 7] = [
    "Rollcall-Replica",
    "Rollcall-Index",
    "Rollcall-Index-Reset",
    "Rollcall-Age",
    "Rollcall-Stale",
    "X-Request-Id",
    "X-Content-Type-Options",
];

/// Those that are there whatever happens.
const CERTAIN: [&str; 12] = [
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

/// The parameter objects of all request headers, by the name of the component.
pub(super) fn parameters() -> Map<String, Value> {
    REQUEST.iter().map(|name| (names::parameter(name), parameter(name))).collect()
}

fn parameter(name: &str) -> Value {
    let text = || json!({"type": "string"});
    let (says, schema) = match name {
        "Rollcall-Min-Index" => (
            "The Rollcall-Index of an earlier answer, of whichever replica: this one answers when it has applied \
             that much, or 503 after 5 s. So reads never go back, and see what was written elsewhere. Where the store \
             itself has not reached it, the answer comes at once, with Rollcall-Index-Reset.",
            // Of 64 bits without a sign; the numbers that etcd gives are below the half.
            json!({"type": "integer", "format": words::width(None), "minimum": 0, "maximum": u64::MAX}),
        ),
        "X-Request-Id" => (
            "Answered back with the answer, and in the access log, if it has 128 characters at most.",
            text(),
        ),
        "If-Match" => (
            "Only if the instance is one of these versions: ETags of its answers, as `\"12345\"`, several by commas; \
             `*`: only if it is there. A weak ETag is never the one. Else 412.",
            json!({"type": "string", "pattern": "^([*]|((W/)?\"[!#-~]*\"(, ?(W/)?\"[!#-~]*\")*)?)$"}),
        ),
        "If-None-Match" => (
            "The ETag that is known already: 304 while there is nothing new. With wait, the answer is held back for \
             as long.",
            text(),
        ),
        "Last-Event-ID" => (
            "The id of the last event that was received, from whichever replica: what it tells is not told again.",
            text(),
        ),
        _ => (
            "What the client takes; the page is HTML.",
            json!({"type": "string", "default": "text/html"}),
        ),
    };
    let mut parameter = json!({"name": name, "in": "header", "required": false, "description": says, "schema": schema});
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

/// The header objects of all answers, by name.
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
    let all = EVERY.into_iter().chain(others).chain(page);
    all.map(|name| (name.to_owned(), header(name))).collect()
}

fn header(name: &str) -> Value {
    let text = || json!({"type": "string"});
    let (says, schema) = match name {
        "Rollcall-Replica" => ("The replica that answered.", text()),
        "Rollcall-Index" => (
            "The resourceVersion that covers what the answer rests on: all that this replica has applied, and what it \
             wrote itself, the write that is answered among it. On one replica it only grows, but when the store went back (epoch in /v1/cluster). Not there after a \
             deletion of which neither the watch nor the store tells the version in time.",
            words::count().into(),
        ),
        "Rollcall-Index-Reset" => (
            "The store has not reached the Rollcall-Min-Index of the request: it is of another store (etcd was restored \
             from a backup), or made up. Go on with the Rollcall-Index of this answer, though it is lower.",
            json!({"type": "string", "enum": ["true"]}),
        ),
        "Rollcall-Age" => (
            "Milliseconds by which its horizon is behind: up to there it knows of every heartbeat. Not there before \
             that is known.",
            words::count().into(),
        ),
        "Rollcall-Stale" => (
            "Whether that is more than 15 s: the answer may lack what happened since.",
            json!({"type": "string", "enum": ["true", "false"]}),
        ),
        "X-Request-Id" => ("That of the request, if it had one.", text()),
        "X-Content-Type-Options" => {
            ("It is what Content-Type says.", json!({"type": "string", "enum": ["nosniff"]}))
        }
        "ETag" => (
            "Of a set: its revision, weak for another order than by name and for a part. Of an instance: its version.",
            json!({"type": "string", "pattern": "^(W/)?\"[^\"]+\"$"}),
        ),
        "Location" => {
            ("The path of the instance.", json!({"type": "string", "format": "uri-reference"}))
        }
        "Retry-After" => (
            "When to ask again, in seconds, with some chance in it, so that not all come back at once.",
            json!({"type": "integer", "format": "int64", "minimum": 1}),
        ),
        "WWW-Authenticate" => ("Which token is needed (RFC 6750).", text()),
        "Allow" => ("The methods that the path takes.", text()),
        "Accept" => ("The media types that would have been taken (RFC 9110 §12.5.1).", text()),
        "Accept-Patch" => ("The media types of a patch (RFC 5789).", text()),
        "Cache-Control" => {
            ("no-cache: ask again with If-None-Match; no-store: keep it nowhere.", text())
        }
        _ => ("What a browser may do with the page.", text()),
    };
    json!({"description": says, "required": CERTAIN.contains(&name), "schema": schema})
}

/// A header that an answer may have.
pub(super) fn optional(name: &str) -> Value {
    let mut header = header(name);
    if let Some(header) = header.as_object_mut() {
        header.insert("required".to_owned(), false.into());
    }
    header
}

/// The headers of an answer, those of every answer first.
pub(super) fn response(more: &[&str]) -> Map<String, Value> {
    only(&EVERY).into_iter().chain(only(more)).collect()
}

/// What a problem has beside them.
pub(super) fn of_problem(status: u16) -> &'static [&'static str] {
    match status {
        401 | 403 => &["Cache-Control", "WWW-Authenticate"],
        405 => &["Cache-Control", "Allow"],
        415 => &["Cache-Control", "Accept", "Accept-Patch"],
        429 | 503 => &["Cache-Control", "Retry-After"],
        _ => &["Cache-Control"],
    }
}

/// These and no others.
pub(super) fn only(names: &[&str]) -> Map<String, Value> {
    let reference = |name: &&str| json!({"$ref": format!("#/components/headers/{name}")});
    names.iter().map(|name| ((*name).to_owned(), reference(name))).collect()
}
