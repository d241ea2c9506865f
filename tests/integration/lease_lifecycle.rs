//! The lifecycle of instances on a real API server: kept by annotation, by HTTP or permanent; expiry, eviction and revival.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rollcall_api::{Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::support::{Namespace, Rollcall, dns, eventually, http::call, namespace};

pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// An instance with this lease, as a manifest.
pub(crate) fn manifest(name: &str, service: &str, lease: Value) -> ServiceInstance {
    serde_json::from_value(json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": name},
        "spec": {
            "service": service, "addresses": ["10.0.0.7"],
            "ports": [{"name": "http", "port": 8080}], "lease": lease,
        },
    }))
    .unwrap()
}

/// Creates an instance and returns a client for its kind.
pub(crate) async fn create(ns: &Namespace, instance: &ServiceInstance) -> Api<ServiceInstance> {
    let api = ns.api::<ServiceInstance>();
    api.create(&PostParams::default(), instance).await.unwrap();
    api
}

/// Sends a heartbeat as `kubectl annotate --overwrite` does.
pub(crate) async fn annotate(api: &Api<ServiceInstance>, name: &str) -> kube::Result<()> {
    let value = format!("beat {}", fastrand::u64(..));
    let patch = json!({"metadata": {"annotations": {"rollcall.dev/heartbeat": value}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}

/// Whether a service is discoverable: DNS and HTTP both return exactly one instance, or both none.
pub(crate) async fn discoverable(
    rollcall: &Rollcall,
    ns: &Namespace,
    service: &str,
) -> Option<bool> {
    let name = format!("{service}.{}.svc.rollcall.internal", ns.name);
    let in_dns = dns::addresses(rollcall.dns, &name).await?.len();
    let path = format!("/v1/namespaces/{}/services/{service}", ns.name);
    let answer = call(rollcall.http, "GET", &path, None).await;
    let in_http = answer.json()["instances"].as_array()?.len();
    (in_dns == in_http).then_some(in_dns == 1)
}

/// Waits until DNS and HTTP agree that a service is discoverable, or is not.
pub(crate) async fn until_discoverable(
    rollcall: &Rollcall,
    ns: &Namespace,
    service: &str,
    want: bool,
) {
    let what = format!("{service} discoverable: {want}");
    eventually(&what, BOUND, async || {
        (discoverable(rollcall, ns, service).await? == want).then_some(())
    })
    .await;
}

/// Waits until this phase is stored, and returns the object.
pub(crate) async fn until_phase(
    api: &Api<ServiceInstance>,
    name: &str,
    phase: Phase,
) -> ServiceInstance {
    eventually(&format!("{name} is stored as {phase:?}"), BOUND, async || {
        let object = api.get(name).await.ok()?;
        (object.status.as_ref()?.phase == Some(phase)).then_some(object)
    })
    .await
}

fn lease(seconds: u32) -> Value {
    json!({"mode": "Heartbeat", "durationSeconds": seconds})
}

#[tokio::test]
async fn annotations_alone_renew_a_lease_and_it_never_expires_early() {
    let ns = namespace("annotated").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("a", "web", lease(4))).await;
    until_discoverable(&rollcall, &ns, "web", true).await;
    let mut last = Instant::now();
    for _ in 0..12 {
        annotate(&api, "a").await.unwrap();
        last = Instant::now();
        assert_eq!(
            discoverable(&rollcall, &ns, "web").await,
            Some(true),
            "the instance sends heartbeats"
        );
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    until_discoverable(&rollcall, &ns, "web", false).await;
    assert!(last.elapsed() >= Duration::from_secs(4), "gone after {:?}", last.elapsed());
    let object = until_phase(&api, "a", Phase::Expired).await;
    let ready = &object.status.unwrap().conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "LeaseExpired"));
    assert!(ready.message.contains("lease of 4 s"), "{}", ready.message);
    annotate(&api, "a").await.unwrap();
    until_discoverable(&rollcall, &ns, "web", true).await;
    until_phase(&api, "a", Phase::Ready).await;
    let events: Api<Event> = ns.api();
    eventually("Events report expiry and revival", BOUND, async || {
        let events = events.list(&Default::default()).await.ok()?;
        let reasons: Vec<_> = events.items.iter().filter_map(|e| e.reason.as_deref()).collect();
        (reasons.contains(&"LeaseExpired") && reasons.contains(&"Revived")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn expired_registration_is_evicted_and_expired_manifest_is_retained() {
    let ns = namespace("evicted").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("kept", "kept", lease(2))).await;
    let path = format!("/v1/namespaces/{}/instances/gone", ns.name);
    let body = json!({
        "service": "gone", "addresses": ["10.0.0.8"],
        "lease": {"durationSeconds": 2, "evictAfterSeconds": 1},
    });
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body.clone())).await.status, 201);
    assert_eq!(
        discoverable(&rollcall, &ns, "gone").await,
        Some(true),
        "discoverable before the registration is answered"
    );
    until_phase(&api, "gone", Phase::Expired).await;
    eventually("the object is deleted", BOUND, async || {
        matches!(api.get_opt("gone").await, Ok(None)).then_some(())
    })
    .await;
    until_phase(&api, "kept", Phase::Expired).await;
    let beat = call(rollcall.http, "PUT", &format!("{path}/heartbeat"), None).await;
    assert_eq!(beat.status, 410, "{:?}", beat.json());
    assert!(beat.json()["detail"].as_str().unwrap().contains("lease"), "{:?}", beat.json());
    assert_eq!(
        call(rollcall.http, "PUT", &path, Some(body)).await.status,
        201,
        "it registers again"
    );
    let kept = format!("/v1/namespaces/{}/instances/kept/heartbeat", ns.name);
    assert_eq!(
        call(rollcall.http, "PUT", &kept, None).await.status,
        200,
        "a late heartbeat revives it"
    );
    assert_eq!(discoverable(&rollcall, &ns, "kept").await, Some(true));
}

#[tokio::test]
async fn expired_and_live_instances_are_unchanged_by_a_kill_and_restart() {
    let ns = namespace("restart").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("expired", "expired", lease(2))).await;
    create(&ns, &manifest("live", "live", lease(30))).await;
    create(&ns, &manifest("permanent", "permanent", json!({"mode": "Permanent"}))).await;
    until_phase(&api, "expired", Phase::Expired).await;
    rollcall.restart().await;
    for (service, want) in [("expired", false), ("live", true), ("permanent", true)] {
        assert_eq!(discoverable(&rollcall, &ns, service).await, Some(want), "{service}");
    }
    annotate(&api, "expired").await.unwrap();
    until_discoverable(&rollcall, &ns, "expired", true).await;
}

#[tokio::test]
async fn stopped_process_expires_no_instance_that_sends_heartbeats() {
    let ns = namespace("frozen").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("by-annotation", "by-annotation", lease(4))).await;
    create(&ns, &manifest("by-http", "by-http", lease(4))).await;
    for service in ["by-annotation", "by-http"] {
        until_discoverable(&rollcall, &ns, service, true).await;
    }
    let http = rollcall.http;
    let path = format!("/v1/namespaces/{}/instances/by-http/heartbeat", ns.name);
    let beating = tokio::spawn(send_both_heartbeats(api.clone(), http, path));
    rollcall.stall();
    tokio::time::sleep(Duration::from_secs(9)).await;
    rollcall.resume();
    for _ in 0..60 {
        for service in ["by-annotation", "by-http"] {
            assert_ne!(
                discoverable(&rollcall, &ns, service).await,
                Some(false),
                "{service} was lost"
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    beating.abort();
    for service in ["by-annotation", "by-http"] {
        until_discoverable(&rollcall, &ns, service, false).await;
    }
}

/// Sends a heartbeat every second, for one instance by annotation and for the other by HTTP. A heartbeat without an
/// answer is lost.
async fn send_both_heartbeats(api: Api<ServiceInstance>, http: SocketAddr, path: String) {
    loop {
        let second = tokio::time::sleep(Duration::from_secs(1));
        let beat = async {
            let _ = annotate(&api, "by-annotation").await;
            let _ = crate::support::http::try_call(http, "PUT", &path, None).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), beat).await;
        second.await;
    }
}

#[tokio::test]
async fn deleted_namespace_leaves_the_answers() {
    let ns = namespace("deleted").await;
    let rollcall = Rollcall::start(&ns).await;
    create(&ns, &manifest("a", "web", lease(30))).await;
    until_discoverable(&rollcall, &ns, "web", true).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ns.client.clone());
    namespaces.delete(&ns.name, &Default::default()).await.unwrap();
    eventually("the namespace is gone", Duration::from_secs(120), async || {
        matches!(namespaces.get_opt(&ns.name).await, Ok(None)).then_some(())
    })
    .await;
    until_discoverable(&rollcall, &ns, "web", false).await;
    let path = format!("/v1/namespaces/{}/instances/b", ns.name);
    let body = json!({"service": "web", "addresses": ["10.0.0.8"]});
    let refused = call(rollcall.http, "PUT", &path, Some(body)).await;
    assert_eq!(refused.status, 404, "{:?}", refused.json());
    assert!(refused.json()["detail"].as_str().unwrap().contains(&ns.name), "{:?}", refused.json());
}

#[tokio::test]
async fn unwatched_namespace_is_refused_before_anything_is_written() {
    let (ns, other) = (namespace("scope").await, namespace("elsewhere").await);
    let rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/a", other.name);
    let body = json!({"service": "web", "addresses": ["10.0.0.8"]});
    for (method, path, body) in [
        ("PUT", path.clone(), Some(body)),
        ("PUT", format!("{path}/heartbeat"), None),
        ("GET", path.clone(), None),
        ("DELETE", path.clone(), None),
    ] {
        let refused = call(rollcall.http, method, &path, body).await;
        assert_eq!(refused.status, 421, "{method} {path}: {:?}", refused.json());
        assert!(refused.json()["detail"].as_str().unwrap().contains(&ns.name));
    }
    assert!(other.api::<ServiceInstance>().get_opt("a").await.unwrap().is_none());
}
