//! The lives of instances on a real API server: by annotation, by HTTP, permanent; their ends, and
//! their returns.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rollcall_api::{Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::support::{Namespace, Rollcall, dns, eventually, http::call, namespace};

/// Long enough for a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// An instance as a manifest would have it, with a lease.
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

/// Makes an instance and answers its Api.
pub(crate) async fn create(ns: &Namespace, instance: &ServiceInstance) -> Api<ServiceInstance> {
    let api = ns.api::<ServiceInstance>();
    api.create(&PostParams::default(), instance).await.unwrap();
    api
}

/// A beat as `kubectl annotate --overwrite` makes it.
pub(crate) async fn annotate(api: &Api<ServiceInstance>, name: &str) -> kube::Result<()> {
    let value = format!("beat {}", fastrand::u64(..));
    let patch = json!({"metadata": {"annotations": {"rollcall.dev/heartbeat": value}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}

/// Whether DNS and HTTP both offer exactly one instance of a service, or both none.
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

/// Waits until both doors agree that a service is discoverable, or is not.
pub(crate) async fn until(rollcall: &Rollcall, ns: &Namespace, service: &str, want: bool) {
    let what = format!("{service} discoverable: {want}");
    eventually(&what, BOUND, async || {
        (discoverable(rollcall, ns, service).await? == want).then_some(())
    })
    .await;
}

/// Waits for a phase to be stored, and answers the object.
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
async fn an_annotation_alone_keeps_an_instance_alive_and_its_end_is_never_early() {
    let ns = namespace("annotated").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("a", "web", lease(4))).await;
    until(&rollcall, &ns, "web", true).await;
    let mut last = Instant::now();
    for _ in 0..12 {
        annotate(&api, "a").await.unwrap();
        last = Instant::now();
        assert_eq!(discoverable(&rollcall, &ns, "web").await, Some(true), "it beats");
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    until(&rollcall, &ns, "web", false).await;
    assert!(last.elapsed() >= Duration::from_secs(4), "gone after {:?}", last.elapsed());
    let object = until_phase(&api, "a", Phase::Expired).await;
    let ready = &object.status.unwrap().conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "LeaseExpired"));
    assert!(ready.message.contains("lease of 4 s"), "{}", ready.message);
    annotate(&api, "a").await.unwrap();
    until(&rollcall, &ns, "web", true).await;
    until_phase(&api, "a", Phase::Ready).await;
    let events: Api<Event> = ns.api();
    eventually("Events tell of end and return", BOUND, async || {
        let events = events.list(&Default::default()).await.ok()?;
        let reasons: Vec<_> = events.items.iter().filter_map(|e| e.reason.as_deref()).collect();
        (reasons.contains(&"LeaseExpired") && reasons.contains(&"Revived")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_registered_over_http_is_evicted_and_one_from_a_manifest_stays() {
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
        "visible before it was answered"
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
    assert_eq!(call(rollcall.http, "PUT", &path, Some(body)).await.status, 201, "it comes back");
    let kept = format!("/v1/namespaces/{}/instances/kept/heartbeat", ns.name);
    assert_eq!(call(rollcall.http, "PUT", &kept, None).await.status, 200, "a late beat revives");
    assert_eq!(discoverable(&rollcall, &ns, "kept").await, Some(true));
}

#[tokio::test]
async fn the_dead_are_remembered_and_the_living_kept_across_kill_and_restart() {
    let ns = namespace("restart").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("dead", "dead", lease(2))).await;
    create(&ns, &manifest("alive", "alive", lease(30))).await;
    create(&ns, &manifest("rock", "rock", json!({"mode": "Permanent"}))).await;
    until_phase(&api, "dead", Phase::Expired).await;
    rollcall.restart().await;
    for (service, want) in [("dead", false), ("alive", true), ("rock", true)] {
        assert_eq!(discoverable(&rollcall, &ns, service).await, Some(want), "{service}");
    }
    annotate(&api, "dead").await.unwrap();
    until(&rollcall, &ns, "dead", true).await;
}

#[tokio::test]
async fn a_stopped_process_loses_nobody_who_keeps_beating() {
    let ns = namespace("frozen").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("by-annotation", "by-annotation", lease(4))).await;
    create(&ns, &manifest("by-http", "by-http", lease(4))).await;
    for service in ["by-annotation", "by-http"] {
        until(&rollcall, &ns, service, true).await;
    }
    let http = rollcall.http;
    let path = format!("/v1/namespaces/{}/instances/by-http/heartbeat", ns.name);
    let beating = tokio::spawn(beat_both(api.clone(), http, path));
    rollcall.freeze();
    tokio::time::sleep(Duration::from_secs(9)).await;
    rollcall.thaw();
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
        until(&rollcall, &ns, service, false).await;
    }
}

/// Beats for one by annotation and for the other by HTTP, every second; an answer that does not
/// come is a beat lost.
async fn beat_both(api: Api<ServiceInstance>, http: SocketAddr, path: String) {
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
async fn a_namespace_goes_with_everything_in_it() {
    let ns = namespace("deleted").await;
    let rollcall = Rollcall::start(&ns).await;
    create(&ns, &manifest("a", "web", lease(30))).await;
    until(&rollcall, &ns, "web", true).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ns.client.clone());
    namespaces.delete(&ns.name, &Default::default()).await.unwrap();
    eventually("the namespace is gone", Duration::from_secs(120), async || {
        matches!(namespaces.get_opt(&ns.name).await, Ok(None)).then_some(())
    })
    .await;
    until(&rollcall, &ns, "web", false).await;
    let path = format!("/v1/namespaces/{}/instances/b", ns.name);
    let body = json!({"service": "web", "addresses": ["10.0.0.8"]});
    let refused = call(rollcall.http, "PUT", &path, Some(body)).await;
    assert_eq!(refused.status, 404, "{:?}", refused.json());
    assert!(refused.json()["detail"].as_str().unwrap().contains(&ns.name), "{:?}", refused.json());
}

#[tokio::test]
async fn a_namespace_that_is_not_looked_after_is_refused_before_anything_is_written() {
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
