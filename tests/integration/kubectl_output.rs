//! What kubectl, Events, `GET` of an instance and `/v1/cluster` show about instances and replicas.

use std::process::Command;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use rollcall_api::Phase;
use serde_json::{Value, json};

use crate::lease_lifecycle::{BOUND, annotate, create, manifest, until_discoverable, until_phase};
use crate::support::http::{call, try_call};
use crate::support::kubectl::kubectl;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// The output of `kubectl get si` in a namespace: its lines, each split at the gaps between columns.
fn get_si(ns: &Namespace, flags: &[&str]) -> Vec<Vec<String>> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(&ns.kubeconfig).args(["get", "si", "-n", &ns.name]);
    let output = kubectl.args(flags).output().expect("the tests need kubectl: install it");
    let text = String::from_utf8(output.stdout).unwrap();
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    text.lines().map(cells).collect()
}

async fn get_instance(rollcall: &Rollcall, ns: &Namespace, name: &str) -> Value {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    call(rollcall.http, "GET", &path, None).await.json()
}

async fn get_replica(rollcall: &Rollcall) -> Value {
    call(rollcall.http, "GET", "/v1/cluster", None).await.json()["replicas"][0].clone()
}

/// The Events of an instance with this reason.
async fn events(ns: &Namespace, reason: &str, name: &str) -> Vec<Event> {
    let all = ns.api::<Event>().list(&ListParams::default()).await.unwrap();
    let is_about = |event: &Event| {
        let regarding = event.regarding.as_ref().and_then(|it| it.name.as_deref());
        event.reason.as_deref() == Some(reason) && regarding == Some(name)
    };
    all.items.into_iter().filter(is_about).collect()
}

/// A time in milliseconds since 1970.
fn millis(value: &Value) -> i64 {
    text(value).parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

#[tokio::test]
async fn kubectl_prints_addresses_and_ports_in_their_usual_notation() {
    let ns = namespace("columns").await;
    let _rollcall = Rollcall::start(&ns).await;
    let mut both = manifest("both", "web", json!({"mode": "Permanent"}));
    both.spec.addresses = ["10.0.0.7", "fd00::7"].map(Into::into).to_vec();
    let ports = json!([
        {"name": "a", "port": 8080}, {"name": "b", "port": 53, "protocol": "UDP"},
        {"name": "c", "port": 8443}, {"name": "d", "port": 9090},
    ]);
    both.spec.ports = serde_json::from_value(ports).unwrap();
    both.spec.version = Some("2.3.1".to_owned());
    create(&ns, &both).await;
    let mut db = manifest("db", "db", json!({"mode": "Permanent"}));
    (db.spec.addresses, db.spec.ports) = (Vec::new(), Vec::new());
    db.spec.hostname = Some("db.example.com".to_owned());
    let api = create(&ns, &db).await;
    for name in ["both", "db"] {
        until_phase(&api, name, Phase::Ready).await;
    }
    let printed = get_si(&ns, &["both", "db"]);
    let header = ["NAME", "SERVICE", "ADDRESSES", "PORTS", "VERSION", "PHASE", "REASON", "AGE"];
    assert_eq!(printed[0], header);
    let ports = "a:8080/TCP,b:53/UDP,c:8443/TCP +1 more";
    let row = ["both", "web", "10.0.0.7,fd00::7", ports, "2.3.1", "Ready", "Permanent"];
    assert_eq!(printed[1][..7], row, "{printed:?}");
    assert_eq!(printed[2][..5], ["db", "db", "db.example.com", "Ready", "Permanent"]);
    let wide = get_si(&ns, &["-o", "wide"]);
    let header = ["STATE", "HEALTH", "WEIGHT", "PRIORITY", "HEARTBEAT STORED", "DNS NAME"];
    assert_eq!(wide[0][8..], header, "{wide:?}");
    assert_eq!(wide[1][8..12], ["Up", "Passing", "100", "0"], "{wide:?}");
    let ready = get_si(&ns, &["--field-selector", "status.phase=Ready,spec.service=db"]);
    assert_eq!(ready.iter().map(|row| &row[0]).collect::<Vec<_>>(), ["NAME", "db"]);
    assert!(get_si(&ns, &["--field-selector", "status.phase=Expired"]).is_empty());
    let explained = kubectl(&ns, &["explain", "si.spec.lease.durationSeconds"], "").success();
    assert!(
        explained.contains("from 2 to 86400") && explained.contains("Default: 30."),
        "{explained}"
    );
    // kubectl shows a changed spec.
    let patch = json!({"spec": {"addresses": ["10.0.0.8"]}});
    api.patch("both", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    eventually("the new address is printed", BOUND, async || {
        (get_si(&ns, &["both"])[1][2] == "10.0.0.8").then_some(())
    })
    .await;
}

#[tokio::test]
async fn last_heartbeat_is_shown_with_its_source() {
    let ns = namespace("sources").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/web", ns.name);
    let body = json!({"service": "web", "addresses": ["10.0.0.8"]});
    let answer = call(rollcall.http, "PUT", &path, Some(body)).await.json();
    assert_eq!(answer["lastHeartbeat"]["source"], "registration", "{answer}");
    assert_eq!(answer["lastHeartbeat"]["replica"], "rollcall-0", "{answer}");
    // A heartbeat within the same millisecond is not later.
    eventually("the last heartbeat of web came over http", BOUND, async || {
        call(rollcall.http, "PUT", &format!("{path}/heartbeat"), None).await;
        (get_instance(&rollcall, &ns, "web").await["lastHeartbeat"]["source"] == "http")
            .then_some(())
    })
    .await;
    let api = create(&ns, &manifest("applied", "web", json!({"mode": "Heartbeat"}))).await;
    let until_source = async |rollcall: &Rollcall, name: &str, source: &str| {
        eventually(
            &format!("the source of the last heartbeat of {name} is {source}"),
            BOUND,
            async || {
                let instance = get_instance(rollcall, &ns, name).await;
                (instance["lastHeartbeat"]["source"] == source).then_some(())
            },
        )
        .await;
    };
    until_source(&rollcall, "applied", "creation").await;
    annotate(&api, "applied").await.unwrap();
    until_source(&rollcall, "applied", "annotation").await;
    let patch = json!({"spec": {"lease": {"durationSeconds": 60}}});
    api.patch("applied", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    until_source(&rollcall, "applied", "terms").await;
    rollcall.restart().await;
    until_source(&rollcall, "applied", "start").await;
    assert_eq!(
        get_instance(&rollcall, &ns, "applied").await["lastHeartbeat"]["replica"],
        Value::Null
    );
}

#[tokio::test]
async fn get_of_an_expired_instance_says_when_it_will_be_evicted() {
    let ns = namespace("page").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2, "onExpiry": "Evict",
                       "evictAfterSeconds": 3600});
    let api = create(&ns, &manifest("a", "web", lease)).await;
    until_phase(&api, "a", Phase::Expired).await;
    let shown = eventually("the eviction time is shown", BOUND, async || {
        let instance = get_instance(&rollcall, &ns, "a").await;
        instance["verdict"]["evictsAt"].is_string().then_some(instance)
    })
    .await;
    let at = text(&shown["verdict"]["evictsAt"]);
    assert!(text(&shown["why"]).ends_with(&format!("deleted at {at}")), "{shown}");
    assert_eq!(shown["verdict"]["stored"], json!({"phase": "Expired", "reason": "LeaseExpired"}));
    let last = millis(&shown["lastHeartbeat"]["at"]);
    rollcall.restart().await;
    let shown = get_instance(&rollcall, &ns, "a").await;
    // A replica reads its two clocks one after the other, so times differ by up to two milliseconds.
    let after = millis(&shown["lastHeartbeat"]["at"]);
    assert!(last.abs_diff(after) < 10, "a start is not a heartbeat: {last}, then {after}");
    assert_eq!(shown["lease"]["expiresInMs"], 0, "{shown}");
    assert!(text(&shown["why"]).contains("before this replica started"), "{shown}");
    let patch = json!({"spec": {"state": "OutOfService"}});
    api.patch("a", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    eventually("OutOfService stops the eviction", BOUND, async || {
        let instance = get_instance(&rollcall, &ns, "a").await;
        (text(&instance["why"]).contains("OutOfService")
            && instance["verdict"]["evictsAt"].is_null())
        .then_some(())
    })
    .await;
}

#[tokio::test]
async fn repeated_expiries_are_one_event_with_a_count() {
    let ns = namespace("series").await;
    let rollcall = Rollcall::start(&ns).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    let api = create(&ns, &manifest("a", "web", lease)).await;
    for _ in 0..2 {
        until_phase(&api, "a", Phase::Expired).await;
        annotate(&api, "a").await.unwrap();
        until_discoverable(&rollcall, &ns, "web", true).await;
    }
    let event = eventually("one Event counts both expiries", BOUND, async || {
        let found = events(&ns, "LeaseExpired", "a").await;
        assert!(found.len() <= 1, "{found:?}");
        let counted = |event: &Event| event.series.as_ref().is_some_and(|it| it.count >= 2);
        found.into_iter().find(counted)
    })
    .await;
    let note = event.note.unwrap();
    assert!(
        note.contains("lease of 2 s") && note.contains("A heartbeat makes it discoverable again"),
        "{note}"
    );
    // After the Events are deleted, the next expiry is reported in a new one.
    let all = ns.api::<Event>();
    all.delete_collection(&Default::default(), &ListParams::default()).await.unwrap();
    annotate(&api, "a").await.unwrap();
    until_discoverable(&rollcall, &ns, "web", true).await;
    eventually("the next expiry is reported", BOUND, async || {
        (!events(&ns, "LeaseExpired", "a").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn instance_with_the_longest_name_has_events() {
    let ns = namespace("long-name").await;
    let _rollcall = Rollcall::start(&ns).await;
    let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    create(&ns, &manifest(&name, "web", json!({"mode": "Heartbeat", "durationSeconds": 2}))).await;
    eventually("the expiry is reported", BOUND, async || {
        (!events(&ns, "LeaseExpired", &name).await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replica_reports_why_its_horizon_does_not_move_and_the_time_it_gave_back() {
    let mut ns = namespace("standstill").await;
    let proxy = Proxy::install(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    create(&ns, &manifest("a", "web", json!({"mode": "Heartbeat", "durationSeconds": 60}))).await;
    until_discoverable(&rollcall, &ns, "web", true).await;
    let healthy = eventually("the replica leads, and its horizon is known", BOUND, async || {
        let replica = get_replica(&rollcall).await;
        let healthy = replica["leadsUntil"].is_string() && replica["horizonAgeMs"].is_u64();
        healthy.then_some(replica)
    })
    .await;
    assert_eq!(
        (&healthy["synced"], &healthy["standstill"]),
        (&json!(true), &Value::Null),
        "{healthy}"
    );
    assert_eq!((&healthy["gaps"], &healthy["lastGap"]), (&json!(0), &Value::Null), "{healthy}");
    assert_eq!(healthy["version"], env!("CARGO_PKG_VERSION"));
    assert!(healthy["boot"].is_string() && healthy["startedAt"].is_string(), "{healthy}");
    proxy.set(Mode::Cut);
    eventually("the failed self-beat is reported", BOUND, async || {
        let replica = get_replica(&rollcall).await;
        let standstill = replica.get("standstill").filter(|it| it.is_object())?;
        assert!(text(&standstill["since"]) > text(&healthy["startedAt"]), "{replica}");
        text(&standstill["why"]).contains("the Kubernetes API is unavailable").then_some(())
    })
    .await;
    eventually("the replica no longer leads", BOUND, async || {
        get_replica(&rollcall).await["leadsUntil"].is_null().then_some(())
    })
    .await;
    let until_logged = async |text: &str| {
        let is_logged = async || rollcall.whole_log().contains(text).then_some(());
        eventually(text, BOUND, is_logged).await;
    };
    until_logged("the horizon is stalled: no lease is judged").await;
    proxy.set(Mode::Pass);
    until_logged("the horizon moves again").await;
    let after = eventually("the lost time is given back", BOUND, async || {
        let replica = get_replica(&rollcall).await;
        // The replica's own ledger follows with its next write.
        let healthy = replica["lastGap"].is_object() && replica["standstill"].is_null();
        (healthy && replica["promises"] == true).then_some(replica)
    })
    .await;
    assert!(after["lastGap"]["lostMs"].as_u64().unwrap() > 1000, "{after}");
    assert_eq!(after["gaps"], 1, "{after}");
}

#[tokio::test]
async fn self_beat_that_does_not_come_back_is_reported() {
    let mut ns = namespace("no-watch").await;
    let proxy = Proxy::install(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    eventually("the replica's horizon is known", BOUND, async || {
        get_replica(&rollcall).await["horizonAgeMs"].is_u64().then_some(())
    })
    .await;
    proxy.set(Mode::RequestsOnly);
    eventually("the horizon is stale", BOUND, async || {
        let replica = get_replica(&rollcall).await;
        let why = replica["standstill"]["why"].as_str()?;
        let causes = ["the self-beat ", "this replica's writes to the Kubernetes API have failed"];
        assert!(causes.iter().any(|cause| why.starts_with(cause)), "{why}");
        (replica["stale"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replica_without_an_api_server_reports_that_and_refuses_everything_else() {
    let mut ns = namespace("unsynced").await;
    let proxy = Proxy::install(&mut ns).await;
    proxy.set(Mode::Cut);
    let rollcall = Rollcall::launch(&ns, "rollcall-0", &[]).await;
    eventually("the replica reports what it waits for", BOUND, async || {
        let answer = try_call(rollcall.http, "GET", "/v1/cluster", None).await.ok()?.json();
        let replica = answer["replicas"].get(0)?;
        assert_eq!((&replica["synced"], &replica["horizonAgeMs"]), (&json!(false), &Value::Null));
        let problem = replica["problems"].get(0)?;
        text(problem).contains("the Kubernetes API does not answer").then_some(())
    })
    .await;
    assert_eq!(call(rollcall.http, "GET", "/v1/services", None).await.status, 503);
    proxy.set(Mode::Pass);
    rollcall.until_ready().await;
    assert_eq!(get_replica(&rollcall).await["synced"], true);
}
