//! Labels of a registration: the next registration removes those that it leaves out, and keeps labels of other managers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use rollcall_api::ServiceInstance;
use serde_json::{Value, json};

use crate::lease_lifecycle::{create, manifest};
use crate::registrations::put;
use crate::support::{Namespace, Rollcall, eventually, http::call, namespace};

/// A registration of `web` with these labels.
fn with_labels(labels: Value) -> Value {
    json!({"service": "web", "addresses": ["10.0.0.7"], "labels": labels})
}

/// The stored labels of an object.
async fn stored(api: &Api<ServiceInstance>, name: &str) -> Value {
    json!(api.get(name).await.unwrap().metadata.labels.unwrap_or_default())
}

/// The names of the instances of `web` that match a selector.
async fn selected(rollcall: &Rollcall, ns: &Namespace, selector: &str) -> Vec<String> {
    let path = format!("/v1/namespaces/{}/services/web?selector={selector}", ns.name);
    let found = call(rollcall.http, "GET", &path, None).await.json();
    let instances = found["instances"].as_array().unwrap();
    instances.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until discovery shows these labels of the only instance of `web`.
async fn until_shown(rollcall: &Rollcall, ns: &Namespace, labels: Value) {
    let path = format!("/v1/namespaces/{}/services/web", ns.name);
    eventually(&format!("labels {labels} are shown"), Duration::from_secs(60), async || {
        let found = call(rollcall.http, "GET", &path, None).await.json();
        (found["instances"][0]["labels"] == labels).then_some(())
    })
    .await;
}

/// Runs `kubectl apply --server-side` with these labels and this state.
fn kubectl_apply(ns: &Namespace, name: &str, labels: &[(&str, &str)], state: &str) {
    let object = json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": name, "labels": BTreeMap::from_iter(labels.iter().copied())},
        "spec": {"state": state},
    });
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(&ns.kubeconfig).args(["-n", &ns.name]);
    kubectl.args(["apply", "--server-side", "-f", "-"]).stdin(Stdio::piped());
    let mut child = kubectl.spawn().expect("the tests use kubectl: install it");
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn label_left_out_of_the_next_registration_is_removed() {
    let ns = namespace("label-gone").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = ns.api::<ServiceInstance>();
    let both = with_labels(json!({"track": "canary", "tier": "front"}));
    assert_eq!(put(&rollcall, &ns, "a", &both).await.0, 201);
    assert_eq!(selected(&rollcall, &ns, "track=canary").await, ["a"]);

    let (status, answer) = put(&rollcall, &ns, "a", &with_labels(json!({"tier": "front"}))).await;
    assert_eq!((status, &answer["labels"]), (200, &json!({"tier": "front"})));
    assert_eq!(stored(&api, "a").await, json!({"tier": "front"}));
    assert_eq!(selected(&rollcall, &ns, "track").await, [""; 0]);
    assert_eq!(selected(&rollcall, &ns, "tier=front,!track").await, ["a"]);

    for _ in 0..2 {
        let none = json!({"service": "web", "addresses": ["10.0.0.7"]});
        let (status, answer) = put(&rollcall, &ns, "a", &none).await;
        assert_eq!((status, &answer["labels"]), (200, &json!({})));
    }
    assert_eq!(stored(&api, "a").await, json!({}));
    assert_eq!(selected(&rollcall, &ns, "tier").await, [""; 0]);
    assert_eq!(ns.count_writes_of("a"), 3, "the same registration is a heartbeat");
}

#[tokio::test]
async fn label_left_out_of_the_next_batch_is_removed() {
    let ns = namespace("label-batch").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = ns.api::<ServiceInstance>();
    for labels in [json!({"track": "canary", "tier": "front"}), json!({"tier": "front"})] {
        let mut instance = with_labels(labels.clone());
        (instance["namespace"], instance["name"]) = (json!(ns.name), json!("a"));
        let batch = json!({"instances": [instance]});
        let answer = call(rollcall.http, "POST", "/v1/instances", Some(batch)).await.json();
        assert_eq!(answer["failed"], 0, "{answer}");
        assert_eq!(stored(&api, "a").await, labels);
    }
    assert_eq!(selected(&rollcall, &ns, "track").await, [""; 0]);
    assert_eq!(selected(&rollcall, &ns, "tier").await, ["a"]);
}

#[tokio::test]
async fn label_left_out_is_removed_after_a_server_side_apply_by_kubectl() {
    let ns = namespace("label-apply").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = ns.api::<ServiceInstance>();
    let labels = json!({"track": "canary", "tier": "front"});
    assert_eq!(put(&rollcall, &ns, "a", &with_labels(labels)).await.0, 201);
    kubectl_apply(&ns, "a", &[("team", "blue"), ("tier", "front")], "Draining");
    let all = json!({"track": "canary", "tier": "front", "team": "blue"});
    assert_eq!(stored(&api, "a").await, all);

    // kubectl owns `tier` too.
    let kept = json!({"tier": "front", "team": "blue"});
    for _ in 0..3 {
        let (status, answer) = put(&rollcall, &ns, "a", &with_labels(json!({}))).await;
        assert_eq!((status, &answer["labels"]), (200, &kept));
    }
    assert_eq!(stored(&api, "a").await, kept);
    assert_eq!(api.get("a").await.unwrap().spec.state, rollcall_api::State::Draining);
    assert_eq!(ns.count_writes_of("a"), 2, "labels of other managers cause no write");

    kubectl_apply(&ns, "a", &[("team", "blue")], "Up");
    assert_eq!(
        stored(&api, "a").await,
        json!({"team": "blue"}),
        "the registration owns no label now"
    );
}

#[tokio::test]
async fn label_of_another_manager_stays_and_causes_no_write() {
    let ns = namespace("label-foreign").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = ns.api::<ServiceInstance>();
    let registration = with_labels(json!({"track": "canary"}));
    assert_eq!(put(&rollcall, &ns, "a", &registration).await.0, 201);
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": "blue"}}}));
    let manager = PatchParams { field_manager: Some("kubectl-label".into()), ..<_>::default() };
    api.patch("a", &manager, &patch).await.unwrap();
    let both = json!({"track": "canary", "team": "blue"});
    until_shown(&rollcall, &ns, both.clone()).await;
    for _ in 0..3 {
        let (status, answer) = put(&rollcall, &ns, "a", &registration).await;
        assert_eq!((status, &answer["labels"]), (200, &both));
    }
    assert_eq!(ns.count_writes_of("a"), 1, "the same registration is a heartbeat");

    for _ in 0..3 {
        let (status, answer) = put(&rollcall, &ns, "a", &with_labels(json!({}))).await;
        assert_eq!((status, &answer["labels"]), (200, &json!({"team": "blue"})));
    }
    assert_eq!(stored(&api, "a").await, json!({"team": "blue"}));
    assert_eq!(ns.count_writes_of("a"), 2, "one write removes the registration's label");
}

#[tokio::test]
async fn label_of_a_registration_that_replaced_a_manifest_is_removed_when_left_out() {
    let ns = namespace("label-replaced").await;
    let rollcall = Rollcall::start(&ns).await;
    let mut object = manifest("a", "web", json!({"mode": "Heartbeat", "durationSeconds": 600}));
    (object.spec.addresses, object.spec.hostname) = (vec![], Some("db.example.com".to_owned()));
    let api = create(&ns, &object).await;
    // An address next to the hostname is invalid, so this registration is not written by an apply.
    assert_eq!(put(&rollcall, &ns, "a", &with_labels(json!({"track": "canary"}))).await.0, 200);
    assert_eq!(stored(&api, "a").await, json!({"track": "canary"}));
    for _ in 0..2 {
        let (status, answer) = put(&rollcall, &ns, "a", &with_labels(json!({}))).await;
        assert_eq!((status, &answer["labels"]), (200, &json!({})));
    }
    assert_eq!(stored(&api, "a").await, json!({}));
    assert_eq!(selected(&rollcall, &ns, "track").await, [""; 0]);
}
