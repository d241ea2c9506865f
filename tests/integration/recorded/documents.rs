//! The page, the contract and the replicas.

use super::pair::{Pair, pair, settle};

/// Before any registration.
pub(super) fn empty() -> Vec<Pair> {
    vec![
        settle(),
        pair("empty: page", "GET /"),
        pair("empty: services", "GET /v1/services"),
        pair("empty: snapshot", "GET /v1/snapshot"),
        pair("empty: snapshot, HEAD", "HEAD /v1/snapshot"),
        pair("empty: discovery", "GET /v1/namespaces/<<ns>>/services/orders"),
        pair("empty: cluster", "GET /v1/cluster"),
    ]
}

pub(super) fn pairs() -> Vec<Pair> {
    let tag = "<<etag /openapi.json>>";
    let contract = |name: &str| pair(format!("contract: {name}"), "GET /openapi.json");
    let page = |name: &str| pair(format!("page: {name}"), "GET /");
    let mut all = vec![
        contract("the document"),
        pair("contract: HEAD", "HEAD /openapi.json"),
        contract("known").header(format!("if-none-match: {tag}")),
        contract("known, weak").header(format!("if-none-match: W/{tag}")),
        contract("any").header("if-none-match: *"),
        contract("another").header("if-none-match: \"a\""),
        contract("Accept is not read").header("accept: text/html"),
        pair("contract: HEAD, known", "HEAD /openapi.json").header(format!("if-none-match: {tag}")),
        pair("contract: a parameter", "GET /openapi.json?a=b"),
        pair("contract: POST", "POST /openapi.json"),
        pair("contract: a slash behind it", "GET /openapi.json/"),
        settle(),
        page("with services"),
        pair("page: HEAD", "HEAD /"),
        pair("page: a parameter", "GET /?a=b"),
        pair("page: an empty query", "GET /?"),
        pair("page: POST", "POST /"),
        pair("page: DELETE", "DELETE /"),
        page("two Accept headers").header("accept: application/json").header("accept: text/html"),
        pair("cluster", "GET /v1/cluster"),
        pair("cluster: HEAD", "HEAD /v1/cluster"),
        pair("cluster: a parameter", "GET /v1/cluster?a=b"),
        pair("cluster: PATCH", "PATCH /v1/cluster"),
    ];
    for accept in [
        "text/html",
        "text/*;q=0.1",
        "*/*",
        "TEXT/HTML; Q=1",
        "application/json",
        "text/html;q=0",
        "*/*, text/html;q=0",
        "text/html;q=x",
        "",
        ", ,",
    ] {
        all.push(page(&format!("Accept {accept:?}")).header(format!("accept: {accept}")));
    }
    all
}
