//! The handlers of watches: streams of the changes in one or several services.

use std::sync::Arc;

use axum::{body::Body, extract::State};
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, HeaderName},
};
use rollcall_model::{instance::ServiceKey, select::Filter};

use crate::http::{
    answer::{Answer, HandlerResult},
    app::AppState,
    change_feed::ChangeFeed,
    context::Context,
    metrics::SubscriberKind,
    problem::Problem,
    query::{Query, WatchQuery},
    stream::WatchStream,
};

/// The media type of Server-Sent Events.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Prevents nginx, and other proxies that support this header, from buffering events.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /v1/namespaces/{namespace}/services/{service}/watch`
pub(super) async fn one(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> HandlerResult {
    let names = context.names();
    app.check_namespace(names.namespace)?;
    let services = vec![ServiceKey::new(names.namespace, names.name)];
    begin(&app, WatchQuery { filter, services }, &headers)
}

/// `GET /v1/watch`
pub(super) async fn many(
    State(app): State<Arc<AppState>>,
    context: Context,
    Query(asked): Query<WatchQuery>,
    headers: HeaderMap,
) -> HandlerResult {
    let namespaces = || asked.services.iter().map(|key| &*key.namespace);
    namespaces().try_for_each(|namespace| app.check_namespace(namespace))?;
    app.authorization.may_list(context.caller(), namespaces()).await?;
    begin(&app, asked, &headers)
}

fn begin(app: &Arc<AppState>, asked: WatchQuery, headers: &HeaderMap) -> HandlerResult {
    let WatchQuery { filter, services } = asked;
    let keys: Box<[_]> = services.into();
    let subscription = app.subscribers.subscribe(SubscriberKind::Stream, keys.clone());
    let subscription = subscription.ok_or_else(Problem::too_many_subscribers)?;
    // Read the views after subscribing: otherwise a change in between would be lost.
    let mut feed = ChangeFeed::new(filter, keys, app.zone.clone());
    feed.refresh(&app.views);
    if let Some(last) = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()) {
        feed.resume_after(last);
    }
    let stream = WatchStream::new(app.clone(), subscription, feed);
    Ok(Answer::new(StatusCode::OK, MEDIA_TYPE, Body::new(stream))
        .with_static(CACHE_CONTROL, "no-store")
        .with_static(X_ACCEL_BUFFERING, "no")
        // A client that reconnects may reach a replica with fewer subscribers.
        .with_static(CONNECTION, "close"))
}
