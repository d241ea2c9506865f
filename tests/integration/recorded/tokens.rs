//! Callers without a token, with an invalid token, without the right, and with the right.

use super::pair::{Pair, Replica, instance, json, pair, service};

const BODY: &str =
    r#"{"service": "orders", "addresses": ["10.0.0.7"], "lease": {"durationSeconds": 86400}}"#;

/// Every call that needs a right, with a valid body.
fn writes() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("register", instance("PUT", "orders-1"), BODY),
        (
            "register without a name",
            service("POST", "orders/instances"),
            r#"{"addresses": ["10.0.0.9"], "lease": {"durationSeconds": 86400}}"#,
        ),
        ("heartbeat", instance("PUT", "orders-1/heartbeat"), ""),
        ("lease", instance("PUT", "orders-1/lease"), r#"{"durationSeconds": 86400}"#),
        ("attributes", instance("PATCH", "orders-1/attributes"), r#"{"a": "1"}"#),
        ("state", instance("PUT", "orders-1/state"), r#"{"state": "Up"}"#),
        (
            "batch of heartbeats",
            "POST /v1/heartbeats".to_owned(),
            r#"{"instances": [{"namespace": "<<ns>>", "name": "orders-1"}, {"namespace": "kube-system", "name": "a"}]}"#,
        ),
        (
            "batch of registrations",
            "POST /v1/instances".to_owned(),
            r#"{"instances": [{"namespace": "<<ns>>", "name": "orders-1", "service": "orders", "addresses": ["10.0.0.7"]}, {"namespace": "kube-system", "name": "a", "service": "a", "hostname": "a"}]}"#,
        ),
        ("deregister", instance("DELETE", "orders-1"), ""),
    ]
}

fn reads() -> Vec<(&'static str, String)> {
    vec![
        ("instance", instance("GET", "orders-1")),
        ("discovery", service("GET", "orders")),
        ("discovery, HEAD", service("HEAD", "orders")),
        ("watch, HEAD", service("HEAD", "orders/watch")),
        ("watch of many, HEAD", "HEAD /v1/watch?service=<<ns>>/orders".to_owned()),
        ("services", "GET /v1/services".to_owned()),
        ("services of the namespace", "GET /v1/namespaces/<<ns>>/services".to_owned()),
        ("snapshot", "GET /v1/snapshot".to_owned()),
        ("cluster, HEAD", "HEAD /v1/cluster".to_owned()),
        ("contract, HEAD", "HEAD /openapi.json".to_owned()),
        ("page", "GET /".to_owned()),
        ("unknown path", "GET /nothing".to_owned()),
        ("a method that is not allowed", "PUT /v1/services".to_owned()),
        ("another namespace", "GET /v1/namespaces/kube-system/services/a".to_owned()),
    ]
}

pub(super) fn pairs() -> Vec<Pair> {
    let mut all = Vec::new();
    let write = |caller: &str, (name, line, body): (&str, String, &str)| {
        let name = format!("tokens, {caller}: {name}");
        let pair = if body.is_empty() { pair(name, line) } else { json(name, line, body) };
        pair.to(Replica::Tokens)
    };
    all.extend(writes().into_iter().map(|call| write("no token", call)));
    all.extend(headers());
    for caller in ["elsewhere", "nobody", "workload", "operator", "sidecar", "reader"] {
        all.extend(writes().into_iter().map(|call| write(caller, call).with_token(caller)));
    }
    let read = |name: &str, line: String| {
        pair(format!("tokens, reads are open: {name}"), line).to(Replica::Tokens)
    };
    all.push(read("discovery", service("GET", "orders")));
    all.push(read("page", "GET /".to_owned()).header("authorization: Bearer nonsense"));
    all.push(
        read("services", "GET /v1/services".to_owned()).header("authorization: Bearer nonsense"),
    );
    all.extend(pods());
    for caller in ["", "elsewhere", "nobody", "reader"] {
        for (name, line) in reads() {
            let who = if caller.is_empty() { "no token" } else { caller };
            let pair = pair(format!("read-auth, {who}: {name}"), line).to(Replica::ReadTokens);
            all.push(if caller.is_empty() { pair } else { pair.with_token(caller) });
        }
    }
    all
}

/// A pod manages its own instance.
fn pods() -> Vec<Pair> {
    let own = |name: &str, line: String, body: &str| {
        json(format!("tokens, a pod: {name}"), line, body).to(Replica::Tokens).with_token("pod-1")
    };
    vec![
        own("its own instance", instance("PUT", "pod-1"), BODY),
        own("another instance", instance("PUT", "pod-2"), BODY),
        own("a heartbeat of its own", instance("PUT", "pod-1/heartbeat"), "{}"),
        own("its own state", instance("PUT", "pod-1/state"), r#"{"state": "Up"}"#),
        own(
            "a batch of heartbeats",
            "POST /v1/heartbeats".to_owned(),
            r#"{"instances": [{"namespace": "<<ns>>", "name": "pod-1"}, {"namespace": "<<ns>>", "name": "pod-2"}]}"#,
        ),
        own("its own instance is removed", instance("DELETE", "pod-1"), ""),
    ]
}

/// Forms of the Authorization header, on a heartbeat.
fn headers() -> Vec<Pair> {
    let beat = |name: &str| {
        pair(format!("authorization: {name}"), instance("PUT", "orders-1/heartbeat"))
            .to(Replica::Tokens)
    };
    let mut all = vec![
        beat("two headers").with_token("workload").header("authorization: Bearer nonsense"),
        beat("the same twice").with_token("workload").with_token("workload"),
        beat("another casing").header("Authorization: bEARER <<token workload>>"),
        beat("several blanks").header("authorization: Bearer    <<token workload>>"),
        beat("a blank behind it").header("authorization: Bearer <<token workload>>  "),
        beat("a torn token").header("authorization: Bearer <<token workload>>x"),
        beat("a token in another header").header("x-authorization: Bearer <<token workload>>"),
        beat("a long token").header(format!("authorization: Bearer {}", "x".repeat(10_000))),
        beat("before a bad body").body("{"),
        beat("a bad body")
            .with_token("workload")
            .header("content-type: application/json")
            .body("{"),
        beat("a bad query").with_token("workload").header("if-match: *"),
        pair(
            "authorization: another namespace",
            "PUT /v1/namespaces/kube-system/instances/a/heartbeat",
        )
        .to(Replica::Tokens)
        .with_token("workload"),
        pair("authorization: an illegal name comes first", instance("PUT", "A/heartbeat"))
            .to(Replica::Tokens),
        pair("authorization: the method comes first", instance("POST", "a/heartbeat"))
            .to(Replica::Tokens),
        pair("authorization: the path comes first", "PUT /nothing").to(Replica::Tokens),
        pair("authorization: the index comes first", instance("PUT", "a/heartbeat"))
            .to(Replica::Tokens)
            .header("rollcall-min-index: x"),
        pair("authorization: the query comes after it", instance("PUT", "a/heartbeat?a=b"))
            .to(Replica::Tokens),
        pair("authorization: over HTTP/2, no token", instance("PUT", "orders-1/heartbeat"))
            .to(Replica::Tokens)
            .http2(),
        pair("authorization: over HTTP/2", instance("PUT", "nobody/heartbeat"))
            .to(Replica::Tokens)
            .with_token("workload")
            .http2(),
    ];
    for value in [
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer\tnonsense",
        "nonsense",
        "",
        "Bearer nonsense",
        "Bearer a b",
        "Bearer ä",
        "Token <<token workload>>",
    ] {
        all.push(beat(&format!("{value:?}")).header(format!("authorization: {value}")));
    }
    all
}
