//! The API server and etcd themselves: stopped, killed, started again, their history compacted. Each scenario has a control
//! plane of its own, since all others would suffer with it.

use std::time::Duration;

use rollcall::dev::Child;
use rollcall::dev::child::Signal;

use crate::lives::BOUND;
use crate::support::control_plane::{launcher, own, program_of};
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::load::{Load, mixed};
use crate::support::proxy::Mode;

/// Kills a program of a control plane, and after `seconds` starts it again as it was.
async fn kill_and_start(child: &Child, load: &Load, seconds: u64) -> Child {
    let program = program_of(child);
    child.kill();
    child.ended().await;
    load.run(seconds).await;
    launcher().start(&program).await.unwrap()
}

/// Waits until the API server takes requests again.
async fn until_served(fleet: &Fleet) {
    eventually("the API server is back", BOUND, async || {
        fleet.ns.client.apiserver_version().await.ok().map(|_| ())
    })
    .await;
}

/// 32 s make the same difference as two minutes: longer than each lease here (5 s at most), the fence and the silence
/// (10 s), the leader's lease (15 s) and the life of a watch that nobody ends (25 s). No rule about instances
/// counts longer.
const STOPPED: u64 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_while_the_api_server_stands_still_nor_when_it_is_killed_and_starts_again() {
    let control_plane = own("api", &[]).await;
    let fleet = Fleet::start_in(control_plane.clone(), "api-server").await;
    let load = Load::start(&fleet, &mixed()).await;
    let api_server = &control_plane.control_plane.apiserver;
    load.run(2).await;
    assert!(api_server.signal(Signal::STOP));
    load.run(STOPPED).await;
    assert!(api_server.signal(Signal::CONT));
    load.run(8).await;
    // What a watch of before has seen is not in the memory of the new process: 410, and lists anew.
    let _started = kill_and_start(api_server, &load, 3).await;
    until_served(&fleet).await;
    load.run(8).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_etcd_is_killed_and_starts_again() {
    let control_plane = own("etcd", &[]).await;
    let fleet = Fleet::start_in(control_plane.clone(), "etcd").await;
    let load = Load::start(&fleet, &mixed()).await;
    load.run(2).await;
    let etcd = kill_and_start(&control_plane.control_plane.etcd, &load, 1).await;
    load.run(8).await;
    let _etcd = kill_and_start(&etcd, &load, 12).await;
    until_served(&fleet).await;
    load.run(8).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

/// Without a cache the API server asks etcd, which keeps what it is told to keep: some 4 to 8 s.
const FORGETFUL: [&str; 2] = ["--watch-cache=false", "--etcd-compaction-interval=4s"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_while_history_was_compacted_lists_anew_and_nobody_is_lost() {
    let fleet = Fleet::start_in(own("compacted", &FORGETFUL).await, "compacted").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    let away = fleet.leader().await;
    load.run(2).await;
    let lists = || fleet.replicas[away].whole_log().matches("listed all instances").count();
    let before = lists();
    fleet.set(away, Mode::Cut);
    load.run(5).await;
    // Whoever dies while a replica is gone may have been heard by it: 10 s and a lease. And that replica, back after
    // 15 s, gives everybody a lease for what it has missed.
    load.allow(Duration::from_secs(15));
    load.bury(0).await;
    load.run(10).await;
    fleet.set(away, Mode::Pass);
    eventually("it lists anew", BOUND, async || (lists() > before).then_some(())).await;
    load.run(6).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}
