//! Paths and methods: unknown paths, calls in an unusual form, and invalid names.

use super::pair::{Pair, instance, json, pair, raw};

pub(super) fn pairs() -> Vec<Pair> {
    let mut all = Vec::new();
    let long = format!("/{}", "p".repeat(5_000));
    for path in [
        "/v1",
        "/v1/",
        "/v2/services",
        "//",
        "//v1/services",
        "/v1//services",
        "/v1/./services",
        "/v1/../v1/services",
        "/v1/services/",
        "/v1/services/a",
        "/V1/services",
        "/v1/Services",
        "/v1%2Fservices",
        "/v1/%73ervices",
        "/v1/services;a=b",
        "/v1/services%20",
        "/v1/nothing",
        "/openapi.json/a",
        "/openapi.yaml",
        "/index.html",
        "/v1/namespaces",
        "/v1/namespaces/",
        "/v1/namespaces/<<ns>>",
        "/v1/namespaces/<<ns>>/",
        "/v1/namespaces/<<ns>>/instances",
        "/v1/namespaces/<<ns>>/instances/orders-1/",
        "/v1/namespaces/<<ns>>/instances/orders-1/heartbeat/",
        "/v1/namespaces/<<ns>>/instances/orders-1/heartbeat/now",
        "/v1/namespaces/<<ns>>/instances/orders-1/Heartbeat",
        "/v1/namespaces/<<ns>>/instances/orders-1//heartbeat",
        "/v1/namespaces/<<ns>>/services/",
        "/v1/namespaces/<<ns>>/services/orders/",
        "/v1/namespaces/<<ns>>/services/orders/watch/",
        "/v1/namespaces/<<ns>>/services/orders/instances/a",
        "/v1/namespaces/<<ns>>/services/orders/heartbeat",
        "/v1/namespaces//services",
        "/v1/namespaces//services/orders",
        "/v1/namespaces/<<ns>>/instances//heartbeat",
        "/v1/namespaces/<<ns>>/instances/",
        "/v1/watch/",
        "/v1/watch/a",
        "/v1/cluster/",
        "/v1/heartbeats/",
        "/v1/instances/",
        "/v1/instances/a",
        "/v1/snapshot/a",
        "/..%2f..%2fetc/passwd",
        "/%00",
        "/%",
        "/metrics",
        "/readyz",
        "/favicon.ico",
        "/?",
        &long,
    ] {
        let shown: String = path.chars().take(80).collect();
        all.push(pair(format!("path: {shown}"), format!("GET {path}")));
    }
    for name in [
        ".", "..", "%2e%2e", "%2E", "a%2Fb", "a%5Cb", "a%00", "%00", "%", "%4", "%zz", "%FF",
        "%C0%AF", "a%0d%0ab", "A", "A_b", "-a", "a-", "a..b", ".a", "a.", "a+b", "a%20b", "%C3%A4",
        "a:b", "a@b", "%25",
    ] {
        all.push(pair(format!("name: {name}"), instance("GET", name)));
    }
    for (name, length) in [("a name of 253 characters", 253), ("a name of 254 characters", 254)] {
        let long = format!("{}.{}", vec!["a".repeat(49); 4].join("."), "b".repeat(length - 200));
        all.push(pair(format!("name: {name}"), instance("GET", &long)));
    }
    for (what, path) in [
        ("a namespace in capitals", "Shop/instances/a"),
        ("a namespace with a dot", "a.b/instances/a"),
        ("both illegal", "Shop/instances/A"),
        ("an escaped slash in the namespace", "a%2Fb/services"),
        ("an empty escaped namespace", "%20/services"),
        (
            "a namespace of 64 characters",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/services",
        ),
        ("a service with a dot", "<<ns>>/services/a.b"),
        ("a service in capitals", "<<ns>>/services/Orders"),
        ("a service that is watched", "<<ns>>/services/a.b/watch"),
        ("an escaped namespace that is legal", "%6eowhere/services"),
    ] {
        all.push(pair(format!("name: {what}"), format!("GET /v1/namespaces/{path}")));
    }
    all.push(json("name: a registration", "PUT /v1/namespaces/Shop/instances/A_b", "{"));
    all.push(json(
        "name: a registration without one",
        "POST /v1/namespaces/<<ns>>/services/a.b/instances",
        "{",
    ));
    all.push(pair("name: before a method is looked at", "POST /v1/namespaces/Shop/instances/A"));
    all.extend(methods());
    all
}

fn methods() -> Vec<Pair> {
    let mut all = Vec::new();
    for path in [
        "/",
        "/openapi.json",
        "/v1/services",
        "/v1/heartbeats",
        "/v1/instances",
        "/v1/watch",
        "/v1/cluster",
        "/v1/snapshot",
        "/v1/namespaces/<<ns>>/services",
        "/v1/namespaces/<<ns>>/services/orders",
        "/v1/namespaces/<<ns>>/services/orders/watch",
        "/v1/namespaces/<<ns>>/services/orders/instances",
        "/v1/namespaces/<<ns>>/instances/orders-1",
        "/v1/namespaces/<<ns>>/instances/orders-1/heartbeat",
        "/v1/namespaces/<<ns>>/instances/orders-1/lease",
        "/v1/namespaces/<<ns>>/instances/orders-1/attributes",
        "/v1/namespaces/<<ns>>/instances/orders-1/state",
    ] {
        all.push(pair(format!("method: OPTIONS {path}"), format!("OPTIONS {path}")));
        if path.contains("orders") {
            all.push(pair(format!("method: TRACE {path}"), format!("TRACE {path}")));
        }
    }
    for method in ["BREW", "get", "PROPFIND", "Get", "LINK", "GETS"] {
        all.push(pair(format!("method: {method}"), format!("{method} /v1/services")));
    }
    all.push(pair("method: PATCH an instance", instance("PATCH", "orders-1")).body("{}"));
    all.push(pair("method: POST an instance", instance("POST", "orders-1")).body("{}"));
    all.push(pair("method: HEAD a lease", instance("HEAD", "orders-1/lease")));
    all.push(pair("method: GET heartbeats", "GET /v1/heartbeats"));
    all.push(pair("method: HEAD instances", "HEAD /v1/instances"));
    all.push(pair("method: unknown, unknown path", "BREW /coffee"));
    all.push(pair("method: OPTIONS, unknown path", "OPTIONS /coffee"));
    let raw = |name: &str, line: &str| {
        let request = format!("{line}\r\nhost: a\r\nconnection: close\r\n\r\n");
        raw(format!("target: {name}"), request, 1)
    };
    all.extend([
        raw("an asterisk", "OPTIONS * HTTP/1.1"),
        raw("an asterisk with GET", "GET * HTTP/1.1"),
        raw("CONNECT", "CONNECT evil.example:443 HTTP/1.1"),
        raw("CONNECT with a path", "CONNECT /v1/services HTTP/1.1"),
        raw("absolute", "GET http://rollcall/v1/cluster?a HTTP/1.1"),
        raw("absolute, another host", "GET http://evil.example/v1/services?a HTTP/1.1"),
        raw("absolute, https", "GET https://evil.example:1/v1/services?a HTTP/1.1"),
        raw("absolute, without a path", "GET http://evil.example HTTP/1.1"),
        raw("absolute, dots", "GET http://evil.example/../v1/services HTTP/1.1"),
        raw("a fragment", "GET /v1/services#a HTTP/1.1"),
        raw("without a slash", "GET v1/services HTTP/1.1"),
        raw("a question mark alone", "GET ?a=b HTTP/1.1"),
        raw("a blank in it", "GET /v1/ser vices HTTP/1.1"),
        raw("raw UTF-8", "GET /v1/namespaces/ä/services HTTP/1.1"),
        raw("raw quotation marks", "GET /v1/\"services\" HTTP/1.1"),
        raw("brackets and bars", "GET /v1/{a}|[b]^`\\ HTTP/1.1"),
        raw("a user", "GET http://me:secret@rollcall/v1/services?a HTTP/1.1"),
    ]);
    all
}
