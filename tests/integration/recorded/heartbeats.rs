//! Heartbeats, single and in batches, and changes of leases.

use super::pair::{Pair, instance, json, pair, settle};

pub(super) fn pairs() -> Vec<Pair> {
    let beat = |name: &str, rest: &str| pair(format!("heartbeat: {name}"), instance("PUT", rest));
    let with_body = |name: &str, body: &str| {
        json(format!("heartbeat: {name}"), instance("PUT", "orders-1/heartbeat"), body)
    };
    let note_of_length = |length: usize| format!(r#"{{"note": "{}"}}"#, "ä".repeat(length));
    let mut all = vec![
        beat("no body", "orders-1/heartbeat"),
        beat("permanent", "ledger/heartbeat"),
        beat("unknown", "nobody/heartbeat"),
        beat("this uid", "orders-1/heartbeat?uid=<<uid orders-1>>"),
        beat("another uid", "orders-1/heartbeat?uid=another"),
        beat("an empty uid", "orders-1/heartbeat?uid="),
        beat("two uids", "orders-1/heartbeat?uid=a&uid=a"),
        beat("an unknown parameter", "orders-1/heartbeat?id=a"),
        beat("a uid that is not UTF-8", "orders-1/heartbeat?uid=%FF"),
        beat("an empty query", "orders-1/heartbeat?"),
        beat("If-Match", "orders-1/heartbeat").header("if-match: *"),
        beat("If-None-Match", "orders-1/heartbeat").header("if-none-match: *"),
        beat("If-Match, unknown", "nobody/heartbeat").header("if-match: \"1\""),
        beat("a content type without a body", "orders-1/heartbeat")
            .header("content-type: text/plain"),
        with_body("an empty object", "{}"),
        with_body("the same health", r#"{"health": "Passing"}"#),
        with_body("a note", r#"{"note": "the disk is nearly full"}"#),
        with_body("another health and a note", r#"{"health": "Warning", "note": "slow"}"#),
        settle(),
        pair("instance: after Warning", instance("GET", "orders-1")),
        with_body("Critical", r#"{"health": "Critical"}"#),
        with_body("Stopping", r#"{"health": "Stopping"}"#),
        settle(),
        pair("instance: after Stopping", instance("GET", "orders-1")),
        with_body("Passing again", r#"{"health": "Passing"}"#),
        with_body("null", r#"{"health": null, "note": null}"#),
        with_body("an unknown health", r#"{"health": "ok"}"#),
        with_body("health in lower case", r#"{"health": "passing"}"#),
        with_body("health that is no string", r#"{"health": 1}"#),
        with_body("an unknown field", r#"{"status": "ok"}"#),
        with_body("a field twice", r#"{"health": "Passing", "health": "Passing"}"#),
        with_body("a note that is long", &note_of_length(256)),
        with_body("a note that is too long", &note_of_length(257)),
        with_body("a list", "[]"),
        with_body("a string", r#""Passing""#),
        with_body("no JSON", "{"),
        beat("another type", "orders-1/heartbeat").header("content-type: text/plain").body("{}"),
        beat("no type", "orders-1/heartbeat").body("{}"),
        json(
            "heartbeat: health of what is unknown",
            instance("PUT", "nobody/heartbeat"),
            r#"{"health": "Passing"}"#,
        ),
        json(
            "heartbeat: health of the permanent",
            instance("PUT", "ledger/heartbeat"),
            r#"{"health": "Warning"}"#,
        ),
        json(
            "heartbeat: health of the permanent, back",
            instance("PUT", "ledger/heartbeat"),
            r#"{"health": "Passing"}"#,
        ),
        pair("heartbeat: another namespace", "PUT /v1/namespaces/nowhere/instances/a/heartbeat"),
        pair("heartbeat: HEAD", instance("HEAD", "orders-1/heartbeat")),
        pair("heartbeat: GET", instance("GET", "orders-1/heartbeat")),
        pair("heartbeat: POST", instance("POST", "orders-1/heartbeat")),
    ];
    all.extend(batches());
    all.extend(lease_changes());
    all
}

fn batches() -> Vec<Pair> {
    let beat = |more: &str| format!(r#"{{"namespace": "<<ns>>", {more}}}"#);
    let all = |list: &[String]| format!(r#"{{"instances": [{}]}}"#, list.join(",\n"));
    let many = vec![r#"{"namespace":"a","name":"b"}"#.to_owned(); 10_001];
    let mut pairs = Vec::new();
    for (name, body) in [
        ("one", all(&[beat(r#""name": "orders-1""#)])),
        (
            "several",
            all(&[
                beat(r#""name": "orders-1", "health": "Passing""#),
                beat(r#""name": "ledger""#),
                beat(r#""name": "orders-2", "uid": "<<uid orders-2>>""#),
            ]),
        ),
        ("unknown", all(&[beat(r#""name": "nobody""#)])),
        ("another uid", all(&[beat(r#""name": "orders-1", "uid": "another""#)])),
        (
            "every kind of fault",
            all(&[
                beat(r#""name": "Not a name""#),
                r#"{"namespace": "No label", "name": "a"}"#.to_owned(),
                beat(r#""name": "orders-1", "health": "ok""#),
                r#"{"namespace": "nowhere", "name": "a"}"#.to_owned(),
                beat(r#""name": "orders-1", "uid": """#),
                beat(r#""name": "orders-2""#),
            ]),
        ),
        ("another health", all(&[beat(r#""name": "orders-2", "health": "Warning""#)])),
        ("the health before", all(&[beat(r#""name": "orders-2", "health": "Passing""#)])),
        ("the same twice", all(&[beat(r#""name": "orders-2""#), beat(r#""name": "orders-2""#)])),
        ("an escaped name", all(&[beat(r#""name": "\u006frders-2""#)])),
        ("nobody", all(&[])),
        ("no name", all(&[r#"{"namespace": "a"}"#.to_owned()])),
        ("no namespace", all(&[r#"{"name": "a"}"#.to_owned()])),
        ("an unknown field", all(&[beat(r#""name": "a", "note": "x""#)])),
        ("a field twice", all(&[beat(r#""name": "a", "name": "b""#)])),
        ("a name that is a number", all(&[beat(r#""name": 1"#)])),
        ("one that is a list", all(&["[\"a\", \"b\"]".to_owned()])),
        ("no list", r#"{"instances": {}}"#.to_owned()),
        ("null", r#"{"instances": null}"#.to_owned()),
        ("nothing", "{}".to_owned()),
        ("a list", "[]".to_owned()),
        ("too many", all(&many)),
        ("no JSON", r#"{"instances": [}"#.to_owned()),
    ] {
        pairs.push(json(format!("batch of heartbeats: {name}"), "POST /v1/heartbeats", body));
    }
    let empty = || all(&[]);
    pairs.push(
        json("batch of heartbeats: If-Match", "POST /v1/heartbeats", empty()).header("if-match: *"),
    );
    pairs.push(json("batch of heartbeats: a parameter", "POST /v1/heartbeats?uid=a", empty()));
    pairs.push(pair("batch of heartbeats: no body", "POST /v1/heartbeats"));
    pairs.push(pair("batch of heartbeats: no type", "POST /v1/heartbeats").body(empty()));
    pairs.push(pair("batch of heartbeats: PUT", "PUT /v1/heartbeats"));
    pairs
}

fn lease_changes() -> Vec<Pair> {
    let lease = |name: &str, rest: &str, body: &str| {
        json(format!("length of a lease: {name}"), instance("PUT", rest), body)
    };
    let mut all = vec![
        lease("an hour", "orders-2/lease", r#"{"durationSeconds": 3600}"#),
        lease("the same again", "orders-2/lease", r#"{"durationSeconds": 3600}"#),
        lease(
            "a day, of this uid",
            "orders-2/lease?uid=<<uid orders-2>>",
            r#"{"durationSeconds": 86400}"#,
        ),
        lease("another uid", "orders-2/lease?uid=another", r#"{"durationSeconds": 60}"#),
        lease("permanent", "ledger/lease", r#"{"durationSeconds": 60}"#),
        lease("unknown", "nobody/lease", r#"{"durationSeconds": 60}"#),
        settle(),
        lease("at a version", "orders-2/lease", r#"{"durationSeconds": 7200}"#)
            .header("if-match: \"<<version orders-2>>\""),
        lease("at another version", "orders-2/lease", r#"{"durationSeconds": 60}"#)
            .header("if-match: \"1\""),
        lease("at any version", "orders-2/lease", r#"{"durationSeconds": 86400}"#)
            .header("if-match: *"),
        lease("If-None-Match", "orders-2/lease", r#"{"durationSeconds": 60}"#)
            .header("if-none-match: *"),
        pair("length of a lease: no body", instance("PUT", "orders-2/lease")),
    ];
    for (name, body) in [
        ("nothing", "{}"),
        ("null", r#"{"durationSeconds": null}"#),
        ("too short", r#"{"durationSeconds": 1}"#),
        ("too long", r#"{"durationSeconds": 86401}"#),
        ("negative", r#"{"durationSeconds": -5}"#),
        ("a fraction", r#"{"durationSeconds": 5.5}"#),
        ("a string", r#"{"durationSeconds": "60"}"#),
        ("an unknown field", r#"{"durationSeconds": 60, "mode": "Permanent"}"#),
        ("another form of the name", r#"{"duration_seconds": 60}"#),
    ] {
        all.push(lease(name, "orders-2/lease", body));
    }
    all
}
