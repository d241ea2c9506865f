//! Discovery: the instances of a service, filtered and ordered, with an ETag that makes polling cheap.
//!
//! Owns: the answer, its revision, and the wait for a change. Does not own: the query (`query`), and the JSON (`set`,
//! `encode`).

use std::{
    hash::Hasher as _,
    sync::{Arc, atomic::Ordering},
};

use axum::extract::{FromRequestParts, State};
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, ETAG, HeaderValue, IF_NONE_MATCH},
    http::request::Parts,
};
use rollcall_model::{instance::ServiceKey, select::Order, view::revision};
use tokio::time::timeout;
use xxhash_rust::xxh3::Xxh3Default;

use crate::http::{
    answer::{Answer, HandlerResult},
    app::AppState,
    context::Context,
    encoded_views::{EncodedDiscovery, EncodedView},
    metrics::SubscriberKind,
    problem::Problem,
    query::{Discovery, Query},
    route::PathNames,
    set,
};

/// The maximum number of bytes of `If-None-Match` that are kept: 200 of our tags. A client that sends more can receive
/// a set that it already has.
const MAX_KNOWN_TAGS: usize = 4 * 1024;

/// The ETags that the client has (`If-None-Match`). This is a deep copy: a call can wait for minutes, and a clone would
/// keep the whole head of the request in memory.
#[derive(Debug)]
pub(super) struct KnownTags(HeaderMap);

impl<S: Sync> FromRequestParts<S> for KnownTags {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut known = HeaderMap::new();
        let mut remaining = MAX_KNOWN_TAGS;
        for value in parts.headers.get_all(IF_NONE_MATCH) {
            let Some(left) = remaining.checked_sub(value.len()) else { break };
            remaining = left;
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                known.append(IF_NONE_MATCH, copy);
            }
        }
        Ok(Self(known))
    }
}

/// `GET /v1/namespaces/{namespace}/services/{service}`: answers at once, or with `wait` after a change or that time.
pub(super) async fn discover(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(query): Query<Discovery>,
    KnownTags(known): KnownTags,
) -> HandlerResult {
    let names = context.names();
    app.check_namespace(names.namespace)?;
    let first = answer(&app, names, &query, &known);
    // An asterisk is not a revision, so a change could not be detected.
    let waits = first.status() == StatusCode::NOT_MODIFIED && !tags(&known).any(|tag| tag == "*");
    let Some(wait) = query.wait.filter(|_| waits) else { return Ok(first) };
    // Thousands of requests can wait here, so they hold no answer in memory.
    drop(first);
    let key = ServiceKey::new(names.namespace, names.name);
    let subscription = app.subscribers.subscribe(SubscriberKind::Poll, [key].into());
    let subscription = subscription.ok_or_else(Problem::too_many_subscribers)?;
    let next_change = async {
        loop {
            {
                let answer = answer(&app, names, &query, &known);
                if answer.status() != StatusCode::NOT_MODIFIED {
                    return answer;
                }
                if subscription.is_shutting_down() {
                    return answer.with_static(CONNECTION, "close");
                }
            }
            subscription.changed().await;
        }
    };
    let changed = timeout(wait, next_change).await;
    Ok(changed.unwrap_or_else(|_| answer(&app, names, &query, &known)).waited())
}

fn answer(app: &AppState, names: PathNames<'_>, query: &Discovery, headers: &HeaderMap) -> Answer {
    let view = app.views.service(names.namespace, names.name);
    let view = view.as_deref();
    let plain = view.filter(|_| query.is_plain()).and_then(|view| cached_plain(app, names, view));
    if let Some(plain) = plain {
        return plain.answer(headers);
    }
    let mut chosen = view.map(|view| query.filter.select(&view.members)).unwrap_or_default();
    // The revision covers all chosen instances in the order of the view: a requested order or limit does not change it.
    let revision = revision(chosen.iter().map(|member| &***member));
    let tag = format!("\"{revision}\"");
    // In another order, or limited, the same set has other bytes, so its tag is weak (RFC 9110 §8.8.1).
    let is_whole = query.order == Order::Name && query.limit.is_none();
    let etag = if is_whole { tag.clone() } else { format!("W/{tag}") };
    let etag = HeaderValue::try_from(etag);
    if is_known(headers, tag.as_bytes()) {
        return with_cache_headers(not_modified(), etag);
    }
    query.order.arrange(&mut chosen, seed(app, names, query.order));
    chosen.truncate(query.limit.unwrap_or(usize::MAX));
    let body = set::body(&app.zone, names, revision, &chosen);
    with_cache_headers(Answer::new(StatusCode::OK, "application/json", body), etag)
}

/// The cached answer to a discovery without parameters, if there is one.
pub(super) fn cached_answer(
    app: &AppState,
    names: PathNames<'_>,
    headers: &HeaderMap,
) -> Option<Answer> {
    let view = app.views.service(names.namespace, names.name)?;
    cached_plain(app, names, &view).map(|plain| plain.answer(headers))
}

impl EncodedDiscovery {
    fn answer(&self, headers: &HeaderMap) -> Answer {
        let known = is_known(headers, &self.tag);
        let answer =
            if known { not_modified() } else { Answer::bytes(StatusCode::OK, self.body.clone()) };
        with_cache_headers(answer, HeaderValue::from_maybe_shared(self.tag.clone()))
    }
}

/// The cached body of a discovery without parameters. `None` when it is too large to cache.
fn cached_plain<'a>(
    app: &AppState,
    names: PathNames<'_>,
    view: &'a EncodedView,
) -> Option<&'a EncodedDiscovery> {
    let make = || {
        let mut discoverable: Vec<_> = view.discoverable().collect();
        let revision = view.discoverable_revision;
        Order::Name.arrange(&mut discoverable, 0);
        let body = set::one_piece(&app.zone, names, revision, &discoverable)?;
        Some(EncodedDiscovery { tag: format!("\"{revision}\"").into(), body })
    };
    view.plain.get_or_init(make).as_ref()
}

fn not_modified() -> Answer {
    Answer::empty(StatusCode::NOT_MODIFIED)
}

/// Caches must revalidate the answer before they use it.
fn with_cache_headers<E>(answer: Answer, etag: Result<HeaderValue, E>) -> Answer {
    let answer = answer.with_static(CACHE_CONTROL, "no-cache");
    // A revision in quotes is always a valid header value.
    if let Ok(etag) = etag { answer.with_value(ETAG, etag) } else { answer }
}

/// Whether the client already has this set (weak comparison, RFC 9110 §13.1.2).
pub(super) fn is_known(headers: &HeaderMap, tag: &[u8]) -> bool {
    let opaque = |given: &str| given.strip_prefix("W/").unwrap_or(given).as_bytes() == tag;
    tags(headers).any(|given| given == "*" || opaque(given))
}

/// The tags of `If-None-Match`.
fn tags(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim)
}

/// A random seed for the random orders, and the next position of this service for round robin.
fn seed(app: &AppState, names: PathNames<'_>, order: Order) -> u64 {
    match order {
        Order::Name => 0,
        Order::Weighted | Order::Random => fastrand::u64(..),
        Order::RoundRobin => {
            let mut hash = Xxh3Default::new();
            hash.write(names.namespace.as_bytes());
            hash.write(b"/");
            hash.write(names.name.as_bytes());
            let at = usize::try_from(hash.finish() % app.turns.len().max(1) as u64).unwrap_or(0);
            app.turns.get(at).map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_accepts_every_form_of_a_tag() {
        for (given, known) in [
            ("\"a1\"", true),
            ("W/\"a1\"", true),
            ("\"b2\", W/\"a1\"", true),
            ("*", true),
            ("\"b2\"", false),
            ("a1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(IF_NONE_MATCH, given.parse().unwrap());
            assert_eq!(is_known(&headers, b"\"a1\""), known, "{given}");
        }
        assert!(!is_known(&HeaderMap::new(), b"\"a1\""));
    }
}
