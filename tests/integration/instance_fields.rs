//! Every field of an instance: a change of this field alone is stored and reaches every reader, and a registration that
//! leaves the field out resets it.
//!
//! The fields come from the schema, so that a field without a case fails here.

use std::collections::BTreeSet;

use kube::CustomResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use rollcall_api::{HEALTH_ANNOTATION, ServiceInstance};
use serde_json::{Value, json};

use crate::registrations::put;
use crate::support::events::EventStream;
use crate::support::http::call;
use crate::support::{Namespace, Rollcall, namespace};

/// A field, and a registration body that differs from the minimal one in this field only.
struct Case {
    /// Its path in the spec, or `labels` or `health`, which are in the metadata.
    field: &'static str,
    body: Value,
    /// Other changes in discovery that follow from this one.
    also: Value,
}

fn case(field: &'static str, body: Value) -> Case {
    Case { field, body, also: json!({}) }
}

/// A registration with the required fields only.
fn minimal() -> Value {
    let ports = json!([{"name": "http", "port": 8080}]);
    json!({"service": "web", "addresses": ["10.0.0.7"], "ports": ports, "lease": {}})
}

/// Every field except `service` and `state`, which a registration cannot change.
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
            body: json!({"health": "Warning"}),
            also: json!({"phase": "Warning"}),
        },
    ]
}

/// The paths of all fields of the spec, including fields of nested objects and of objects in lists.
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

/// Merges as in RFC 7396.
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

/// The expected instance after a registration with these changes.
fn after(before: &Value, body: &Value) -> Value {
    with_protocols(merged(before.clone(), body))
}

/// Fills in TCP for ports without a protocol.
fn with_protocols(mut instance: Value) -> Value {
    for port in instance["ports"].as_array_mut().into_iter().flatten() {
        port.as_object_mut().unwrap().entry("protocol").or_insert_with(|| json!("TCP"));
    }
    instance
}

/// The stored state of an instance: its spec, labels and health.
async fn stored(api: &Api<ServiceInstance>) -> Value {
    let object = api.get("a").await.unwrap();
    let mut stored = serde_json::to_value(object.spec).unwrap();
    let labels = object.metadata.labels.unwrap_or_default();
    let health = object.metadata.annotations.unwrap_or_default().remove(HEALTH_ANNOTATION);
    stored["health"] = json!(health.as_deref().unwrap_or("Passing"));
    // Empty labels are left out, as in the spec.
    if !labels.is_empty() {
        stored["labels"] = json!(labels);
    }
    with_protocols(stored)
}

struct Fixture {
    ns: Namespace,
    rollcall: Rollcall,
    api: Api<ServiceInstance>,
    events: EventStream,
}

impl Fixture {
    /// Discovery of the service: its revision and its only instance.
    async fn discovered(&self) -> (String, Value) {
        let path = format!("/v1/namespaces/{}/services/web?health=any", self.ns.name);
        let set = call(self.rollcall.http, "GET", &path, None).await.json();
        assert_eq!(set["instances"].as_array().unwrap().len(), 1, "{set}");
        (set["revision"].as_str().unwrap().to_owned(), set["instances"][0].clone())
    }

    async fn register(&self, body: &Value) {
        let (status, answer) = put(&self.rollcall, &self.ns, "a", body).await;
        assert_eq!(status, 200, "{body}: {answer}");
    }

    /// Waits for the event with this revision, and returns its instance.
    async fn next_upsert(&mut self, revision: &str) -> Value {
        loop {
            let mut event = self.events.next().await.expect("the stream has ended");
            assert_eq!(event.kind, "upsert", "{event:?}");
            if event.id == revision {
                event.data.as_object_mut().unwrap().remove("revision");
                return event.data;
            }
        }
    }

    /// Checks that every reader gets this instance with this revision, and that `kept` is stored.
    async fn check_readers(&mut self, field: &str, revision: &str, shown: &Value, kept: &Value) {
        assert_eq!(self.discovered().await, (revision.to_owned(), shown.clone()), "{field}");
        assert_eq!(self.next_upsert(revision).await, *shown, "{field}");
        assert_eq!(stored(&self.api).await, *kept, "{field}");
    }
}

async fn fixture(prefix: &str) -> Fixture {
    let ns = namespace(prefix).await;
    let rollcall = Rollcall::start(&ns).await;
    assert_eq!(put(&rollcall, &ns, "a", &minimal()).await.0, 201);
    let path = format!("/v1/namespaces/{}/services/web/watch?health=any", ns.name);
    let mut events = EventStream::open(rollcall.http, &path, "").await;
    assert_eq!(events.next().await.unwrap().kind, "snapshot");
    let api = ns.api::<ServiceInstance>();
    Fixture { ns, rollcall, api, events }
}

#[test]
fn every_field_of_the_schema_has_a_case() {
    let crd = serde_json::to_value(ServiceInstance::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut all = BTreeSet::new();
    fields("", spec, &mut all);
    let others = ["service", "state"].into_iter();
    let in_metadata = ["labels", "health"];
    let cases = cases();
    let covered = cases.iter().map(|case| case.field).filter(|it| !in_metadata.contains(it));
    let covered: BTreeSet<String> = covered.chain(others).map(str::to_owned).collect();
    assert_eq!(covered, all);
}

#[tokio::test]
async fn change_of_one_field_reaches_every_reader_and_is_reset_when_left_out() {
    let mut fixture = fixture("one-field").await;
    let (revision, shown) = fixture.discovered().await;
    let kept = stored(&fixture.api).await;
    for Case { field, body, also } in cases() {
        fixture.register(&merged(minimal(), &body)).await;
        let (changed, _) = fixture.discovered().await;
        assert_ne!(changed, revision, "{field} is not in the revision");
        let shown_now = after(&after(&shown, &body), &also);
        fixture.check_readers(field, &changed, &shown_now, &after(&kept, &body)).await;

        // A registration without a health keeps the reported one.
        let left_out = if field == "health" { json!({"health": "Passing"}) } else { json!({}) };
        fixture.register(&merged(minimal(), &left_out)).await;
        fixture.check_readers(field, &revision, &shown, &kept).await;
    }
}

#[tokio::test]
async fn registration_resets_fields_that_another_manager_set() {
    let mut fixture = fixture("others-field").await;
    let (revision, shown) = fixture.discovered().await;
    let kept = stored(&fixture.api).await;
    let manager = PatchParams { field_manager: Some("editor".into()), ..PatchParams::default() };
    // Labels of other managers stay, and so does a health that is left out.
    for Case { field, body, .. } in cases().into_iter().take_while(|case| case.field != "labels") {
        let patch = Patch::Merge(json!({"spec": body}));
        fixture.api.patch("a", &manager, &patch).await.unwrap();
        let event = fixture.events.next().await.unwrap();
        assert_eq!((event.kind.as_str(), event.id != revision), ("upsert", true), "{field}");
        fixture.register(&minimal()).await;
        fixture.check_readers(field, &revision, &shown, &kept).await;
    }
}

#[tokio::test]
async fn operator_state_reaches_every_reader_and_stays_until_it_is_changed() {
    let mut fixture = fixture("state-field").await;
    let (revision, shown) = fixture.discovered().await;
    let kept = stored(&fixture.api).await;
    let path = format!("/v1/namespaces/{}/instances/a/state", fixture.ns.name);
    let draining = json!({"state": "Draining"});
    assert_eq!(call(fixture.rollcall.http, "PUT", &path, Some(draining.clone())).await.status, 200);
    let (changed, _) = fixture.discovered().await;
    assert_ne!(changed, revision);
    let shown_now = after(&shown, &json!({"state": "Draining", "phase": "Draining"}));
    fixture.check_readers("state", &changed, &shown_now, &after(&kept, &draining)).await;

    fixture.register(&minimal()).await;
    assert_eq!(fixture.discovered().await, (changed, shown_now));
    let up = json!({"state": "Up"});
    assert_eq!(call(fixture.rollcall.http, "PUT", &path, Some(up)).await.status, 200);
    fixture.check_readers("state", &revision, &shown, &kept).await;
}

#[tokio::test]
async fn the_service_of_an_instance_cannot_be_changed() {
    let fixture = fixture("service-field").await;
    let before = (fixture.discovered().await, stored(&fixture.api).await);
    let other = merged(minimal(), &json!({"service": "other"}));
    let (status, answer) = put(&fixture.rollcall, &fixture.ns, "a", &other).await;
    assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!("service")), "{answer}");
    assert_eq!((fixture.discovered().await, stored(&fixture.api).await), before);
}
