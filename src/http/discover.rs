//! Discovery: who of a service is there, filtered, ordered, and cheap to ask for again.

use std::{hash::Hasher as _, sync::atomic::Ordering};

use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, ETAG, HeaderValue, IF_NONE_MATCH},
    http::request::Parts,
};
use rollcall_model::{instance::ServiceKey, select::Order, view::revision};
use tokio::time::timeout;
use xxhash_rust::xxh3::Xxh3Default;

use crate::http::{
    answer::Answer,
    door::{Door, Given},
    metrics::Kind,
    problem::Problem,
    query::{self, Discovery},
    route::Names,
    served::{Plain, ServedView},
    set,
};

/// Of the tags that a client has, in octets: 200 of ours. With more it may be answered with one that it has.
const MOST_KNOWN: usize = 4 * 1024;

/// `GET /v1/namespaces/{namespace}/services/{service}`; none when the client wants to wait, and knows all there is.
pub(super) fn at_once(
    door: &Door,
    names: &Names<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<Given> {
    let asked = match query::discovery(query) {
        Ok(asked) => asked,
        Err(problem) => return Some(Err(problem)),
    };
    if let Err(problem) = door.covers(&names.namespace) {
        return Some(Err(problem));
    }
    let answer = answer(door, names, &asked, headers);
    let waits = asked.wait.is_some() && answer.status == StatusCode::NOT_MODIFIED;
    // An asterisk is no revision from which another could differ.
    (!waits || tags(headers).any(|tag| tag == "*")).then_some(Ok(answer))
}

/// All that is kept of a request that waits: its head may be large, and there may be thousands.
pub(super) struct Waiting {
    names: Names<'static>,
    asked: Discovery,
    /// What the client has.
    headers: HeaderMap,
}

impl Waiting {
    pub(super) fn new(names: &Names<'_>, parts: &Parts) -> Result<Self, Problem> {
        let asked = query::discovery(parts.uri.query())?;
        let mut headers = HeaderMap::new();
        let mut room = MOST_KNOWN;
        for value in parts.headers.get_all(IF_NONE_MATCH) {
            let Some(left) = room.checked_sub(value.len()) else { break };
            room = left;
            // A copy: a clone would keep the whole head.
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(IF_NONE_MATCH, copy);
            }
        }
        Ok(Self { names: names.to_owned(), asked, headers })
    }

    /// Answers when there is something new or the time is over.
    pub(super) async fn run(self, door: &Door) -> Given {
        let Self { names, asked, headers } = &self;
        let key = ServiceKey::new(&names.namespace, &names.name);
        let subscription = door.waiters.subscribe(Kind::Poll, [key].into());
        let subscription = subscription.ok_or_else(Problem::too_many_subscribers)?;
        let something_new = async {
            loop {
                let answer = answer(door, names, asked, headers);
                if answer.status != StatusCode::NOT_MODIFIED {
                    return answer;
                }
                if subscription.has_ended() {
                    return answer.with(CONNECTION, "close".to_owned());
                }
                subscription.rung().await;
            }
        };
        let came = timeout(asked.wait.unwrap_or_default(), something_new).await;
        let answer = came.unwrap_or_else(|_| answer(door, names, asked, headers));
        Ok(Answer { waited: true, ..answer })
    }
}

fn answer(door: &Door, names: &Names<'_>, asked: &Discovery, headers: &HeaderMap) -> Answer {
    let view = door.views.service(&names.namespace, &names.name);
    let view = view.as_deref();
    if let Some(plain) = view.filter(|_| asked.is_plain()).and_then(|view| plain(door, names, view))
    {
        let Plain { tag, body } = plain;
        let known = is_known(headers, tag);
        let answer =
            if known { not_modified() } else { Answer::bytes(StatusCode::OK, body.clone()) };
        return cached(answer, HeaderValue::from_maybe_shared(tag.clone()));
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
    asked.order.arrange(&mut chosen, seed(door, names, asked.order));
    chosen.truncate(asked.limit.unwrap_or(usize::MAX));
    let body = set::body(&door.zone, names, revision, &chosen);
    cached(Answer::of(StatusCode::OK, body), etag)
}

/// The answer to whoever asks for no more than a service; none when it is made anew for everybody.
fn plain<'a>(door: &Door, names: &Names<'_>, view: &'a ServedView) -> Option<&'a Plain> {
    let make = || {
        let mut offered: Vec<_> = view.offered().collect();
        let revision = view.offered_revision;
        Order::Name.arrange(&mut offered, 0);
        let body = set::whole(&door.zone, names, revision, &offered)?;
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
fn seed(door: &Door, names: &Names<'_>, order: Order) -> u64 {
    match order {
        Order::Name => 0,
        Order::Weighted | Order::Random => fastrand::u64(..),
        Order::RoundRobin => {
            let mut hash = Xxh3Default::new();
            hash.write(names.namespace.as_bytes());
            hash.write(b"/");
            hash.write(names.name.as_bytes());
            let at = usize::try_from(hash.finish() % door.turns.len().max(1) as u64).unwrap_or(0);
            door.turns.get(at).map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed))
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
