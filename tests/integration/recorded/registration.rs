//! Registrations: single, without a name, and in batches; and deregistrations.

use super::pair::{Pair, instance, json, pair, service, settle, until};

/// A lease that does not end while the test runs.
const LONG: &str = r#""lease": {"durationSeconds": 86400, "evictAfterSeconds": 86400}"#;

const FULL: &str = r#"{"service": "orders", "addresses": ["10.0.0.7", "fd00::7"],
"ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
"version": "2.3.1", "tags": ["canary", "blue"], "zone": "eu-1a", "weight": 50, "priority": 1,
"attributes": {"team": "blue"}, "labels": {"track": "canary", "tier": "a"}, "health": "Passing",
"lease": {"mode": "Heartbeat", "durationSeconds": 86400, "onExpiry": "Evict", "evictAfterSeconds": 86400}}"#;

fn registration_body(service: &str, address: &str, more: &str) -> String {
    format!(r#"{{"service": "{service}", "addresses": ["{address}"], {more}}}"#)
}

pub(super) fn pairs() -> Vec<Pair> {
    let put = |name: &str, rest: &str, body: String| {
        json(format!("registration: {name}"), instance("PUT", rest), body)
    };
    let post = |name: &str, body: String| {
        json(
            format!("registration without a name: {name}"),
            service("POST", "stock/instances"),
            body,
        )
    };
    let one = registration_body("orders", "10.0.0.8", LONG);
    let mut all = vec![
        put("every field", "orders-1", FULL.to_owned()),
        put("the same again", "orders-1", FULL.to_owned()),
        put("few fields", "orders-2", one.clone()),
        put("the same again, few fields", "orders-2", one),
        put("another address", "orders-2", registration_body("orders", "10.0.0.9", LONG)),
        put("the lease is left out and stays", "orders-2", registration_body("orders", "10.0.0.9", r#""version": "2.3.2", "zone": "eu-1b", "priority": 2"#)),
        put("another service", "orders-2", registration_body("other", "10.0.0.9", LONG)),
        put("Warning", "orders-3", registration_body("orders", "10.0.0.10", &format!(r#""health": "Warning", "priority": 3, "zone": "eu-1b", "labels": {{"tier": "b"}}, {LONG}"#))),
        put("Critical", "orders-4", registration_body("orders", "10.0.0.11", &format!(r#""health": "Critical", "priority": 4, {LONG}"#))),
        put("a hostname, permanent", "ledger", r#"{"service": "ledger", "hostname": "ledger.example.com", "lease": {"mode": "Permanent"}}"#.to_owned()),
        put("permanent, again", "ledger", r#"{"service": "ledger", "hostname": "ledger.example.com", "lease": {"mode": "Permanent"}}"#.to_owned()),
        put("lease in full, Retain", "stock-1", registration_body("stock", "10.0.1.1", r#""lease": {"durationSeconds": 3600, "onExpiry": "Retain", "evictAfterSeconds": 0}"#)),
        put("a name with dots", "a.b.c", registration_body("dotted", "10.0.1.2", LONG)),
        put("an escaped name", "%6frders-1", FULL.to_owned()),
        put("weight 0", "orders-5", registration_body("weights", "10.0.1.3", &format!(r#""weight": 0, {LONG}"#))),
        put("numbers without a fraction", "orders-6", registration_body("weights", "10.0.1.4", &format!(r#""weight": 7.0, "priority": 1e2, {LONG}"#))),
        put("an unusual form of an IPv6 address", "orders-7", registration_body("weights", "FD00:0:0::0001", LONG)),
        post("new", format!(r#"{{"addresses": ["10.0.1.9"], "ports": [{{"name": "http", "port": 8080}}], {LONG}}}"#)),
        post("again", format!(r#"{{"addresses": ["10.0.1.9"], "ports": [{{"name": "http", "port": 8080}}], {LONG}}}"#)),
        post("the service is said again", format!(r#"{{"service": "stock", "hostname": "stock.example.com", {LONG}}}"#)),
        post("another service than in the path", registration_body("other", "10.0.1.10", LONG)),
        post("with a name", r#"{"name": "a", "addresses": ["10.0.1.10"]}"#.to_owned()),
        post("no address", "{}".to_owned()),
        json("registration without a name: other uid", service("POST", "stock/instances?uid=x"), format!(r#"{{"addresses": ["10.0.1.9"], "ports": [{{"name": "http", "port": 8080}}], {LONG}}}"#)),
        settle(),
        json("registration: uid of this incarnation", instance("PUT", "orders-2?uid=<<uid orders-2>>"), registration_body("orders", "10.0.0.9", r#""version": "2.3.2", "zone": "eu-1b", "priority": 2"#)),
        json("registration: uid of another incarnation", instance("PUT", "orders-2?uid=another"), registration_body("orders", "10.0.0.9", LONG)),
        json("registration: uid of what is not there", instance("PUT", "nobody?uid=another"), registration_body("orders", "10.0.0.9", LONG)),
    ];
    all.extend(conditions());
    all.extend(batches());
    all.push(settle());
    all.push(pair("instance: after registration", instance("GET", "orders-1")));
    all.push(pair("instance: permanent", instance("GET", "ledger")));
    all.push(pair("instance: HEAD", instance("HEAD", "ledger")));
    all.push(pair("instance: by its uid", instance("GET", "ledger?uid=<<uid ledger>>")));
    all.push(pair("instance: by another uid", instance("GET", "ledger?uid=another")));
    all.push(pair("instance: unknown", instance("GET", "nobody")));
    all.push(pair("instance: another namespace", "GET /v1/namespaces/nowhere/instances/a"));
    all
}

/// `If-Match` and `If-None-Match` of a registration.
fn conditions() -> Vec<Pair> {
    let body = || {
        registration_body(
            "orders",
            "10.0.0.9",
            r#""version": "2.3.2", "zone": "eu-1b", "priority": 2"#,
        )
    };
    let mut all = Vec::new();
    for (name, rest, header) in [
        ("the version that it has", "orders-2", "if-match: \"<<version orders-2>>\""),
        ("one of several", "orders-2", "if-match: \"1\", \"<<version orders-2>>\" , \"zz\""),
        ("any version", "orders-2", "if-match: *"),
        ("any version of what is not there", "nobody", "if-match: *"),
        ("a version of what is not there", "nobody", "if-match: \"5\""),
        ("another version", "orders-2", "if-match: \"1\""),
        ("a weak tag", "orders-2", "if-match: W/\"<<version orders-2>>\""),
        ("a tag that is no version", "orders-2", "if-match: \"abc\""),
        ("an empty list", "orders-2", "if-match: "),
        ("no quotes", "orders-2", "if-match: 12"),
        ("an open quote", "orders-2", "if-match: \"12"),
        ("an asterisk in a list", "orders-2", "if-match: *, \"1\""),
        ("If-None-Match, any", "orders-2", "if-none-match: *"),
        ("If-None-Match, a tag", "orders-2", "if-none-match: \"1\""),
    ] {
        let name = format!("registration, condition: {name}");
        all.push(json(name, instance("PUT", rest), body()).header(header));
    }
    let two = json("registration, condition: two headers", instance("PUT", "orders-2"), body());
    all.push(two.header("if-match: \"1\"").header("if-match: \"<<version orders-2>>\""));
    let both =
        json("registration, condition: an asterisk and a tag", instance("PUT", "orders-2"), body());
    all.push(both.header("if-match: *").header("if-match: \"1\""));
    all
}

fn batches() -> Vec<Pair> {
    let one = |name: &str, more: &str| {
        format!(r#"{{"namespace": "<<ns>>", "name": "{name}", "service": "batch", {more}}}"#)
    };
    let all = |list: &[String]| format!(r#"{{"instances": [{}]}}"#, list.join(",\n"));
    let address = |last: u8| format!(r#""addresses": ["10.0.2.{last}"], {LONG}"#);
    let many: Vec<_> = (0..1001).map(|at| one(&format!("m{at}"), "")).collect();
    let faults: Vec<_> =
        (0..3).map(|at| one(&format!("f{at}"), r#""weight": -1, "zone": """#)).collect();
    let mut pairs = Vec::new();
    for (name, body) in [
        ("two new ones", all(&[one("batch-1", &address(1)), one("batch-2", &address(2))])),
        (
            "the same again, and a new one",
            all(&[
                one("batch-1", &address(1)),
                one("batch-2", &address(2)),
                one("batch-3", &address(3)),
            ]),
        ),
        (
            "one without a name",
            all(&[format!(r#"{{"namespace": "<<ns>>", "service": "batch", {}}}"#, address(9))]),
        ),
        ("nobody", all(&[])),
        ("the same name twice", all(&[one("batch-1", &address(1)), one("batch-1", &address(4))])),
        (
            "another namespace",
            all(&[format!(
                r#"{{"namespace": "nowhere", "name": "a", "service": "batch", {}}}"#,
                address(5)
            )]),
        ),
        ("no namespace", all(&[format!(r#"{{"name": "a", "service": "batch", {}}}"#, address(5))])),
        (
            "an illegal namespace",
            all(&[format!(
                r#"{{"namespace": "No", "name": "a", "service": "batch", {}}}"#,
                address(5)
            )]),
        ),
        ("an illegal name", all(&[one("Not a name", &address(5))])),
        (
            "another service",
            all(&[format!(
                r#"{{"namespace": "<<ns>>", "name": "batch-1", "service": "other", {}}}"#,
                address(5)
            )]),
        ),
        ("many faults", all(&faults)),
        (
            "one of them with a state",
            all(&[one("batch-1", r#""state": "Up", "hostname": "a.example""#)]),
        ),
        ("an unknown field", all(&[one("batch-1", r#""uid": "x""#)])),
        ("one that is no object", r#"{"instances": [7]}"#.to_owned()),
        ("no list", r#"{"instances": {}}"#.to_owned()),
        ("null", r#"{"instances": null}"#.to_owned()),
        ("nothing", "{}".to_owned()),
        ("another member", r#"{"instances": [], "more": 1}"#.to_owned()),
        ("the list twice", r#"{"instances": [], "instances": []}"#.to_owned()),
        ("a list", "[]".to_owned()),
        ("too many", all(&many)),
    ] {
        pairs.push(json(format!("batch of registrations: {name}"), "POST /v1/instances", body));
    }
    let empty = || all(&[]);
    pairs.push(
        json("batch of registrations: If-Match", "POST /v1/instances", empty())
            .header("if-match: *"),
    );
    pairs.push(
        json("batch of registrations: If-None-Match", "POST /v1/instances", empty())
            .header("if-none-match: *"),
    );
    pairs.push(json("batch of registrations: a parameter", "POST /v1/instances?uid=a", empty()));
    pairs.push(pair("batch of registrations: no body", "POST /v1/instances"));
    pairs
}

/// Deregistrations, and reads of instances whose lease has ended.
pub(super) fn deletions() -> Vec<Pair> {
    let delete =
        |name: &str, rest: &str| pair(format!("deregistration: {name}"), instance("DELETE", rest));
    let brief = "/v1/namespaces/<<ns>>/instances/brief";
    let retained = "/v1/namespaces/<<ns>>/instances/retained";
    let short = r#""lease": {"durationSeconds": 2, "evictAfterSeconds": 0}"#;
    vec![
        settle(),
        delete("another uid", "orders-7?uid=another"),
        delete("an empty uid", "orders-7?uid="),
        delete("the uid twice", "orders-7?uid=a&uid=b"),
        delete("an unknown parameter", "orders-7?force=1"),
        delete("another version", "orders-7").header("if-match: \"1\""),
        delete("If-None-Match", "orders-7").header("if-none-match: *"),
        delete("by its uid and version", "orders-7?uid=<<uid orders-7>>")
            .header("if-match: \"<<version orders-7>>\""),
        delete("what was deleted just now", "orders-7"),
        delete("what was deleted just now, at a version", "orders-7").header("if-match: *"),
        delete("with a body", "orders-6").body("{}"),
        delete("plain", "orders-5"),
        delete("unknown", "nobody"),
        delete("another namespace", "x/../y"),
        json(
            "registration: after a deregistration",
            instance("PUT", "orders-5"),
            registration_body("weights", "10.0.1.3", LONG),
        ),
        json(
            "lease that ends: evicted",
            instance("PUT", "brief"),
            registration_body("brief", "10.0.3.1", short),
        ),
        json(
            "lease that ends: retained",
            instance("PUT", "retained"),
            registration_body(
                "retained",
                "10.0.3.2",
                r#""lease": {"durationSeconds": 2, "onExpiry": "Retain"}"#,
            ),
        ),
        until(brief, |status, _| status == 410),
        until(retained, |_, body| {
            body["phase"] == "Expired" && body["verdict"]["stored"]["phase"] == "Expired"
        }),
        pair("lease that ended: read, evicted", format!("GET {brief}")),
        pair("lease that ended: HEAD, evicted", format!("HEAD {brief}")),
        pair("lease that ended: heartbeat, evicted", format!("PUT {brief}/heartbeat")),
        json("lease that ended: attributes, evicted", format!("PATCH {brief}/attributes"), "{}"),
        json(
            "lease that ended: lease, evicted",
            format!("PUT {brief}/lease"),
            r#"{"durationSeconds": 9}"#,
        ),
        pair("lease that ended: deregistration, evicted", format!("DELETE {brief}")),
        json(
            "lease that ended: batch, evicted",
            "POST /v1/heartbeats",
            r#"{"instances": [{"namespace": "<<ns>>", "name": "brief"}]}"#,
        ),
        json(
            "lease that ended: registration at a version, evicted",
            format!("PUT {brief}"),
            registration_body("brief", "10.0.3.1", LONG),
        )
        .header("if-match: *"),
        pair("lease that ended: read, retained", format!("GET {retained}")),
        pair("lease that ended: discovery, retained", service("GET", "retained")),
        pair(
            "lease that ended: discovery of any health, retained",
            service("GET", "retained?health=any"),
        ),
        json(
            "lease that ended: a longer lease, retained",
            format!("PUT {retained}/lease"),
            r#"{"durationSeconds": 86400}"#,
        ),
        pair("lease that ended: discovery after its return", service("GET", "retained")),
        json(
            "lease that ended: registration, evicted",
            format!("PUT {brief}"),
            registration_body("brief", "10.0.3.1", LONG),
        ),
        settle(),
        pair("snapshot: at the end", "GET /v1/snapshot"),
    ]
}
