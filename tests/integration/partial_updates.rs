//! Changes to a part of an instance, batches of registrations, and conditional requests.

use serde_json::{Value, json};

use crate::support::http::{Answer, call, call_with, exchange};
use crate::support::{Rollcall, namespace};

async fn send_conditional(
    rollcall: &Rollcall,
    call: (&str, &str),
    version: &str,
    body: &Value,
) -> Answer {
    let (method, path) = call;
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\nif-match: \
         {version}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    exchange(rollcall.http, (head + &body).as_bytes()).await.unwrap()
}

fn permanent(weight: u16) -> Value {
    json!({"service": "orders", "addresses": ["10.0.0.1"], "weight": weight, "lease": {"mode": "Permanent"}})
}

#[tokio::test]
async fn operator_state_outlasts_registrations() {
    let ns = namespace("state").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &path, Some(permanent(1))).await.status, 201);
    let state = format!("{path}/state");
    let set = call(rollcall.http, "PUT", &state, Some(json!({"state": "OutOfService"}))).await;
    assert_eq!((set.status, set.json()["phase"].as_str()), (200, Some("OutOfService")));
    for weight in [1, 2, 2] {
        let again = call(rollcall.http, "PUT", &path, Some(permanent(weight))).await;
        assert_eq!((again.status, &again.json()["state"]), (200, &json!("OutOfService")));
    }
    let back = call(rollcall.http, "PUT", &state, Some(json!({"state": "Up"}))).await;
    assert_eq!((back.status, &back.json()["phase"]), (200, &json!("Ready")));
    let missing = format!("/v1/namespaces/{}/instances/missing/state", ns.name);
    let answer = call(rollcall.http, "PUT", &missing, Some(json!({"state": "Up"}))).await;
    assert_eq!(answer.status, 404, "{:?}", answer.json());
}

#[tokio::test]
async fn attributes_are_patched_individually_and_invalid_ones_are_named() {
    let ns = namespace("attributes").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    let mut body = permanent(1);
    body["attributes"] = json!({"a": "1", "b": "2"});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
    let attributes = format!("{path}/attributes");
    let patch = async |patch: Value| call(rollcall.http, "PATCH", &attributes, Some(patch)).await;
    let patched = patch(json!({"a": null, "c": "3"})).await;
    assert_eq!(
        (patched.status, &patched.json()["attributes"]),
        (200, &json!({"b": "2", "c": "3"}))
    );
    assert_eq!(patch(json!({})).await.json()["attributes"], json!({"b": "2", "c": "3"}));
    for (wrong, field) in [
        (json!({"c": 3}), "c"),
        (json!({"c": {"d": "e"}}), "c"),
        (json!({"c": "x".repeat(2000)}), "attributes.c"),
        (json!({"a=b": null}), "attributes.a=b"),
        (attributes_from(65, 0), "attributes"),
        // With the existing attributes, the instance would have too many.
        (attributes_from(64, 100), "attributes"),
        (json!(["c"]), ""),
    ] {
        let refused = patch(wrong.clone()).await;
        assert_eq!(refused.status, 422, "{wrong}: {:?}", refused.json());
        let named = refused.json()["errors"][0]["field"].as_str().unwrap().to_owned();
        assert!(named.starts_with(field), "{wrong}: {named}");
        assert_eq!(
            refused.json()["errors"].as_array().unwrap().len(),
            1,
            "{wrong}: {:?}",
            refused.json()
        );
    }
}

/// `count` attributes.
fn attributes_from(count: usize, from: usize) -> serde_json::Value {
    (from..from + count)
        .map(|at| (format!("k{at}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn outdated_conditional_requests_change_nothing() {
    let ns = namespace("if-match").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    let first = call(rollcall.http, "PUT", &path, Some(permanent(1))).await;
    let old = first.header("etag").to_owned();
    assert_eq!(call(rollcall.http, "PUT", &path, Some(permanent(2))).await.status, 200);
    let empty = json!({});
    let state = format!("{path}/state");
    let attributes = format!("{path}/attributes");
    for (call, body) in [
        (("PUT", &*path), permanent(3)),
        (("PATCH", &*attributes), empty.clone()),
        (("PUT", &*state), json!({"state": "Draining"})),
        (("DELETE", &*path), empty.clone()),
    ] {
        let refused = send_conditional(&rollcall, call, &old, &body).await;
        assert_eq!(refused.status, 412, "{call:?}: {:?}", refused.json());
        assert_eq!(refused.json()["type"], "tag:rollcall.dev,2026:other-version");
    }
    let malformed = send_conditional(&rollcall, ("DELETE", &path), "1", &empty).await;
    assert_eq!(
        (malformed.status, &malformed.json()["errors"][0]["field"]),
        (400, &json!("If-Match"))
    );
    assert_eq!(malformed.json()["type"], BAD_HEADER);
    assert_eq!(malformed.json()["title"], "A header is not valid");
    for never in ["W/\"1\"", "\"1\", \"2\"", "\"x\""] {
        let refused = send_conditional(&rollcall, ("DELETE", &path), never, &empty).await;
        assert_eq!(refused.status, 412, "{never}: {:?}", refused.json());
    }
    let missing = format!("{path}-missing");
    for never in ["*", "\"5\"", "W/\"5\""] {
        let refused = send_conditional(&rollcall, ("PUT", &missing), never, &permanent(1)).await;
        assert_eq!(refused.status, 412, "{never}: {:?}", refused.json());
        let refused = send_conditional(&rollcall, ("DELETE", &missing), never, &empty).await;
        assert_eq!(refused.status, 404, "a missing instance is 404 with any condition: {never}");
    }
    let changed =
        send_conditional(&rollcall, ("PATCH", &attributes), "*", &json!({"a": "1"})).await;
    assert_eq!((changed.status, changed.header("accept-patch").is_empty()), (200, false));
    let again = send_conditional(&rollcall, ("PUT", &path), "*", &permanent(2)).await;
    assert_eq!(again.status, 200, "{:?}", again.json());
    let list = format!("\"1\", W/\"2\", {}", again.header("etag"));
    let patched =
        send_conditional(&rollcall, ("PATCH", &attributes), &list, &json!({"a": "2"})).await;
    // The controller may have written the status in between.
    assert!([200, 412].contains(&patched.status), "{:?}", patched.json());
    // The controller writes the status at the same time: repeat until nothing is written in between.
    let done = crate::support::eventually("the version matches", BOUND, async || {
        let now = call(rollcall.http, "GET", &path, None).await;
        let done = send_conditional(&rollcall, ("DELETE", &path), now.header("etag"), &empty).await;
        (done.status == 204).then_some(now.json()["weight"].clone())
    });
    assert_eq!(done.await, 2);
}

#[tokio::test]
async fn unsupported_condition_is_refused_and_not_ignored() {
    let ns = namespace("no-condition").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &path, Some(permanent(1))).await.status, 201);
    let none = json!({"instances": []}).to_string();
    for (call, body) in [
        (format!("PUT {path}/heartbeat"), ""),
        (format!("PUT {path}/heartbeat"), "{}"),
        ("POST /v1/heartbeats".to_owned(), &*none),
        ("POST /v1/instances".to_owned(), &*none),
    ] {
        for header in ["If-Match", "If-None-Match"] {
            let header_lines = (header, "*\r\ncontent-type: application/json");
            let refused = call_with(rollcall.http, &call, header_lines, body).await;
            let error = &refused.json()["errors"][0];
            assert_eq!((refused.status, &error["field"]), (400, &json!(header)), "{call}: {error}");
            assert_eq!(refused.json()["type"], BAD_HEADER, "{call}");
            assert!(
                error["detail"].as_str().unwrap().starts_with("is not supported for"),
                "{error}"
            );
        }
    }
}

const BAD_HEADER: &str = "tag:rollcall.dev,2026:bad-header";

const BOUND: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn replica_asks_the_api_server_before_it_refuses_a_newer_version() {
    let ns = namespace("ahead").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &path, Some(permanent(1))).await.status, 201);
    // This version does not exist, but the replica must assume that it is a newer one.
    let far = send_conditional(&rollcall, ("DELETE", &path), "\"9999999999\"", &json!({})).await;
    assert_eq!(far.status, 412, "{:?}", far.json());
    assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 200);
}

#[tokio::test]
async fn a_thousand_registrations_have_a_result_each_and_a_thousand_and_one_are_refused() {
    let ns = namespace("many").await;
    let rollcall = Rollcall::start(&ns).await;
    let registration = |i: usize| {
        let name = if i == 500 { "Not a name".to_owned() } else { format!("o{i}") };
        json!({"namespace": ns.name, "name": name, "service": "orders",
            "addresses": [format!("10.1.{}.{}", i / 250, i % 250)], "lease": {"mode": "Permanent"}})
    };
    let all: Vec<Value> = (0..1000).map(registration).collect();
    let batch = json!({"instances": all});
    let answer = call(rollcall.http, "POST", "/v1/instances", Some(batch.clone())).await.json();
    let counts = ["created", "registered", "failed"].map(|count| answer[count].as_u64().unwrap());
    assert_eq!(counts, [999, 0, 1]);
    let results = answer["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[7]["name"]), (1000, &json!("o7")));
    assert_eq!(
        (&results[500]["status"], &results[500]["problem"]["errors"][0]["field"]),
        (&json!(422), &json!("name"))
    );
    // Every registered instance is discoverable at once.
    let service = format!("/v1/namespaces/{}/services/orders", ns.name);
    let found = call(rollcall.http, "GET", &service, None).await.json();
    assert_eq!(found["instances"].as_array().unwrap().len(), 999);
    let again = call(rollcall.http, "POST", "/v1/instances", Some(batch)).await.json();
    assert_eq!((again["registered"].as_u64(), again["created"].as_u64()), (Some(999), Some(0)));
    let too_many = json!({"instances": (0..1001).map(registration).collect::<Vec<_>>()});
    let refused = call(rollcall.http, "POST", "/v1/instances", Some(too_many)).await;
    assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (422, &json!("instances")));
}

#[tokio::test]
async fn snapshot_has_one_line_for_each_instance() {
    let ns = namespace("snapshot").await;
    let rollcall = Rollcall::start(&ns).await;
    let registration = |i: usize| {
        json!({"namespace": ns.name, "name": format!("o{i}"), "service": format!("s{}", i % 7),
            "addresses": [format!("10.2.0.{i}")], "lease": {"mode": "Permanent"}})
    };
    let all = json!({"instances": (0..200).map(registration).collect::<Vec<_>>()});
    assert_eq!(
        call(rollcall.http, "POST", "/v1/instances", Some(all)).await.json()["created"],
        200
    );
    // HTTP/1.0 has no chunked encoding.
    let answer = exchange(rollcall.http, b"GET /v1/snapshot HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The replica's own instance is in the snapshot too.
    assert_eq!(lines.len(), 201);
    let mut names: Vec<_> = lines.iter().map(|line| line["name"].to_string()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 201);
    let wrong = call(rollcall.http, "GET", "/v1/snapshot?phase=Ready", None).await;
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["field"]), (400, &json!("phase")));
}

#[tokio::test]
async fn read_with_a_minimum_index_sees_a_write_at_another_replica() {
    let ns = namespace("min-index").await;
    let (a, b) = (Rollcall::start(&ns).await, Rollcall::start_with(&ns, "rollcall-1", &[]).await);
    let get = async |replica: &Rollcall, path: &str, index: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nrollcall-min-index: {index}\r\n\r\n"
        );
        exchange(replica.http, head.as_bytes()).await.unwrap()
    };
    let service = format!("/v1/namespaces/{}/services/orders", ns.name);
    for i in 0..20 {
        let path = format!("/v1/namespaces/{}/instances/o{i}", ns.name);
        let written = call(a.http, "PUT", &path, Some(permanent(i))).await;
        let read = get(&b, &service, written.header("rollcall-index")).await;
        let found = read.json()["instances"].as_array().unwrap().len();
        assert_eq!((read.status, found), (200, usize::from(i) + 1));
    }
    let wrong = get(&b, &service, "soon").await;
    assert_eq!(
        (wrong.status, &wrong.json()["errors"][0]["field"]),
        (400, &json!("Rollcall-Min-Index"))
    );
    assert_eq!(wrong.json()["type"], BAD_HEADER);
}

#[tokio::test]
async fn one_of_several_lease_changes_for_one_version_succeeds() {
    let ns = namespace("lease-match").await;
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    let body = json!({"service": "orders", "addresses": ["10.0.0.1"]});
    let version = call(rollcall.http, "PUT", &path, Some(body)).await.header("etag").to_owned();
    let lease = format!("{path}/lease");
    let renew = async |seconds: u32| {
        let body = json!({"durationSeconds": seconds});
        send_conditional(&rollcall, ("PUT", &lease), &version, &body).await.status
    };
    let (a, b, c, d) = tokio::join!(renew(60), renew(70), renew(80), renew(90));
    let mut statuses = [a, b, c, d];
    statuses.sort_unstable();
    // None succeeds if the controller wrote the status in between.
    assert!(statuses[1..] == [412; 3] && [200, 412].contains(&statuses[0]), "{statuses:?}");
}

#[tokio::test]
async fn only_the_first_registration_of_a_name_in_a_batch_is_applied() {
    let ns = namespace("twice").await;
    let rollcall = Rollcall::start(&ns).await;
    let registration = |weight: u16| {
        let mut body = permanent(weight);
        body["namespace"] = json!(ns.name);
        body["name"] = json!("o1");
        body
    };
    let batch = json!({"instances": [registration(1), registration(2), registration(3)]});
    let answer = call(rollcall.http, "POST", "/v1/instances", Some(batch)).await.json();
    assert_eq!((&answer["created"], &answer["failed"]), (&json!(1), &json!(2)), "{answer}");
    assert_eq!(answer["results"][1]["problem"]["errors"][0]["field"], "name");
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    assert_eq!(call(rollcall.http, "GET", &path, None).await.json()["weight"], 1);
}
