//! Bodies: bytes within a size and a time, and of the type that the call takes.
//!
//! Does not own: what the bytes are (`json`).

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
    app::App,
    budget::Share,
    limits::Limits,
    problem::{Flaw, Kind, Problem},
};

pub(super) use crate::http::json::{Entries, MAX_ENTRIES, Object, Strings, Whole, json};

/// What bodies are, without their parameters.
pub(super) const JSON: &str = "application/json";

/// What a patch may be, as `Accept-Patch` lists it (RFC 5789 §3.1).
pub(super) const PATCH: &str = "application/merge-patch+json, application/json";

/// The most bytes of a body that is too large anyway which are read all the same, so that the client
/// has sent it and reads why not; a connection closed under its hands would tell it nothing.
const MAX_DISCARDED: usize = 1024 * 1024;

/// From the head of a request to the end of its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The same for a body for which there is no room: it is told soon, and not when the body has come.
const POLITE: Duration = Duration::from_secs(1);

/// A whole body, with its share of the memory for bodies.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    /// Given back with it.
    _share: Share,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A whole body, which may be empty, as an extractor.
#[derive(Debug)]
pub(super) struct BodyOf<K>(pub(super) Held, pub(super) PhantomData<K>);

/// What a body may be.
pub(super) trait BodyKind: Send {
    /// Bytes at most.
    const MOST: usize;
    /// Its media types, as `Accept` lists them.
    const TYPES: &'static str = JSON;
}

/// About one instance.
#[derive(Debug)]
pub(super) enum One {}

/// About many.
#[derive(Debug)]
pub(super) enum Many {}

/// A JSON merge patch of one, which may say to be one (RFC 7396 §4).
#[derive(Debug)]
pub(super) enum MergePatch {}

/// Its bounded fields fill two thirds of it when every string is as long as it may be.
impl BodyKind for One {
    const MOST: usize = 64 * 1024;
}

/// 10,000 heartbeats of 400 bytes.
impl BodyKind for Many {
    const MOST: usize = 4 * 1024 * 1024;
}

impl BodyKind for MergePatch {
    const MOST: usize = One::MOST;
    const TYPES: &'static str = PATCH;
}

impl<K: BodyKind> FromRequest<Arc<App>> for BodyOf<K> {
    type Rejection = Problem;

    /// 413 beyond the bound, 408 when it takes too long, 415 for any other media type, 503 when as much of other bodies is
    /// held as may be.
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let (Parts { headers, .. }, body) = request.into_parts();
        let held = read(&app.limits, &headers, body, K::MOST, K::TYPES).await?;
        Ok(Self(held, PhantomData))
    }
}

async fn read(
    limits: &Limits,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    types: &'static str,
) -> Result<Held, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced: usize = announced.and_then(|length| length.parse().ok()).unwrap_or(0);
    // Who asks first whether to send it gets the answer at once.
    let discarded = if headers.contains_key(EXPECT) { 0 } else { MAX_DISCARDED };
    if announced > limit + discarded {
        return Err(too_large(limit));
    }
    let seconds = BODY_WITHIN.as_secs();
    let slow = |_| Problem::new(Kind::SlowBody, format!("it must arrive whole within {seconds} s"));
    let gathered = gather(limits, body, announced.min(limit), limit);
    let held = timeout(BODY_WITHIN, gathered).await.map_err(slow)??;
    if !held.is_empty() {
        check_type(headers, types)?;
    }
    Ok(held)
}

/// The caller's deadline bounds every wait in it.
async fn gather(
    limits: &Limits,
    mut body: Body,
    announced: usize,
    limit: usize,
) -> Result<Held, Problem> {
    let mut share = limits.bodies.share(limit > One::MOST);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(data) = next(&mut body).await? {
        let size = first.len() + all.len() + data.len();
        if size > limit {
            drop((first, all));
            share.free();
            discard(&mut body, data.len()).await;
            return Err(too_large(limit));
        }
        if !share.grow(size) {
            drop((first, all));
            share.free();
            let _ = timeout(POLITE, discard(&mut body, data.len())).await;
            return Err(limits.no_room());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                // Not touched before it is filled, and so no memory yet.
                all.reserve(announced.max(size));
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Held { bytes, _share: share })
}

/// The next piece of a body; none at its end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let broken = |error| Problem::new(Kind::BadBody, format!("it broke off: {error}"));
        // Anything but data is a trailer, and trailers say nothing here.
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads on for a while, so that a client that sends on reads its answer.
async fn discard(body: &mut Body, mut discarded: usize) {
    while discarded <= MAX_DISCARDED {
        match next(body).await {
            Ok(Some(data)) => discarded += data.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("at most {} KiB are taken; send less at a time", limit / 1024);
    Problem::of(Kind::TooLarge, vec![Flaw::body("", detail)])
}

fn check_type(headers: &HeaderMap, types: &'static str) -> Result<(), Problem> {
    let wrong = |name: &str, detail: Cow<'static, str>| {
        let problem = Problem::of(Kind::WrongContentType, vec![Flaw::header(name, detail)]);
        Err(Problem { accept: Some(types), ..problem })
    };
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if !types.split(", ").any(|known| essence.eq_ignore_ascii_case(known)) {
        let types = types.replace(", ", " or ");
        let detail =
            format!("send Content-Type: {types} (with curl, --json says application/json)");
        return wrong("Content-Type", detail.into());
    }
    match headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(_) => wrong("Content-Encoding", "send the body as it is, not compressed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_json_is_taken() {
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
