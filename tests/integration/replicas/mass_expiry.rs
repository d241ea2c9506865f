//! Mass expiry: if a part of a service expires, it expires in time. If all of it expires at once, its instances are
//! held for one more lease.

use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;

use crate::lease_lifecycle::BOUND;
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::http::{call, try_call};
use crate::support::load::{Load, mixed_with_lease};

/// The lease of all clients, in seconds. A heartbeat takes less than a tenth of it, and a hold, which lasts one lease,
/// is long enough to check every replica.
const LEASE: u64 = 8;

/// The number of instances that stay live: so many that the stopped ones are less than half of the cluster.
const OTHER_INSTANCES: usize = 30;

/// Waits until every replica shows all `count` discoverable instances of the service as held, and reports them.
async fn until_held(fleet: &Fleet, count: usize) {
    let path = format!("/v1/namespaces/{}/services/fleet", fleet.ns.name);
    // In parallel, because a hold lasts only one lease.
    join_all(fleet.replicas.iter().map(async |replica| {
        eventually("all instances are held", BOUND, async || {
            let body = try_call(replica.http, "GET", &path, None).await.ok()?.json();
            let discoverable = body["instances"].as_array()?;
            let held = discoverable.iter().filter(|it| it["held"] == true).count();
            assert_eq!(discoverable.len(), count, "an instance left before all were held: {body}");
            (held == count).then_some(())
        })
        .await;
        let cluster = try_call(replica.http, "GET", "/v1/cluster", None).await.unwrap().json();
        let held = &cluster["replicas"][0]["held"];
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

/// Waits until no replica reports a hold.
async fn until_none_held(fleet: &Fleet) {
    for replica in &fleet.replicas {
        eventually("no instance is held", BOUND, async || {
            let cluster = try_call(replica.http, "GET", "/v1/cluster", None).await.ok()?.json();
            cluster["replicas"][0]["held"].is_null().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_expires_in_time_and_all_that_expire_together_are_held_for_one_lease() {
    let fleet = Fleet::start("mass-expiry").await;
    fleet.populate("bystanders", OTHER_INSTANCES).await;
    let mut load = Load::start(&fleet, &mixed_with_lease(LEASE)).await;
    let all = mixed_with_lease(LEASE).len();
    let third = all.div_ceil(3);
    load.run(LEASE).await;
    for index in 0..third {
        load.stop_client(index).await;
    }
    load.settle().await;
    load.stop_all_clients(third..all).await;
    until_held(&fleet, all - third).await;
    eventually("an Event reports the hold", BOUND, async || {
        let events = fleet.ns.api::<Event>().list(&ListParams::default()).await.ok()?;
        events.items.iter().any(|it| it.reason.as_deref() == Some("Held")).then_some(())
    })
    .await;
    load.settle().await;
    until_none_held(&fleet).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_resume_within_the_hold_stay_discoverable() {
    let fleet = Fleet::start("all-back").await;
    fleet.populate("bystanders", OTHER_INSTANCES).await;
    let mut load = Load::start(&fleet, &mixed_with_lease(LEASE)).await;
    let all = mixed_with_lease(LEASE).len();
    for _ in 0..2 {
        load.run(LEASE).await;
        load.stop_all_clients(0..all).await;
        until_held(&fleet, all).await;
        (0..all).for_each(|index| load.resume_client(index));
        until_none_held(&fleet).await;
    }
    load.run(LEASE).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}
