//! `Rollcall-Min-Index`: the response reflects at least the index that the caller knows.
//!
//! A client that sends the `Rollcall-Index` of its last response never reads older state, whichever replica answers. An
//! index that the store itself has not reached belongs to another store (etcd was restored from a backup) or was made
//! up. Waiting for it would be useless, so the response is sent at once, and says that indexes start again. Owns:
//! parsing the header, how long a request waits, and when the store is queried. Does not own: the index
//! (`rollcall-core`), and querying the store (`kubernetes`).

use std::time::Duration;

use hyper::{HeaderMap, header::HeaderName};
use rollcall_core::directory::Directory;
use rollcall_model::lease::Moment;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::clock;
use crate::http::{
    app::AppState,
    problem::{Flaw, Problem, ProblemKind},
};

const MIN_INDEX: HeaderName = HeaderName::from_static("rollcall-min-index");

/// How long a request waits. A watch is a few milliseconds behind, and a self-beat, which advances the index of every
/// replica, is sent at least every 5 s.
const INDEX_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for the watch before it queries the store. A working watch takes milliseconds.
const WATCH_WITHIN: Duration = Duration::from_millis(250);

/// How often the index of the directory is checked.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// The index that the caller requires, if any.
///
/// # Errors
/// 400, naming the header.
pub(super) fn parse(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(MIN_INDEX) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
    let is_one = headers.get_all(MIN_INDEX).iter().nth(1).is_none();
    let index = digits.filter(|_| is_one).and_then(|text| text.parse().ok());
    index.map(Some).ok_or_else(|| {
        let detail = "send the Rollcall-Index of an earlier response, for example 12345";
        Problem::from_flaws(
            ProblemKind::BadHeader,
            vec![Flaw::header("Rollcall-Min-Index", detail)],
        )
    })
}

/// The result of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexWait {
    /// This replica has applied the index.
    Reached,
    /// The store has not reached the index: it belongs to another store, or was made up.
    Foreign,
}

/// Waits until this replica has applied the index, or the store is known not to have reached it.
///
/// # Errors
/// 503 when neither happens in time.
pub(super) async fn wait_for(app: &AppState, index: u64) -> Result<IndexWait, Problem> {
    let asked = clock::moment();
    let directory = app.intake.directory();
    let waited = async {
        if timeout(WATCH_WITHIN, wait_until_applied(directory, index)).await.is_ok() {
            return IndexWait::Reached;
        }
        tokio::select! {
            () = wait_until_applied(directory, index) => IndexWait::Reached,
            () = wait_until_foreign(app, index, asked) => IndexWait::Foreign,
        }
    };
    timeout(INDEX_TIMEOUT, waited).await.map_err(|_| {
        let now = directory.index();
        let detail = format!(
            "this replica has applied index {now} and did not reach {index} within {} s; try again, or try another \
             replica: this one's watch of the Kubernetes API may be behind",
            INDEX_TIMEOUT.as_secs()
        );
        Problem { retry_after: Some(1), ..Problem::new(ProblemKind::Behind, detail) }
    })
}

async fn wait_until_applied(directory: &Directory, index: u64) {
    while directory.index() < index {
        sleep(POLL_EVERY).await;
    }
}

/// Completes when the store is known not to have reached the index. If the store has reached the index, or does not
/// answer, this never completes, because the watch may still deliver the index.
async fn wait_until_foreign(app: &AppState, index: u64, asked: Moment) {
    match app.intake.store().after(asked).await {
        Ok(version) if version < index => {
            debug!(index, version, "Rollcall-Min-Index belongs to another store, or is made up");
        }
        _ => std::future::pending().await,
    }
}
