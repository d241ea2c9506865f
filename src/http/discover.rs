//! Discovery: who of a service is there, filtered, ordered, and cheap to ask for again.

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
    answer::{Answer, Answered},
    app::App,
    context::Context,
    metrics::Kind,
    problem::Problem,
    query::{Discovery, Query},
    route::Names,
    served::{Plain, ServedView},
    set,
};

/// Of the tags that a client has, in bytes: 200 of ours. With more it may be answered with one that it has.
const MOST_KNOWN: usize = 4 * 1024;

/// `If-None-Match`: what the client has. A copy, since a call may wait for minutes: a clone would keep the whole head of its
/// request.
#[derive(Debug)]
pub(super) struct Known(HeaderMap);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut known = HeaderMap::new();
        let mut room = MOST_KNOWN;
        for value in parts.headers.get_all(IF_NONE_MATCH) {
            let Some(left) = room.checked_sub(value.len()) else { break };
            room = left;
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                known.append(IF_NONE_MATCH, copy);
            }
        }
        Ok(Self(known))
    }
}

/// `GET /v1/namespaces/{namespace}/services/{service}`: at once, or when there is something new or the time is over.
pub(super) async fn discover(
    State(app): State<Arc<App>>,
    context: Context,
    Query(asked): Query<Discovery>,
    Known(known): Known,
) -> Answered {
    let names = context.names();
    app.covers(names.namespace)?;
    let first = answer(&app, names, &asked, &known);
    // An asterisk is no revision from which another could differ.
    let waits = first.status() == StatusCode::NOT_MODIFIED && !tags(&known).any(|tag| tag == "*");
    let Some(wait) = asked.wait.filter(|_| waits) else { return Ok(first) };
    // Nothing of an answer is kept by what waits: there may be thousands.
    drop(first);
    let key = ServiceKey::new(names.namespace, names.name);
    let subscription = app.waiters.subscribe(Kind::Poll, [key].into());
    let subscription = subscription.ok_or_else(Problem::too_many_subscribers)?;
    let something_new = async {
        loop {
            {
                let answer = answer(&app, names, &asked, &known);
                if answer.status() != StatusCode::NOT_MODIFIED {
                    return answer;
                }
                if subscription.has_ended() {
                    return answer.with_static(CONNECTION, "close");
                }
            }
            subscription.rung().await;
        }
    };
    let came = timeout(wait, something_new).await;
    Ok(came.unwrap_or_else(|_| answer(&app, names, &asked, &known)).waited())
}

fn answer(app: &App, names: Names<'_>, asked: &Discovery, headers: &HeaderMap) -> Answer {
    let view = app.views.service(names.namespace, names.name);
    let view = view.as_deref();
    let plain = view.filter(|_| asked.is_plain()).and_then(|view| plain(app, names, view));
    if let Some(plain) = plain {
        return plain.answer(headers);
    }
    let mut chosen = view.map(|view| asked.filter.select(&view.members)).unwrap_or_default();
    // Of all that were chosen, in the order of the view: neither the order asked for nor a limit
    // makes it another set.
    let revision = revision(chosen.iter().map(|member| &***member));
    let tag = format!("\"{revision}\"");
    // Another order, or a part, is the same set in other octets (RFC 9110 §8.8.1).
    let is_whole = asked.order == Order::Name && asked.limit.is_none();
    let etag = if is_whole { tag.clone() } else { format!("W/{tag}") };
    let etag = HeaderValue::try_from(etag);
    if is_known(headers, tag.as_bytes()) {
        return cached(not_modified(), etag);
    }
    asked.order.arrange(&mut chosen, seed(app, names, asked.order));
    chosen.truncate(asked.limit.unwrap_or(usize::MAX));
    let body = set::body(&app.zone, names, revision, &chosen);
    cached(Answer::new(StatusCode::OK, "application/json", body), etag)
}

/// The answer to a discovery without any parameter, if it is kept.
pub(super) fn kept(app: &App, names: Names<'_>, headers: &HeaderMap) -> Option<Answer> {
    let view = app.views.service(names.namespace, names.name)?;
    plain(app, names, &view).map(|plain| plain.answer(headers))
}

impl Plain {
    fn answer(&self, headers: &HeaderMap) -> Answer {
        let known = is_known(headers, &self.tag);
        let answer =
            if known { not_modified() } else { Answer::bytes(StatusCode::OK, self.body.clone()) };
        cached(answer, HeaderValue::from_maybe_shared(self.tag.clone()))
    }
}

/// What is kept for a discovery without any parameter; none when it is made anew for everybody.
fn plain<'a>(app: &App, names: Names<'_>, view: &'a ServedView) -> Option<&'a Plain> {
    let make = || {
        let mut discoverable: Vec<_> = view.discoverable().collect();
        let revision = view.discoverable_revision;
        Order::Name.arrange(&mut discoverable, 0);
        let body = set::whole(&app.zone, names, revision, &discoverable)?;
        Some(Plain { tag: format!("\"{revision}\"").into(), body })
    };
    view.plain.get_or_init(make).as_ref()
}

fn not_modified() -> Answer {
    Answer::empty(StatusCode::NOT_MODIFIED)
}

/// Whoever keeps it asks again before it is used, and hears that nothing is new.
fn cached<E>(answer: Answer, etag: Result<HeaderValue, E>) -> Answer {
    let answer = answer.with_static(CACHE_CONTROL, "no-cache");
    // Digits in quotes are always one.
    if let Ok(etag) = etag { answer.with_value(ETAG, etag) } else { answer }
}

/// Whether the client has this set already (RFC 9110 §13.1.2: weak comparison).
pub(super) fn is_known(headers: &HeaderMap, tag: &[u8]) -> bool {
    let opaque = |given: &str| given.strip_prefix("W/").unwrap_or(given).as_bytes() == tag;
    tags(headers).any(|given| given == "*" || opaque(given))
}

/// What the client says that it has.
fn tags(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim)
}

/// Chance for the random orders, the next turn of this service for the round.
fn seed(app: &App, names: Names<'_>, order: Order) -> u64 {
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
    fn a_set_is_known_by_its_tag_in_any_form_that_http_allows() {
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
