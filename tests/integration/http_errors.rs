//! Invalid requests over HTTP: each mistake has its own problem, which names the field.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::Value;

use crate::support::{Rollcall, http, namespace};

const INSTANCE: &str = "/v1/namespaces/NS/instances/orders-1";
const BEAT: &str = "/v1/namespaces/NS/instances/orders-1/heartbeat";
const ATTRIBUTES: &str = "/v1/namespaces/NS/instances/orders-1/attributes";
const JSON: &str = "content-type: application/json\r\n";
const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const ZIPPED: &str = "content-type: application/json\r\ncontent-encoding: gzip\r\n";

/// A request and its expected problem: status, field, and a part of the detail.
struct Case {
    method: &'static str,
    path: &'static str,
    headers: &'static str,
    body: Vec<u8>,
    status: u16,
    field: &'static str,
    detail: &'static str,
}

fn case(
    [method, path, headers]: [&'static str; 3],
    body: impl Into<Vec<u8>>,
    (status, field, detail): (u16, &'static str, &'static str),
) -> Case {
    Case { method, path, headers, body: body.into(), status, field, detail }
}

fn bodies() -> Vec<Case> {
    let put = ["PUT", INSTANCE, JSON];
    let with =
        |fields: &str| format!(r#"{{"service": "orders", "addresses": ["10.0.0.7"]{fields}}}"#);
    let large = with(&format!(r#", "attributes": {{"a": "{}"}}"#, "x".repeat(70_000)));
    vec![
        case(put, "", (400, "", "empty")),
        case(put, r#"{"service": "#, (400, "service", "invalid JSON")),
        case(put, with("") + "x", (400, "", "trailing")),
        case(put, b"{\"service\": \"\xff\"}".as_slice(), (400, "", "UTF-8")),
        case(put, "[]", (422, "", "expected an object")),
        case(put, with(r#", "wieght": 1"#), (422, "wieght", "unknown field")),
        case(put, with(r#", "weight": 1, "weight": 1"#), (422, "weight", "twice")),
        case(put, with(r#", "labels": {"a": "1", "a": "1"}"#), (422, "labels.a", "twice")),
        case(put, with(r#", "attributes": {"a": 1}"#), (422, "attributes.a", "a string")),
        case(
            put,
            with(r#", "ports": [{"name": "a", "port": "80"}]"#),
            (422, "ports[0].port", "whole number"),
        ),
        case(put, with(r#", "ports": [["a", 80]]"#), (422, "ports[0]", "an object")),
        case(
            put,
            with(r#", "ports": [{"name": "a", "port": 0}]"#),
            (422, "ports[0].port", "1 to 65535"),
        ),
        case(put, with(r#", "hostname": "a.example""#), (422, "addresses", "exactly one")),
        case(put, with(r#", "state": "Draining""#), (422, "state", "operators")),
        case(
            put,
            with(r#", "lease": {"durationSeconds": 1}"#),
            (422, "lease.durationSeconds", "2 to 86400"),
        ),
        case(put, large, (413, "", "64 KiB")),
        case(["PUT", INSTANCE, FORM], with(""), (415, "Content-Type", "application/json")),
        case(["PUT", INSTANCE, ""], with(""), (415, "Content-Type", "application/json")),
        case(
            ["PATCH", ATTRIBUTES, FORM],
            "{}",
            (415, "Content-Type", "application/merge-patch+json or"),
        ),
        case(["PUT", INSTANCE, ZIPPED], with(""), (415, "Content-Encoding", "without compression")),
    ]
}

fn other_bodies() -> Vec<Case> {
    let with =
        |fields: &str| format!(r#"{{"service": "orders", "addresses": ["10.0.0.7"]{fields}}}"#);
    vec![
        case(
            ["PUT", "/v1/namespaces/nowhere/instances/a", JSON],
            with(""),
            (421, "namespace", "serves"),
        ),
        case(
            ["PUT", BEAT, JSON],
            r#"{"health": "ok"}"#,
            (422, "health", "Passing, Warning, Critical or Stopping"),
        ),
        case(["PUT", BEAT, JSON], r#"{"status": "ok"}"#, (422, "status", "unknown field")),
        case(
            ["PUT", "/v1/namespaces/NS/instances/orders-1/lease", JSON],
            "{}",
            (422, "durationSeconds", "missing"),
        ),
        case(
            ["POST", "/v1/heartbeats", JSON],
            r#"{"instances": [{"name": "a"}]}"#,
            (422, "instances[0].namespace", "missing"),
        ),
        case(
            ["POST", "/v1/heartbeats", JSON],
            r#"{"instances": {}}"#,
            (422, "instances", "a sequence"),
        ),
        case(
            ["POST", "/v1/namespaces/NS/services/orders/instances", JSON],
            with("").replace("orders", "other"),
            (422, "service", "the path, which says orders"),
        ),
    ]
}

fn heads() -> Vec<Case> {
    vec![
        case(["GET", "/", "accept: application/json\r\n"], "", (406, "Accept", "openapi.json")),
        case(["POST", "/", JSON], "{}", (405, "", "GET, HEAD")),
        case(["GET", "//", ""], "", (404, "", "docs/api.md")),
        case(["GET", "/v1/services/", ""], "", (404, "", "docs/api.md")),
        case(["POST", INSTANCE, JSON], "{}", (405, "", "GET, HEAD, PUT, DELETE")),
        case(["GET", BEAT, ""], "", (405, "", "PUT")),
        case(
            ["PUT", "/v1/namespaces/Shop/instances/a", JSON],
            "{}",
            (400, "namespace", "DNS label"),
        ),
        case(
            ["PUT", "/v1/namespaces/NS/instances/A_b", JSON],
            "{}",
            (400, "name", "DNS subdomain"),
        ),
        case(["GET", "/v1/namespaces/NS/instances/a%2Fb", ""], "", (400, "name", "DNS subdomain")),
        case(["GET", "/v1/namespaces/NS/instances/%FF", ""], "", (400, "name", "DNS subdomain")),
        case(["GET", "/v1/namespaces/NS/services/a.b", ""], "", (400, "service", "DNS label")),
    ]
}

fn queries() -> Vec<Case> {
    vec![
        case(["GET", "/v1/namespaces/NS/services/a?limit=0", ""], "", (400, "limit", "at least 1")),
        case(
            ["GET", "/v1/namespaces/NS/services/a?order=best", ""],
            "",
            (400, "order", "roundrobin"),
        ),
        case(
            ["GET", "/v1/namespaces/NS/services/a?health=ready", ""],
            "",
            (400, "health", "passing"),
        ),
        case(["GET", "/v1/namespaces/NS/services/a?zone=b&zone=b", ""], "", (400, "zone", "twice")),
        case(
            ["GET", "/v1/namespaces/NS/services/a?selector=b%3E1", ""],
            "",
            (400, "selector", "b>1"),
        ),
        case(
            ["GET", "/v1/namespaces/NS/services/a?wait%FF", ""],
            "",
            (400, "wait%FF", "percent-encoded"),
        ),
        case(["GET", "/v1/services?a=b", ""], "", (400, "a", "no parameters")),
        case(
            ["PUT", "/v1/namespaces/NS/instances/a/heartbeat?id=b", ""],
            "",
            (400, "id", "takes uid"),
        ),
        case(
            ["GET", "/v1/namespaces/NS/instances/missing", ""],
            "",
            (404, "", "no instance missing"),
        ),
        case(
            ["DELETE", "/v1/namespaces/NS/instances/missing", ""],
            "",
            (404, "", "no instance missing"),
        ),
    ]
}

fn waits() -> Vec<Case> {
    vec![
        case(["GET", "/v1/namespaces/NS/services/a?wait=1h", ""], "", (400, "wait", "at most 5m")),
        case(
            ["GET", "/v1/namespaces/NS/services/a/watch?wait=1s", ""],
            "",
            (400, "wait", "leave it out"),
        ),
        case(["GET", "/v1/watch?order=name&service=NS/a", ""], "", (400, "order", "leave it out")),
        case(["GET", "/v1/watch", ""], "", (400, "service", "missing")),
        case(["GET", "/v1/watch?service=a", ""], "", (400, "service", "namespace/service")),
        case(["GET", "/v1/watch?service=nowhere/a", ""], "", (421, "namespace", "serves")),
        case(["PUT", "/v1/watch", ""], "", (405, "", "GET, HEAD")),
        case(
            ["GET", "/v1/namespaces/nowhere/services/a/watch", ""],
            "",
            (421, "namespace", "serves"),
        ),
    ]
}

/// Describes the difference between the answer and the expected problem, if there is one.
fn mismatch(case: &Case, got: &http::Answer) -> Option<String> {
    let problem = got.json();
    let empty = Vec::new();
    let errors = problem["errors"].as_array().unwrap_or(&empty);
    let named = errors.iter().find(|error| error["field"] == case.field);
    let detail = named.map_or(&problem["detail"], |error| &error["detail"]);
    let is_right = got.status == case.status
        && problem["status"] == case.status
        && got.header("content-type") == "application/problem+json"
        && problem["type"].as_str().is_some_and(|kind| kind.starts_with("tag:rollcall.dev,2026:"))
        && (case.field.is_empty() || named.is_some())
        && detail.as_str().is_some_and(|detail| detail.contains(case.detail))
        && !got.header("rollcall-index").is_empty();
    (!is_right).then(|| {
        let Case { method, path, status, field, detail, .. } = case;
        let body = String::from_utf8_lossy(&case.body);
        let body: String = body.chars().take(120).collect();
        format!(
            "{method} {path} {body}\n  expected {status} {field:?} {detail:?}\n  got {} {problem}",
            got.status
        )
    })
}

#[tokio::test]
async fn each_mistake_has_a_problem_that_names_the_field() {
    let home = namespace("http-errors").await;
    let rollcall = Rollcall::start(&home).await;
    let mut wrong = Vec::new();
    let cases = [bodies(), other_bodies(), heads(), queries(), waits()];
    for case in cases.into_iter().flatten() {
        let Case { method, headers, .. } = case;
        let path = case.path.replace("NS", &home.name);
        let length = case.body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        let request = [head.as_bytes(), &case.body].concat();
        match http::exchange(rollcall.http, &request).await {
            Ok(got) => wrong.extend(mismatch(&case, &got)),
            Err(error) => wrong.push(format!("{method} {path}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let home = namespace("http-head").await;
    let rollcall = Rollcall::start(&home).await;
    let path = format!("/v1/namespaces/{}/services/orders", home.name);
    let get = http::call(rollcall.http, "GET", &path, None).await;
    let head = http::call(rollcall.http, "HEAD", &path, None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("etag"), get.header("etag"));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert_eq!(get.json()["instances"], Value::Array(Vec::new()));
    let head = http::call(rollcall.http, "HEAD", &format!("{path}/watch"), None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), "text/event-stream");
}
