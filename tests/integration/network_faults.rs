//! Faults between a replica and the real API server: the replica still answers reads and heartbeats, and no instance
//! expires.

use std::time::Duration;

use serde_json::json;

use crate::lease_lifecycle::{annotate, create, discoverable, manifest, until_discoverable};
use crate::support::http::call;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Rollcall, eventually, namespace};

/// Separates the replica from the API server for longer than the lease.
async fn check_outage(mode: Mode, prefix: &str) {
    let mut ns = namespace(prefix).await;
    let proxy = Proxy::install(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 3});
    let api = create(&ns, &manifest("silent", "silent", lease.clone())).await;
    create(&ns, &manifest("beating", "beating", lease)).await;
    for service in ["silent", "beating"] {
        until_discoverable(&rollcall, &ns, service, true).await;
    }
    let beat = format!("/v1/namespaces/{}/instances/beating/heartbeat", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &beat, None).await.status, 200);
    proxy.set(mode);
    for _ in 0..20 {
        assert_eq!(
            call(rollcall.http, "PUT", &beat, None).await.status,
            200,
            "the heartbeat is taken"
        );
        for service in ["silent", "beating"] {
            let discoverable = discoverable(&rollcall, &ns, service).await;
            assert_eq!(discoverable, Some(true), "{service} must not expire");
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let path = format!("/v1/namespaces/{}/instances/new", ns.name);
    let body = json!({"service": "new", "addresses": ["10.0.0.9"]});
    let refused = call(rollcall.http, "PUT", &path, Some(body.clone())).await;
    assert_eq!(refused.status, 503, "{:?}", refused.json());
    assert!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
    let unknown = format!("/v1/namespaces/{}/instances/missing/heartbeat", ns.name);
    let unknown = call(rollcall.http, "PUT", &unknown, None).await;
    assert_eq!(unknown.status, 503, "not 404: the API server could not be asked");
    // By now so many calls have failed that the breaker is open.
    until_breaker(&rollcall, "open").await;
    proxy.set(Mode::Pass);
    // An instance with heartbeats by annotation could not send any during the outage, and is given that time back.
    annotate(&api, "silent").await.unwrap();
    until_discoverable(&rollcall, &ns, "beating", false).await;
    until_discoverable(&rollcall, &ns, "silent", false).await;
    until_breaker(&rollcall, "closed").await;
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
}

/// Waits until the breaker of writes is `open` or `closed`.
async fn until_breaker(rollcall: &Rollcall, state: &str) {
    eventually("the breaker changes", Duration::from_secs(60), async || {
        let cluster = call(rollcall.http, "GET", "/v1/cluster", None).await.json();
        (cluster["replicas"][0]["breakers"]["writes"] == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_instance_expires_while_the_api_server_stalls() {
    check_outage(Mode::Stall, "stalled").await;
}

#[tokio::test]
async fn no_instance_expires_while_the_api_server_is_cut_off() {
    check_outage(Mode::Cut, "cut").await;
}
