//! Replicas of the previous version next to those of this one, as in a rolling update and a rollback.

use std::env;
use std::path::PathBuf;

use crate::support::fleet::Fleet;
use crate::support::load::{Load, mixed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ROLLCALL_BEFORE, the executable of the previous version; .ci/full builds it"]
async fn replicas_of_two_versions_lose_no_instance() {
    let before = PathBuf::from(env::var_os("ROLLCALL_BEFORE").unwrap());
    let mut fleet = Fleet::start("skew").await;
    let load = Load::start(&fleet, &mixed()).await;
    load.run(3).await;
    for at in [0, 1] {
        fleet.replicas[at].restart_as(&before).await;
        load.run(12).await;
    }
    for at in [0, 1] {
        fleet.replicas[at].restart_as(env!("CARGO_BIN_EXE_rollcall").as_ref()).await;
        load.run(12).await;
    }
    let report = load.end(&fleet).await;
    assert!(report.is_clean(), "{report:#?}");
}
