//! What people see of instances and replicas: kubectl, Events, one instance's page, `/v1/cluster`.

use std::process::Command;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use rollcall_api::Phase;
use serde_json::{Value, json};

use crate::lives::{BOUND, annotate, create, manifest, until, until_phase};
use crate::support::http::{call, try_call};
use crate::support::kubectl::kubectl;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// What `kubectl get si` prints of a namespace, by line, each split at the gaps between columns.
fn get(ns: &Namespace, flags: &[&str]) -> Vec<Vec<String>> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(&ns.kubeconfig).args(["get", "si", "-n", &ns.name]);
    let printed = kubectl.args(flags).output().expect("the tests ask with kubectl: install it");
    let text = String::from_utf8(printed.stdout).unwrap();
    let words = |line: &str| {
        let words = line.split("  ").map(str::trim).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    text.lines().map(words).collect()
}

async fn page(rollcall: &Rollcall, ns: &Namespace, name: &str) -> Value {
    let path = format!("/v1/namespaces/{}/instances/{name}", ns.name);
    call(rollcall.http, "GET", &path, None).await.json()
}

async fn cluster(rollcall: &Rollcall) -> Value {
    call(rollcall.http, "GET", "/v1/cluster", None).await.json()["replicas"][0].clone()
}

/// The Events of an instance for a reason.
async fn events(ns: &Namespace, reason: &str, name: &str) -> Vec<Event> {
    let all = ns.api::<Event>().list(&ListParams::default()).await.unwrap();
    let about = |event: &Event| {
        let regarding = event.regarding.as_ref().and_then(|it| it.name.as_deref());
        event.reason.as_deref() == Some(reason) && regarding == Some(name)
    };
    all.items.into_iter().filter(about).collect()
}

/// A wall time in milliseconds.
fn millis(value: &Value) -> i64 {
    text(value).parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[tokio::test]
async fn kubectl_prints_addresses_and_ports_as_people_write_them() {
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
    let printed = get(&ns, &["both", "db"]);
    let header = ["NAME", "SERVICE", "ADDRESSES", "PORTS", "VERSION", "PHASE", "REASON", "AGE"];
    assert_eq!(printed[0], header);
    let ports = "a:8080/TCP,b:53/UDP,c:8443/TCP +1 more";
    let row = ["both", "web", "10.0.0.7,fd00::7", ports, "2.3.1", "Ready", "Permanent"];
    assert_eq!(printed[1][..7], row, "{printed:?}");
    assert_eq!(printed[2][..5], ["db", "db", "db.example.com", "Ready", "Permanent"]);
    let wide = get(&ns, &["-o", "wide"]);
    let header = ["STATE", "HEALTH", "WEIGHT", "PRIORITY", "HEARTBEAT STORED", "DNS NAME"];
    assert_eq!(wide[0][8..], header, "{wide:?}");
    assert_eq!(wide[1][8..12], ["Up", "Passing", "100", "0"], "{wide:?}");
    let ready = get(&ns, &["--field-selector", "status.phase=Ready,spec.service=db"]);
    assert_eq!(ready.iter().map(|row| &row[0]).collect::<Vec<_>>(), ["NAME", "db"]);
    assert!(get(&ns, &["--field-selector", "status.phase=Expired"]).is_empty());
    let explained = kubectl(&ns, &["explain", "si.spec.lease.durationSeconds"], "").success();
    assert!(
        explained.contains("from 2 to 86400") && explained.contains("Default: 30."),
        "{explained}"
    );
    // A changed spec is shown anew.
    let patch = json!({"spec": {"addresses": ["10.0.0.8"]}});
    api.patch("both", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    eventually("the new address is printed", BOUND, async || {
        (get(&ns, &["both"])[1][2] == "10.0.0.8").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_last_beat_is_shown_with_the_way_it_came() {
    let ns = namespace("sources").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let path = format!("/v1/namespaces/{}/instances/web", ns.name);
    let body = json!({"service": "web", "addresses": ["10.0.0.8"]});
    let answer = call(rollcall.http, "PUT", &path, Some(body)).await.json();
    assert_eq!(answer["lastHeartbeat"]["source"], "registration", "{answer}");
    assert_eq!(answer["lastHeartbeat"]["replica"], "rollcall-0", "{answer}");
    // One within the same millisecond is not later.
    eventually("web was last heard by http", BOUND, async || {
        call(rollcall.http, "PUT", &format!("{path}/heartbeat"), None).await;
        (page(&rollcall, &ns, "web").await["lastHeartbeat"]["source"] == "http").then_some(())
    })
    .await;
    let api = create(&ns, &manifest("applied", "web", json!({"mode": "Heartbeat"}))).await;
    let until = async |rollcall: &Rollcall, name: &str, source: &str| {
        eventually(&format!("{name} was last heard by {source}"), BOUND, async || {
            let page = page(rollcall, &ns, name).await;
            (page["lastHeartbeat"]["source"] == source).then_some(())
        })
        .await;
    };
    until(&rollcall, "applied", "creation").await;
    annotate(&api, "applied").await.unwrap();
    until(&rollcall, "applied", "annotation").await;
    let patch = json!({"spec": {"lease": {"durationSeconds": 60}}});
    api.patch("applied", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    until(&rollcall, "applied", "terms").await;
    rollcall.restart().await;
    until(&rollcall, "applied", "start").await;
    assert_eq!(page(&rollcall, &ns, "applied").await["lastHeartbeat"]["replica"], Value::Null);
}

#[tokio::test]
async fn the_page_of_an_expired_instance_says_what_becomes_of_it() {
    let ns = namespace("page").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2, "onExpiry": "Evict",
                       "evictAfterSeconds": 3600});
    let api = create(&ns, &manifest("a", "web", lease)).await;
    until_phase(&api, "a", Phase::Expired).await;
    let shown = eventually("its eviction is announced", BOUND, async || {
        let page = page(&rollcall, &ns, "a").await;
        page["verdict"]["evictsAt"].is_string().then_some(page)
    })
    .await;
    let at = text(&shown["verdict"]["evictsAt"]);
    assert!(text(&shown["why"]).ends_with(&format!("deleted at {at}")), "{shown}");
    assert_eq!(shown["verdict"]["stored"], json!({"phase": "Expired", "reason": "LeaseExpired"}));
    let last = millis(&shown["lastHeartbeat"]["at"]);
    rollcall.restart().await;
    let shown = page(&rollcall, &ns, "a").await;
    // The two clocks of a replica are read one after the other: a moment is shown to a millisecond or two.
    let after = millis(&shown["lastHeartbeat"]["at"]);
    assert!(last.abs_diff(after) < 10, "a start is no heartbeat: {last}, then {after}");
    assert_eq!(shown["lease"]["expiresInMs"], 0, "{shown}");
    assert!(text(&shown["why"]).contains("before this replica started"), "{shown}");
    let patch = json!({"spec": {"state": "OutOfService"}});
    api.patch("a", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    eventually("its operator keeps it", BOUND, async || {
        let page = page(&rollcall, &ns, "a").await;
        (text(&page["why"]).contains("OutOfService") && page["verdict"]["evictsAt"].is_null())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_end_that_comes_again_is_one_event_with_a_count() {
    let ns = namespace("series").await;
    let rollcall = Rollcall::start(&ns).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    let api = create(&ns, &manifest("a", "web", lease)).await;
    for _ in 0..2 {
        until_phase(&api, "a", Phase::Expired).await;
        annotate(&api, "a").await.unwrap();
        until(&rollcall, &ns, "web", true).await;
    }
    let event = eventually("both are counted in one", BOUND, async || {
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
    // Somebody cleans up: what comes then is told anew.
    let all = ns.api::<Event>();
    all.delete_collection(&Default::default(), &ListParams::default()).await.unwrap();
    annotate(&api, "a").await.unwrap();
    until(&rollcall, &ns, "web", true).await;
    eventually("its next end is told", BOUND, async || {
        (!events(&ns, "LeaseExpired", "a").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_instance_with_the_longest_name_has_events_too() {
    let ns = namespace("long-name").await;
    let _rollcall = Rollcall::start(&ns).await;
    let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    create(&ns, &manifest(&name, "web", json!({"mode": "Heartbeat", "durationSeconds": 2}))).await;
    eventually("its end is told", BOUND, async || {
        (!events(&ns, "LeaseExpired", &name).await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_says_what_holds_its_horizon_back_and_what_it_gave_back_for_it() {
    let mut ns = namespace("standstill").await;
    let proxy = Proxy::before(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    create(&ns, &manifest("a", "web", json!({"mode": "Heartbeat", "durationSeconds": 60}))).await;
    until(&rollcall, &ns, "web", true).await;
    let well = eventually("it leads, and its horizon is known", BOUND, async || {
        let replica = cluster(&rollcall).await;
        let well = replica["leadsUntil"].is_string() && replica["horizonAgeMs"].is_u64();
        well.then_some(replica)
    })
    .await;
    assert_eq!((&well["synced"], &well["standstill"]), (&json!(true), &Value::Null), "{well}");
    assert_eq!((&well["gaps"], &well["lastGap"]), (&json!(0), &Value::Null), "{well}");
    assert_eq!(well["version"], env!("CARGO_PKG_VERSION"));
    assert!(well["boot"].is_string() && well["startedAt"].is_string(), "{well}");
    proxy.set(Mode::Cut);
    eventually("the self-beat is said not to come through", BOUND, async || {
        let replica = cluster(&rollcall).await;
        let standstill = replica.get("standstill").filter(|it| it.is_object())?;
        assert!(text(&standstill["since"]) > text(&well["startedAt"]), "{replica}");
        text(&standstill["why"]).contains("failed: the Kubernetes API is unavailable").then_some(())
    })
    .await;
    eventually("it no longer leads", BOUND, async || {
        cluster(&rollcall).await["leadsUntil"].is_null().then_some(())
    })
    .await;
    let logged = async |what: &str| {
        let said = async || rollcall.whole_log().contains(what).then_some(());
        eventually(what, BOUND, said).await;
    };
    logged("the horizon stands still: nobody is judged").await;
    proxy.set(Mode::Pass);
    logged("the horizon goes on").await;
    let after = eventually("what was lost is given back", BOUND, async || {
        let replica = cluster(&rollcall).await;
        // The own ledger follows with its next write.
        let well = replica["lastGap"].is_object() && replica["standstill"].is_null();
        (well && replica["promises"] == true).then_some(replica)
    })
    .await;
    assert!(after["lastGap"]["lostMs"].as_u64().unwrap() > 1000, "{after}");
    assert_eq!(after["gaps"], 1, "{after}");
}

#[tokio::test]
async fn a_self_beat_whose_way_back_is_blocked_is_said_not_to_have_come_back() {
    let mut ns = namespace("deaf-horizon").await;
    let proxy = Proxy::before(&mut ns).await;
    let rollcall = Rollcall::start(&ns).await;
    eventually("its horizon is known", BOUND, async || {
        cluster(&rollcall).await["horizonAgeMs"].is_u64().then_some(())
    })
    .await;
    proxy.set(Mode::Deaf);
    eventually("it stands still", BOUND, async || {
        let replica = cluster(&rollcall).await;
        let why = replica["standstill"]["why"].as_str()?;
        assert!(why.starts_with("the self-beat "), "{why}");
        (replica["stale"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_never_saw_the_api_server_says_so_while_all_else_is_refused() {
    let mut ns = namespace("unsynced").await;
    let proxy = Proxy::before(&mut ns).await;
    proxy.set(Mode::Cut);
    let rollcall = Rollcall::launch(&ns, "rollcall-0", &[]).await;
    eventually("it says what it waits for", BOUND, async || {
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
    assert_eq!(cluster(&rollcall).await["synced"], true);
}
