//! What a real API server accepts and refuses: every rule of the definition, with the field and the message that users see.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use rollcall_api::{Lease, ServiceInstance, State};
use serde_json::{Map, Value, json};

use crate::support;

/// A refused manifest: the change to a valid spec, the field that the error names, and a part of its message.
type Refusal = (Value, &'static str, &'static str);

/// The shortest valid spec.
fn valid_spec() -> Value {
    json!({"service": "orders", "addresses": ["10.0.0.7"], "lease": {"mode": "Permanent"}})
}

/// `spec` with the fields of `changes`. Null removes a field.
fn with_changes(mut spec: Value, changes: &Value) -> Value {
    let fields = spec.as_object_mut().unwrap();
    for (field, value) in changes.as_object().unwrap() {
        if value.is_null() {
            fields.remove(field);
        } else {
            fields.insert(field.clone(), value.clone());
        }
    }
    spec
}

fn manifest(name: &str, spec: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": rollcall_api::API_VERSION,
        "kind": "ServiceInstance",
        "metadata": {"name": name},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// An untyped client, because the types cannot hold invalid manifests.
fn untyped(home: &support::Namespace) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<ServiceInstance>(&());
    Api::namespaced_with(home.client.clone(), &home.name, &resource)
}

fn typed(home: &support::Namespace) -> Api<ServiceInstance> {
    Api::namespaced(home.client.clone(), &home.name)
}

/// Describes the difference when the answer is not a refusal of that field with that message.
fn mismatch<T>(answer: Result<T, kube::Error>, field: &str, message: &str) -> Option<String> {
    let status = match answer {
        Ok(_) => return Some("was accepted".to_owned()),
        Err(kube::Error::Api(status)) => status,
        Err(other) => return Some(format!("no answer: {other}")),
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let named = causes.into_iter().any(|c| c.field == field && c.message.contains(message));
    (!named).then(|| status.message.clone())
}

/// Tries all manifests, so that one run shows every failure.
async fn assert_refused(prefix: &str, cases: Vec<Refusal>) {
    let home = support::namespace(prefix).await;
    let instances = untyped(&home);
    let mut wrong = Vec::new();
    for (changes, field, message) in cases {
        let object = manifest("refused", &with_changes(valid_spec(), &changes));
        let answer = instances.create(&PostParams::default(), &object).await;
        if let Some(got) = mismatch(answer, field, message) {
            wrong.push(format!("{changes}\n  expected: {field}: {message}\n  got: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn ports(count: u16) -> Value {
    (1..=count).map(|n| json!({"name": format!("p{n}"), "port": n})).collect()
}

fn numbered(count: usize, prefix: &str) -> Vec<String> {
    (1..=count).map(|n| format!("{prefix}{n}")).collect()
}

#[tokio::test]
async fn service_must_be_a_dns_label() {
    let label = "service must be a DNS label";
    assert_refused(
        "service",
        vec![
            (json!({"service": null}), "spec.service", "Required value"),
            (json!({"service": "Orders"}), "spec.service", label),
            (json!({"service": "orders.v2"}), "spec.service", label),
            (json!({"service": "-orders"}), "spec.service", label),
            (json!({"service": ""}), "spec.service", "at least 1 char"),
            (json!({"service": "a".repeat(64)}), "spec.service", "may not be more than 63"),
            (json!({"service": 7}), "spec.service", "must be of type string"),
        ],
    )
    .await;
}

#[tokio::test]
async fn instance_has_either_addresses_or_a_hostname() {
    let one = "give exactly one of addresses";
    assert_refused(
        "place",
        vec![
            (json!({"addresses": null}), "spec", one),
            (json!({"hostname": "db.example.com"}), "spec", one),
            (json!({"addresses": []}), "spec.addresses", "should have at least 1 items"),
        ],
    )
    .await;
}

#[tokio::test]
async fn addresses_must_be_unique_ip_addresses() {
    let ip = "each address must be an IPv4 or IPv6 address";
    let wrong =
        ["10.0.0.300", "010.0.0.7", "10.0.0.7:80", "10.0.0.0/8", "fe80::1%eth0", "[fd00::7]"];
    let mut cases: Vec<Refusal> = wrong
        .iter()
        .map(|address| (json!({"addresses": ["10.0.0.1", address]}), "spec.addresses", ip))
        .collect();
    cases.extend([
        (json!({"addresses": ["db.example.com"]}), "spec.addresses", ip),
        (json!({"addresses": ["10.0.0.7", "10.0.0.7"]}), "spec.addresses", "must be unique"),
        (json!({"addresses": ["fd00::7", "FD00:0::7"]}), "spec.addresses", "must be unique"),
        (
            json!({"addresses": numbered(17, "10.0.0.")}),
            "spec.addresses",
            "must have at most 16 items",
        ),
    ]);
    assert_refused("addresses", cases).await;
}

#[tokio::test]
async fn hostname_must_be_a_dns_name() {
    let name = "hostname must be a DNS name in lower case";
    let field = "spec.hostname";
    let at = |hostname: &str| json!({"addresses": null, "hostname": hostname});
    assert_refused(
        "hostname",
        vec![
            (at("DB.example.com"), field, name),
            (at("db.example.com."), field, name),
            (at("db..example.com"), field, name),
            (at("db_1.example.com"), field, name),
            (at(&format!("{}.example.com", "a".repeat(64))), field, name),
            (at("10.0.0.7"), field, "must not be an IP address"),
            (at(&numbered(64, "abc.").concat()), field, "may not be more than 253"),
        ],
    )
    .await;
}

#[tokio::test]
async fn ports_must_be_distinguishable_in_dns() {
    let label = "a port's name must be a DNS label";
    let one = |port: Value| json!({"ports": [port]});
    let twice = json!([{"name": "http", "port": 80}, {"name": "http", "port": 81}]);
    assert_refused(
        "ports",
        vec![
            (json!({"ports": twice}), "spec.ports", "port names must be unique"),
            (json!({"ports": ports(33)}), "spec.ports", "must have at most 32 items"),
            (one(json!({"port": 80})), "spec.ports[0].name", "Required value"),
            (one(json!({"name": "http"})), "spec.ports[0].port", "Required value"),
            (one(json!({"name": "HTTP", "port": 80})), "spec.ports[0].name", label),
            (one(json!({"name": "a_b", "port": 80})), "spec.ports[0].name", label),
            (
                one(json!({"name": "a".repeat(63), "port": 80})),
                "spec.ports[0].name",
                "may not be more than 62",
            ),
            (
                one(json!({"name": "http", "port": 0})),
                "spec.ports[0].port",
                "greater than or equal to 1",
            ),
            (
                one(json!({"name": "http", "port": 65536})),
                "spec.ports[0].port",
                "less than or equal to 65535",
            ),
            (
                one(json!({"name": "http", "port": 80, "protocol": "HTTP"})),
                "spec.ports[0].protocol",
                "supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
            (
                one(json!({"name": "http", "port": 80, "appProtocol": "h 2"})),
                "spec.ports[0].appProtocol",
                "no blanks",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn versions_tags_zones_and_attributes_are_bounded() {
    let many: Map<String, Value> =
        numbered(65, "k").into_iter().map(|key| (key, json!("v"))).collect();
    let key = "each attribute key must have 1 to 63";
    let attribute = |key: String, value: String| json!({"attributes": {key: value}});
    assert_refused(
        "words",
        vec![
            (json!({"version": "2 3"}), "spec.version", "no blanks"),
            (json!({"version": ""}), "spec.version", "at least 1 char"),
            (json!({"version": "1".repeat(64)}), "spec.version", "may not be more than 63"),
            (json!({"zone": "größe"}), "spec.zone", "visible ASCII"),
            (json!({"zone": "z".repeat(64)}), "spec.zone", "may not be more than 63"),
            (json!({"tags": ["a", "a"]}), "spec.tags[1]", "Duplicate value"),
            (json!({"tags": ["a b"]}), "spec.tags", "no blanks"),
            (json!({"tags": ["t".repeat(64)]}), "spec.tags[0]", "may not be more than 63"),
            (json!({"tags": numbered(33, "t")}), "spec.tags", "must have at most 32 items"),
            (json!({"attributes": many}), "spec.attributes", "must have at most 64 items"),
            (attribute("a=b".into(), "v".into()), "spec.attributes", key),
            (attribute(String::new(), "v".into()), "spec.attributes", key),
            (attribute("k".repeat(64), "v".into()), "spec.attributes", key),
            (
                attribute("k".into(), "v".repeat(1025)),
                "spec.attributes.k",
                "may not be more than 1024",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn numbers_and_states_outside_their_range_are_refused() {
    let least = "greater than or equal to 0";
    let most = "less than or equal to 65535";
    assert_refused(
        "numbers",
        vec![
            (json!({"weight": -1}), "spec.weight", least),
            (json!({"weight": 65536}), "spec.weight", most),
            (json!({"weight": "100"}), "spec.weight", "must be of type integer"),
            (json!({"priority": -1}), "spec.priority", least),
            (json!({"priority": 65536}), "spec.priority", most),
            (json!({"state": "Down"}), "spec.state", "\"Up\", \"Draining\", \"OutOfService\""),
        ],
    )
    .await;
}

#[tokio::test]
async fn lease_needs_a_mode_and_valid_durations() {
    let lease = |field: &str, value: Value| json!({"lease": {"mode": "Heartbeat", field: value}});
    assert_refused(
        "lease",
        vec![
            (json!({"lease": null}), "spec.lease", "Required value"),
            (json!({"lease": {}}), "spec.lease.mode", "Required value"),
            (lease("mode", json!("Forever")), "spec.lease.mode", "\"Heartbeat\", \"Permanent\""),
            (lease("durationSeconds", json!(1)), "spec.lease.durationSeconds", "equal to 2"),
            (
                lease("durationSeconds", json!(86401)),
                "spec.lease.durationSeconds",
                "equal to 86400",
            ),
            (lease("onExpiry", json!("Delete")), "spec.lease.onExpiry", "\"Retain\", \"Evict\""),
            (lease("evictAfterSeconds", json!(-1)), "spec.lease.evictAfterSeconds", "equal to 0"),
            (
                lease("evictAfterSeconds", json!(86401)),
                "spec.lease.evictAfterSeconds",
                "equal to 86400",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn service_of_an_instance_is_immutable() {
    let home = support::namespace("immutable").await;
    let instances = untyped(&home);
    let created =
        instances.create(&PostParams::default(), &manifest("orders-1", &valid_spec())).await;
    created.unwrap();
    let merge = |spec: Value| Patch::Merge(json!({"spec": spec}));
    let parameters = PatchParams::default();

    let moved = merge(json!({"service": "payments"}));
    let answer = instances.patch("orders-1", &parameters, &moved).await;
    assert_eq!(mismatch(answer, "spec.service", "service is immutable: delete this"), None);

    let drained = merge(json!({"service": "orders", "state": "Draining"}));
    instances.patch("orders-1", &parameters, &drained).await.unwrap();
    let elsewhere = merge(json!({"addresses": null, "hostname": "orders.example.com"}));
    instances.patch("orders-1", &parameters, &elsewhere).await.unwrap();
}

#[tokio::test]
async fn api_server_fills_in_defaults() {
    let home = support::namespace("defaults").await;
    let changes = json!({"ports": [{"name": "http", "port": 8080}]});
    let object = manifest("orders-1", &with_changes(valid_spec(), &changes));
    untyped(&home).create(&PostParams::default(), &object).await.unwrap();

    let spec = typed(&home).get("orders-1").await.unwrap().spec;
    assert_eq!(spec.lease, Lease::permanent());
    assert_eq!((spec.weight, spec.priority, spec.state), (100, 0, State::Up));
    assert_eq!(spec.ports[0].protocol, None, "an absent protocol is TCP");
    assert_eq!((spec.hostname, spec.version, spec.zone), (None, None, None));
}

#[tokio::test]
async fn largest_valid_instance_is_stored_and_read_back() {
    let home = support::namespace("largest").await;
    let of_length = |length: usize, n: usize| format!("{n:a>length$}");
    let attributes: Map<String, Value> =
        (10..74).map(|n| (of_length(63, n), json!("é".repeat(1024)))).collect();
    let ports: Vec<Value> = (10..42)
        .map(|n| json!({"name": of_length(62, n), "port": 65535, "appProtocol": of_length(253, n)}))
        .collect();
    let addresses: Vec<String> =
        (10..26).map(|n| format!("fd00:0000:0000:0000:0000:0000:0000:00{n}")).collect();
    let tags: Vec<String> = (10..42).map(|n| of_length(63, n)).collect();
    let largest = json!({
        "service": "a".repeat(63),
        "addresses": addresses,
        "ports": ports,
        "version": "1".repeat(63),
        "tags": tags,
        "zone": "z".repeat(63),
        "weight": 65535,
        "priority": 65535,
        "attributes": attributes,
        "state": "OutOfService",
        "lease": {
            "mode": "Heartbeat",
            "durationSeconds": 86400,
            "onExpiry": "Evict",
            "evictAfterSeconds": 86400,
        },
    });
    let object = manifest(&"n".repeat(253), &largest);
    untyped(&home).create(&PostParams::default(), &object).await.unwrap();
    let stored = typed(&home).get(&"n".repeat(253)).await.unwrap();
    assert_eq!(stored.spec.attributes.len(), 64);
    assert_eq!(stored.spec.ports.len(), 32);
}

#[tokio::test]
async fn instances_are_selected_by_their_service() {
    let home = support::namespace("selectable").await;
    let instances = untyped(&home);
    for service in ["orders", "payments"] {
        let object = manifest(service, &with_changes(valid_spec(), &json!({"service": service})));
        instances.create(&PostParams::default(), &object).await.unwrap();
    }
    let orders = kube::api::ListParams::default().fields("spec.service=orders");
    let found = instances.list(&orders).await.unwrap();
    let names: Vec<_> = found.iter().map(|object| object.metadata.name.as_deref()).collect();
    assert_eq!(names, [Some("orders")]);
}

#[tokio::test]
async fn status_rejects_unknown_values_and_does_not_change_the_spec() {
    let home = support::namespace("status").await;
    let instances = untyped(&home);
    let created = instances
        .create(&PostParams::default(), &manifest("orders-1", &valid_spec()))
        .await
        .unwrap();
    let parameters = PatchParams::default();
    let write =
        |status: Value| Patch::Merge(json!({"status": status, "spec": {"service": "elsewhere"}}));

    let unknown = write(json!({"phase": "Gone"}));
    let answer = instances.patch_status("orders-1", &parameters, &unknown).await;
    assert_eq!(mismatch(answer, "status.phase", "supported values"), None);

    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Beating", "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    });
    let known = write(json!({
        "phase": "Ready", "conditions": [ready], "observedGeneration": 1,
        "observedHeartbeat": rollcall_api::observed_heartbeat(&"é".repeat(1000)),
        "lastHeartbeatTime": "2026-01-02T03:04:05Z",
        "dnsName": "orders-1.orders.shop.svc.rollcall.internal",
    }));
    instances.patch_status("orders-1", &parameters, &known).await.unwrap();
    let stored = typed(&home).get("orders-1").await.unwrap();
    assert_eq!(stored.spec.service, "orders");
    assert_eq!(stored.metadata.generation, created.metadata.generation);
    assert_eq!(
        stored.status.unwrap().conditions[0].type_,
        rollcall_api::ConditionType::Ready.as_str()
    );
}

#[tokio::test]
async fn every_sample_is_accepted() {
    let home = support::namespace("samples").await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let strict = PatchParams::apply("samples").validation_strict();
    let mut accepted = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let mut object: Value = serde::Deserialize::deserialize(document).unwrap();
            if object["kind"] != "ServiceInstance" {
                continue;
            }
            assert_eq!(object["metadata"]["namespace"], "shop");
            object["metadata"]["namespace"] = json!(home.name);
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let applied = typed(&home).patch(&name, &strict, &Patch::Apply(object)).await;
            applied.unwrap_or_else(|error| panic!("{name}: {error}"));
            accepted += 1;
        }
    }
    assert_eq!(accepted, 7);
}
