//! The election between real processes: killed, stopped, deaf, and going away.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::lives::{create, manifest, until};
use crate::support::http::call;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Namespace, Rollcall, eventually, namespace};

/// A lease of 15 s, a look every 2 s, and a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(60);

/// The identity in the Lease, and how often it has changed.
async fn holder(ns: &Namespace) -> (Option<String>, i32) {
    let lease = ns.api::<Lease>().get_opt("rollcall").await.unwrap();
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    let replica =
        holder.and_then(|holder| holder.rsplit_once('_').map(|(name, _)| name.to_owned()));
    (replica, spec.lease_transitions.unwrap_or(0))
}

async fn until_led_by(ns: &Namespace, one_of: &[&Rollcall]) -> String {
    let what = "one of the others leads";
    eventually(what, TAKEN_OVER, async || {
        let (holder, _) = holder(ns).await;
        holder.filter(|holder| one_of.iter().any(|replica| replica.identity == *holder))
    })
    .await
}

/// What a replica says of itself: 1 while it leads.
async fn leads(replica: &Rollcall) -> bool {
    let metrics = call(replica.admin, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body).unwrap();
    text.lines().any(|line| line == "rollcall_leader 1")
}

/// How often an Event with this reason was told of an instance.
async fn told(ns: &Namespace, reason: &str, name: &str) -> usize {
    let events = ns.api::<Event>().list(&ListParams::default()).await.unwrap();
    let about = |event: &&Event| {
        let regarding = event.regarding.as_ref().and_then(|it| it.name.as_deref());
        event.reason.as_deref() == Some(reason) && regarding == Some(name)
    };
    let times = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
    events.items.iter().filter(about).map(times).sum::<i32>().try_into().unwrap()
}

async fn expires(ns: &Namespace, name: &str) {
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    create(ns, &manifest(name, name, lease)).await;
    eventually("its end is told once", TAKEN_OVER, async || {
        (told(ns, "LeaseExpired", name).await > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_three_one_leads_and_when_it_is_killed_one_of_the_others_does() {
    let ns = namespace("three").await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    let third = Rollcall::start_with(&ns, "rollcall-2", &[]).await;
    expires(&ns, "before").await;
    assert!(leads(&first).await && !leads(&second).await && !leads(&third).await);
    for replica in [&first, &second, &third] {
        eventually("all know who leads", TAKEN_OVER, async || {
            let cluster = call(replica.http, "GET", "/v1/cluster", None).await.json();
            (cluster["leader"] == "rollcall-0").then_some(())
        })
        .await;
    }
    first.kill().await;
    let leader = until_led_by(&ns, &[&second, &third]).await;
    expires(&ns, "after").await;
    let led = [leads(&second).await, leads(&third).await];
    assert_eq!(led.iter().filter(|leads| **leads).count(), 1, "{leader} leads");
    for name in ["before", "after"] {
        assert_eq!(told(&ns, "LeaseExpired", name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_leader_that_stood_still_writes_nothing_once_it_goes_on() {
    let ns = namespace("stood-still").await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    let lease = json!({"mode": "Heartbeat", "durationSeconds": 2});
    create(&ns, &manifest("dying", "dying", lease)).await;
    until(&first, &ns, "dying", true).await;
    first.freeze();
    until_led_by(&ns, &[&second]).await;
    eventually("its end is told", TAKEN_OVER, async || {
        (told(&ns, "LeaseExpired", "dying").await > 0).then_some(())
    })
    .await;
    first.thaw();
    eventually("it knows that it leads no more", TAKEN_OVER, async || {
        (!leads(&first).await).then_some(())
    })
    .await;
    until(&first, &ns, "dying", false).await;
    assert_eq!(holder(&ns).await.0.as_deref(), Some("rollcall-1"));
    expires(&ns, "later").await;
    for name in ["dying", "later"] {
        assert_eq!(told(&ns, "LeaseExpired", name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_leader_whose_answers_are_lost_ceases_to_lead_and_comes_back_as_a_follower() {
    let mut ns = namespace("deaf").await;
    let direct = ns.rollcall_kubeconfig.clone();
    let proxy = Proxy::before(&mut ns).await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    ns.rollcall_kubeconfig = direct;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    proxy.set(Mode::Deaf);
    eventually("its tenure ends", TAKEN_OVER, async || (!leads(&first).await).then_some(())).await;
    until_led_by(&ns, &[&second]).await;
    expires(&ns, "meanwhile").await;
    proxy.set(Mode::Pass);
    eventually("it sees who leads", TAKEN_OVER, async || {
        let cluster = call(first.http, "GET", "/v1/cluster", None).await.json();
        (cluster["leader"] == "rollcall-1").then_some(())
    })
    .await;
    assert!(!leads(&first).await);
    assert_eq!(told(&ns, "LeaseExpired", "meanwhile").await, 1);
}

#[tokio::test]
async fn a_leader_that_goes_away_lets_the_next_one_in_at_once() {
    let ns = namespace("released").await;
    let first = Rollcall::start(&ns).await;
    until_led_by(&ns, &[&first]).await;
    let second = Rollcall::start_with(&ns, "rollcall-1", &[]).await;
    assert_eq!(first.terminate().await, "exit status: 0");
    // Not after the 15 s of the lease: it was released, as the log says.
    assert!(first.log().contains("released the leadership"), "{}", first.log());
    until_led_by(&ns, &[&second]).await;
    assert_eq!(holder(&ns).await.1, 1);
    // A person takes the Lease away: it is made anew, and somebody leads.
    ns.api::<Lease>().delete("rollcall", &DeleteParams::default()).await.unwrap();
    until_led_by(&ns, &[&second]).await;
    expires(&ns, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_and_comes_back_is_not_said_to_lead_by_what_it_won_before() {
    let ns = namespace("come-back").await;
    let mut rollcall = Rollcall::start(&ns).await;
    let leader = async |replica: &Rollcall| {
        call(replica.http, "GET", "/v1/cluster", None).await.json()["leader"].clone()
    };
    eventually("it leads", TAKEN_OVER, async || {
        (leader(&rollcall).await == "rollcall-0").then_some(())
    })
    .await;
    rollcall.restart().await;
    eventually("it leads again", TAKEN_OVER, async || {
        let said = leader(&rollcall).await;
        let leads = leads(&rollcall).await;
        assert!(leads || said.is_null(), "{said} is said to lead, and does not");
        (leads && said == "rollcall-0").then_some(())
    })
    .await;
}
