//! Watches: streams of what changes in one service or several.

use std::sync::Arc;

use hyper::{
    HeaderMap,
    header::{CACHE_CONTROL, CONNECTION, HeaderName},
    http::request::Parts,
};
use rollcall_model::instance::ServiceKey;

use crate::auth::Caller;
use crate::http::{
    answer::Answer,
    door::{Door, Given},
    follow::Follower,
    metrics::Kind,
    problem::Problem,
    query::{self, Watching},
    route::Names,
    stream::Stream,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Keeps nginx, and what understands the same, from holding events back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /v1/namespaces/{namespace}/services/{service}/watch`
pub(super) fn one(
    door: &Arc<Door>,
    names: &Names<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Given {
    let filter = query::watch(query)?;
    door.covers(&names.namespace)?;
    let services = vec![ServiceKey::new(&names.namespace, &names.name)];
    begin(door, Watching { filter, services }, headers)
}

/// `GET /v1/watch`
pub(super) async fn many(door: &Arc<Door>, caller: Option<&Caller>, parts: &Parts) -> Given {
    let asked = query::watch_many(parts.uri.query())?;
    let namespaces = || asked.services.iter().map(|key| &*key.namespace);
    namespaces().try_for_each(|namespace| door.covers(namespace))?;
    door.doorman.may_list(caller, namespaces()).await?;
    begin(door, asked, &parts.headers)
}

fn begin(door: &Arc<Door>, asked: Watching, headers: &HeaderMap) -> Given {
    let Watching { filter, services } = asked;
    let keys: Box<[_]> = services.into();
    let subscription = door.waiters.subscribe(Kind::Stream, keys.clone());
    let subscription = subscription.ok_or_else(Problem::too_many_subscribers)?;
    // In this order, or a change in between is lost.
    let mut follower = Follower::new(filter, keys, door.zone.clone());
    follower.look(&door.views);
    if let Some(last) = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()) {
        follower.leave_out(last);
    }
    let stream = Stream::new(door.clone(), subscription, follower);
    Ok(Answer::stream(stream)
        .with_static(CACHE_CONTROL, "no-store")
        .with(BUFFERING, "no".to_owned())
        // Who comes again may find a replica that has fewer.
        .with(CONNECTION, "close".to_owned()))
}
