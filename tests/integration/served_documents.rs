//! The HTML page and the contract.

use serde_json::{Value, json};

use crate::support::contract::{Contract, Request};
use crate::support::http::{Answer, call, call_as, call_with};
use crate::support::{Rollcall, namespace, rbac};

const COMMITTED: &str = include_str!("../../openapi.json");

fn permanent(service: &str) -> Value {
    json!({"service": service, "addresses": ["10.0.0.7"], "lease": {"mode": "Permanent"}})
}

fn get(path: &str) -> Request<'_> {
    Request { method: "GET", path, headers: Vec::new(), body: b"" }
}

#[tokio::test]
async fn served_contract_equals_the_committed_one_and_is_cacheable() {
    let ns = namespace("contract").await;
    let rollcall = Rollcall::start(&ns).await;
    let served = call(rollcall.http, "GET", "/openapi.json", None).await;
    assert_eq!(served.header("content-type"), "application/json");
    let remedy = "run `cargo run -- openapi > openapi.json` and commit it";
    assert!(served.body == COMMITTED.as_bytes(), "openapi.json has drifted: {remedy}");
    let tag = served.header("etag");
    let again = call_with(rollcall.http, "GET /openapi.json", ("if-none-match", tag), "").await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, tag));
}

fn assert_safe(page: &Answer) {
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"), "{policy}");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    let text = String::from_utf8(page.body.clone()).unwrap();
    for outside in ["<script", "src=", "http://", "https://", "<link", "@import", "url("] {
        assert!(!text.contains(outside), "{outside} is on the page");
    }
}

#[tokio::test]
async fn page_shows_the_calls_and_links_the_services() {
    let ns = namespace("page").await;
    let rollcall = Rollcall::start(&ns).await;
    let contract = Contract::fetch(rollcall.http).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &path, Some(permanent("orders"))).await.status, 201);
    let page = call(rollcall.http, "GET", "/", None).await;
    assert_eq!(page.status, 200);
    assert_safe(&page);
    contract.check(&get("/"), &page).unwrap();
    let text = String::from_utf8(page.body.clone()).unwrap();
    let link = format!("v1/namespaces/{}/services/orders?health=any", ns.name);
    assert!(text.contains(&format!("<a href=\"{link}\">orders</a>")), "{text}");
    assert!(
        text.contains("rollcall-0") && text.contains("/v1/namespaces/{namespace}/instances/{name}"),
        "{text}"
    );
    let linked = call(rollcall.http, "GET", &format!("/{link}"), None).await;
    assert_eq!(linked.json()["instances"][0]["name"], "o1");

    let head = call(rollcall.http, "HEAD", "/", None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), page.body.len().to_string());
    let other = call_with(rollcall.http, "GET /", ("accept", "application/json"), "").await;
    assert_eq!(other.status, 406, "{:?}", other.json());
    contract.check(&get("/"), &other).unwrap();

    let lines = call(rollcall.http, "GET", "/v1/snapshot", None).await;
    contract.check(&get("/v1/snapshot"), &lines).unwrap();
    let chunks = String::from_utf8(lines.body).unwrap();
    let lines: Vec<Value> = chunks
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty());
    lines.iter().for_each(|line| contract.check_line(line).unwrap());
}

#[tokio::test]
async fn page_shows_services_only_to_callers_with_the_right_to_list_them() {
    let ns = namespace("page-auth").await;
    let flags = ["--auth", "token", "--read-auth"];
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let reader = rbac::token(&ns, "reader", "rollcall").await;
    rbac::grant(&ns, ("ClusterRole", "rollcall-reader"), "reader", ("list", None, None)).await;
    let unprivileged = rbac::token(&ns, "unprivileged", "rollcall").await;
    let shows_services = |page: &Answer| {
        assert_safe(page);
        let text = String::from_utf8(page.body.clone()).unwrap();
        assert!(text.contains("/v1/heartbeats"), "the calls are shown to every caller");
        !text.contains("Listing services needs a token")
    };
    assert!(!shows_services(&call(rollcall.http, "GET", "/", None).await));
    assert!(!shows_services(&call_as(&unprivileged, rollcall.http, ("GET", "/"), None).await));
    assert!(shows_services(&call_as(&reader, rollcall.http, ("GET", "/"), None).await));
    assert_eq!(call(rollcall.http, "GET", "/openapi.json", None).await.status, 200);
}
