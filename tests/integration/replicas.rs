//! Several replicas, one truth: three real processes with faults before, around and in them, and clients who
//! hold them to what they answered. Each scenario ends with its account, a line of a table (`Account::line`).

mod answers;
mod duplicates;
mod restores;
mod servers;
mod strokes;
mod versions;

use std::time::Duration;

use kube::api::{Api, DeleteParams};
use rollcall_api::HeartbeatLedger;
use tokio::time::{Instant, sleep};

use crate::lives::BOUND;
use crate::support::fleet::{Fleet, REPLICAS};
use crate::support::http::try_call;
use crate::support::load::{Load, Way, mixed};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Rollcall, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_at_any_replica_count_everywhere_and_the_dead_leave_all() {
    let fleet = Fleet::start("in-turn").await;
    let clients: Vec<_> =
        mixed().into_iter().chain([(Way::InTurn, 3), (Way::From(1), 4)]).collect();
    let mut load = Load::start(&fleet, &clients).await;
    load.run(12).await;
    let dying = clients.len() - 2;
    load.bury(dying).await;
    load.bury(dying + 1).await;
    load.settle().await;
    load.run(3).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_the_leader_a_witness_or_all_are_killed() {
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
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_replicas_stand_still_for_longer_than_others_wait() {
    let fleet = Fleet::start("still").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    for at in [leader, (leader + 1) % REPLICAS] {
        fleet.replicas[at].freeze();
        load.run(17).await;
        fleet.replicas[at].thaw();
        load.run(4).await;
    }
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

/// One replica does not reach the API server, in one of several ways, for longer than others wait for it.
async fn partitioned(mode: Mode, prefix: &str) {
    let fleet = Fleet::start(prefix).await;
    let load = Load::start(&fleet, &mixed()).await;
    let apart = fleet.leader().await;
    load.run(2).await;
    fleet.set(apart, mode);
    let beat = || async {
        // The client of `mixed` that beats at this replica and no other.
        let path =
            format!("/v1/namespaces/{}/instances/a{}/heartbeat", fleet.ns.name, 3 * apart + 1);
        try_call(fleet.replicas[apart].http, "PUT", &path, None).await.ok()
    };
    eventually("it promises nothing any more, and sends its clients away", BOUND, async || {
        let answer = beat().await.filter(|answer| answer.status != 200)?;
        assert_eq!((answer.status, answer.header("connection")), (202, "close"));
        Some(())
    })
    .await;
    load.run(8).await;
    // By now the others may have evicted it: then it is not known, and nobody can be asked.
    let status = beat().await.map(|answer| answer.status);
    assert!(matches!(status, Some(202 | 503)), "as long as it lasts, but {status:?}");
    fleet.set(apart, Mode::Pass);
    load.run(6).await;
    eventually("it promises again", BOUND, async || {
        beat().await.filter(|answer| answer.status == 200).map(|_| ())
    })
    .await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_cut_off_promises_nothing_after_ten_seconds_and_nobody_is_lost() {
    partitioned(Mode::Cut, "cut-off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_api_server_hangs_promises_nothing_after_ten_seconds_and_nobody_is_lost() {
    partitioned(Mode::Stall, "hangs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_deaf_promises_nothing_after_ten_seconds_and_nobody_is_lost() {
    partitioned(Mode::Deaf, "deaf-one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_mute_promises_nothing_after_ten_seconds_and_nobody_is_lost() {
    partitioned(Mode::Mute, "mute").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_while_the_api_server_hangs_for_all() {
    let fleet = Fleet::start("all-hang").await;
    let load = Load::start(&fleet, &mixed()).await;
    load.run(2).await;
    fleet.set_all(Mode::Stall);
    load.run(25).await;
    fleet.set_all(Mode::Pass);
    load.run(8).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_far_away_for_one_replica_misleads_nobody() {
    let fleet = Fleet::start("far").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    fleet.set(0, Mode::Slow(Duration::from_millis(300)));
    fleet.set(1, Mode::Slow(Duration::from_millis(50)));
    load.run(15).await;
    load.bury(0).await;
    load.settle().await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_all_are_restarted_one_after_the_other() {
    let mut fleet = Fleet::start("rolling").await;
    let load = Load::start(&fleet, &mixed()).await;
    for replica in &mut fleet.replicas {
        load.run(2).await;
        assert_eq!(replica.terminate().await, "exit status: 0");
        replica.restart().await;
    }
    load.run(8).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_somebody_deletes_the_ledgers() {
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
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_made_longer_or_shorter_at_one_replica_is_so_at_all() {
    let fleet = Fleet::start("lengths").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    let clients = mixed().len() - 2;
    for seconds in [8, 3, 6, 2, 4] {
        (0..clients).for_each(|index| load.renew(index, seconds));
        load.run(6).await;
    }
    load.bury(2).await;
    load.bury(3).await;
    load.settle().await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_that_register_at_once_are_all_there_and_nobody_else_suffers() {
    let fleet = Fleet::start("storm").await;
    let load = Load::start(&fleet, &mixed()).await;
    fleet.populate("storm", 2_000).await;
    load.run(6).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_a_replica_stands_still_while_it_is_asked_to_leave() {
    let mut fleet = Fleet::start("still-leaving").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    load.run(2).await;
    fleet.replicas[leader].freeze();
    load.run(2).await;
    fleet.replicas[leader].signal_term();
    // It is gone for the others before it can say that it leaves.
    load.run(12).await;
    fleet.replicas[leader].thaw();
    assert_eq!(fleet.replicas[leader].until_ended().await, "exit status: 0");
    load.run(2).await;
    fleet.replicas[leader].restart().await;
    load.run(6).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

/// What chance does to one replica until `end`, now and then.
async fn misfortunes(
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
                replica.freeze();
                sleep(span).await;
                replica.thaw();
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
            5 => Mode::Deaf,
            6 => Mode::Mute,
            _ => Mode::Cut,
        };
        proxy.set(mode);
        sleep(span).await;
        proxy.set(Mode::Pass);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_by_faults_of_all_replicas_at_once() {
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::start("chance").await;
    let load = Load::start(&fleet, &mixed()).await;
    let (ledgers, end) = (fleet.ns.api(), Instant::now() + Duration::from_secs(25));
    let replicas = fleet.replicas.iter_mut().zip(&fleet.proxies);
    let all = replicas.map(|replica| misfortunes(replica, &ledgers, dice.fork(), end));
    futures::future::join_all(all).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "seed {seed}: {account:#?}");
}
