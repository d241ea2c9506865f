//! Conditions in the status: what they say, when they go again, and that those of other controllers stay.

use kube::api::{Api, Patch, PatchParams};
use rollcall_api::{ConditionType, HEALTH_ANNOTATION, Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::lives::{BOUND, create, manifest, until, until_phase};
use crate::support::http::call;
use crate::support::{Rollcall, eventually, namespace};

/// Sets the health annotation, or takes it away.
async fn reports(api: &Api<ServiceInstance>, word: Option<&str>) {
    let patch = json!({"metadata": {"annotations": {HEALTH_ANNOTATION: word}}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// The stored condition of a type.
fn condition(object: &ServiceInstance, type_: &str) -> Option<Value> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some(serde_json::to_value(found).unwrap())
}

/// Waits until the condition of a type has this in its message, or is gone.
async fn until_says(api: &Api<ServiceInstance>, type_: ConditionType, part: Option<&str>) {
    eventually(&format!("{type_} says {part:?}"), BOUND, async || {
        let found = condition(&api.get("a").await.ok()?, type_.as_str());
        let says = found.map(|found| found["message"].as_str().unwrap().to_owned());
        match (says, part) {
            (None, None) => Some(()),
            (Some(says), Some(part)) => says.contains(part).then_some(()),
            _ => None,
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_health_is_a_warning_with_a_condition_until_the_word_is_gone() {
    let ns = namespace("unknown-health").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    until_phase(&api, "a", Phase::Ready).await;
    let foreign = json!({
        "type": "example.com/Reviewed", "status": "Unknown", "reason": "Waits", "message": "to be reviewed",
        "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
    });
    let of_others = json!([{"op": "add", "path": "/status/conditions/-", "value": foreign}]);
    let of_others = Patch::Json::<()>(serde_json::from_value(of_others).unwrap());
    api.patch_status("a", &PatchParams::default(), &of_others).await.unwrap();

    reports(&api, Some("{{ .health }}")).await;
    until_says(&api, ConditionType::UnknownHealth, Some("\"{{ .health }}\"")).await;
    let object = until_phase(&api, "a", Phase::Warning).await;
    let unknown = condition(&object, "UnknownHealth").unwrap();
    assert_eq!((&unknown["status"], &unknown["reason"]), (&json!("True"), &json!("UnknownWord")));
    assert!(unknown["message"].as_str().unwrap().contains("Passing, Warning"), "{unknown}");
    let ready = condition(&object, "Ready").unwrap();
    assert_eq!(ready["status"], "True");
    until(&rollcall, &ns, "web", true).await;

    // However long the word is.
    reports(&api, Some(&"x".repeat(100_000))).await;
    until_says(&api, ConditionType::UnknownHealth, Some("\"xxx")).await;
    let object = api.get("a").await.unwrap();
    let again = condition(&object, "UnknownHealth").unwrap();
    assert!(again["message"].as_str().unwrap().len() < 400, "{again}");
    assert_eq!(again["lastTransitionTime"], unknown["lastTransitionTime"]);
    assert_eq!(
        condition(&object, "Ready").unwrap()["lastTransitionTime"],
        ready["lastTransitionTime"]
    );

    // Reported as it should be, it is what was meant.
    let path = format!("/v1/namespaces/{}/instances/a/heartbeat", ns.name);
    let warning = json!({"health": "Warning"});
    assert_eq!(call(rollcall.http, "PUT", &path, Some(warning)).await.status, 200);
    until_says(&api, ConditionType::UnknownHealth, None).await;
    reports(&api, Some("out_of_service")).await;
    let object = until_phase(&api, "a", Phase::Critical).await;
    assert_eq!(condition(&object, "UnknownHealth"), None);
    until(&rollcall, &ns, "web", false).await;
    reports(&api, None).await;
    let object = until_phase(&api, "a", Phase::Ready).await;
    assert_eq!(condition(&object, "example.com/Reviewed"), Some(foreign), "it is another's");
}

#[tokio::test]
async fn two_instances_that_offer_one_address_and_port_both_say_so_until_one_is_gone() {
    let ns = namespace("shared-address").await;
    let rollcall = Rollcall::start(&ns).await;
    let api = create(&ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    let mut host = manifest("host", "web", json!({"mode": "Permanent"}));
    host.spec.ports[0].port = 9090;
    create(&ns, &host).await;
    until_phase(&api, "host", Phase::Ready).await;
    create(&ns, &manifest("b", "other", json!({"mode": "Permanent"}))).await;
    until_says(
        &api,
        ConditionType::AddressShared,
        Some("10.0.0.7:8080/TCP is also an endpoint of the instance b"),
    )
    .await;
    eventually("b says it, too", BOUND, async || {
        condition(&api.get("b").await.ok()?, "AddressShared")
    })
    .await;
    assert_eq!(condition(&api.get("host").await.unwrap(), "AddressShared"), None);
    let path = format!("/v1/namespaces/{}/instances", ns.name);
    let page = call(rollcall.http, "GET", &format!("{path}/a"), None).await.json();
    assert!(
        page["why"].as_str().unwrap().contains("discoverable by the instance b, too"),
        "{page}"
    );
    assert_eq!(page["phase"], "Ready", "the answers stay as they are");
    let metrics = call(rollcall.admin, "GET", "/metrics", None).await.body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("rollcall_shared_addresses 1"), "{metrics}");
    assert_eq!(call(rollcall.http, "DELETE", &format!("{path}/b"), None).await.status, 204);
    until_says(&api, ConditionType::AddressShared, None).await;
}
