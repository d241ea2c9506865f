//! Two installations of rollcall with overlapping scopes on one API server.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::http::call;
use crate::support::{Namespace, Rollcall, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

/// How long the test counts their writes: several leases.
const OBSERVATION_SPAN: Duration = Duration::from_secs(40);

/// The number of instances that both manage.
const INSTANCES: usize = 5;

/// The number of status writes that the replicas sent for a namespace.
fn count_status_writes(ns: &Namespace) -> usize {
    let log = std::fs::read_to_string(&ns.shared.audit_log).unwrap();
    let calls = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_status = |call: &Value| {
        let object = &call["objectRef"];
        object["namespace"] == *ns.name
            && object["subresource"] == "status"
            && call["verb"] == "patch"
    };
    calls.filter(is_status).count()
}

async fn problems(replica: &Rollcall) -> String {
    let cluster = call(replica.http, "GET", "/v1/cluster", None).await.json();
    cluster["replicas"][0]["problems"].to_string()
}

async fn reports_other_installation(replica: &Rollcall) -> bool {
    let metrics = call(replica.admin, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body).unwrap();
    text.lines().any(|line| line == "rollcall_other_installations 1.0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_installations_write_little_evict_nothing_and_report_each_other() {
    let ns = namespace("overlap").await;
    let home = namespace("overlap-home").await;
    let first = Rollcall::start(&ns).await;
    let second = Rollcall::start_with(&ns, "other-0", &["--own-namespace", &home.name]).await;
    let beat = async || {
        for at in 0..INSTANCES {
            let path = format!("/v1/namespaces/{}/instances/o{at}", ns.name);
            let lease = json!({"durationSeconds": 6, "evictAfterSeconds": 0});
            let body = json!({"service": "orders", "addresses": ["10.0.0.1"], "lease": lease});
            let taken = call(first.http, "PUT", &path, Some(body)).await;
            assert!(matches!(taken.status, 200 | 201), "{}", taken.json());
        }
    };
    beat().await;
    for replica in [&first, &second] {
        eventually("the other installation is reported", BOUND, async || {
            beat().await;
            let is_problem = problems(replica).await.contains("another installation of rollcall");
            (is_problem && reports_other_installation(replica).await).then_some(())
        })
        .await;
        assert!(replica.whole_log().contains("another installation of rollcall"));
    }
    let oldest = [problems(&first).await, problems(&second).await];
    let oldest = oldest.iter().filter(|text| text.contains("this one is the oldest")).count();
    assert_eq!(oldest, 1, "exactly one is the oldest");

    let instances = ns.api::<ServiceInstance>();
    let uid = async |at: usize| instances.get(&format!("o{at}")).await.unwrap().metadata.uid;
    let before = [uid(0).await, uid(1).await, uid(2).await, uid(3).await, uid(4).await];
    let (written, begun) = (count_status_writes(&ns), Instant::now());
    while begun.elapsed() < OBSERVATION_SPAN {
        beat().await;
        sleep(Duration::from_millis(1500)).await;
    }
    let written = count_status_writes(&ns) - written;
    assert!(
        written <= 8 * INSTANCES,
        "{written} status writes in {OBSERVATION_SPAN:?}: the installations overwrite each other"
    );
    for (at, before) in before.iter().enumerate() {
        assert_eq!(uid(at).await, *before, "o{at} was evicted although it sent heartbeats");
        let status = instances.get(&format!("o{at}")).await.unwrap().status.unwrap();
        assert!(status.installation.is_some());
    }
    let events = ns.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let count = |reason: &str| {
        let is_it = |event: &&Event| event.reason.as_deref() == Some(reason);
        events.iter().filter(is_it).count()
    };
    assert!(count("OtherInstallation") >= 1, "{events:?}");
    assert_eq!(count("Evicted"), 0);
    assert!(events.len() <= 6 * INSTANCES, "{} Events", events.len());
    let paths = (0..INSTANCES).map(|at| format!("/v1/namespaces/{}/instances/o{at}", ns.name));
    for path in paths {
        assert_ne!(call(first.http, "GET", &path, None).await.json()["phase"], "Expired");
    }
}
