//! A pod manages its own instance without a Role: real tokens that are bound to real pods.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use rollcall_api::{POD_ANNOTATION, ServiceInstance};
use serde_json::{Value, json};

use crate::lease_lifecycle::{create, manifest};
use crate::support::http::{Answer, call, call_as};
use crate::support::rbac::{pod, pod_token, token};
use crate::support::{Namespace, Rollcall, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

/// A pod of the workload `orders` with its token, and a replica that requires tokens.
struct Fixture {
    ns: Namespace,
    rollcall: Rollcall,
    pod: Pod,
    token: String,
}

async fn fixture(name: &str, flags: &[&str]) -> Fixture {
    let ns = namespace(name).await;
    let flags: Vec<&str> = ["--auth", "token"].iter().chain(flags).copied().collect();
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let pod = pod(&ns, "orders", "orders-1").await;
    let token = pod_token(&ns, &pod).await;
    Fixture { ns, rollcall, pod, token }
}

impl Fixture {
    fn http(&self) -> SocketAddr {
        self.rollcall.http
    }

    fn path(&self, name: &str) -> String {
        format!("/v1/namespaces/{}/instances/{name}", self.ns.name)
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        call_as(&self.token, self.http(), (method, path), body).await
    }

    /// Creates an instance that `owner` owns, with every right, and waits until the replica knows it.
    async fn create_owned_by(&self, name: &str, owner: &Pod) {
        let mut object = manifest(name, "orders", json!({"mode": "Heartbeat"}));
        let reference = json!({
            "apiVersion": "v1", "kind": "Pod", "name": owner.metadata.name, "uid": owner.metadata.uid,
        });
        object.metadata.owner_references = Some(vec![serde_json::from_value(reference).unwrap()]);
        create(&self.ns, &object).await;
        eventually("the replica knows the instance", BOUND, async || {
            let answer = call(self.http(), "GET", &self.path(name), None).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

fn registration_body() -> Option<Value> {
    Some(json!({"service": "orders", "addresses": ["10.0.0.7"]}))
}

fn assert_refused(answer: &Answer, parts: &[&str]) {
    let problem = answer.json();
    assert_eq!(answer.status, 403, "{problem}");
    for part in parts {
        assert!(problem["detail"].as_str().unwrap().contains(part), "no {part:?} in {problem}");
    }
}

#[tokio::test]
async fn pod_registers_renews_and_deregisters_the_instance_of_its_name_without_a_role() {
    let fixture = fixture("own", &[]).await;
    let path = fixture.path("orders-1");
    let beat = format!("{path}/heartbeat");
    let put = fixture.call("PUT", &path, registration_body()).await;
    assert_eq!(put.status, 201, "{}", put.json());
    assert_eq!(fixture.call("PUT", &path, registration_body()).await.status, 200);
    for _ in 0..2 {
        let renewed = fixture.call("PUT", &beat, None).await;
        assert_eq!(renewed.status, 200, "{}", renewed.json());
    }
    let warning = Some(json!({"health": "Warning"}));
    assert_eq!(fixture.call("PUT", &beat, warning).await.status, 200);
    let lease = Some(json!({"durationSeconds": 60}));
    assert_eq!(fixture.call("PUT", &format!("{path}/lease"), lease).await.status, 200);
    // A pod may not change the operator state.
    let state = Some(json!({"state": "Draining"}));
    let drained = fixture.call("PUT", &format!("{path}/state"), state).await;
    assert_refused(&drained, &["may not update serviceinstances/state"]);
    assert!(!drained.json().to_string().contains("ownerReferences"), "{}", drained.json());
    assert_eq!(fixture.call("DELETE", &path, None).await.status, 204);
    assert_eq!(call(fixture.http(), "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn instance_of_another_pod_is_refused_with_the_right_that_is_missing() {
    let fixture = fixture("others", &[]).await;
    let other = fixture.path("orders-2");
    let elsewhere = "/v1/namespaces/default/instances/orders-1".to_owned();
    let user = format!("system:serviceaccount:{}:orders", fixture.ns.name);
    let own = format!("allows access to the instance orders-1 in namespace {}", fixture.ns.name);
    for (method, path, verb) in [
        ("PUT", other.clone(), "create serviceinstances"),
        ("DELETE", other.clone(), "delete serviceinstances"),
        ("PUT", format!("{other}/heartbeat"), "update serviceinstances/heartbeat"),
        ("PUT", elsewhere.clone(), "create serviceinstances"),
        ("PUT", format!("{elsewhere}/heartbeat"), "update serviceinstances/heartbeat"),
        (
            "POST",
            format!("/v1/namespaces/{}/services/orders/instances", fixture.ns.name),
            "create serviceinstances",
        ),
    ] {
        let body =
            (!path.ends_with("heartbeat") && method != "DELETE").then(registration_body).flatten();
        let answer = fixture.call(method, &path, body).await;
        assert_refused(&answer, &[&user, verb, "a Role or ClusterRole", &own, "ownerReferences"]);
    }
    // A token of the same ServiceAccount without a pod gives access to no instance, and the answer does not mention pods.
    let unbound = token(&fixture.ns, "orders", "rollcall").await;
    let own = ("PUT", fixture.path("orders-1"));
    let answer = call_as(&unbound, fixture.http(), (own.0, &own.1), registration_body()).await;
    assert_refused(&answer, &["may not create serviceinstances"]);
    assert!(!answer.json().to_string().contains("ownerReferences"), "{}", answer.json());
    // Another pod of the workload has the same RBAC rights, and an instance of its own.
    let second = pod_token(&fixture.ns, &pod(&fixture.ns, "orders", "orders-2").await).await;
    assert_eq!(
        call_as(&second, fixture.http(), ("PUT", &other), registration_body()).await.status,
        201
    );
    let answer = call_as(&second, fixture.http(), (own.0, &own.1), registration_body()).await;
    assert_refused(&answer, &["allows access to the instance orders-2"]);
}

#[tokio::test]
async fn instance_with_the_pod_as_owner_is_the_pods_own() {
    let fixture = fixture("owned", &[]).await;
    let other_pod = pod(&fixture.ns, "orders", "orders-9").await;
    fixture.create_owned_by("sidecar", &fixture.pod).await;
    fixture.create_owned_by("foreign", &other_pod).await;
    let (mine, foreign) = (fixture.path("sidecar"), fixture.path("foreign"));
    let beat = |path: &str| format!("{path}/heartbeat");
    assert_eq!(fixture.call("PUT", &beat(&mine), None).await.status, 200);
    assert_eq!(fixture.call("PUT", &mine, registration_body()).await.status, 200);
    assert_refused(&fixture.call("PUT", &beat(&foreign), None).await, &["ownerReferences"]);
    assert_refused(&fixture.call("DELETE", &foreign, None).await, &["ownerReferences"]);
    // A registration keeps the owner reference, so the instance is still the pod's own.
    assert_eq!(fixture.call("PUT", &beat(&mine), None).await.status, 200);
    assert_eq!(fixture.call("DELETE", &mine, None).await.status, 204);
    assert_refused(&fixture.call("PUT", &mine, registration_body()).await, &["ownerReferences"]);
}

#[tokio::test]
async fn batch_takes_own_instances_and_refuses_each_of_the_others() {
    let fixture = fixture("own-batch", &[]).await;
    fixture.create_owned_by("sidecar", &fixture.pod).await;
    let (ns, other_pod) = (fixture.ns.name.as_str(), pod(&fixture.ns, "orders", "orders-2").await);
    fixture.create_owned_by("orders-2", &other_pod).await;
    let registration = |namespace: &str, name: &str| {
        let body = json!({"service": "orders", "addresses": ["10.0.0.7"]});
        let mut body = body.as_object().unwrap().clone();
        body.extend([("namespace".to_owned(), json!(namespace)), ("name".to_owned(), json!(name))]);
        Value::from(body)
    };
    let all = [(ns, "orders-1"), (ns, "sidecar"), (ns, "orders-2"), ("default", "orders-1")];
    let registrations = Some(json!({"instances": all.map(|(ns, name)| registration(ns, name))}));
    let answer = fixture.call("POST", "/v1/instances", registrations).await.json();
    let statuses: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses, [201, 200, 403, 403], "{answer}");

    let beat = |(namespace, name): (&str, &str)| json!({"namespace": namespace, "name": name});
    let beats = Some(json!({"instances": all.map(beat)}));
    let outcome = fixture.call("POST", "/v1/heartbeats", beats).await.json();
    assert_eq!(outcome["renewed"], 2, "{outcome}");
    let refused = outcome["refused"].as_array().unwrap();
    let names: Vec<_> = refused
        .iter()
        .map(|beat| (beat["namespace"].as_str().unwrap(), beat["name"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [(ns, "orders-2"), ("default", "orders-1")], "{outcome}");
    for beat in refused {
        let reason = beat["reason"].as_str().unwrap();
        assert!(reason.contains("may not update serviceinstances/heartbeat"), "{reason}");
        assert!(reason.contains("allows access to the instance orders-1"), "{reason}");
    }
}

#[tokio::test]
async fn new_token_of_a_deleted_pod_is_not_accepted() {
    let fixture = fixture("deleted", &[]).await;
    let path = fixture.path("orders-1");
    assert_eq!(fixture.call("PUT", &path, registration_body()).await.status, 201);
    let unused = Mutex::new(Vec::new());
    for _ in 0..30 {
        let token = pod_token(&fixture.ns, &fixture.pod).await;
        unused.lock().push(token);
    }
    let api: Api<Pod> = fixture.ns.api();
    api.delete("orders-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    // A token that is new to rollcall is reviewed at once, so each is used only once.
    let refused = eventually("the API server observes that the pod is gone", BOUND, async || {
        let token = unused.lock().pop().expect("it took too many tokens");
        let answer = call_as(&token, fixture.http(), ("PUT", &path), registration_body()).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    let problem = refused.json();
    assert_eq!(refused.status, 401, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("is not accepted"), "{problem}");
    // Another pod of that name has another uid and its own token.
    let again = pod(&fixture.ns, "orders", "orders-1").await;
    let token = pod_token(&fixture.ns, &again).await;
    assert_eq!(
        call_as(&token, fixture.http(), ("PUT", &path), registration_body()).await.status,
        200
    );
}

#[tokio::test]
async fn pod_that_takes_over_an_instance_clears_stopping_and_draining() {
    let fixture = fixture("taken-over", &[]).await;
    let path = fixture.path("orders-1");
    let api: Api<ServiceInstance> = fixture.ns.api();
    let get = async || call(fixture.http(), "GET", &path, None).await.json();
    assert_eq!(fixture.call("PUT", &path, registration_body()).await.status, 201);
    let beat = format!("{path}/heartbeat");
    let stopping = Some(json!({"health": "Stopping"}));
    assert_eq!(fixture.call("PUT", &beat, stopping).await.status, 200);
    let draining = Patch::Merge(json!({"spec": {"state": "Draining"}}));
    api.patch("orders-1", &PatchParams::default(), &draining).await.unwrap();
    eventually("the instance is Draining", BOUND, async || {
        (get().await["phase"] == "Draining").then_some(())
    })
    .await;
    // The same pod is still the one to be drained.
    assert_eq!(fixture.call("PUT", &path, registration_body()).await.status, 200);
    assert_eq!(get().await["state"], "Draining");

    let pods: Api<Pod> = fixture.ns.api();
    let mut last = fixture.pod.metadata.uid.clone();
    for state in ["Draining", "OutOfService"] {
        let patch = Patch::Merge(json!({"spec": {"state": state}}));
        api.patch("orders-1", &PatchParams::default(), &patch).await.unwrap();
        eventually("the replica knows the operator state", BOUND, async || {
            (get().await["state"] == state).then_some(())
        })
        .await;
        pods.delete("orders-1", &DeleteParams::default().grace_period(0)).await.unwrap();
        let again = pod(&fixture.ns, "orders", "orders-1").await;
        assert_ne!(again.metadata.uid, last);
        last = again.metadata.uid.clone();
        let token = pod_token(&fixture.ns, &again).await;
        let answer = call_as(&token, fixture.http(), ("PUT", &path), registration_body()).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let expected = if state == "Draining" { ("Up", "Ready") } else { (state, state) };
        let shown = answer.json();
        assert_eq!((&shown["state"], &shown["phase"]), (&json!(expected.0), &json!(expected.1)));
        let stored = api.get("orders-1").await.unwrap();
        assert_eq!(stored.metadata.annotations.unwrap()[POD_ANNOTATION], last.clone().unwrap());
    }
}
