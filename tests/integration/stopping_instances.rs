//! Instances that report `Stopping`: they leave the answers at once, until they report `Passing`.

use kube::api::{Api, Patch, PatchParams};
use rollcall_api::{HEALTH_ANNOTATION, Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::lease_lifecycle::{BOUND, create, manifest, until_discoverable, until_phase};
use crate::support::http::call;
use crate::support::{Namespace, Rollcall, eventually, namespace};

struct Fixture {
    ns: Namespace,
    rollcall: Rollcall,
    path: String,
}

impl Fixture {
    async fn new(prefix: &str) -> Self {
        let ns = namespace(prefix).await;
        let rollcall = Rollcall::start(&ns).await;
        let path = format!("/v1/namespaces/{}/instances/a", ns.name);
        Self { ns, rollcall, path }
    }

    async fn register(&self, also: Value) {
        let mut body =
            json!({"service": "web", "addresses": ["10.0.0.7"], "lease": {"durationSeconds": 600}});
        body.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
        let answer = call(self.rollcall.http, "PUT", &self.path, Some(body)).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.json());
    }

    async fn heartbeat(&self, health: Option<&str>) {
        let body = health.map(|health| json!({"health": health}));
        let path = format!("{}/heartbeat", self.path);
        assert_eq!(call(self.rollcall.http, "PUT", &path, body).await.status, 200);
    }

    /// Phase and health in `GET` of the instance.
    async fn phase_and_health(&self) -> (String, String) {
        let instance = call(self.rollcall.http, "GET", &self.path, None).await.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&instance["phase"]), text(&instance["health"]))
    }

    async fn expect(&self, phase: &str, health: &str) {
        assert_eq!(self.phase_and_health().await, (phase.to_owned(), health.to_owned()));
    }
}

#[tokio::test]
async fn instance_that_reports_stopping_leaves_the_answers_until_it_reports_passing() {
    let mut fixture = Fixture::new("stopping").await;
    let api = fixture.ns.api::<ServiceInstance>();
    fixture.register(json!({})).await;
    until_discoverable(&fixture.rollcall, &fixture.ns, "web", true).await;
    fixture.heartbeat(Some("Stopping")).await;
    fixture.expect("Stopping", "Passing").await;
    until_discoverable(&fixture.rollcall, &fixture.ns, "web", false).await;
    fixture.heartbeat(None).await;
    fixture.expect("Stopping", "Passing").await;
    let writes = fixture.ns.count_writes_of("a");
    fixture.heartbeat(Some("Stopping")).await;
    assert_eq!(fixture.ns.count_writes_of("a"), writes, "a repeated report is only a heartbeat");
    // Another health is stored behind Stopping, and a changed registration keeps both.
    fixture.heartbeat(Some("Critical")).await;
    fixture.expect("Stopping", "Critical").await;
    fixture.register(json!({"weight": 7})).await;
    fixture.expect("Stopping", "Critical").await;
    fixture.register(json!({"weight": 8, "health": "Warning"})).await;
    fixture.expect("Stopping", "Warning").await;
    until_phase(&api, "a", Phase::Stopping).await;

    fixture.rollcall.kill().await;
    fixture.rollcall.restart().await;
    fixture.rollcall.until_ready().await;
    fixture.expect("Stopping", "Warning").await;
    fixture.heartbeat(Some("Passing")).await;
    fixture.expect("Ready", "Passing").await;
    until_discoverable(&fixture.rollcall, &fixture.ns, "web", true).await;

    let batch =
        json!({"instances": [{"namespace": fixture.ns.name, "name": "a", "health": "Stopping"}]});
    let answer = call(fixture.rollcall.http, "POST", "/v1/heartbeats", Some(batch)).await.json();
    assert_eq!(answer["renewed"], 1, "{answer}");
    fixture.expect("Stopping", "Passing").await;
    fixture.register(json!({"weight": 8, "health": "Passing"})).await;
    fixture.expect("Ready", "Passing").await;
}

#[tokio::test]
async fn registration_without_a_health_keeps_the_reported_health() {
    let fixture = Fixture::new("kept-health").await;
    for (reported, phase, health) in [
        ("Warning", "Warning", "Warning"),
        ("Critical", "Critical", "Critical"),
        ("Stopping", "Stopping", "Critical"),
    ] {
        fixture.register(json!({"health": reported})).await;
        fixture.expect(phase, health).await;
        fixture.register(json!({"version": reported})).await;
        fixture.expect(phase, health).await;
    }
    fixture.register(json!({"health": "Passing"})).await;
    fixture.expect("Ready", "Passing").await;
}

async fn annotate_health(api: &Api<ServiceInstance>, health: &str) {
    let patch = json!({"metadata": {"annotations": {HEALTH_ANNOTATION: health}}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn stopping_in_the_health_annotation_outlasts_another_health_over_http() {
    let fixture = Fixture::new("stopping-annotation").await;
    let api = create(&fixture.ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    until_discoverable(&fixture.rollcall, &fixture.ns, "web", true).await;
    annotate_health(&api, "stopping").await;
    until_discoverable(&fixture.rollcall, &fixture.ns, "web", false).await;
    fixture.heartbeat(Some("Warning")).await;
    fixture.expect("Stopping", "Warning").await;
    fixture.heartbeat(Some("Passing")).await;
    fixture.expect("Ready", "Passing").await;
    annotate_health(&api, "Stopping").await;
    eventually("the instance is Stopping again", BOUND, async || {
        (fixture.phase_and_health().await.0 == "Stopping").then_some(())
    })
    .await;
    annotate_health(&api, "Passing").await;
    until_discoverable(&fixture.rollcall, &fixture.ns, "web", true).await;
}
