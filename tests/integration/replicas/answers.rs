//! An API server that refuses calls, or delivers watch events late: for one replica, for the leader, or for all
//! replicas.

use std::time::Duration;

use crate::support::fleet::{Fleet, REPLICAS};
use crate::support::http::call;
use crate::support::http_proxy::Fault;
use crate::support::load::{Load, mixed};

/// Whether a replica received this status. A fault that affected no replica proves nothing.
async fn has_received(fleet: &Fleet, at: usize, code: u16) -> bool {
    let metrics = call(fleet.replicas[at].admin, "GET", "/metrics", None).await;
    String::from_utf8(metrics.body).unwrap().contains(&format!("code=\"{code}\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_is_answered_429_loses_no_instance() {
    let fleet = Fleet::start_behind_http("get-429").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    load.run(2).await;
    fleet.fail(leader, Fault::TooMany);
    load.run(15).await;
    assert!(has_received(&fleet, leader, 429).await);
    fleet.fail(leader, Fault::None);
    load.run(6).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_server_that_fails_a_third_of_all_calls_loses_no_instance() {
    let fleet = Fleet::start_behind_http("a-third-500").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    load.run(2).await;
    fleet.fail_all(Fault::Third);
    load.run(15).await;
    for at in 0..REPLICAS {
        assert!(has_received(&fleet, at, 500).await);
    }
    // The time at which the instance leaves is random. `settle` checks that it leaves.
    load.allow_delay(Duration::from_secs(60));
    load.stop_client(3).await;
    load.settle().await;
    fleet.fail_all(Fault::None);
    load.run(5).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}

/// Longer than any lease, the fence (10 s), the silence after which a replica is gone (10 s), and the leader's lease.
const READ_ONLY_SECONDS: u64 = 18;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_api_server_loses_no_instance() {
    let fleet = Fleet::start_behind_http("read-only").await;
    let load = Load::start(&fleet, &mixed()).await;
    let leader = fleet.leader().await;
    load.run(2).await;
    fleet.fail(leader, Fault::ReadOnly);
    load.run(READ_ONLY_SECONDS).await;
    fleet.fail_all(Fault::ReadOnly);
    load.run(READ_ONLY_SECONDS).await;
    for at in 0..REPLICAS {
        assert!(has_received(&fleet, at, 503).await);
    }
    fleet.fail_all(Fault::None);
    load.run(6).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.recorded > 0, "without a ledger no heartbeat is confirmed: {report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_with_late_watch_events_loses_no_instance() {
    let fleet = Fleet::start_behind_http("late-watches").await;
    let mut load = Load::start(&fleet, &mixed()).await;
    let late = Duration::from_secs(3);
    fleet.fail(0, Fault::LateWatches(late));
    load.run(20).await;
    // This replica expires an instance when it knows every heartbeat, and the others wait for its ledger: that is
    // one delay to the replica and one back.
    load.allow_delay(2 * late);
    load.stop_client(0).await;
    load.stop_client(4).await;
    load.settle().await;
    fleet.fail(0, Fault::None);
    load.run(6).await;
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}
