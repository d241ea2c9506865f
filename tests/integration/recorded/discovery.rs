//! Discovery, its parameters, its ETags, long polls and lists of services.

use super::pair::{Pair, json, pair, service};

/// The path of the service `orders`, in the form that the placeholder for an ETag takes.
const ORDERS: &str = "/v1/namespaces/NS/services/orders";

pub(super) fn pairs() -> Vec<Pair> {
    let mut all = Vec::new();
    for (name, query) in [
        ("plain", ""),
        ("an empty query", "?"),
        ("only ampersands", "?&&"),
        ("version", "?version=2.3.1"),
        ("version as a DNS label", "?version=2-3-1"),
        ("a version that nobody has", "?version=9"),
        ("tag", "?tag=canary"),
        ("two tags", "?tag=canary&tag=blue"),
        ("two tags of which one is missing", "?tag=canary&tag=red"),
        ("zone", "?zone=eu-1b"),
        ("near", "?near=eu-1a"),
        ("near where nobody is", "?near=us-1"),
        ("port", "?port=http"),
        ("a port that nobody has", "?port=grpc"),
        ("selector, equal", "?selector=track%3Dcanary"),
        ("selector, a set", "?selector=tier+in+(a,b)"),
        ("selector, not a set", "?selector=tier%20notin%20(a)"),
        ("selector, absent", "?selector=!tier"),
        ("selector, unequal", "?selector=tier!%3Da,tier"),
        ("an empty selector", "?selector="),
        ("health passing", "?health=passing"),
        ("health any", "?health=any"),
        ("order name", "?order=name"),
        ("order weighted", "?order=weighted"),
        ("order roundrobin, first", "?order=roundrobin"),
        ("order roundrobin, second", "?order=roundrobin"),
        ("order random, one", "?order=random&version=2.3.1"),
        ("limit", "?limit=1"),
        ("a limit beyond all", "?limit=4294967295"),
        ("weighted with a limit", "?order=weighted&limit=1&health=any"),
        (
            "many parameters",
            "?health=any&port=http&tag=blue&zone=eu-1a&order=weighted&limit=5&selector=tier%3Da",
        ),
        ("escaped names of parameters", "?l%69mit=1"),
        ("an escaped value", "?zone=%65u-1b"),
    ] {
        all.push(pair(format!("discovery: {name}"), service("GET", &format!("orders{query}"))));
    }
    all.push(pair("discovery: HEAD", service("HEAD", "orders")));
    all.push(pair("discovery: HEAD with a filter", service("HEAD", "orders?zone=eu-1b")));
    all.push(pair("discovery: unknown", service("GET", "nothing")));
    all.push(pair("discovery: a hostname", service("GET", "ledger")));
    all.push(pair("discovery: an escaped service", service("GET", "%6frders?limit=1")));
    all.push(pair("discovery: another namespace", "GET /v1/namespaces/nowhere/services/orders"));
    all.push(pair("discovery: a body", service("GET", "ledger")).body("{}"));
    all.extend(tags());
    all.extend(waits());
    all.extend(lists());
    all
}

fn tags() -> Vec<Pair> {
    let tag = format!("<<etag {ORDERS}>>");
    let bare = format!("<<revision {ORDERS}>>");
    let filtered = format!("<<etag {ORDERS}?zone=eu-1b>>");
    let weak = format!("<<etag {ORDERS}?limit=1>>");
    let mut all = Vec::new();
    for (name, query, value) in [
        ("the same", "", tag.clone()),
        ("the same, weak", "", format!("W/{tag}")),
        ("in a list", "", format!("\"a\", {tag}")),
        ("in a list with weak ones", "", format!("W/\"a\",W/{tag} , \"b\"")),
        ("any", "", "*".to_owned()),
        ("another", "", "\"a\"".to_owned()),
        ("no quotes", "", bare),
        ("empty", "", String::new()),
        ("of a filtered set", "?zone=eu-1b", filtered.clone()),
        ("of a filtered set, for all", "", filtered),
        ("of all, for a filtered set", "?zone=eu-1b", tag.clone()),
        ("of a part", "?limit=1", weak.clone()),
        ("of a part, for all", "", weak),
        ("of all, for another order", "?order=weighted", tag.clone()),
    ] {
        let line = service("GET", &format!("orders{query}"));
        let pair = pair(format!("discovery, If-None-Match: {name}"), line);
        all.push(pair.header(format!("if-none-match: {value}")));
    }
    let head = pair("discovery, If-None-Match: HEAD", service("HEAD", "orders"));
    all.push(head.header(format!("if-none-match: {tag}")));
    let two = pair("discovery, If-None-Match: two headers", service("GET", "orders"));
    all.push(two.header("if-none-match: \"a\"").header(format!("if-none-match: {tag}")));
    let if_match = pair("discovery: If-Match is not read", service("GET", "orders?limit=1"));
    all.push(if_match.header("if-match: \"a\""));
    all
}

fn waits() -> Vec<Pair> {
    let tag = format!("if-none-match: <<etag {ORDERS}>>");
    let wait = |name: &str, query: &str| {
        pair(format!("discovery, wait: {name}"), service("GET", &format!("orders{query}")))
    };
    vec![
        wait("without a tag", "?wait=5m&limit=1"),
        wait("with another tag", "?wait=5m&limit=1").header("if-none-match: \"a\""),
        wait("with an asterisk", "?wait=5m").header("if-none-match: *"),
        wait("nothing new", "?wait=50ms").header(tag.clone()),
        wait("nothing new, a filter", "?wait=50ms&zone=eu-1b")
            .header(format!("if-none-match: <<etag {ORDERS}?zone=eu-1b>>")),
        pair("discovery, wait: HEAD", service("HEAD", "orders?wait=50ms")).header(tag.clone()),
        pair("discovery, wait: what is not there", service("GET", "nothing?wait=50ms"))
            .header("if-none-match: <<etag /v1/namespaces/NS/services/nothing>>"),
        wait("with a body", "?wait=50ms").header(tag).body("{}"),
    ]
}

fn lists() -> Vec<Pair> {
    vec![
        pair("services: all", "GET /v1/services"),
        pair("services: HEAD", "HEAD /v1/services"),
        pair("services: of the namespace", "GET /v1/namespaces/<<ns>>/services"),
        pair("services: of the namespace, HEAD", "HEAD /v1/namespaces/<<ns>>/services"),
        pair("services: of another namespace", "GET /v1/namespaces/nowhere/services"),
        pair("services: a parameter", "GET /v1/services?limit=1"),
        pair("services: of the namespace, a parameter", "GET /v1/namespaces/<<ns>>/services?a"),
        pair("services: an empty query", "GET /v1/services?"),
        pair("services: If-None-Match is not read", "GET /v1/services").header("if-none-match: *"),
        pair("services: POST", "POST /v1/services"),
        json("services: of the namespace, PUT", "PUT /v1/namespaces/<<ns>>/services", "{}"),
        pair("snapshot", "GET /v1/snapshot"),
        pair("snapshot: HEAD", "HEAD /v1/snapshot"),
        pair("snapshot: a parameter", "GET /v1/snapshot?service=orders"),
        pair("snapshot: DELETE", "DELETE /v1/snapshot"),
    ]
}
