//! Instances that say that they are leaving: out of the answers at once, and until they say otherwise.

use kube::api::{Api, Patch, PatchParams};
use rollcall_api::{HEALTH_ANNOTATION, Phase, ServiceInstance};
use serde_json::{Value, json};

use crate::lives::{BOUND, create, manifest, until, until_phase};
use crate::support::http::call;
use crate::support::{Namespace, Rollcall, eventually, namespace};

struct World {
    ns: Namespace,
    rollcall: Rollcall,
    path: String,
}

impl World {
    async fn new(prefix: &str) -> Self {
        let ns = namespace(prefix).await;
        let rollcall = Rollcall::start(&ns).await;
        let path = format!("/v1/namespaces/{}/instances/a", ns.name);
        Self { ns, rollcall, path }
    }

    async fn registers(&self, also: Value) {
        let mut body =
            json!({"service": "web", "addresses": ["10.0.0.7"], "lease": {"durationSeconds": 600}});
        body.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
        let answer = call(self.rollcall.http, "PUT", &self.path, Some(body)).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.json());
    }

    async fn beats(&self, health: Option<&str>) {
        let body = health.map(|health| json!({"health": health}));
        let path = format!("{}/heartbeat", self.path);
        assert_eq!(call(self.rollcall.http, "PUT", &path, body).await.status, 200);
    }

    /// Phase and health, as a read of the instance shows them.
    async fn shown(&self) -> (String, String) {
        let page = call(self.rollcall.http, "GET", &self.path, None).await.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&page["phase"]), text(&page["health"]))
    }

    async fn shows(&self, phase: &str, health: &str) {
        assert_eq!(self.shown().await, (phase.to_owned(), health.to_owned()));
    }
}

#[tokio::test]
async fn an_instance_that_reports_stopping_leaves_the_answers_until_it_reports_passing() {
    let mut world = World::new("stopping").await;
    let api = world.ns.api::<ServiceInstance>();
    world.registers(json!({})).await;
    until(&world.rollcall, &world.ns, "web", true).await;
    world.beats(Some("Stopping")).await;
    world.shows("Stopping", "Passing").await;
    until(&world.rollcall, &world.ns, "web", false).await;
    world.beats(None).await;
    world.shows("Stopping", "Passing").await;
    let writes = world.ns.writes_of("a");
    world.beats(Some("Stopping")).await;
    assert_eq!(world.ns.writes_of("a"), writes, "the same again is a heartbeat");
    // Another health is recorded behind it, and other facts change nothing about it.
    world.beats(Some("Critical")).await;
    world.shows("Stopping", "Critical").await;
    world.registers(json!({"weight": 7})).await;
    world.shows("Stopping", "Critical").await;
    world.registers(json!({"weight": 8, "health": "Warning"})).await;
    world.shows("Stopping", "Warning").await;
    until_phase(&api, "a", Phase::Stopping).await;

    world.rollcall.kill().await;
    world.rollcall.restart().await;
    world.rollcall.until_ready().await;
    world.shows("Stopping", "Warning").await;
    world.beats(Some("Passing")).await;
    world.shows("Ready", "Passing").await;
    until(&world.rollcall, &world.ns, "web", true).await;

    let batch =
        json!({"instances": [{"namespace": world.ns.name, "name": "a", "health": "Stopping"}]});
    let answer = call(world.rollcall.http, "POST", "/v1/heartbeats", Some(batch)).await.json();
    assert_eq!(answer["renewed"], 1, "{answer}");
    world.shows("Stopping", "Passing").await;
    world.registers(json!({"weight": 8, "health": "Passing"})).await;
    world.shows("Ready", "Passing").await;
}

#[tokio::test]
async fn a_registration_keeps_what_it_leaves_out_and_an_earlier_one_has_said() {
    let world = World::new("said-before").await;
    for (said, phase, health) in [
        ("Warning", "Warning", "Warning"),
        ("Critical", "Critical", "Critical"),
        ("Stopping", "Stopping", "Critical"),
    ] {
        world.registers(json!({"health": said})).await;
        world.shows(phase, health).await;
        world.registers(json!({"version": said})).await;
        world.shows(phase, health).await;
    }
    world.registers(json!({"health": "Passing"})).await;
    world.shows("Ready", "Passing").await;
}

/// Sets the health annotation.
async fn annotates(api: &Api<ServiceInstance>, word: &str) {
    let patch = json!({"metadata": {"annotations": {HEALTH_ANNOTATION: word}}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn stopping_in_the_annotation_of_the_health_outlasts_another_report_over_http() {
    let world = World::new("stopping-annotation").await;
    let api = create(&world.ns, &manifest("a", "web", json!({"mode": "Permanent"}))).await;
    until(&world.rollcall, &world.ns, "web", true).await;
    annotates(&api, "stopping").await;
    until(&world.rollcall, &world.ns, "web", false).await;
    world.beats(Some("Warning")).await;
    world.shows("Stopping", "Warning").await;
    world.beats(Some("Passing")).await;
    world.shows("Ready", "Passing").await;
    annotates(&api, "Stopping").await;
    eventually("it is leaving again", BOUND, async || {
        (world.shown().await.0 == "Stopping").then_some(())
    })
    .await;
    annotates(&api, "Passing").await;
    until(&world.rollcall, &world.ns, "web", true).await;
}
