//! `Rollcall-Min-Index`: an answer that knows at least what the caller knows.
//!
//! With the `Rollcall-Index` of any replica's last answer, reads go on where they were, on whichever replica. An index
//! that the store itself has not reached is of another store (etcd was restored from a backup), or made up: waiting for
//! it would be in vain, so the answer comes at once, and says that indexes begin anew. Owns: reading the header, how long
//! is waited, and when the store is asked. Does not own: the index (`rollcall-core`), and asking the store (`cluster`).

use std::time::Duration;

use hyper::{HeaderMap, header::HeaderName};
use rollcall_core::directory::Directory;
use rollcall_model::lease::Moment;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::clock;
use crate::http::{
    app::App,
    problem::{Flaw, Kind, Problem},
};

const MIN_INDEX: HeaderName = HeaderName::from_static("rollcall-min-index");

/// How long is waited: a watch is some milliseconds behind, and a self-beat, which moves every replica on, goes
/// out every 5 s at least.
const WITHIN: Duration = Duration::from_secs(5);

/// How long the watch may take before the store is asked. A watch that works takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// The index that the caller wants to be reached, if any.
///
/// # Errors
/// 400 naming the header.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(MIN_INDEX) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
    let is_one = headers.get_all(MIN_INDEX).iter().nth(1).is_none();
    let index = digits.filter(|_| is_one).and_then(|text| text.parse().ok());
    index.map(Some).ok_or_else(|| {
        let detail = "give the Rollcall-Index of an earlier answer, for example 12345";
        Problem::of(Kind::BadHeader, vec![Flaw::header("Rollcall-Min-Index", detail)])
    })
}

/// What came of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// This replica has applied as much.
    Reached,
    /// The store has not reached it: it is of another store, or made up.
    Foreign,
}

/// Waits until the index is reached, or known never to be.
///
/// # Errors
/// 503 when that takes too long.
pub(super) async fn reached(app: &App, index: u64) -> Result<Waited, Problem> {
    let asked = clock::moment();
    let directory = app.intake.directory();
    let waited = async {
        if timeout(PATIENCE, applied(directory, index)).await.is_ok() {
            return Waited::Reached;
        }
        tokio::select! {
            () = applied(directory, index) => Waited::Reached,
            () = is_foreign(app, index, asked) => Waited::Foreign,
        }
    };
    timeout(WITHIN, waited).await.map_err(|_| {
        let now = directory.index();
        let detail = format!(
            "this replica has applied {now}, and not {index} within {} s; another one may have, or the watch of the \
             Kubernetes API is behind",
            WITHIN.as_secs()
        );
        Problem { retry_after: Some(1), ..Problem::new(Kind::Behind, detail) }
    })
}

async fn applied(directory: &Directory, index: u64) {
    while directory.index() < index {
        sleep(LOOK).await;
    }
}

/// Ends when the store is known not to have reached the index; never when it has, or cannot be asked: then the watch may
/// still bring it.
async fn is_foreign(app: &App, index: u64, asked: Moment) {
    match app.intake.store().after(asked).await {
        Ok(version) if version < index => {
            debug!(index, version, "Rollcall-Min-Index is of another store, or made up");
        }
        _ => std::future::pending().await,
    }
}
