//! Bounds on what one caller and one namespace may ask for.

use serde_json::{Value, json};

use crate::support::http::call;
use crate::support::{Rollcall, namespace};

fn permanent(name: &str, namespace: &str) -> Value {
    json!({"namespace": namespace, "name": name, "service": "orders", "addresses": ["10.0.0.1"],
        "lease": {"mode": "Permanent"}})
}

#[tokio::test]
async fn one_caller_is_told_when_he_asks_for_too_much_and_when_to_come_back() {
    let ns = namespace("caller-rate").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--http-caller-rate", "20"]).await;
    let mut refused = None;
    // Forty at once, and as many more as seconds go by.
    for _ in 0..1000 {
        let answer = call(rollcall.http, "GET", "/v1/services", None).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a thousand requests are too many");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["type"], "tag:rollcall.dev,2026:too-many-requests");
    assert!(refused.json()["detail"].to_string().contains("--http-caller-rate"));
    assert_ne!(refused.header("retry-after"), "");
}

#[tokio::test]
async fn a_namespace_has_so_many_writes_and_no_more_in_batches_either() {
    let ns = namespace("namespace-rate").await;
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &["--http-namespace-rate", "2"]).await;
    let batch = |count: usize| {
        let one = |at| permanent(&format!("o{at}"), &ns.name);
        json!({"instances": (0..count).map(one).collect::<Vec<_>>()})
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
    // Beats are no writes, and reads are not bounded by it.
    for _ in 0..20 {
        assert_eq!(
            call(rollcall.http, "PUT", &format!("{path}/heartbeat"), None).await.status,
            200
        );
        assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 200);
    }
}
