//! What strangers may send over HTTP to do harm: to a real replica, by raw sockets.
//!
//! Each has its exact status and, where there is a field, its name; none is a 5xx, none costs the others their answers or the
//! replica its memory, and nothing is registered by it.

mod bodies;
mod heads;
mod memory;
mod slow;
mod wire;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http::{Answer, call};
use crate::support::{Namespace, Rollcall};
use wire::{Sent, talk};

/// A request, and what is to be said of it: status, the field named (none for what hyper answers by itself), a part
/// of the words.
struct Case {
    what: String,
    request: Vec<u8>,
    status: u16,
    field: Option<String>,
    says: &'static str,
}

/// An answer of ours.
fn case(what: &str, request: impl Into<Vec<u8>>, want: (u16, &str, &'static str)) -> Case {
    let (status, field, says) = want;
    let (what, request) = (what.to_owned(), request.into());
    Case { what, request, status, field: Some(field.to_owned()), says }
}

/// One of the connection itself, without a body.
fn bare(what: &str, request: impl Into<Vec<u8>>, status: u16) -> Case {
    Case { what: what.to_owned(), request: request.into(), status, field: None, says: "" }
}

/// Says what is wrong with an answer, if anything is.
fn mismatch(case: &Case, got: &Answer) -> Option<String> {
    let problem = got.json();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let is_problem = |field: &str| {
        let named = errors.iter().find(|error| error["field"] == field);
        let detail = named.map_or(&problem["detail"], |error| &error["detail"]);
        problem["status"] == case.status
            && got.header("content-type") == "application/problem+json"
            && !got.header("rollcall-index").is_empty()
            && (field.is_empty() || named.is_some())
            && detail.as_str().is_some_and(|detail| detail.contains(case.says))
    };
    let fits = match case.field.as_deref() {
        None => got.body.is_empty(),
        // A success has no problem.
        Some(_) if got.status < 400 => true,
        Some(field) => is_problem(field),
    };
    let is_right = got.status == case.status && fits && got.body.len() < 64 * 1024;
    let shown: String = problem.to_string().chars().take(400).collect();
    (!is_right).then(|| {
        format!(
            "{}\n  expected {} {:?} {:?}\n  got {} with {} bytes: {shown}",
            case.what,
            case.status,
            case.field,
            case.says,
            got.status,
            got.body.len()
        )
    })
}

/// Sends all, and says everything that is wrong at once.
async fn hold(to: SocketAddr, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        match talk(to, &[Sent::Bytes(case.request.clone())]).await.answer() {
            Some(answer) => wrong.extend(mismatch(&case, &answer)),
            None => wrong.push(format!("{}: no answer", case.what)),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Who is registered in the namespace, beside the replica itself.
async fn registered(rollcall: &Rollcall, ns: &Namespace) -> Vec<String> {
    let path = format!("/v1/namespaces/{}/services", ns.name);
    let services = call(rollcall.http, "GET", &path, None).await.json();
    let name = |it: &Value| it["service"].as_str().unwrap().to_owned();
    let services = services["services"].as_array().unwrap().iter().map(name);
    services.filter(|name| name != "rollcall").collect()
}

/// The most memory that a process has had, in MiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}
