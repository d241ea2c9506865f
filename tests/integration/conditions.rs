//! Conditions in the status: their messages, when they are removed, and that conditions of other controllers stay.

use kube::api::{Api, Patch, PatchParams};
use rollcall_api::{ConditionType, HEALTH_ANNOTATION, Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::lease_lifecycle::{BOUND, create, manifest, until_discoverable, until_phase};
use crate::support::http::call;
use crate::support::{Rollcall, eventually, namespace};

/// Sets the health annotation, or removes it.
async fn annotate_health(api: &Api<ServiceInstance>, health: Option<&str>) {
    let patch = json!({"metadata": {"annotations": {HEALTH_ANNOTATION: health}}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// The stored condition of a type.
fn condition(object: &ServiceInstance, type_: &str) -> Option<Value> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some(serde_json::to_value(found).unwrap())
}

/// Waits until the message of a condition contains this, or the condition is gone.
async fn until_condition(api: &Api<ServiceInstance>, type_: ConditionType, part: Option<&str>) {
    eventually(&format!("the message of {type_} contains {part:?}"), BOUND, async || {
        let found = condition(&api.get("a").await.ok()?, type_.as_str());
        let message = found.map(|found| found["message"].as_str().unwrap().to_owned());
        match (message, part) {
            (None, None) => Some(()),
            (Some(message), Some(part)) => message.contains(part).then_some(()),
            _ => None,
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_health_is_a_warning_with_a_condition_until_it_is_corrected() {
    let ns = namespace("unknown-health").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    until_phase(&api, "a", Phase::Ready).await;
    let foreign = json!({
        "type": "example.com/Reviewed", "status": "Unknown", "reason": "Waits", "message": "to be reviewed",
        "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
    });
    let add = json!([{"op": "add", "path": "/status/conditions/-", "value": foreign}]);
    let add = Patch::Json::<()>(serde_json::from_value(add).unwrap());
    api.patch_status("a", &PatchParams::default(), &add).await.unwrap();

    annotate_health(&api, Some("{{ .health }}")).await;
    until_condition(&api, ConditionType::UnknownHealth, Some("\"{{ .health }}\"")).await;
    let object = until_phase(&api, "a", Phase::Warning).await;
    let unknown = condition(&object, "UnknownHealth").unwrap();
    assert_eq!((&unknown["status"], &unknown["reason"]), (&json!("True"), &json!("UnknownWord")));
    assert!(unknown["message"].as_str().unwrap().contains("Passing, Warning"), "{unknown}");
    let ready = condition(&object, "Ready").unwrap();
    assert_eq!(ready["status"], "True");
    until_discoverable(&rollcall, &ns, "web", true).await;

    // A long value is cut in the message.
    annotate_health(&api, Some(&"x".repeat(100_000))).await;
    until_condition(&api, ConditionType::UnknownHealth, Some("\"xxx")).await;
    let object = api.get("a").await.unwrap();
    let again = condition(&object, "UnknownHealth").unwrap();
    assert!(again["message"].as_str().unwrap().len() < 400, "{again}");
    assert_eq!(again["lastTransitionTime"], unknown["lastTransitionTime"]);
    assert_eq!(
        condition(&object, "Ready").unwrap()["lastTransitionTime"],
        ready["lastTransitionTime"]
    );

    // A known health over HTTP replaces the annotation.
    let path = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
    let warning = json!({"health": "Warning"});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(warning)).await.status, 200);
    until_condition(&api, ConditionType::UnknownHealth, None).await;
    annotate_health(&api, Some("out_of_service")).await;
    let object = until_phase(&api, "a", Phase::Critical).await;
    assert_eq!(condition(&object, "UnknownHealth"), None);
    until_discoverable(&rollcall, &ns, "web", false).await;
    annotate_health(&api, None).await;
    let object = until_phase(&api, "a", Phase::Ready).await;
    assert_eq!(condition(&object, "example.com/Reviewed"), Some(foreign), "another controller's");
}

#[tokio::test]
async fn shared_address_is_a_condition_of_both_instances_until_one_is_gone() {
    let ns = namespace("shared-address").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    let mut host = manifest("host", "web", json!({"mode": "Permanent"}));
    host.spec.ports[0].port = 9090;
    create(&ns, &host).await;
    until_phase(&api, "host", Phase::Ready).await;
    create(&ns, &manifest("b", "other", json!({"mode": "Permanent"}))).await;
    until_condition(
        &api,
        ConditionType::AddressShared,
        Some("10.0.0.7:8080/TCP is also an endpoint of the instance b"),
    )
    .await;
    eventually("b has the condition too", BOUND, async || {
        condition(&api.get("b").await.ok()?, "AddressShared")
    })
    .await;
    assert_eq!(condition(&api.get("host").await.unwrap(), "AddressShared"), None);
    let path = format!("/v1/namespaces/{}/instances", ns.name);
    let instance = call(rollcall.http, "GET", &format!("{path}/a"), None).await.json();
    assert!(
        instance["why"].as_str().unwrap().contains("is also an endpoint of the instance b"),
        "{instance}"
    );
    assert_eq!(instance["phase"], "Ready", "the instance stays discoverable");
    let metrics = call(rollcall.admin, "GET", "/metrics", None).await.body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("rollcall_shared_addresses 1"), "{metrics}");
    assert_eq!(call(rollcall.http, "DELETE", &format!("{path}/b"), None).await.status, 204);
    until_condition(&api, ConditionType::AddressShared, None).await;
}
