//! Leader election between real processes: killed, stalled, cut off, and shut down.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::lease_lifecycle::{create, manifest, until_discoverable};
use crate::support::http::call;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// The bound for a takeover: a lease of 15 s, a retry every 2 s, and a busy machine.
const TAKEOVER_BOUND: Duration = Duration::from_secs(60);

/// The identity in the Lease, and the number of its transitions.
async fn holder(ns: &Namespace) -> (Option<String>, i32) {
    let lease = ns.api::<Lease>().get_opt("rollcall").await.unwrap();
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    let replica =
        holder.and_then(|holder| holder.rsplit_once('_').map(|(name, _)| name.to_owned()));
    (replica, spec.lease_transitions.unwrap_or(0))
}

async fn until_led_by(ns: &Namespace, candidates: &[&Rollcall]) -> String {
    eventually("one of the candidates leads", TAKEOVER_BOUND, async || {
        let (holder, _) = holder(ns).await;
        holder.filter(|holder| candidates.iter().any(|replica| replica.identity == *holder))
    })
    .await
}

/// Whether a replica's metrics say that it leads.
async fn leads(replica: &Rollcall) -> bool {
    let metrics = call(replica.admin, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body).unwrap();
    text.lines().any(|line| line == "rollcall_leader 1")
}

/// How often an Event with this reason was reported for an instance.
async fn event_count(ns: &Namespace, reason: &str, name: &str) -> usize {
    let events = ns.api::<Event>().list(&ListParams::default()).await.unwrap();
    let is_about = |event: &&Event| {
        let regarding = event.regarding.as_ref().and_then(|it| it.name.as_deref());
        event.reason.as_deref() == Some(reason) && regarding == Some(name)
    };
    let times = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
    events.items.iter().filter(is_about).map(times).sum::<i32>().try_into().unwrap()
}

/// Creates an instance, and waits until its expiry is reported.
async fn create_and_expire(ns: &Namespace, name: &str) {
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    create(ns, &manifest(name, name, lease)).await;
    eventually("the expiry is reported", TAKEOVER_BOUND, async || {
        (event_count(ns, "LeaseExpired", name).await > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn killed_leader_is_replaced_and_each_expiry_is_reported_once() {
    let ns = namespace("three").await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    let third = Rollcall::start_with(&ns, "rollcall-2", &[]).await;
    create_and_expire(&ns, "before").await;
    assert!(leads(&first).await && !leads(&second).await && !leads(&third).await);
    for replica in [&first, &second, &third] {
        eventually("all replicas know the leader", TAKEOVER_BOUND, async || {
            let cluster = call(replica.http, "GET", "/v1/cluster", None).await.json();
            (cluster["leader"] == "rollcall-0").then_some(())
        })
        .await;
    }
    first.kill().await;
    let leader = until_led_by(&ns, &[&second, &third]).await;
    create_and_expire(&ns, "after").await;
    let led = [leads(&second).await, leads(&third).await];
    assert_eq!(led.iter().filter(|leads| **leads).count(), 1, "{leader} leads");
    for name in ["before", "after"] {
        assert_eq!(event_count(&ns, "LeaseExpired", name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn stalled_leader_writes_nothing_after_it_resumes() {
    let ns = namespace("stalled-leader").await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    create(&ns, &manifest("silent", "silent", lease)).await;
    until_discoverable(&first, &ns, "silent", true).await;
    first.stall();
    until_led_by(&ns, &[&second]).await;
    eventually("the expiry is reported", TAKEOVER_BOUND, async || {
        (event_count(&ns, "LeaseExpired", "silent").await > 0).then_some(())
    })
    .await;
    first.resume();
    eventually("the first replica no longer leads", TAKEOVER_BOUND, async || {
        (!leads(&first).await).then_some(())
    })
    .await;
    until_discoverable(&first, &ns, "silent", false).await;
    assert_eq!(holder(&ns).await.0.as_deref(), Some("rollcall-1"));
    create_and_expire(&ns, "later").await;
    for name in ["silent", "later"] {
        assert_eq!(event_count(&ns, "LeaseExpired", name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn leader_that_gets_no_answers_steps_down_and_returns_as_a_follower() {
    let mut ns = namespace("no-answers").await;
    let direct = ns.rollcall_kubeconfig.clone();
    let proxy = Proxy::install(&mut ns).await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    ns.rollcall_kubeconfig = direct;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    proxy.set(Mode::RequestsOnly);
    eventually("the first replica's leadership ends", TAKEOVER_BOUND, async || {
        (!leads(&first).await).then_some(())
    })
    .await;
    until_led_by(&ns, &[&second]).await;
    create_and_expire(&ns, "during").await;
    proxy.set(Mode::Pass);
    eventually("the first replica knows the new leader", TAKEOVER_BOUND, async || {
        let cluster = call(first.http, "GET", "/v1/cluster", None).await.json();
        (cluster["leader"] == "rollcall-1").then_some(())
    })
    .await;
    assert!(!leads(&first).await);
    assert_eq!(event_count(&ns, "LeaseExpired", "during").await, 1);
}

#[tokio::test]
async fn leader_releases_the_lease_when_it_shuts_down() {
    let ns = namespace("released").await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    assert_eq!(first.terminate().await, "exit status: 0");
    // The log shows that the lease was released, so it was not taken over after its 15 s.
    assert!(first.log().contains("released the leadership"), "{}", first.log());
    until_led_by(&ns, &[&second]).await;
    assert_eq!(holder(&ns).await.1, 1);
    // A deleted Lease is created again, and a replica leads.
    ns.api::<Lease>().delete("rollcall", &DeleteParams::default()).await.unwrap();
    until_led_by(&ns, &[&second]).await;
    create_and_expire(&ns, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_leader_is_not_reported_as_leading_by_its_former_lease() {
    let ns = namespace("come-back").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let leader = async |replica: &Rollcall| {
        call(replica.http, "GET", "/v1/cluster", None).await.json()["leader"].clone()
    };
    eventually("the replica leads", TAKEOVER_BOUND, async || {
        (leader(&rollcall).await == "rollcall-0").then_some(())
    })
    .await;
    rollcall.restart().await;
    eventually("the replica leads again", TAKEOVER_BOUND, async || {
        let reported = leader(&rollcall).await;
        let leads = leads(&rollcall).await;
        assert!(leads || reported.is_null(), "{reported} is reported to lead, and does not");
        (leads && reported == "rollcall-0").then_some(())
    })
    .await;
}
