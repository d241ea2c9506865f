//! Faults between a replica and the real API server: reads and beats go on, and nobody is judged.

use std::time::Duration;

use serde_json::json;

use crate::lives::{annotate, create, discoverable, manifest, until};
use crate::support::http::call;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Rollcall, eventually, namespace};

/// An API server that is away, in one of two ways, for longer than the lease.
async fn away(mode: Mode, prefix: &str) {
    let mut ns = namespace(prefix).await;
    let proxy = Proxy::before(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 3});
    let api = create(&ns, &manifest("silent", "silent", lease.clone())).await;
    create(&ns, &manifest("beating", "beating", lease)).await;
    for service in ["silent", "beating"] {
        until(&rollcall, &ns, service, true).await;
    }
    let beat = format!("/v1/namespaces/{}/instances/beating/heartbeat", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &beat, None).await.status, 200);
    proxy.set(mode);
    for _ in 0..20 {
        assert_eq!(call(rollcall.http, "PUT", &beat, None).await.status, 200, "a beat is taken");
        for service in ["silent", "beating"] {
            let discoverable = discoverable(&rollcall, &ns, service).await;
            assert_eq!(discoverable, Some(true), "nobody is judged: {service}");
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let path = format!("/v1/namespaces/{}/instances/new", ns.name);
    let body = json!({"service": "new", "addresses": ["10.0.0.9"]});
    let refused = call(rollcall.http, "PUT", &path, Some(body.clone())).await;
    assert_eq!(refused.status, 503, "{:?}", refused.json());
    assert!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
    let unknown = format!("/v1/namespaces/{}/instances/nobody/heartbeat", ns.name);
    let unknown = call(rollcall.http, "PUT", &unknown, None).await;
    assert_eq!(unknown.status, 503, "not 404: the API server could not be asked");
    // By now nothing has been answered for long enough that nobody has to wait for it.
    breaker(&rollcall, "open").await;
    proxy.set(Mode::Pass);
    // Who beats by annotation could not do so meanwhile, and is given that time back.
    annotate(&api, "silent").await.unwrap();
    until(&rollcall, &ns, "beating", false).await;
    until(&rollcall, &ns, "silent", false).await;
    breaker(&rollcall, "closed").await;
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201);
}

/// Waits until the breaker of writes is open, or closed.
async fn breaker(rollcall: &Rollcall, word: &str) {
    eventually("the breaker changes", Duration::from_secs(60), async || {
        let cluster = call(rollcall.http, "GET", "/v1/cluster", None).await.json();
        (cluster["replicas"][0]["breakers"]["writes"] == word).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_a_stalled_api_server_nobody_is_judged_and_judging_resumes_after_it() {
    away(Mode::Stall, "stalled").await;
}

#[tokio::test]
async fn with_the_api_server_cut_off_nobody_is_judged_and_judging_resumes_after_it() {
    away(Mode::Cut, "cut").await;
}
