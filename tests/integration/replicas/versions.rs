//! Replicas of the version before beside those of this one, as in a rolling update and when it is taken back.

use std::env;
use std::path::PathBuf;

use crate::support::fleet::Fleet;
use crate::support::load::{Load, mixed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ROLLCALL_BEFORE, the executable of the version before: .ci/full builds it"]
async fn replicas_of_two_versions_lose_no_instance() {
    let before = PathBuf::from(env::var_os("ROLLCALL_BEFORE").unwrap());
    let mut fleet = Fleet::start("skew").await;
    let load = Load::start(&fleet, &mixed()).await;
    load.run(3).await;
    for at in [0, 1] {
        fleet.replicas[at].becomes(&before).await;
        load.run(12).await;
    }
    for at in [0, 1] {
        fleet.replicas[at].becomes(env!("CARGO_BIN_EXE_rollcall").as_ref()).await;
        load.run(12).await;
    }
    let account = load.end(&fleet).await;
    assert!(account.is_clean(), "{account:#?}");
}
