//! A pod keeps its own instance, without any Role: real tokens that are bound to real pods.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use rollcall_api::{POD_ANNOTATION, ServiceInstance};
use serde_json::{Value, json};

use crate::lives::{create, manifest};
use crate::support::http::{Answer, call, call_as};
use crate::support::rbac::{pod, token, token_of};
use crate::support::{Namespace, Rollcall, eventually, namespace};

const BOUND: Duration = Duration::from_secs(60);

/// A pod of the workload `orders` with its token, at a rollcall that asks for one.
struct World {
    ns: Namespace,
    rollcall: Rollcall,
    pod: Pod,
    token: String,
}

async fn world(name: &str, flags: &[&str]) -> World {
    let ns = namespace(name).await;
    let flags: Vec<&str> = ["--auth", "token"].iter().chain(flags).copied().collect();
    let rollcall = Rollcall::start_with(&ns, "rollcall-0", &flags).await;
    let pod = pod(&ns, "orders", "orders-1").await;
    let token = token_of(&ns, &pod).await;
    World { ns, rollcall, pod, token }
}

impl World {
    fn http(&self) -> SocketAddr {
        self.rollcall.http
    }

    fn path(&self, name: &str) -> String {
        format!("/v1/namespaces/{}/instances/{name}", self.ns.name)
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        call_as(&self.token, self.http(), (method, path), body).await
    }

    /// An instance that has this pod as its owner, made by somebody who may write objects, and seen.
    async fn owned(&self, name: &str, by: &Pod) {
        let mut object = manifest(name, "orders", json!({"mode": "Heartbeat"}));
        let owner = json!({
            "apiVersion": "v1", "kind": "Pod", "name": by.metadata.name, "uid": by.metadata.uid,
        });
        object.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
        create(&self.ns, &object).await;
        eventually("it is seen", BOUND, async || {
            let answer = call(self.http(), "GET", &self.path(name), None).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

fn body() -> Option<Value> {
    Some(json!({"service": "orders", "addresses": ["10.0.0.7"]}))
}

fn is_refused(answer: &Answer, says: &[&str]) {
    let problem = answer.json();
    assert_eq!(answer.status, 403, "{problem}");
    for word in says {
        assert!(problem["detail"].as_str().unwrap().contains(word), "no {word:?} in {problem}");
    }
}

#[tokio::test]
async fn a_pod_registers_beats_and_takes_out_the_instance_of_its_name_without_any_role() {
    let world = world("own", &[]).await;
    let path = world.path("orders-1");
    let beat = format!("{path}/heartbeat");
    let put = world.call("PUT", &path, body()).await;
    assert_eq!(put.status, 201, "{}", put.json());
    assert_eq!(world.call("PUT", &path, body()).await.status, 200);
    for _ in 0..2 {
        let beaten = world.call("PUT", &beat, None).await;
        assert_eq!(beaten.status, 200, "{}", beaten.json());
    }
    let warning = Some(json!({"health": "Warning"}));
    assert_eq!(world.call("PUT", &beat, warning).await.status, 200);
    let lease = Some(json!({"durationSeconds": 60}));
    assert_eq!(world.call("PUT", &format!("{path}/lease"), lease).await.status, 200);
    // The operator's word is not the pod's.
    let state = Some(json!({"state": "Draining"}));
    let drained = world.call("PUT", &format!("{path}/state"), state).await;
    is_refused(&drained, &["may not update serviceinstances/state"]);
    assert!(!drained.json().to_string().contains("ownerReferences"), "{}", drained.json());
    assert_eq!(world.call("DELETE", &path, None).await.status, 204);
    assert_eq!(call(world.http(), "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn what_is_not_its_own_is_refused_with_what_would_be_needed() {
    let world = world("others", &[]).await;
    let other = world.path("orders-2");
    let elsewhere = "/v1/namespaces/default/instances/orders-1".to_owned();
    let user = format!("system:serviceaccount:{}:orders", world.ns.name);
    let own = format!("allows access to the instance orders-1 in namespace {}", world.ns.name);
    for (method, path, verb) in [
        ("PUT", other.clone(), "create serviceinstances"),
        ("DELETE", other.clone(), "delete serviceinstances"),
        ("PUT", format!("{other}/heartbeat"), "update serviceinstances/heartbeat"),
        ("PUT", elsewhere.clone(), "create serviceinstances"),
        ("PUT", format!("{elsewhere}/heartbeat"), "update serviceinstances/heartbeat"),
        (
            "POST",
            format!("/v1/namespaces/{}/services/orders/instances", world.ns.name),
            "create serviceinstances",
        ),
    ] {
        let body = (!path.ends_with("heartbeat") && method != "DELETE").then(body).flatten();
        let answer = world.call(method, &path, body).await;
        is_refused(&answer, &[&user, verb, "a Role or ClusterRole", &own, "ownerReferences"]);
    }
    // A token of the same ServiceAccount that no pod has opens nothing, and is not told of pods.
    let unbound = token(&world.ns, "orders", "rollcall").await;
    let own = ("PUT", world.path("orders-1"));
    let answer = call_as(&unbound, world.http(), (own.0, &own.1), body()).await;
    is_refused(&answer, &["may not create serviceinstances"]);
    assert!(!answer.json().to_string().contains("ownerReferences"), "{}", answer.json());
    // Another pod of the workload, which shares what RBAC says of it, has its own.
    let second = token_of(&world.ns, &pod(&world.ns, "orders", "orders-2").await).await;
    assert_eq!(call_as(&second, world.http(), ("PUT", &other), body()).await.status, 201);
    let answer = call_as(&second, world.http(), (own.0, &own.1), body()).await;
    is_refused(&answer, &["allows access to the instance orders-2"]);
}

#[tokio::test]
async fn what_has_the_pod_as_an_owner_is_its_own_too() {
    let world = world("owned", &[]).await;
    let stranger = pod(&world.ns, "orders", "orders-9").await;
    world.owned("sidecar", &world.pod).await;
    world.owned("foreign", &stranger).await;
    let (mine, foreign) = (world.path("sidecar"), world.path("foreign"));
    let beat = |path: &str| format!("{path}/heartbeat");
    assert_eq!(world.call("PUT", &beat(&mine), None).await.status, 200);
    assert_eq!(world.call("PUT", &mine, body()).await.status, 200);
    is_refused(&world.call("PUT", &beat(&foreign), None).await, &["ownerReferences"]);
    is_refused(&world.call("DELETE", &foreign, None).await, &["ownerReferences"]);
    // A registration leaves the owner where it is: it is still the pod's own.
    assert_eq!(world.call("PUT", &beat(&mine), None).await.status, 200);
    assert_eq!(world.call("DELETE", &mine, None).await.status, 204);
    is_refused(&world.call("PUT", &mine, body()).await, &["ownerReferences"]);
}

#[tokio::test]
async fn in_batches_its_own_counts_and_the_others_are_refused_one_by_one() {
    let world = world("own-batch", &[]).await;
    world.owned("sidecar", &world.pod).await;
    let (ns, stranger) = (world.ns.name.as_str(), pod(&world.ns, "orders", "orders-2").await);
    world.owned("orders-2", &stranger).await;
    let of = |namespace: &str, name: &str| {
        let facts = json!({"service": "orders", "addresses": ["10.0.0.7"]});
        let mut one = facts.as_object().unwrap().clone();
        one.extend([("namespace".to_owned(), json!(namespace)), ("name".to_owned(), json!(name))]);
        Value::from(one)
    };
    let all = [(ns, "orders-1"), (ns, "sidecar"), (ns, "orders-2"), ("default", "orders-1")];
    let registrations = Some(json!({"instances": all.map(|(ns, name)| of(ns, name))}));
    let answer = world.call("POST", "/v1/instances", registrations).await.json();
    let statuses: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [201, 200, 403, 403], "{answer}");

    let beat = |(namespace, name): (&str, &str)| json!({"namespace": namespace, "name": name});
    let beats = Some(json!({"instances": all.map(beat)}));
    let said = world.call("POST", "/v1/heartbeats", beats).await.json();
    assert_eq!(said["renewed"], 2, "{said}");
    let refused = said["refused"].as_array().unwrap();
    let names: Vec<_> = refused
        .iter()
        .map(|beat| (beat["namespace"].as_str().unwrap(), beat["name"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [(ns, "orders-2"), ("default", "orders-1")], "{said}");
    for beat in refused {
        let reason = beat["reason"].as_str().unwrap();
        assert!(reason.contains("may not update serviceinstances/heartbeat"), "{reason}");
        assert!(reason.contains("allows access to the instance orders-1"), "{reason}");
    }
}

#[tokio::test]
async fn with_its_pod_deleted_a_token_that_is_asked_about_anew_opens_nothing() {
    let world = world("deleted", &[]).await;
    let path = world.path("orders-1");
    assert_eq!(world.call("PUT", &path, body()).await.status, 201);
    let later = Mutex::new(Vec::new());
    for _ in 0..30 {
        let token = token_of(&world.ns, &world.pod).await;
        later.lock().push(token);
    }
    let api: Api<Pod> = world.ns.api();
    api.delete("orders-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    // A token that rollcall has not seen before is asked about at once; each is used only once.
    let refused = eventually("the API server knows that the pod is gone", BOUND, async || {
        let token = later.lock().pop().expect("it took too many tokens");
        let answer = call_as(&token, world.http(), ("PUT", &path), body()).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    let problem = refused.json();
    assert_eq!(refused.status, 401, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("is not accepted"), "{problem}");
    // Another pod of that name has another uid, and its own token.
    let again = pod(&world.ns, "orders", "orders-1").await;
    let token = token_of(&world.ns, &again).await;
    assert_eq!(call_as(&token, world.http(), ("PUT", &path), body()).await.status, 200);
}

#[tokio::test]
async fn a_pod_that_takes_an_instance_over_is_neither_leaving_nor_drained() {
    let world = world("taken-over", &[]).await;
    let path = world.path("orders-1");
    let api: Api<ServiceInstance> = world.ns.api();
    let page = async || call(world.http(), "GET", &path, None).await.json();
    assert_eq!(world.call("PUT", &path, body()).await.status, 201);
    let beat = format!("{path}/heartbeat");
    let leaves = Some(json!({"health": "Stopping"}));
    assert_eq!(world.call("PUT", &beat, leaves).await.status, 200);
    let draining = Patch::Merge(json!({"spec": {"state": "Draining"}}));
    api.patch("orders-1", &PatchParams::default(), &draining).await.unwrap();
    eventually("it is drained", BOUND, async || {
        (page().await["phase"] == "Draining").then_some(())
    })
    .await;
    // The same pod is the one that was to be drained.
    assert_eq!(world.call("PUT", &path, body()).await.status, 200);
    assert_eq!(page().await["state"], "Draining");

    let pods: Api<Pod> = world.ns.api();
    let mut last = world.pod.metadata.uid.clone();
    for state in ["Draining", "OutOfService"] {
        let state_now = Patch::Merge(json!({"spec": {"state": state}}));
        api.patch("orders-1", &PatchParams::default(), &state_now).await.unwrap();
        eventually("the operator's word is seen", BOUND, async || {
            (page().await["state"] == state).then_some(())
        })
        .await;
        pods.delete("orders-1", &DeleteParams::default().grace_period(0)).await.unwrap();
        let again = pod(&world.ns, "orders", "orders-1").await;
        assert_ne!(again.metadata.uid, last);
        last = again.metadata.uid.clone();
        let token = token_of(&world.ns, &again).await;
        let answer = call_as(&token, world.http(), ("PUT", &path), body()).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let expected = if state == "Draining" { ("Up", "Ready") } else { (state, state) };
        let shown = answer.json();
        assert_eq!((&shown["state"], &shown["phase"]), (&json!(expected.0), &json!(expected.1)));
        let stored = api.get("orders-1").await.unwrap();
        assert_eq!(stored.metadata.annotations.unwrap()[POD_ANNOTATION], last.clone().unwrap());
    }
}
