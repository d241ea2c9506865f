//! Many clients that die at once: some of a service leave in time, all of it are kept for one lease more.

use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;

use crate::lives::BOUND;
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::http::{call, try_call};
use crate::support::load::{Load, alike};

/// In seconds, of all. Long enough that a tenth of it is more than a beat is under way, and that there is time to see every
/// replica hold them before the hold ends, as long after that began.
const LEASE: u64 = 8;

/// So many others live that those who die are not the greater part of the cluster.
const BYSTANDERS: usize = 30;

/// Waits until every replica shows all that it offers of the service, which are so many, as held, and says so.
async fn until_held(fleet: &Fleet, count: usize) {
    let path = format!("/v1/namespaces/{}/services/fleet", fleet.ns.name);
    // At the same time: none holds them for longer than a lease.
    join_all(fleet.replicas.iter().map(async |replica| {
        eventually("all are held", BOUND, async || {
            let said = try_call(replica.http, "GET", &path, None).await.ok()?.json();
            let discoverable = said["instances"].as_array()?;
            let held = discoverable.iter().filter(|it| it["held"] == true).count();
            assert_eq!(discoverable.len(), count, "none may leave before all are held: {said}");
            (held == count).then_some(())
        })
        .await;
        let said = try_call(replica.http, "GET", "/v1/cluster", None).await.unwrap().json();
        let held = &said["replicas"][0]["held"];
        assert_eq!(held["instances"], count, "{held}");
        assert_eq!(held["cluster"], serde_json::Value::Null, "{held}");
        let service = &held["services"][0];
        assert_eq!((&service["service"], &service["of"]), (&"fleet".into(), &count.into()));
        let metrics = call(replica.admin, "GET", "/metrics", None).await;
        let metrics = String::from_utf8(metrics.body).unwrap();
        assert!(metrics.contains(&format!("\nrollcall_held {count}.0\n")), "{metrics}");
    }))
    .await;
}

/// Waits until a replica says that nobody is held.
async fn until_free(fleet: &Fleet) {
    for replica in &fleet.replicas {
        eventually("nobody is held", BOUND, async || {
            let said = try_call(replica.http, "GET", "/v1/cluster", None).await.ok()?.json();
            said["replicas"][0]["held"].is_null().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_that_dies_leaves_in_time_and_all_that_die_at_once_are_kept_for_one_lease_more() {
    let fleet = Fleet::start("all-die").await;
    fleet.populate("bystanders", BYSTANDERS).await;
    let mut load = Load::start(&fleet, &alike(LEASE)).await;
    let (third, all) = (alike(LEASE).len().div_ceil(3), alike(LEASE).len());
    load.run(LEASE).await;
    for index in 0..third {
        load.bury(index).await;
    }
    load.settle().await;
    load.bury_all(third..all).await;
    until_held(&fleet, all - third).await;
    eventually("an Event says it", BOUND, async || {
        let events = fleet.ns.api::<Event>().list(&ListParams::default()).await.ok()?;
        events.items.iter().any(|it| it.reason.as_deref() == Some("Held")).then_some(())
    })
    .await;
    load.settle().await;
    until_free(&fleet).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_fall_silent_and_come_back_within_the_hold_were_never_missing() {
    let fleet = Fleet::start("all-back").await;
    fleet.populate("bystanders", BYSTANDERS).await;
    let mut load = Load::start(&fleet, &alike(LEASE)).await;
    let all = alike(LEASE).len();
    for _ in 0..2 {
        load.run(LEASE).await;
        load.bury_all(0..all).await;
        until_held(&fleet, all).await;
        (0..all).for_each(|index| load.wake(index));
        until_free(&fleet).await;
    }
    load.run(LEASE).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}
