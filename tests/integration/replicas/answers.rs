//! An API server that answers and does not do what is asked, or tells late: for one replica, for the leader, for all.

use std::time::Duration;

use crate::support::fleet::{Fleet, REPLICAS};
use crate::support::http::call;
use crate::support::http_proxy::Fault;
use crate::support::load::{Load, mixed};

/// A fault that nobody met proves nothing: whether a replica has been answered so.
async fn has_met(fleet: &Fleet, at: usize, code: u16) -> bool {
    let metrics = call(fleet.replicas[at].admin, "GET", "/metrics", None).await;
    String::from_utf8(metrics.body).unwrap().contains(&format!("code=\"{code}\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_one_replica_is_told_to_come_back_later() {
    let fleet = Fleet::start_behind_http("told-429").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    load.run(2).await;
    fleet.fail(leader, Fault::TooMany);
    load.run(15).await;
    assert!(has_met(&fleet, leader, 429).await);
    fleet.fail(leader, Fault::None);
    load.run(6).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_a_third_of_all_calls_fail() {
    let fleet = Fleet::start_behind_http("a-third-500").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    load.run(2).await;
    fleet.fail_all(Fault::Third);
    load.run(15).await;
    for at in 0..REPLICAS {
        assert!(has_met(&fleet, at, 500).await);
    }
    // When it leaves is chance; that it does, `settle` sees.
    load.allow(Duration::from_secs(60));
    load.bury(3).await;
    load.settle().await;
    fleet.fail_all(Fault::None);
    load.run(5).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}

/// For longer than any lease, the fence (10 s), the silence after which a replica is gone (10 s) and the leader's
/// lease.
const READ_ONLY: u64 = 18;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_nothing_can_be_written_by_the_leader_and_then_by_anybody() {
    let fleet = Fleet::start_behind_http("read-only").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    load.run(2).await;
    fleet.fail(leader, Fault::ReadOnly);
    load.run(READ_ONLY).await;
    fleet.fail_all(Fault::ReadOnly);
    load.run(READ_ONLY).await;
    for at in 0..REPLICAS {
        assert!(has_met(&fleet, at, 503).await);
    }
    fleet.fail_all(Fault::None);
    load.run(6).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
    assert!(account.recorded > 0, "without a ledger nothing is promised: {account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_one_replica_hears_three_seconds_late_what_it_says_at_once() {
    let fleet = Fleet::start_behind_http("late-watches").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    let late = Duration::from_secs(3);
    fleet.fail(0, Fault::LateWatches(late));
    load.run(20).await;
    // It judges when it has heard of everybody, and nobody can judge before it has said so: once there, once back.
    load.allow(2 * late);
    load.bury(0).await;
    load.bury(4).await;
    load.settle().await;
    fleet.fail(0, Fault::None);
    load.run(6).await;
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}
