//! Streams of events: their first events, a change, and resuming.

use super::pair::{Pair, events, pair, service};

const INSTANCE: &str = "/v1/namespaces/<<ns>>/instances/seen-1";

pub(super) fn pairs() -> Vec<Pair> {
    let many = |count: usize| {
        let all: Vec<_> = (0..count).map(|at| format!("service=<<ns>>/s{at}")).collect();
        format!("GET /v1/watch?{}", all.join("&"))
    };
    let mut all = vec![
        events("watch: a service", service("GET", "orders/watch"), 1),
        events("watch: nothing there", service("GET", "nothing/watch"), 1),
        events("watch: with a filter", service("GET", "orders/watch?zone=eu-1b&health=any"), 1),
        events(
            "watch: with tags and a selector",
            service(
                "GET",
                "orders/watch?tag=canary&tag=blue&selector=tier&port=http&version=2.3.1&near=eu-1a",
            ),
            1,
        ),
        events(
            "watch: two services",
            "GET /v1/watch?service=<<ns>>/orders&service=<<ns>>/ledger",
            2,
        ),
        events(
            "watch: two services with a filter",
            "GET /v1/watch?service=<<ns>>%2Forders&service=<<ns>>/ledger&health=passing",
            2,
        ),
        events("watch: an upsert", service("GET", "seen/watch"), 1).during(
            "PUT /v1/namespaces/<<ns>>/instances/seen-1",
            r#"{"service": "seen", "addresses": ["10.0.4.1"], "lease": {"mode": "Permanent"}}"#,
            1,
        ),
        events("watch: a change", service("GET", "seen/watch"), 1).during(
            "PUT /v1/namespaces/<<ns>>/instances/seen-1/state",
            r#"{"state": "Draining"}"#,
            1,
        ),
        events("watch: a change, of any health", service("GET", "seen/watch?health=any"), 1)
            .during("PUT /v1/namespaces/<<ns>>/instances/seen-1/state", r#"{"state": "Up"}"#, 1),
        events("watch: resumed with the newest id", service("GET", "seen/watch"), 0)
            .header("last-event-id: <<revision /v1/namespaces/NS/services/seen>>")
            .during("PATCH /v1/namespaces/<<ns>>/instances/seen-1/attributes", r#"{"a": "1"}"#, 1),
        events("watch: resumed with an old id", service("GET", "seen/watch"), 1)
            .header("last-event-id: 0000"),
        events("watch: resumed with an id of another count", service("GET", "seen/watch"), 1)
            .header("last-event-id: <<revision /v1/namespaces/NS/services/seen>>,a"),
        events(
            "watch: two services of which one is known",
            "GET /v1/watch?service=<<ns>>/seen&service=<<ns>>/ledger",
            1,
        )
        .header("last-event-id: <<revision /v1/namespaces/NS/services/seen>>, x"),
        events("watch: a removal", service("GET", "seen/watch"), 1).during(
            "DELETE /v1/namespaces/<<ns>>/instances/seen-1",
            "",
            1,
        ),
        events("watch: a body", service("GET", "ledger/watch"), 1).body("{}"),
        pair("watch: what is gone after it", format!("GET {INSTANCE}")),
        pair("watch: HEAD", service("HEAD", "orders/watch")),
        pair("watch: HEAD of many", "HEAD /v1/watch?service=<<ns>>/orders"),
        pair("watch: no service", "GET /v1/watch"),
        pair("watch: too many services", many(101)),
        pair("watch: another namespace", "GET /v1/namespaces/nowhere/services/orders/watch"),
        pair(
            "watch: one of another namespace",
            "GET /v1/watch?service=<<ns>>/orders&service=nowhere/orders",
        ),
        pair("watch: POST", service("POST", "orders/watch")),
        pair("watch: PUT of many", "PUT /v1/watch"),
    ];
    for (name, query) in [
        ("order", "order=name"),
        ("limit", "limit=1"),
        ("wait", "wait=1s"),
        ("an unknown parameter", "tga=a"),
        ("a bad health", "health=all"),
        ("a bad selector", "selector=a%3E1"),
        ("a zone twice", "zone=a&zone=b"),
        ("several faults", "order=name&limit=1&wait=1s&zone="),
    ] {
        all.push(pair(format!("watch: {name}"), service("GET", &format!("orders/watch?{query}"))));
        let line = format!("GET /v1/watch?service=<<ns>>/orders&{query}");
        all.push(pair(format!("watch of many: {name}"), line));
    }
    for (name, value) in [
        ("no namespace", "orders"),
        ("an empty value", ""),
        ("three parts", "a/b/c"),
        ("capitals", "<<ns>>/Orders"),
        ("not UTF-8", "%FF/a"),
        ("twice the same", "<<ns>>/a&service=<<ns>>/a"),
    ] {
        all.push(pair(
            format!("watch of many, service: {name}"),
            format!("GET /v1/watch?service={value}"),
        ));
    }
    all
}
