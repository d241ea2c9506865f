//! Request bodies: limits on size and time, and the media types that an operation accepts.
//!
//! Does not own: parsing (`json`).

use std::{borrow::Cow, marker::PhantomData, ops::Deref, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    http::request::Parts,
};
use tokio::time::timeout;

use crate::http::{
    app::AppState,
    budget::BudgetShare,
    limits::Limits,
    problem::{Flaw, Problem, ProblemKind},
};

pub(super) use crate::http::json::{Entries, Integer, MAX_ENTRIES, Object, Strings, json};

/// The media type of bodies, without parameters.
pub(super) const JSON: &str = "application/json";

/// The media types of a patch, in the form of the header `Accept-Patch` (RFC 5789 §3.1).
pub(super) const PATCH: &str = "application/merge-patch+json, application/json";

/// The maximum number of bytes that are read and discarded of a body that is too large, so that the client finishes
/// sending and then reads the problem. If the connection were closed while the client sends, the client would never
/// read the problem.
const MAX_DISCARDED: usize = 1024 * 1024;

/// The time limit from the head of a request to the end of its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The time limit for discarding a body when the memory budget is exhausted: the client soon gets the problem, even if
/// its body has not arrived by then.
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// A whole body, with its share of the memory budget for bodies.
#[derive(Debug)]
pub(super) struct BufferedBody {
    bytes: Bytes,
    /// The budget share, released together with the bytes.
    _share: BudgetShare,
}

impl Deref for BufferedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A whole body, possibly empty, as an extractor.
#[derive(Debug)]
pub(super) struct RequestBody<K>(pub(super) BufferedBody, pub(super) PhantomData<K>);

/// The limits of a kind of body.
pub(super) trait BodyKind: Send {
    const MAX_BYTES: usize;
    /// The accepted media types, in the form of the header `Accept`.
    const TYPES: &'static str = JSON;
}

/// The body of a call on one instance.
#[derive(Debug)]
pub(super) enum SingleInstance {}

/// The body of a call on many instances.
#[derive(Debug)]
pub(super) enum ManyInstances {}

/// A patch of one instance: JSON, or declared as a JSON merge patch (RFC 7396 §4).
#[derive(Debug)]
pub(super) enum MergePatch {}

/// If every string has its maximum length, the bounded fields together take two thirds of this.
impl BodyKind for SingleInstance {
    const MAX_BYTES: usize = 64 * 1024;
}

/// 10,000 heartbeats of 400 bytes.
impl BodyKind for ManyInstances {
    const MAX_BYTES: usize = 4 * 1024 * 1024;
}

impl BodyKind for MergePatch {
    const MAX_BYTES: usize = SingleInstance::MAX_BYTES;
    const TYPES: &'static str = PATCH;
}

impl<K: BodyKind> FromRequest<Arc<AppState>> for RequestBody<K> {
    type Rejection = Problem;

    /// 413 when the body exceeds the size limit, 408 when it takes too long, 415 when it has another media type, 503
    /// when other bodies use the whole memory budget.
    async fn from_request(request: Request, app: &Arc<AppState>) -> Result<Self, Problem> {
        let (Parts { headers, .. }, body) = request.into_parts();
        let body = read_body(&app.limits, &headers, body, K::MAX_BYTES, K::TYPES).await?;
        Ok(Self(body, PhantomData))
    }
}

async fn read_body(
    limits: &Limits,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    types: &'static str,
) -> Result<BufferedBody, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced: usize = announced.and_then(|length| length.parse().ok()).unwrap_or(0);
    // A client that expects 100-continue has not sent its body yet, and gets the problem at once.
    let discarded = if headers.contains_key(EXPECT) { 0 } else { MAX_DISCARDED };
    if announced > limit + discarded {
        return Err(too_large(limit));
    }
    let seconds = BODY_WITHIN.as_secs();
    let slow = |_| {
        Problem::new(
            ProblemKind::SlowBody,
            format!("the whole body must arrive within {seconds} s"),
        )
    };
    let buffering = buffer(limits, body, announced.min(limit), limit);
    let body = timeout(BODY_WITHIN, buffering).await.map_err(slow)??;
    if !body.is_empty() {
        check_type(headers, types)?;
    }
    Ok(body)
}

/// The caller's deadline bounds every await in this function.
async fn buffer(
    limits: &Limits,
    mut body: Body,
    announced: usize,
    limit: usize,
) -> Result<BufferedBody, Problem> {
    let mut share = limits.bodies.share(limit > SingleInstance::MAX_BYTES);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(data) = next_piece(&mut body).await? {
        let size = first.len() + all.len() + data.len();
        if size > limit {
            drop((first, all));
            share.release();
            discard(&mut body, data.len()).await;
            return Err(too_large(limit));
        }
        if !share.grow(size) {
            drop((first, all));
            share.release();
            let _ = timeout(DISCARDED_WITHIN, discard(&mut body, data.len())).await;
            return Err(limits.out_of_memory_for_bodies());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                // The kernel allocates this memory only as it is filled.
                all.reserve(announced.max(size));
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(BufferedBody { bytes, _share: share })
}

/// The next piece of a body. `None` at its end.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let broken =
            |error| Problem::new(ProblemKind::BadBody, format!("cannot read the body: {error}"));
        // A frame without data is a trailer; trailers are ignored.
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads and discards the rest of a body, so that the client finishes sending and reads the response.
async fn discard(body: &mut Body, mut discarded: usize) {
    while discarded <= MAX_DISCARDED {
        match next_piece(body).await {
            Ok(Some(data)) => discarded += data.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the limit is {} KiB; send less at a time", limit / 1024);
    Problem::from_flaws(ProblemKind::TooLarge, vec![Flaw::body("", detail)])
}

fn check_type(headers: &HeaderMap, types: &'static str) -> Result<(), Problem> {
    let refuse = |name: &str, detail: Cow<'static, str>| {
        let problem =
            Problem::from_flaws(ProblemKind::WrongContentType, vec![Flaw::header(name, detail)]);
        Err(Problem { accept: Some(types), ..problem })
    };
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if !types.split(", ").any(|known| essence.eq_ignore_ascii_case(known)) {
        let types = types.replace(", ", " or ");
        let detail =
            format!("send Content-Type: {types} (with curl, --json sends application/json)");
        return refuse("Content-Type", detail.into());
    }
    match headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(_) => refuse("Content-Encoding", "send the body without compression".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uncompressed_json_is_accepted() {
        let with = |content: &str, coding: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content.parse().unwrap());
            if let Some(coding) = coding {
                headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
            }
            check_type(&headers, JSON).is_ok()
        };
        assert!(with("application/json", None));
        assert!(with("Application/JSON; charset=utf-8", Some("identity")));
        assert!(!with("application/x-www-form-urlencoded", None));
        assert!(!with("application/json", Some("gzip")));
        assert!(check_type(&HeaderMap::new(), JSON).is_err());
        let problem = check_type(&HeaderMap::new(), PATCH).unwrap_err();
        assert_eq!(problem.accept, Some(PATCH));
        for name in PATCH.split(", ") {
            assert!(problem.detail.contains(name), "{}", problem.detail);
        }
    }
}
