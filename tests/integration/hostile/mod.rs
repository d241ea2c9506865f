//! Hostile HTTP requests, sent to a real replica over raw sockets.
//!
//! Each request gets an exact status and, if a field is invalid, the name of the field. None gets a 5xx, delays other
//! clients, exhausts the memory of the replica, or registers an instance.

mod bodies;
mod heads;
mod memory;
mod slow;
mod wire;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http::{Answer, call};
use crate::support::{Namespace, Rollcall};
use wire::{ClientStep, run_steps};

/// A request and its expected answer: status, invalid field (none for answers that hyper writes itself), and a part of the
/// detail.
struct Case {
    name: String,
    request: Vec<u8>,
    status: u16,
    field: Option<String>,
    detail: &'static str,
}

/// A case that rollcall answers.
fn case(name: &str, request: impl Into<Vec<u8>>, expected: (u16, &str, &'static str)) -> Case {
    let (status, field, detail) = expected;
    let (name, request) = (name.to_owned(), request.into());
    Case { name, request, status, field: Some(field.to_owned()), detail }
}

/// A case that hyper answers, without a body.
fn bare(name: &str, request: impl Into<Vec<u8>>, status: u16) -> Case {
    Case { name: name.to_owned(), request: request.into(), status, field: None, detail: "" }
}

/// Describes the difference from the expected answer, if there is one.
fn mismatch(case: &Case, actual: &Answer) -> Option<String> {
    let problem = actual.json();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let is_problem = |field: &str| {
        let field_error = errors.iter().find(|error| error["field"] == field);
        let detail = field_error.map_or(&problem["detail"], |error| &error["detail"]);
        problem["status"] == case.status
            && actual.header("content-type") == "application/problem+json"
            && !actual.header("rollcall-index").is_empty()
            && (field.is_empty() || field_error.is_some())
            && detail.as_str().is_some_and(|detail| detail.contains(case.detail))
    };
    let has_expected_body = match case.field.as_deref() {
        None => actual.body.is_empty(),
        // A success has no problem document.
        Some(_) if actual.status < 400 => true,
        Some(field) => is_problem(field),
    };
    let is_right =
        actual.status == case.status && has_expected_body && actual.body.len() < 64 * 1024;
    let excerpt: String = problem.to_string().chars().take(400).collect();
    (!is_right).then(|| {
        format!(
            "{}\n  expected {} {:?} {:?}\n  actual {} with {} bytes: {excerpt}",
            case.name,
            case.status,
            case.field,
            case.detail,
            actual.status,
            actual.body.len()
        )
    })
}

/// Sends all requests, and reports all mismatches together.
async fn check_cases(to: SocketAddr, cases: Vec<Case>) {
    let mut mismatches = Vec::new();
    for case in cases {
        match run_steps(to, &[ClientStep::Bytes(case.request.clone())]).await.answer() {
            Some(answer) => mismatches.extend(mismatch(&case, &answer)),
            None => mismatches.push(format!("{}: no answer", case.name)),
        }
    }
    assert!(mismatches.is_empty(), "{} mismatches:\n{}", mismatches.len(), mismatches.join("\n"));
}

/// The services in the namespace, without the replica itself.
async fn registered_services(rollcall: &Rollcall, ns: &Namespace) -> Vec<String> {
    let path = format!("/v1/namespaces/{}/services", ns.name);
    let services = call(rollcall.http, "GET", &path, None).await.json();
    let name = |service: &Value| service["service"].as_str().unwrap().to_owned();
    let services = services["services"].as_array().unwrap().iter().map(name);
    services.filter(|name| name != "rollcall").collect()
}

/// The peak memory of a process in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}
