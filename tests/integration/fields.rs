//! Every field of an instance: a change of it alone is seen by every reader and stored, and is taken back by a
//! registration that leaves it out.
//!
//! The fields are those of the schema, so that one without a case fails here.

use std::collections::BTreeSet;

use kube::CustomResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use rollcall_api::{HEALTH_ANNOTATION, ServiceInstance};
use serde_json::{Value, json};

use crate::registrations::put;
use crate::support::events::Events;
use crate::support::http::call;
use crate::support::{Namespace, Rollcall, namespace};

/// A field, and what a registration says that differs from the least one in it alone.
struct Case {
    /// Its path in the spec, or `labels` or `health`, which stand in the metadata.
    field: &'static str,
    says: Value,
    /// What discovery shows beyond that.
    also: Value,
}

fn case(field: &'static str, says: Value) -> Case {
    Case { field, says, also: json!({}) }
}

/// A registration that says no more than it has to.
fn least() -> Value {
    let ports = json!([{"name": "http", "port": 8080}]);
    json!({"service": "web", "addresses": ["10.0.0.7"], "ports": ports, "lease": {}})
}

/// Every field but `service` and `state`, which a registration cannot change.
fn cases() -> Vec<Case> {
    let port = |port: Value| json!({"ports": [port]});
    let two = json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}]);
    vec![
        case("addresses", json!({"addresses": ["10.0.0.7", "fd00::7"]})),
        case("hostname", json!({"addresses": null, "hostname": "db.example.com"})),
        case("ports", json!({"ports": two})),
        case("ports[].name", port(json!({"name": "grpc", "port": 8080}))),
        case("ports[].port", port(json!({"name": "http", "port": 8081}))),
        case("ports[].protocol", port(json!({"name": "http", "port": 8080, "protocol": "UDP"}))),
        case(
            "ports[].appProtocol",
            port(json!({"name": "http", "port": 8080, "appProtocol": "h2c"})),
        ),
        case("version", json!({"version": "2.3.1"})),
        case("tags", json!({"tags": ["canary", "red"]})),
        case("zone", json!({"zone": "eu-1a"})),
        case("weight", json!({"weight": 7})),
        case("priority", json!({"priority": 7})),
        case("attributes", json!({"attributes": {"team": "blue"}})),
        case("lease.mode", json!({"lease": {"mode": "Permanent"}})),
        case("lease.durationSeconds", json!({"lease": {"durationSeconds": 600}})),
        case("lease.onExpiry", json!({"lease": {"onExpiry": "Retain"}})),
        case("lease.evictAfterSeconds", json!({"lease": {"evictAfterSeconds": 600}})),
        case("labels", json!({"labels": {"track": "canary"}})),
        Case {
            field: "health",
            says: json!({"health": "Warning"}),
            also: json!({"phase": "Warning"}),
        },
    ]
}

/// The paths of all fields of the spec, of lists of objects and of objects within.
pub(crate) fn fields(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if property.get("properties").is_none() {
            found.insert(path.clone());
        }
        fields(&path, property, found);
        fields(&format!("{path}[]"), &property["items"], found);
    }
}

/// As RFC 7396 has it.
pub(crate) fn merged(mut target: Value, patch: &Value) -> Value {
    let members = target.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(members.remove(name)),
            Value::Object(_) => {
                let old = members.remove(name).unwrap_or_else(|| json!({}));
                members.insert(name.clone(), merged(old, value));
            }
            _ => drop(members.insert(name.clone(), value.clone())),
        }
    }
    target
}

/// What is there when a registration says this.
fn after(before: &Value, says: &Value) -> Value {
    with_protocols(merged(before.clone(), says))
}

/// A port that says no more is TCP.
fn with_protocols(mut instance: Value) -> Value {
    for port in instance["ports"].as_array_mut().into_iter().flatten() {
        port.as_object_mut().unwrap().entry("protocol").or_insert_with(|| json!("TCP"));
    }
    instance
}

/// What is stored of an instance: its spec, labels and health.
async fn stored(api: &Api<ServiceInstance>) -> Value {
    let object = api.get("a").await.unwrap();
    let mut stored = serde_json::to_value(object.spec).unwrap();
    let labels = object.metadata.labels.unwrap_or_default();
    let health = object.metadata.annotations.unwrap_or_default().remove(HEALTH_ANNOTATION);
    stored["health"] = json!(health.as_deref().unwrap_or("Passing"));
    // What is empty is left out, here as in the spec.
    if !labels.is_empty() {
        stored["labels"] = json!(labels);
    }
    with_protocols(stored)
}

struct World {
    ns: Namespace,
    rollcall: Rollcall,
    api: Api<ServiceInstance>,
    events: Events,
}

impl World {
    /// Discovery of the service: the revision, and its only instance.
    async fn discovered(&self) -> (String, Value) {
        let path = format!("/v1/namespaces/{}/services/web?health=any", self.ns.name);
        let set = call(self.rollcall.http, "GET", &path, None).await.json();
        assert_eq!(set["instances"].as_array().unwrap().len(), 1, "{set}");
        (set["revision"].as_str().unwrap().to_owned(), set["instances"][0].clone())
    }

    async fn registers(&self, body: &Value) {
        let (status, answer) = put(&self.rollcall, &self.ns, "a", body).await;
        assert_eq!(status, 200, "{body}: {answer}");
    }

    /// Waits for the event that leads to this revision, and answers the instance in it.
    async fn upserted(&mut self, revision: &str) -> Value {
        loop {
            let mut event = self.events.next().await.expect("the stream has ended");
            assert_eq!(event.kind, "upsert", "{event:?}");
            if event.id == revision {
                event.data.as_object_mut().unwrap().remove("revision");
                return event.data;
            }
        }
    }

    /// Every reader sees this instance in this revision; what is stored is this.
    async fn sees(&mut self, field: &str, revision: &str, shown: &Value, kept: &Value) {
        assert_eq!(self.discovered().await, (revision.to_owned(), shown.clone()), "{field}");
        assert_eq!(self.upserted(revision).await, *shown, "{field}");
        assert_eq!(stored(&self.api).await, *kept, "{field}");
    }
}

async fn world(prefix: &str) -> World {
    let ns = namespace(prefix).await;
    let rollcall = Rollcall::start(&ns).await;
    assert_eq!(put(&rollcall, &ns, "a", &least()).await.0, 201);
    let path = format!("/v1/namespaces/{}/services/web/watch?health=any", ns.name);
    let mut events = Events::open(rollcall.http, &path, "").await;
    assert_eq!(events.next().await.unwrap().kind, "snapshot");
    let api = ns.api::<ServiceInstance>();
    World { ns, rollcall, api, events }
}

#[test]
fn every_field_of_the_schema_has_a_case() {
    let crd = serde_json::to_value(ServiceInstance::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut all = BTreeSet::new();
    fields("", spec, &mut all);
    let beside = ["service", "state"].into_iter();
    let in_metadata = ["labels", "health"];
    let cases = cases();
    let covered = cases.iter().map(|case| case.field).filter(|it| !in_metadata.contains(it));
    let covered: BTreeSet<String> = covered.chain(beside).map(str::to_owned).collect();
    assert_eq!(covered, all);
}

#[tokio::test]
async fn a_change_of_one_field_is_seen_by_all_and_is_taken_back_when_left_out() {
    let mut world = world("one-field").await;
    let (revision, shown) = world.discovered().await;
    let kept = stored(&world.api).await;
    for Case { field, says, also } in cases() {
        world.registers(&merged(least(), &says)).await;
        let (changed, _) = world.discovered().await;
        assert_ne!(changed, revision, "{field} is not in the revision");
        let shown_now = after(&after(&shown, &says), &also);
        world.sees(field, &changed, &shown_now, &after(&kept, &says)).await;

        // Health is what it was last said to be.
        let left_out = if field == "health" { json!({"health": "Passing"}) } else { json!({}) };
        world.registers(&merged(least(), &left_out)).await;
        world.sees(field, &revision, &shown, &kept).await;
    }
}

#[tokio::test]
async fn what_another_manager_set_in_a_field_is_taken_back_by_the_next_registration() {
    let mut world = world("others-field").await;
    let (revision, shown) = world.discovered().await;
    let kept = stored(&world.api).await;
    let manager = PatchParams { field_manager: Some("editor".into()), ..PatchParams::default() };
    // Labels of others stay, and so does a health that is left out.
    for Case { field, says, .. } in cases().into_iter().take_while(|case| case.field != "labels") {
        let patch = Patch::Merge(json!({"spec": says}));
        world.api.patch("a", &manager, &patch).await.unwrap();
        let event = world.events.next().await.unwrap();
        assert_eq!((event.kind.as_str(), event.id != revision), ("upsert", true), "{field}");
        world.registers(&least()).await;
        world.sees(field, &revision, &shown, &kept).await;
    }
}

#[tokio::test]
async fn the_operators_state_is_seen_by_all_and_stays_until_the_operator_takes_it_back() {
    let mut world = world("state-field").await;
    let (revision, shown) = world.discovered().await;
    let kept = stored(&world.api).await;
    let path = format!("/v1/namespaces/{}/instances/a/state", world.ns.name);
    let says = json!({"state": "Draining"});
    assert_eq!(call(world.rollcall.http, "PUT", &path, Some(says.clone())).await.status, 200);
    let (changed, _) = world.discovered().await;
    assert_ne!(changed, revision);
    let shown_now = after(&shown, &json!({"state": "Draining", "phase": "Draining"}));
    world.sees("state", &changed, &shown_now, &after(&kept, &says)).await;

    world.registers(&least()).await;
    assert_eq!(world.discovered().await, (changed, shown_now));
    let up = json!({"state": "Up"});
    assert_eq!(call(world.rollcall.http, "PUT", &path, Some(up)).await.status, 200);
    world.sees("state", &revision, &shown, &kept).await;
}

#[tokio::test]
async fn the_service_of_an_instance_cannot_be_changed() {
    let world = world("service-field").await;
    let before = (world.discovered().await, stored(&world.api).await);
    let other = merged(least(), &json!({"service": "other"}));
    let (status, answer) = put(&world.rollcall, &world.ns, "a", &other).await;
    assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!("service")), "{answer}");
    assert_eq!((world.discovered().await, stored(&world.api).await), before);
}
