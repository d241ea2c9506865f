//! Metrics, the access log and spans of every request; and the headers that every response carries.
//!
//! Owns: the outermost layer, and the data that it keeps of a request until the response. The access log has one line
//! for each request. The log filter (`rollcall::http::access=debug`) switches it on and off while the process runs;
//! while it is off, a request costs one check. The response repeats the request id that the client sent, whether or not
//! the request is logged. Does not own: the filter, and the export of spans (`telemetry`).

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use hyper::{
    HeaderMap, Method,
    header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use rollcall_model::lease::{Moment, millis};
use tracing::{Instrument as _, Level, debug, debug_span, enabled};

use crate::clock::Stopwatch;
use crate::http::{
    access::bearer_token,
    answer::{WaitedForChange, WithoutIndex},
    app::AppState,
    body, headers,
    route::Route,
};
use crate::telemetry::traces::Span;

const TARGET: &str = "rollcall::http::access";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context §3.2: version, trace id, parent id and flags.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest request id that a response repeats.
const MAX_ID: usize = 128;

/// What is kept of a request until its response.
pub(super) struct ObservedRequest {
    stopwatch: Stopwatch,
    id: Option<HeaderValue>,
    line: Option<Box<AccessLine>>,
    span: Option<Span>,
}

/// What the access log says about a request.
struct AccessLine {
    peer: IpAddr,
    method: Method,
    path: Box<str>,
    trace: Option<Box<str>>,
    token: Option<Box<str>>,
}

/// The layer of one route; `route` is `None` for unknown paths.
pub(super) async fn observe(
    State((app, route)): State<(Arc<AppState>, Option<Route>)>,
    ConnectInfo(peer): ConnectInfo<IpAddr>,
    request: Request,
    next: Next,
) -> Response {
    let observed = ObservedRequest::begin(&app, &request, peer, Stopwatch::start());
    // The default log filter disables this span.
    let template = route.map_or("unknown", Route::template);
    let span = debug_span!("request", method = %request.method(), route = template);
    let mut response = next.run(request).instrument(span).await;
    observed.end(&app, route, &mut response, (app.clock)().moment);
    response
}

impl ObservedRequest {
    pub(super) fn begin<B>(
        app: &AppState,
        request: &hyper::Request<B>,
        peer: IpAddr,
        stopwatch: Stopwatch,
    ) -> Self {
        let headers = request.headers();
        let id = headers.get(REQUEST_ID).filter(|id| id.len() <= MAX_ID);
        // A deep copy: a clone would keep the whole head in memory for as long as the request waits.
        let id = id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
        let line = enabled!(target: TARGET, Level::DEBUG).then(|| {
            Box::new(AccessLine {
                peer,
                method: request.method().clone(),
                path: request.uri().path().into(),
                trace: parse_trace_id(headers),
                token: bearer_token(headers).map(Into::into),
            })
        });
        let span =
            app.traces.as_ref().and_then(|traces| traces.begin(request, peer, stopwatch.elapsed()));
        Self { stopwatch, id, line, span }
    }

    /// Completes the response, and records it.
    pub(super) fn end<B>(
        self,
        app: &AppState,
        route: Option<Route>,
        response: &mut hyper::Response<B>,
        now: Moment,
    ) {
        let has_index = response.extensions_mut().remove::<WithoutIndex>().is_none();
        let waited = response.extensions_mut().remove::<WaitedForChange>().is_some();
        add_headers(app, response.headers_mut(), route, has_index, now);
        let took = self.stopwatch.elapsed();
        let status = response.status().as_u16();
        app.metrics.record_response(route, status, (!waited).then_some(took));
        if let Some(line) = &self.line {
            let AccessLine { peer, method, path, trace, token } = &**line;
            let request = self.id.as_ref().and_then(|id| id.to_str().ok());
            let caller = app.authorization.user(token.as_deref(), now);
            let route = route.map_or("unknown", Route::template);
            let micros = took.as_micros();
            debug!(
                target: TARGET, %peer, caller, %method, route, path, status, micros, request, trace, "request"
            );
        }
        if let Some(span) = self.span {
            span.answered(route.map(Route::template), status);
        }
        if let Some(id) = self.id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }
}

/// Adds the headers that every response carries. Without `has_index` the response has no `Rollcall-Index`, because this
/// replica does not know which index covers the write.
fn add_headers(
    app: &AppState,
    all: &mut HeaderMap,
    route: Option<Route>,
    has_index: bool,
    now: Moment,
) {
    let directory = app.intake.directory();
    all.insert(headers::REPLICA, app.replica.clone());
    if has_index {
        all.insert(headers::INDEX, HeaderValue::from(directory.newest()));
    }
    // The age is unknown until the first self-beat is observed.
    if directory.horizon().0 > 0 {
        all.insert(headers::AGE, HeaderValue::from(millis(directory.horizon_age(now))));
    }
    let stale = if directory.is_stale(now) { "true" } else { "false" };
    all.insert(headers::STALE, HeaderValue::from_static(stale));
    // A browser must not guess a media type other than the declared one.
    all.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if route == Some(Route::Attributes) {
        all.insert(headers::ACCEPT_PATCH, HeaderValue::from_static(body::PATCH));
    }
}

/// The trace id of a request; `None` without a valid header.
fn parse_trace_id(headers: &HeaderMap) -> Option<Box<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let trace = text.split('-').nth(1)?;
    let fits = trace.len() == 32 && trace.bytes().all(|digit| digit.is_ascii_hexdigit());
    fits.then(|| trace.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_has_32_hexadecimal_digits() {
        for (header, is_valid) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false),
            ("4bf92f3577b34da6a3ce929d0e0e4736", false),
            ("00-zzf92f3577b34da6a3ce929d0e0e4736-1-1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, header.parse().unwrap());
            assert_eq!(parse_trace_id(&headers).is_some(), is_valid, "{header}");
        }
    }
}
