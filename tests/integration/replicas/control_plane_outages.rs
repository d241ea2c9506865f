//! Outages of the API server and etcd: stopped, killed, restarted, history compacted. Each scenario has its own control
//! plane, because a shared one would disturb the other tests.

use std::time::Duration;

use rollcall::dev::Child;
use rollcall::dev::child::Signal;

use crate::lease_lifecycle::BOUND;
use crate::support::control_plane::{launcher, own, program_of};
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::load::{Load, mixed};
use crate::support::proxy::Mode;

/// Kills a program of a control plane, and starts it again after `seconds`.
async fn kill_and_start(child: &Child, load: &Load, seconds: u64) -> Child {
    let program = program_of(child);
    child.kill();
    child.ended().await;
    load.run(seconds).await;
    launcher().start(&program).await.unwrap()
}

/// Waits until the API server answers again.
async fn until_served(fleet: &Fleet) {
    eventually("the API server is back", BOUND, async || {
        fleet.ns.client.apiserver_version().await.ok().map(|_| ())
    })
    .await;
}

/// 32 s test the same as two minutes would: they are longer than each lease here (at most 5 s), the fence and the
/// silence after which a replica is gone (10 s), the leader's lease (15 s), and the longest watch (25 s). No rule about
/// instances has a longer period.
const OUTAGE_SECONDS: u64 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_or_restarted_api_server_loses_no_instance() {
    let control_plane = own("api", &[]).await;
    let fleet = Fleet::start_in(control_plane.clone(), "api-server").await;
    let load = Load::start(&fleet, &mixed()).await;
    let api_server = &control_plane.control_plane.apiserver;
    load.run(2).await;
    assert!(api_server.signal(Signal::STOP));
    load.run(OUTAGE_SECONDS).await;
    assert!(api_server.signal(Signal::CONT));
    load.run(8).await;
    // The new process does not remember the revision of an old watch: it answers 410, and the replica lists again.
    let _started = kill_and_start(api_server, &load, 3).await;
    until_served(&fleet).await;
    load.run(8).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_etcd_loses_no_instance() {
    let control_plane = own("etcd", &[]).await;
    let fleet = Fleet::start_in(control_plane.clone(), "etcd").await;
    let load = Load::start(&fleet, &mixed()).await;
    load.run(2).await;
    let etcd = kill_and_start(&control_plane.control_plane.etcd, &load, 1).await;
    load.run(8).await;
    let _etcd = kill_and_start(&etcd, &load, 12).await;
    until_served(&fleet).await;
    load.run(8).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

/// Without a watch cache the API server asks etcd, which keeps its history for about 4 to 8 s here.
const SHORT_HISTORY: [&str; 2] = ["--watch-cache=false", "--etcd-compaction-interval=4s"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_missed_compacted_history_lists_again_and_loses_no_instance() {
    let fleet = Fleet::start_in(own("compacted", &SHORT_HISTORY).await, "compacted").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    let away = fleet.leader().await;
    load.run(2).await;
    let lists = || fleet.replicas[away].whole_log().matches("listed all instances").count();
    let before = lists();
    fleet.set(away, Mode::Cut);
    load.run(5).await;
    // An instance that expires while a replica is gone stays for 10 s and a lease, in case that replica took heartbeats.
    // When that replica is back after 15 s, it gives every instance another lease.
    load.allow_delay(Duration::from_secs(15));
    load.stop_client(0).await;
    load.run(10).await;
    fleet.set(away, Mode::Pass);
    eventually("the replica lists again", BOUND, async || (lists() > before).then_some(())).await;
    load.run(6).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}
