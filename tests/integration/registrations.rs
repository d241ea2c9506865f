//! Registrations over HTTP combined with changes by kubectl and others to the same objects.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use rollcall_api::{DIALECT_ANNOTATION, OnExpiry, ServiceInstance};
use serde_json::{Value, json};

use crate::lease_lifecycle::{create, discoverable, manifest, until_discoverable};
use crate::support::{Namespace, Rollcall, dns, eventually, http::call, namespace};

/// Registers an instance, and returns the status and body of the answer.
pub(crate) async fn put(
    rollcall: &Rollcall,
    ns: &Namespace,
    name: &str,
    body: &Value,
) -> (u16, Value) {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    let answer = call(rollcall.http, "PUT", &path, Some(body.clone())).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn registration_replaces_a_manifest_and_is_a_heartbeat_when_repeated() {
    let ns = namespace("replaced").await;
    let rollcall = Rollcall::start(&ns).await;
    let mut object = manifest("a", "web", json!({"mode": "Heartbeat", "durationSeconds": 600}));
    object.spec.version = Some("1".to_owned());
    object.spec.zone = Some("z1".to_owned());
    object.spec.tags = vec!["canary".to_owned(), "red".to_owned()];
    object.spec.attributes = [("team".to_owned(), "blue".to_owned())].into();
    object.spec.state = rollcall_api::State::Draining;
    let api = create(&ns, &object).await;
    eventually("the instance is known", Duration::from_secs(60), async || {
        let path = format!("/v1/namespaces/{}/services/web?health=any", ns.name);
        let answer = call(rollcall.http, "GET", &path, None).await;
        (answer.json()["instances"].as_array()?.len() == 1).then_some(())
    })
    .await;
    for (hostname, body) in [
        (false, json!({"service": "web", "addresses": ["10.0.9.2"], "tags": ["red"]})),
        (true, json!({"service": "web", "hostname": "db.example.com"})),
    ] {
        let (status, stored) = put(&rollcall, &ns, "a", &body).await;
        assert_eq!(status, 200, "{stored}");
        let after = api.get("a").await.unwrap();
        assert_eq!((after.spec.version, after.spec.zone), (None, None));
        assert_eq!(after.spec.tags, if hostname { vec![] } else { vec!["red"] });
        assert!(after.spec.attributes.is_empty(), "{:?}", after.spec.attributes);
        assert_eq!(after.spec.hostname.is_some(), hostname);
        assert_eq!(after.spec.addresses.is_empty(), hostname);
        assert_eq!(after.spec.state, rollcall_api::State::Draining, "the operator state stays");
        assert_eq!(after.spec.lease.duration_seconds, 600, "a lease that is not mentioned stays");
        assert_eq!(after.spec.lease.on_expiry, OnExpiry::Retain);
        let annotations = after.metadata.annotations.unwrap();
        let (status, _) = put(&rollcall, &ns, "a", &body).await;
        assert_eq!(status, 200);
        let again = api.get("a").await.unwrap().metadata.annotations.unwrap();
        assert_eq!(
            again, annotations,
            "the same registration is only a heartbeat: nothing is written"
        );
    }
}

#[tokio::test]
async fn registration_keeps_a_stored_lease_before_the_watch_reports_it() {
    let ns = namespace("kept-lease").await;
    let rollcall = Rollcall::start(&ns).await;
    for i in 0..10 {
        let name = format!("a-{i}");
        let lease = json!({"mode": "Heartbeat", "durationSeconds": 600});
        let api = create(&ns, &manifest(&name, "web", lease)).await;
        let body = json!({"service": "web", "addresses": ["10.0.0.7"]});
        let (status, _) = put(&rollcall, &ns, &name, &body).await;
        assert_eq!(status, 200);
        let lease = api.get(&name).await.unwrap().spec.lease;
        assert_eq!((lease.duration_seconds, lease.on_expiry), (600, OnExpiry::Retain));
    }
}

#[tokio::test]
async fn object_with_a_finalizer_is_known_until_it_is_gone() {
    let ns = namespace("finalizer").await;
    let rollcall = Rollcall::start(&ns).await;
    let api: Api<ServiceInstance> =
        create(&ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    until_discoverable(&rollcall, &ns, "web", true).await;
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    let held = finalizers(json!(["example.com/held"]));
    api.patch("a", &PatchParams::default(), &held).await.unwrap();
    let path = format!("/v1/namespaces/{}/instances/a", ns.name);
    assert_eq!(call(rollcall.http, "DELETE", &path, None).await.status, 204);
    assert_eq!(
        call(rollcall.http, "GET", &path, None).await.status,
        200,
        "the instance still exists"
    );
    api.patch("a", &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
    until_discoverable(&rollcall, &ns, "web", false).await;
    eventually("the name of the instance is free", Duration::from_secs(60), async || {
        (call(rollcall.http, "GET", &path, None).await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn unwatched_namespace_is_refused_by_http_and_dns() {
    let (ns, other) = (namespace("scoped").await, namespace("unscoped").await);
    let rollcall = Rollcall::start(&ns).await;
    create(&other, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    for path in ["services/web", "services"] {
        let path = format!("/v1/namespaces/{}/{path}", other.name);
        assert_eq!(call(rollcall.http, "GET", &path, None).await.status, 421, "{path}");
    }
    let name = format!("web.{}.svc.rollcall.internal", other.name);
    let answer = dns::ask(rollcall.dns, &name, RecordType::A).await.unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert_eq!(discoverable(&rollcall, &ns, "web").await, Some(false));
}

#[tokio::test]
async fn attributes_keep_any_text() {
    let ns = namespace("any-text").await;
    let rollcall = Rollcall::start(&ns).await;
    // The API server parses the body of an apply as YAML, in which some line breaks and characters are special.
    let text = "tab\t, \u{7f}\u{87}, line\u{85}line\u{2028}line\u{2029}line, \u{feff}\u{fffe}\u{ffff}, \u{1f600}\"\\\u{1}";
    let body = json!({"service": "web", "addresses": ["10.0.9.2"], "attributes": {"a": text}});
    let (status, stored) = put(&rollcall, &ns, "a", &body).await;
    assert_eq!((status, &stored["attributes"]["a"]), (201, &json!(text)), "{stored}");
}

#[tokio::test]
async fn registration_keeps_annotations_of_other_managers() {
    let ns = namespace("annotations").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = ns.api::<ServiceInstance>();
    let body =
        |version: &str| json!({"service": "web", "addresses": ["10.0.0.7"], "version": version});
    assert_eq!(put(&rollcall, &ns, "a", &body("1")).await.0, 201);
    let annotate = json!({"metadata": {"annotations": {DIALECT_ANNOTATION: "eureka", "example.com/note": "kept"}}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(annotate)).await.unwrap();
    let mut leaves_out = body("2");
    leaves_out.as_object_mut().unwrap().remove("version");
    let mut stopping = body("3");
    stopping["health"] = json!("Stopping");
    // Written by an apply, by a merge patch that removes a field, and by a merge patch that changes the health.
    for body in [body("2"), leaves_out, stopping, body("4")] {
        assert_eq!(put(&rollcall, &ns, "a", &body).await.0, 200);
        let annotations = api.get("a").await.unwrap().metadata.annotations.unwrap();
        assert_eq!(annotations[DIALECT_ANNOTATION], "eureka", "{body}");
        assert_eq!(annotations["example.com/note"], "kept", "{body}");
    }
}

#[tokio::test]
async fn registration_in_a_terminating_namespace_is_answered_404() {
    let ns = namespace("ending").await;
    let rollcall = Rollcall::start(&ns).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ns.client.clone());
    namespaces.delete(&ns.name, &DeleteParams::default()).await.unwrap();
    let body = json!({"service": "web", "addresses": ["10.0.0.7"], "lease": {"mode": "Permanent"}});
    // The admission plugin learns of the deletion by its own watch.
    let refused = eventually("the registration is refused", Duration::from_secs(60), async || {
        let (status, answer) =
            put(&rollcall, &ns, &format!("a-{}", fastrand::u32(..)), &body).await;
        (status != 201).then_some((status, answer))
    });
    let (status, answer) = refused.await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(answer["type"], "tag:rollcall.dev,2026:unknown-namespace");
}
