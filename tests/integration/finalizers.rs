//! Objects that are being deleted and are kept by a finalizer: they leave the answers, and calls for them are refused.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use rollcall_api::{Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::lease_lifecycle::{BOUND, create, manifest, until_discoverable, until_phase};
use crate::support::http::{Answer, call};
use crate::support::kubectl::kubectl;
use crate::support::{Namespace, Rollcall, eventually, namespace};

const FINALIZER: &str = "example.com/held";

/// Sets the finalizers of `a`. An empty list lets the API server remove the object that is being deleted.
async fn set_finalizers(api: &Api<ServiceInstance>, finalizers: &[&str]) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    api.patch("a", &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the status says Terminating, and the instance has left this replica's answers.
async fn until_terminating(rollcall: &Rollcall, ns: &Namespace, api: &Api<ServiceInstance>) {
    until_phase(api, "a", Phase::Terminating).await;
    until_discoverable(rollcall, ns, "web", false).await;
}

fn assert_refused(answer: &Answer, what: &str) {
    let problem = answer.json();
    assert_eq!((answer.status, &problem["status"]), (409, &json!(409)), "{what}: {problem}");
    assert_eq!(problem["type"], "tag:rollcall.dev,2026:terminating", "{what}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(FINALIZER) && detail.contains("register again"), "{what}: {detail}");
    let retry_after = answer.header("retry-after");
    assert!((5..=8).contains(&retry_after.parse::<u32>().unwrap()), "{what}: {retry_after}");
}

/// Sends each call that would keep the instance, with the `body` of its registration and with another one.
async fn assert_calls_are_refused(rollcall: &Rollcall, ns: &Namespace, body: Value) {
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    let other = json!({"service": "web", "addresses": ["10.0.0.8"]});
    for (method, suffix, body) in [
        ("PUT", "/heartbeat", None),
        ("PUT", "/heartbeat", Some(json!({"health": "Warning"}))),
        ("PUT", "", Some(body)),
        ("PUT", "", Some(other.clone())),
        ("PUT", "/lease", Some(json!({"durationSeconds": 60}))),
        ("PATCH", "/attributes", Some(json!({"team": "blue"}))),
        ("PUT", "/state", Some(json!({"state": "Draining"}))),
    ] {
        let path = format!("{path}{suffix}");
        assert_refused(&call(rollcall.http, method, &path, body).await, &path);
    }
    let named = json!({"namespace": ns.name, "name": "a"});
    let beats = json!({"instances": [named]});
    let beats = call(rollcall.http, "POST", "/v1/heartbeats", Some(beats)).await.json();
    let reason = beats["refused"][0]["reason"].as_str().unwrap();
    assert!(reason.contains(FINALIZER), "{beats}");
    let mut again = other;
    (again["namespace"], again["name"]) = (json!(ns.name), json!("a"));
    let batch = json!({"instances": [again]});
    let batch = call(rollcall.http, "POST", "/v1/instances", Some(batch)).await.json();
    assert_eq!(batch["results"][0]["status"], 409, "{batch}");
}

#[tokio::test]
async fn terminating_object_leaves_the_answers_and_refuses_calls_until_it_is_gone() {
    for by_http in [true, false] {
        let ns = namespace("terminating").await;
        let rollcall = Rollcall::start(&ns).await;
        let path = format!("/v1/namespaces/{}/instances/a", ns.name);
        let body =
            json!({"service": "web", "addresses": ["10.0.0.7"], "lease": {"durationSeconds": 600}});
        let registered = call(rollcall.http, "PUT", &path, Some(body.clone())).await;
        assert_eq!(registered.status, 201);
        let api = ns.api::<ServiceInstance>();
        until_discoverable(&rollcall, &ns, "web", true).await;
        set_finalizers(&api, &[FINALIZER]).await;
        if by_http {
            assert_eq!(call(rollcall.http, "DELETE", &path, None).await.status, 204);
        } else {
            api.delete("a", &DeleteParams::default()).await.unwrap();
        }
        until_terminating(&rollcall, &ns, &api).await;
        let row = kubectl(&ns, &["get", "si", "a"], "").success();
        assert_eq!(row.matches("Terminating").count(), 2, "phase and reason in {row}");
        let instance = call(rollcall.http, "GET", &path, None).await.json();
        assert_eq!(instance["phase"], "Terminating");
        assert!(instance["why"].as_str().unwrap().contains(FINALIZER), "{instance}");

        assert_calls_are_refused(&rollcall, &ns, body).await;
        let stored = api.get("a").await.unwrap();
        assert_eq!(
            (stored.spec.addresses, stored.spec.attributes.len()),
            (vec!["10.0.0.7".to_owned()], 0)
        );
        assert_eq!(
            call(rollcall.http, "DELETE", &path, None).await.status,
            204,
            "a repeated deregistration"
        );

        set_finalizers(&api, &[]).await;
        eventually("the name of the instance is free", BOUND, async || {
            (call(rollcall.http, "GET", &path, None).await.status == 404).then_some(())
        })
        .await;
    }
}

/// The Events about `a`, by reason.
async fn event_reasons(ns: &Namespace) -> Vec<String> {
    let events = ns.api::<Event>().list(&Default::default()).await.unwrap();
    events.items.into_iter().filter_map(|event| event.reason).collect()
}

#[tokio::test]
async fn eviction_kept_by_a_finalizer_is_requested_once_and_reported_when_the_object_is_gone() {
    let ns = namespace("held-eviction").await;
    let rollcall = Rollcall::start(&ns).await;
    let lease: Value = json!({
        "mode": "Heartbeat", "durationSeconds": 2, "onExpiry": "Evict", "evictAfterSeconds": 0,
    });
    let api = create(&ns, &manifest("a", "web", lease)).await;
    set_finalizers(&api, &[FINALIZER]).await;
    until_terminating(&rollcall, &ns, &api).await;
    // An eviction that fails is tried again after 5 s.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    let log = std::fs::read_to_string(&ns.shared.audit_log).unwrap();
    let deletes =
        log.lines().filter(|it| it.contains(&ns.name) && it.contains("\"verb\":\"delete\""));
    assert_eq!(deletes.count(), 1);
    assert!(!event_reasons(&ns).await.contains(&"Evicted".to_owned()), "the object still exists");
    set_finalizers(&api, &[]).await;
    eventually("an Event reports the eviction", BOUND, async || {
        event_reasons(&ns).await.contains(&"Evicted".to_owned()).then_some(())
    })
    .await;
}
