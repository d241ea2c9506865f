//! Requests over HTTP/2 with prior knowledge.

use super::pair::{Pair, instance, json, padded, pair, service};

pub(super) fn pairs() -> Vec<Pair> {
    let body =
        r#"{"service": "second", "addresses": ["10.0.5.1"], "lease": {"mode": "Permanent"}}"#;
    let orders = "/v1/namespaces/NS/services/orders";
    let all = vec![
        json("register", instance("PUT", "second-1"), body),
        json("register again", instance("PUT", "second-1"), body),
        pair("heartbeat", instance("PUT", "second-1/heartbeat")),
        json(
            "heartbeat with a body",
            instance("PUT", "second-1/heartbeat"),
            r#"{"health": "Passing"}"#,
        ),
        pair("heartbeat, unknown", instance("PUT", "nobody/heartbeat")),
        pair("heartbeat, another uid", instance("PUT", "second-1/heartbeat?uid=another")),
        json(
            "batch of heartbeats",
            "POST /v1/heartbeats",
            r#"{"instances": [{"namespace": "<<ns>>", "name": "second-1"}, {"namespace": "<<ns>>", "name": "nobody"}]}"#,
        ),
        json(
            "batch of registrations",
            "POST /v1/instances",
            format!(
                r#"{{"instances": [{}]}}"#,
                body.replace(
                    r#"{"service""#,
                    r#"{"namespace": "<<ns>>", "name": "second-1", "service""#
                )
            ),
        ),
        json("attributes", instance("PATCH", "second-1/attributes"), r#"{"a": "1"}"#),
        json("state", instance("PUT", "second-1/state"), r#"{"state": "Up"}"#),
        json("lease, bad", instance("PUT", "second-1/lease"), "{}"),
        pair("instance", instance("HEAD", "second-1")),
        pair("discovery", service("GET", "second")),
        pair("discovery, HEAD", service("HEAD", "second")),
        pair("discovery, known", service("GET", "orders"))
            .header(format!("if-none-match: <<etag {orders}>>")),
        pair("discovery, wait", service("GET", "orders?wait=50ms"))
            .header(format!("if-none-match: <<etag {orders}>>")),
        pair("discovery, bad query", service("GET", "orders?limit=0&a=b")),
        pair("watch, HEAD", service("HEAD", "orders/watch")),
        pair("services", "GET /v1/namespaces/<<ns>>/services"),
        pair("snapshot", "GET /v1/snapshot"),
        pair("cluster, HEAD", "HEAD /v1/cluster"),
        pair("page", "GET /"),
        pair("contract", "GET /openapi.json"),
        pair("contract, known", "GET /openapi.json")
            .header("if-none-match: <<etag /openapi.json>>"),
        pair("unknown path", "GET /nothing"),
        pair("a slash behind it", "GET /v1/services/"),
        pair("a method that is not allowed", "OPTIONS /v1/services"),
        pair("an unknown method", "BREW /v1/services"),
        pair("an illegal name", instance("GET", "A")),
        pair("request id", "GET /nothing").header("x-request-id: abc"),
        pair("least index, bad", "GET /v1/services").header("rollcall-min-index: x"),
        pair("least index, of another store", "GET /v1/namespaces/<<ns>>/services/nothing")
            .header("rollcall-min-index: 9999999999999"),
        json("a body that is too large", instance("PUT", "none"), padded("{}", 65_537)),
        json("no JSON", instance("PUT", "none"), "{"),
        json("a bad field", instance("PUT", "none"), r#"{"service": "None"}"#),
        pair("no type", instance("PUT", "none")).body(body),
        json("compressed", instance("PUT", "none"), body).header("content-encoding: gzip"),
        json("expect", instance("PUT", "none"), "[]").header("expect: 100-continue"),
        pair("no body", instance("PUT", "none")),
        json("a wrong length", instance("PUT", "none"), "[]").header("content-length: 5"),
        pair("deregister", instance("DELETE", "second-1")),
        pair("deregister again", instance("DELETE", "second-1")),
    ];
    let over_http2 = |pair: Pair| Pair { name: format!("HTTP/2: {}", pair.name), ..pair.http2() };
    all.into_iter().map(over_http2).collect()
}
