//! Rate limits for one caller and for one namespace.

use serde_json::{Value, json};

use crate::support::http::call;
use crate::support::{Rollcall, namespace};

fn permanent(name: &str, namespace: &str) -> Value {
    json!({"namespace": namespace, "name": name, "service": "orders", "addresses": ["10.0.0.1"],
        "lease": {"mode": "Permanent"}})
}

#[tokio::test]
async fn caller_above_its_rate_is_answered_429_with_a_retry_time() {
    let ns = namespace("caller-rate").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--http-caller-rate", "20"]).await;
    let mut refused = None;
    // The bucket holds forty requests, and is refilled while the test runs.
    for _ in 0..1000 {
        let answer = call(rollcall.http, "GET", "/v1/services", None).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a thousand requests exceed the rate");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["type"], "tag:rollcall.dev,2026:too-many-requests");
    assert!(refused.json()["detail"].to_string().contains("--http-caller-rate"));
    assert_ne!(refused.header("retry-after"), "");
}

#[tokio::test]
async fn namespace_rate_limits_writes_including_those_in_batches() {
    let ns = namespace("namespace-rate").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--http-namespace-rate", "2"]).await;
    let batch = |count: usize| {
        let registration = |at| permanent(&format!("o{at}"), &ns.name);
        json!({"instances": (0..count).map(registration).collect::<Vec<_>>()})
    };
    let post = async |count| call(rollcall.http, "POST", "/v1/instances", Some(batch(count))).await;
    let too_many = post(5).await.json();
    assert_eq!((&too_many["failed"], &too_many["results"][0]["status"]), (&json!(5), &json!(429)));
    let fits = post(4).await.json();
    assert_eq!(fits["created"], 4, "{fits}");
    let path = format!("/v1/namespaces/{}/instances/o0", ns.name);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let state = json!({"state": "Draining"});
        statuses
            .push(call(rollcall.http, "PUT", &format!("{path}/state"), Some(state)).await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    // Heartbeats are not writes, and reads are not limited.
    for _ in 0..20 {
        assert_eq!(
            call(rollcall.http, "PUT", &format!("{path}/heartbeat"), None).await.status,
            200
        );
        assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 200);
    }
}
