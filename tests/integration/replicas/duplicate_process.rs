//! Two processes with one identity: the younger yields, every replica reports it, and the older continues unaffected.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::lease_lifecycle::BOUND;
use crate::support::http::{call, try_call};
use crate::support::{Rollcall, eventually, namespace};

async fn get_replica(replica: &Rollcall) -> Value {
    call(replica.http, "GET", "/v1/cluster", None).await.json()["replicas"][0].clone()
}

/// Waits until a replica reports both processes as a problem.
async fn until_reported(replica: &Rollcall, name: &str) {
    eventually("the duplicate process is reported", BOUND, async || {
        let problems = get_replica(replica).await["problems"].to_string();
        let is_named = problems.contains(&format!("two processes run under the identity {name}"));
        (is_named && replica.metric("rollcall_duplicate_identities").await == Some(1.0))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn younger_of_two_processes_yields_and_takes_over_when_the_older_is_gone() {
    let ns = namespace("duplicates").await;
    let first = Rollcall::start_with(&ns, "r-0", &[]).await;
    let other = Rollcall::start_with(&ns, "r-1", &[]).await;
    let second = Rollcall::launch(&ns, "r-0", &[]).await;
    for replica in [&first, &other, &second] {
        until_reported(replica, "r-0").await;
    }
    eventually("the younger is not ready", BOUND, async || {
        let answer = try_call(second.admin, "GET", "/readyz", None).await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
    let promises = |replica: &Value| replica["promises"].as_bool();
    assert_eq!(promises(&get_replica(&second).await), Some(false));

    // One lease is given back for heartbeats that the younger may have taken. After that no time is given back, so
    // instances expire.
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    let lease = json!({"durationSeconds": 3, "onExpiry": "Retain"});
    let body = json!({"service": "orders", "addresses": ["10.0.0.1"], "lease": lease});
    sleep(Duration::from_secs(15)).await;
    let gaps = get_replica(&other).await["gaps"].clone();
    let registered = call(first.http, "PUT", &path, Some(body)).await;
    assert_eq!(registered.status, 201, "{}", registered.json());
    for replica in [&first, &other] {
        eventually("the instance expires with its lease", BOUND, async || {
            let instance = call(replica.http, "GET", &path, None).await.json();
            (instance["phase"] == "Expired").then_some(())
        })
        .await;
    }
    assert_eq!(get_replica(&other).await["gaps"], gaps, "no more time is given back");

    first.kill().await;
    eventually("the younger takes over", BOUND, async || {
        let answer = try_call(second.admin, "GET", "/readyz", None).await.ok()?;
        (answer.status == 200 && promises(&get_replica(&second).await) == Some(true)).then_some(())
    })
    .await;
}
