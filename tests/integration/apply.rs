//! Applying manifests again: an unchanged manifest changes nothing, and two managers of equal manifests do not
//! conflict.
//!
//! The fields come from the schema, so that a field without a case fails here.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use rollcall::dev::install;
use rollcall_api::{ServiceInstance, manifests};
use serde_json::{Value, json};

use crate::instance_fields::{fields, merged};
use crate::lease_lifecycle::BOUND;
use crate::registrations::put;
use crate::support::http::call;
use crate::support::kubectl::{KubectlOutput, kubectl};
use crate::support::{Namespace, Rollcall, control_plane, eventually, namespace, namespace_in};

/// The previous definition, in which protocols have a default and ports are not merged by name.
const REVISION_2: &str = include_str!("fixtures/serviceinstances.revision-2.yaml");

/// Fields of the spec, each with a spec that sets only these and the required fields.
fn cases() -> Vec<(&'static [&'static str], Value)> {
    let ports = |ports: Value| json!({"ports": ports});
    let lease = |field: &str, value: Value| json!({"lease": {"mode": "Heartbeat", field: value}});
    vec![
        (&["service", "addresses", "lease.mode"], json!({})),
        (&["addresses"], json!({"addresses": ["10.0.0.7", "fd00::7"]})),
        (&["hostname"], json!({"addresses": null, "hostname": "db.example.com"})),
        (&["ports[].name", "ports[].port"], ports(json!([{"name": "http", "port": 8080}]))),
        (
            &["ports", "ports[].protocol"],
            ports(json!([
                {"name": "a", "port": 1, "protocol": "TCP"}, {"name": "b", "port": 2, "protocol": "UDP"},
                {"name": "c", "port": 3, "protocol": "SCTP"}, {"name": "d", "port": 4},
            ])),
        ),
        (
            &["ports[].appProtocol"],
            ports(json!([{"name": "http", "port": 8080, "appProtocol": "h2c"}])),
        ),
        (&["version"], json!({"version": "2.3.1"})),
        (&["tags"], json!({"tags": ["red", "canary"]})),
        (&["zone"], json!({"zone": "eu-1a"})),
        (&["weight"], json!({"weight": 7})),
        (&["weight", "priority", "state"], json!({"weight": 100, "priority": 0, "state": "Up"})),
        (&["priority"], json!({"priority": 7})),
        (&["attributes"], json!({"attributes": {"team": "blue", "shard": ""}})),
        (&["state"], json!({"state": "Draining"})),
        (&["lease.durationSeconds"], lease("durationSeconds", json!(600))),
        (&["lease.onExpiry"], lease("onExpiry", json!("Evict"))),
        (&["lease.evictAfterSeconds"], lease("evictAfterSeconds", json!(7))),
    ]
}

/// The manifest of an instance with this spec in addition to the required fields.
fn manifest(name: &str, spec: &Value) -> Value {
    let minimal =
        json!({"service": "web", "addresses": ["10.0.0.7"], "lease": {"mode": "Permanent"}});
    json!({
        "apiVersion": "rollcall.dev/v1alpha1", "kind": "ServiceInstance",
        "metadata": {"name": name}, "spec": merged(minimal, spec),
    })
}

/// The manifests of all cases, in one stream of documents.
fn all_cases() -> String {
    let manifest = |(at, (_, spec)): (usize, &(&[&str], Value))| {
        format!("---\n{}\n", manifest(&format!("case-{at}"), spec))
    };
    cases().iter().enumerate().map(manifest).collect()
}

fn apply(ns: &Namespace, manifests: &str) -> KubectlOutput {
    kubectl(ns, &["apply", "-f", "-"], manifests)
}

fn apply_server_side(ns: &Namespace, manager: &str, manifests: &str) -> KubectlOutput {
    let manager = format!("--field-manager={manager}");
    kubectl(ns, &["apply", "--server-side", &manager, "-f", "-"], manifests)
}

/// Checks that applying these manifests again changes nothing, for client-side and server-side apply and any manager.
#[track_caller]
fn assert_unchanged(ns: &Namespace, manifests: &str) {
    let changes_nothing = || {
        let printed = apply(ns, manifests).success();
        let changed: Vec<_> = printed.lines().filter(|it| !it.ends_with(" unchanged")).collect();
        assert!(changed.is_empty() && !printed.is_empty(), "{changed:#?}");
        let difference = kubectl(ns, &["diff", "-f", "-"], manifests);
        assert_eq!((difference.code, difference.stdout.as_str()), (0, ""), "{difference:?}");
    };
    changes_nothing();
    // The first apply takes over the fields of the client-side apply; then kubectl and another manager own them.
    for manager in ["kubectl", "other", "kubectl"] {
        apply_server_side(ns, manager, manifests).success();
    }
    let server_side = ["diff", "--server-side", "--field-manager=other", "-f", "-"];
    let difference = kubectl(ns, &server_side, manifests);
    assert_eq!((difference.code, difference.stdout.as_str()), (0, ""), "{difference:?}");
    // A server-side apply by kubectl removes the annotation with the last manifest; the next client-side apply restores it.
    apply(ns, manifests).success();
    changes_nothing();
}

#[test]
fn every_field_of_the_schema_has_an_apply_case() {
    let crd = serde_json::to_value(ServiceInstance::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut all = BTreeSet::new();
    fields("", spec, &mut all);
    let covered = cases().into_iter().flat_map(|(fields, _)| fields);
    let covered: BTreeSet<String> = covered.map(ToString::to_string).collect();
    assert_eq!(covered, all);
}

#[tokio::test]
async fn unchanged_manifest_changes_nothing_and_two_managers_do_not_conflict() {
    let ns = namespace("apply-again").await;
    apply(&ns, &all_cases()).success();
    assert_unchanged(&ns, &all_cases());
}

#[tokio::test]
async fn applying_the_samples_again_changes_nothing() {
    let ns = namespace("apply-samples").await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let mut samples = String::new();
    for name in ["orders", "payments", "db", "carts"] {
        let text = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        samples += &format!("---\n{}", text.replace("namespace: shop", ""));
    }
    assert_eq!(apply(&ns, &samples).success().lines().count(), 7);
    assert_unchanged(&ns, &samples);
}

#[tokio::test]
async fn manifest_equal_to_a_registration_changes_nothing() {
    let ns = namespace("apply-registered").await;
    let rollcall = Rollcall::start(&ns).await;
    let ports =
        json!([{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let body = json!({"service": "web", "addresses": ["10.0.0.7"], "ports": ports, "lease": {"mode": "Permanent"}});
    assert_eq!(put(&rollcall, &ns, "a", &body).await.0, 201);
    let manifest = manifest("a", &json!({"ports": ports})).to_string();
    apply_server_side(&ns, "kubectl", &manifest).success();
    // The first client-side apply records what it applied.
    apply(&ns, &manifest).success();
    assert_unchanged(&ns, &manifest);
    assert_eq!(put(&rollcall, &ns, "a", &body).await.0, 200);
    assert_unchanged(&ns, &manifest);
}

#[tokio::test]
async fn registration_replaces_ports_applied_by_other_managers() {
    let ns = namespace("apply-ports").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = ns.api::<ServiceInstance>();
    let stored = async || {
        let ports = api.get("a").await.unwrap().spec.ports;
        serde_json::to_value(ports).unwrap()
    };
    let body = |ports: Value| json!({"service": "web", "addresses": ["10.0.0.7"], "ports": ports});
    let http = json!({"name": "http", "port": 8080});
    assert_eq!(put(&rollcall, &ns, "a", &body(json!([http]))).await.0, 201);
    let applied = json!([
        {"name": "http", "port": 8080, "protocol": "UDP", "appProtocol": "coap"},
        {"name": "admin", "port": 9090},
    ]);
    for ports in [
        json!([http]),
        json!([{"name": "admin", "port": 9091}, http]),
        json!([http, {"name": "admin", "port": 9091}]),
        json!([]),
    ] {
        let manifest = manifest("a", &json!({"ports": applied, "lease": null})).to_string();
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        kubectl(&ns, &args, &manifest).success();
        // The registration is compared with what the replica's watch has delivered.
        eventually("the replica has observed the applied ports", BOUND, async || {
            let path = format!("/v1/namespaces/{}/instances/a", ns.name);
            let instance = call(rollcall.http, "GET", &path, None).await.json();
            (instance["ports"].as_array()?.len() == 2).then_some(())
        })
        .await;
        let (status, answer) = put(&rollcall, &ns, "a", &body(ports.clone())).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(stored().await, ports);
        let writes = ns.count_writes_of("a");
        assert_eq!(put(&rollcall, &ns, "a", &body(ports)).await.0, 200);
        assert_eq!(ns.count_writes_of("a"), writes, "the same registration is a heartbeat");
    }
}

#[tokio::test]
async fn objects_of_the_previous_definition_are_unchanged_from_the_second_apply_on() {
    let shared = control_plane::own("revision-2", &[]).await;
    let ns = namespace_in(shared, "apply-upgrade").await;
    let old: CustomResourceDefinition = serde_yaml_ng::from_str(REVISION_2).unwrap();
    install::install_crds(&ns.client, &[old]).await.unwrap();
    let until_default_protocol = async |expected: &'static str| {
        eventually(
            &format!("the API server fills in the protocol {expected:?}"),
            BOUND,
            async || {
                let manifest = manifest("probe", &json!({"ports": [{"name": "a", "port": 1}]}));
                let path = "-o=jsonpath={.spec.ports[0].protocol}";
                let printed = kubectl(
                    &ns,
                    &["create", "--dry-run=server", path, "-f", "-"],
                    &manifest.to_string(),
                );
                (printed.code == 0 && printed.stdout == expected).then_some(())
            },
        )
        .await;
    };
    until_default_protocol("TCP").await;
    let ports =
        json!([{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let [by_server, registered] = ["by-server", "registered"]
        .map(|name| manifest(name, &json!({"ports": ports})).to_string());
    apply(&ns, &all_cases()).success();
    apply_server_side(&ns, "kubectl", &by_server).success();
    // As a registration through the previous version wrote it.
    let explicit = registered.replace("\"port\":8080", "\"port\":8080,\"protocol\":\"TCP\"");
    apply_server_side(&ns, "rollcall", &explicit).success();

    install::install_crds(&ns.client, &manifests::crds()).await.unwrap();
    until_default_protocol("").await;
    apply(&ns, &all_cases()).success();
    assert_unchanged(&ns, &all_cases());
    for manifest in [&by_server, &registered] {
        apply_server_side(&ns, "kubectl", manifest).success();
        apply(&ns, manifest).success();
        assert_unchanged(&ns, manifest);
    }

    let rollcall = Rollcall::start(&ns).await;
    let body = json!({
        "service": "web", "addresses": ["10.0.0.7"], "ports": [{"name": "http", "port": 8081}],
        "lease": {"mode": "Permanent"},
    });
    for name in ["registered", "by-server", "case-4"] {
        let (status, answer) = put(&rollcall, &ns, name, &body).await;
        assert_eq!(status, 200, "{answer}");
        let stored = ns.api::<ServiceInstance>().get(name).await.unwrap().spec.ports;
        assert_eq!(serde_json::to_value(stored).unwrap(), body["ports"], "{name}");
    }
}
