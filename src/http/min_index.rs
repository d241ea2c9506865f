//! `Rollcall-Min-Index`: an answer that knows at least what the caller knows.
//!
//! With the `Rollcall-Index` of any replica's last answer, reads go on where they were, on whichever replica. Owns:
//! reading the header, and how long is waited. Does not own: the index (`registry`).

use std::time::Duration;

use hyper::{HeaderMap, header::HeaderName};
use tokio::time::{sleep, timeout};

use crate::http::{
    door::Door,
    problem::{Flaw, Kind, Problem},
};

const MIN_INDEX: HeaderName = HeaderName::from_static("rollcall-min-index");

/// How long is waited: a watch is some milliseconds behind, and a self-beat, which moves every replica on, goes
/// out every 5 s at least.
const WITHIN: Duration = Duration::from_secs(5);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// The index that the caller wants to be reached, if any.
///
/// # Errors
/// 400 naming the header.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(MIN_INDEX) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
    let is_one = headers.get_all(MIN_INDEX).iter().nth(1).is_none();
    let index = digits.filter(|_| is_one).and_then(|text| text.parse().ok());
    index.map(Some).ok_or_else(|| {
        let detail = "give the Rollcall-Index of an earlier answer, for example 12345";
        Problem::of(Kind::BadQuery, vec![Flaw::header("Rollcall-Min-Index", detail)])
    })
}

/// Waits until it is reached.
///
/// # Errors
/// 503 when that takes too long.
pub(super) async fn reached(door: &Door, index: u64) -> Result<(), Problem> {
    let directory = door.inbox.directory();
    let reached = async {
        while directory.index() < index {
            sleep(LOOK).await;
        }
    };
    timeout(WITHIN, reached).await.map_err(|_| {
        let now = directory.index();
        let detail = format!(
            "this replica has applied {now}, and not {index} within {} s; another one may have, or the watch of the \
             Kubernetes API is behind",
            WITHIN.as_secs()
        );
        Problem { retry_after: Some(1), ..Problem::new(Kind::Behind, detail) }
    })
}
