//! Three real replicas under faults in their processes and in their connections to the API server, and clients that
//! check every answer. Each scenario ends with its report, one line of a table (`RunReport::line`).

mod answers;
mod control_plane_outages;
mod duplicate_process;
mod etcd_restores;
mod mass_expiry;
mod mixed_versions;

use std::time::Duration;

use kube::api::{Api, DeleteParams};
use rollcall_api::HeartbeatLedger;
use tokio::time::{Instant, sleep};

use crate::lease_lifecycle::BOUND;
use crate::support::fleet::{Fleet, REPLICAS};
use crate::support::http::try_call;
use crate::support::load::{HeartbeatMode, Load, mixed};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Rollcall, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_count_on_every_replica_and_expired_instances_leave_every_replica() {
    let fleet = Fleet::start("in-turn").await;
    let clients: Vec<_> = mixed()
        .into_iter()
        .chain([(HeartbeatMode::RoundRobin, 3), (HeartbeatMode::Prefer(1), 4)])
        .collect();
    let mut load = Load::start(&fleet, &clients).await;
    load.run(12).await;
    let first_stopped = clients.len() - 2;
    load.stop_client(first_stopped).await;
    load.stop_client(first_stopped + 1).await;
    load.settle().await;
    load.run(3).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leader_another_replica_or_all_loses_no_instance() {
    let mut fleet = Fleet::start("killed").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    for at in [leader, (leader + 1) % REPLICAS] {
        load.run(2).await;
        fleet.replicas[at].kill().await;
        load.run(2).await;
        fleet.replicas[at].restart().await;
    }
    load.run(3).await;
    for replica in &fleet.replicas {
        replica.kill().await;
    }
    for replica in &mut fleet.replicas {
        replica.restart().await;
    }
    load.run(12).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_replicas_lose_no_instance() {
    let fleet = Fleet::start("still").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    for at in [leader, (leader + 1) % REPLICAS] {
        fleet.replicas[at].stall();
        load.run(17).await;
        fleet.replicas[at].resume();
        load.run(4).await;
    }
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

/// Separates one replica from the API server for longer than the other replicas wait for it.
async fn check_partition(mode: Mode, prefix: &str) {
    let fleet = Fleet::start(prefix).await;
    let load = Load::start(&fleet, &mixed()).await;
    let separated = fleet.leader().await;
    load.run(2).await;
    fleet.set(separated, mode);
    let beat = || async {
        // The client of `mixed` that sends heartbeats to this replica only.
        let path =
            format!("/v1/namespaces/{}/instances/a{}/heartbeat", fleet.ns.name, 3 * separated + 1);
        try_call(fleet.replicas[separated].http, "PUT", &path, None).await.ok()
    };
    eventually("the replica answers 202 and closes the connection", BOUND, async || {
        let answer = beat().await.filter(|answer| answer.status != 200)?;
        assert_eq!((answer.status, answer.header("connection")), (202, "close"));
        Some(())
    })
    .await;
    load.run(8).await;
    // The others may have evicted the instance by now: then it is unknown here, and the API server cannot be asked.
    let status = beat().await.map(|answer| answer.status);
    assert!(
        matches!(status, Some(202 | 503)),
        "no heartbeat is confirmed while it is separated: {status:?}"
    );
    fleet.set(separated, Mode::Pass);
    load.run(6).await;
    eventually("the replica answers 200 again", BOUND, async || {
        beat().await.filter(|answer| answer.status == 200).map(|_| ())
    })
    .await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_is_cut_off_confirms_no_heartbeat_and_loses_no_instance() {
    check_partition(Mode::Cut, "cut-off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_with_a_stalled_api_server_confirms_no_heartbeat_and_loses_no_instance() {
    check_partition(Mode::Stall, "hangs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_gets_no_answers_from_the_api_server_confirms_no_heartbeat_and_loses_no_instance()
 {
    check_partition(Mode::RequestsOnly, "requests-only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_whose_requests_are_lost_confirms_no_heartbeat_and_loses_no_instance() {
    check_partition(Mode::AnswersOnly, "answers-only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_api_server_of_all_replicas_loses_no_instance() {
    let fleet = Fleet::start("all-hang").await;
    let load = Load::start(&fleet, &mixed()).await;
    load.run(2).await;
    fleet.set_all(Mode::Stall);
    load.run(25).await;
    fleet.set_all(Mode::Pass);
    load.run(8).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_api_server_of_one_replica_causes_no_false_expiry() {
    let fleet = Fleet::start("far").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    fleet.set(0, Mode::Slow(Duration::from_millis(300)));
    fleet.set(1, Mode::Slow(Duration::from_millis(50)));
    load.run(15).await;
    load.stop_client(0).await;
    load.settle().await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_loses_no_instance() {
    let mut fleet = Fleet::start("rolling").await;
    let load = Load::start(&fleet, &mixed()).await;
    for replica in &mut fleet.replicas {
        load.run(2).await;
        assert_eq!(replica.terminate().await, "exit status: 0");
        replica.restart().await;
    }
    load.run(8).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_ledgers_lose_no_instance() {
    let fleet = Fleet::start("deleted-ledger").await;
    let load = Load::start(&fleet, &mixed()).await;
    let ledgers = fleet.ns.api::<HeartbeatLedger>();
    for replica in &fleet.replicas {
        load.run(3).await;
        ledgers.delete(&replica.identity, &DeleteParams::default()).await.unwrap();
    }
    load.run(3).await;
    for replica in &fleet.replicas {
        ledgers.delete(&replica.identity, &DeleteParams::default()).await.unwrap();
    }
    load.run(14).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_lease_counts_on_every_replica() {
    let fleet = Fleet::start("lengths").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    let clients = mixed().len() - 2;
    for seconds in [8, 3, 6, 2, 4] {
        (0..clients).for_each(|index| load.change_lease(index, seconds));
        load.run(6).await;
    }
    load.stop_client(2).await;
    load.stop_client(3).await;
    load.settle().await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_registrations_at_once_disturb_no_other_instance() {
    let fleet = Fleet::start("storm").await;
    let load = Load::start(&fleet, &mixed()).await;
    fleet.populate("storm", 2_000).await;
    load.run(6).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_stalls_during_its_shutdown_loses_no_instance() {
    let mut fleet = Fleet::start("still-leaving").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    load.run(2).await;
    fleet.replicas[leader].stall();
    load.run(2).await;
    fleet.replicas[leader].signal_term();
    // The other replicas consider it gone before it can announce that it leaves.
    load.run(12).await;
    fleet.replicas[leader].resume();
    assert_eq!(fleet.replicas[leader].until_ended().await, "exit status: 0");
    load.run(2).await;
    fleet.replicas[leader].restart().await;
    load.run(6).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

/// Injects random faults into one replica until `end`.
async fn inject_faults(
    (replica, proxy): (&mut Rollcall, &Proxy),
    ledgers: &Api<HeartbeatLedger>,
    mut dice: fastrand::Rng,
    end: Instant,
) {
    while Instant::now() < end {
        sleep(Duration::from_millis(dice.u64(1_000..9_000))).await;
        let span = Duration::from_millis(dice.u64(500..13_000));
        let mode = match dice.usize(..8) {
            0 | 1 => {
                replica.stall();
                sleep(span).await;
                replica.resume();
                continue;
            }
            2 => {
                replica.kill().await;
                sleep(span / 4).await;
                replica.restart().await;
                continue;
            }
            3 => {
                let _ = ledgers.delete(&replica.identity, &DeleteParams::default()).await;
                continue;
            }
            4 => Mode::Stall,
            5 => Mode::RequestsOnly,
            6 => Mode::AnswersOnly,
            _ => Mode::Cut,
        };
        proxy.set(mode);
        sleep(span).await;
        proxy.set(Mode::Pass);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_of_all_replicas_at_once_lose_no_instance() {
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::start("chance").await;
    let load = Load::start(&fleet, &mixed()).await;
    let (ledgers, end) = (fleet.ns.api(), Instant::now() + Duration::from_secs(25));
    let replicas = fleet.replicas.iter_mut().zip(&fleet.proxies);
    let all = replicas.map(|replica| inject_faults(replica, &ledgers, dice.fork(), end));
    futures::future::join_all(all).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "seed {seed}: {report:#?}");
}
