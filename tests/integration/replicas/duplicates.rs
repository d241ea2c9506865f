//! Two processes under one identity: the younger yields, all say it, and the older goes on as if it were alone.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::lives::BOUND;
use crate::support::http::{call, try_call};
use crate::support::{Rollcall, eventually, namespace};

async fn own_word(replica: &Rollcall) -> Value {
    call(replica.http, "GET", "/v1/cluster", None).await.json()["replicas"][0].clone()
}

/// Waits until a replica names both processes among its problems.
async fn says_it(replica: &Rollcall, name: &str) {
    eventually("it says that two processes run", BOUND, async || {
        let problems = own_word(replica).await["problems"].to_string();
        let says = problems.contains(&format!("two processes run under the identity {name}"));
        (says && replica.figure("rollcall_duplicate_identities").await == Some(1.0)).then_some(())
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
        says_it(replica, "r-0").await;
    }
    eventually("the younger is not ready", BOUND, async || {
        let answer = try_call(second.admin, "GET", "/readyz", None).await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
    let promises = |word: &Value| word["promises"].as_bool();
    assert_eq!(promises(&own_word(&second).await), Some(false));

    // One lease for what the younger may have promised; none after that, and the dead leave.
    let path = format!("/v1/namespaces/{}/instances/o1", ns.name);
    let lease = json!({"durationSeconds": 3, "onExpiry": "Retain"});
    let body = json!({"service": "orders", "addresses": ["10.0.0.1"], "lease": lease});
    sleep(Duration::from_secs(15)).await;
    let gaps = own_word(&other).await["gaps"].clone();
    let registered = call(first.http, "PUT", &path, Some(body)).await;
    assert_eq!(registered.status, 201, "{}", registered.json());
    for replica in [&first, &other] {
        eventually("it is gone with its lease", BOUND, async || {
            let said = call(replica.http, "GET", &path, None).await.json();
            (said["phase"] == "Expired").then_some(())
        })
        .await;
    }
    assert_eq!(own_word(&other).await["gaps"], gaps, "nothing is given back any more");

    first.kill().await;
    eventually("the younger takes over", BOUND, async || {
        let answer = try_call(second.admin, "GET", "/readyz", None).await.ok()?;
        (answer.status == 200 && promises(&own_word(&second).await) == Some(true)).then_some(())
    })
    .await;
}
