//! What is observed of every request: metrics, the access log, spans; and the headers that every answer carries.
//!
//! Owns: the outermost layer, and what it keeps of a request until it is answered. The access log is a line a request,
//! switched on and off while the process runs by the filter of the log (`rollcall::http::access=debug`); it costs a look
//! while it is off. The request's own id is given back whether it is logged or not. Does not own: the filter, and spans
//! (`telemetry`).

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
    access::bearer,
    answer::{Waited, WithoutIndex},
    app::App,
    body, headers,
    route::Route,
};
use crate::telemetry::traces::Span;

const TARGET: &str = "rollcall::http::access";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context §3.2: version, trace id, parent id and flags.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest id that is given back.
const MAX_ID: usize = 128;

/// What is kept of a request until it is answered.
pub(super) struct Observed {
    stopwatch: Stopwatch,
    id: Option<HeaderValue>,
    line: Option<Box<Line>>,
    span: Option<Span>,
}

/// What is logged of it.
struct Line {
    peer: IpAddr,
    method: Method,
    path: Box<str>,
    trace: Option<Box<str>>,
    token: Option<Box<str>>,
}

/// The layer of one route; none for paths that no route has.
pub(super) async fn observe(
    State((app, route)): State<(Arc<App>, Option<Route>)>,
    ConnectInfo(peer): ConnectInfo<IpAddr>,
    request: Request,
    next: Next,
) -> Response {
    let observed = Observed::begin(&app, &request, peer, Stopwatch::start());
    // Off by default.
    let template = route.map_or("unknown", Route::template);
    let span = debug_span!("request", method = %request.method(), route = template);
    let mut response = next.run(request).instrument(span).await;
    observed.end(&app, route, &mut response, (app.clock)().moment);
    response
}

impl Observed {
    /// A request that has just come.
    pub(super) fn begin<B>(
        app: &App,
        request: &hyper::Request<B>,
        peer: IpAddr,
        stopwatch: Stopwatch,
    ) -> Self {
        let headers = request.headers();
        let id = headers.get(REQUEST_ID).filter(|id| id.len() <= MAX_ID);
        // A copy: a clone would keep the whole head for as long as the request waits.
        let id = id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
        let line = enabled!(target: TARGET, Level::DEBUG).then(|| {
            Box::new(Line {
                peer,
                method: request.method().clone(),
                path: request.uri().path().into(),
                trace: trace(headers),
                token: bearer(headers).map(Into::into),
            })
        });
        let span =
            app.traces.as_ref().and_then(|traces| traces.begin(request, peer, stopwatch.elapsed()));
        Self { stopwatch, id, line, span }
    }

    /// It is answered.
    pub(super) fn end<B>(
        self,
        app: &App,
        route: Option<Route>,
        response: &mut hyper::Response<B>,
        now: Moment,
    ) {
        let index = response.extensions_mut().remove::<WithoutIndex>().is_none();
        let waited = response.extensions_mut().remove::<Waited>().is_some();
        add_headers(app, response.headers_mut(), route, index, now);
        let took = self.stopwatch.elapsed();
        let status = response.status().as_u16();
        app.metrics.answered(route, status, (!waited).then_some(took));
        if let Some(line) = &self.line {
            let Line { peer, method, path, trace, token } = &**line;
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

/// The headers that every answer carries. Without `index` the answer bears none: this replica does not know which one covers what was written.
fn add_headers(app: &App, all: &mut HeaderMap, route: Option<Route>, index: bool, now: Moment) {
    let directory = app.intake.directory();
    all.insert(headers::REPLICA, app.replica.clone());
    if index {
        all.insert(headers::INDEX, HeaderValue::from(directory.newest()));
    }
    // Before its first self-beat is back a replica does not know.
    if directory.horizon().0 > 0 {
        all.insert(headers::AGE, HeaderValue::from(millis(directory.age(now))));
    }
    let stale = if directory.is_stale(now) { "true" } else { "false" };
    all.insert(headers::STALE, HeaderValue::from_static(stale));
    // A browser must not take an answer for anything but what its type says.
    all.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if route == Some(Route::Attributes) {
        all.insert(headers::ACCEPT_PATCH, HeaderValue::from_static(body::PATCH));
    }
}

/// The trace that a request belongs to; none when the header is no such thing.
fn trace(headers: &HeaderMap) -> Option<Box<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let trace = text.split('-').nth(1)?;
    let fits = trace.len() == 32 && trace.bytes().all(|digit| digit.is_ascii_hexdigit());
    fits.then(|| trace.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_known_by_its_32_digits() {
        for (given, wanted) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false),
            ("4bf92f3577b34da6a3ce929d0e0e4736", false),
            ("00-zzf92f3577b34da6a3ce929d0e0e4736-1-1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, given.parse().unwrap());
            assert_eq!(trace(&headers).is_some(), wanted, "{given}");
        }
    }
}
