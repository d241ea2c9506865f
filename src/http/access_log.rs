//! The access log: a line a request, switched on and off while the process runs by the filter of the log
//! (`rollcall::http::access=debug`).
//!
//! Owns: what a line says; and the request's own id, which is given back whether it is logged or not. Does not own:
//! the filter, and spans (`telemetry`). Costs a look while it is off.

use std::{net::IpAddr, time::Duration};

use hyper::{
    HeaderMap, Method, Request, Response,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use tracing::{Level, debug, enabled};

use crate::clock;
use crate::http::{access::bearer, answer::Body, door::Door, route::Route};
use crate::telemetry::traces::{Span, Traces};

const TARGET: &str = "rollcall::http::access";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context §3.2: version, trace id, parent id and flags.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest id that is taken over.
const MAX_ID: usize = 128;

/// A request, as far as it is remembered until it is answered.
pub(super) struct Seen {
    pub(super) stopwatch: clock::Stopwatch,
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

impl Seen {
    /// A request that has just come.
    pub(super) fn new(traces: Option<&Traces>, request: &Request<Incoming>, peer: IpAddr) -> Self {
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
        let span = traces.and_then(|traces| traces.begin(request, peer));
        Self { stopwatch: clock::Stopwatch::start(), id, line, span }
    }

    /// It is answered.
    pub(super) fn answered(
        self,
        door: &Door,
        route: Option<Route>,
        response: &mut Response<Body>,
        took: Duration,
    ) {
        let request = self.id.as_ref().and_then(|id| id.to_str().ok());
        if let Some(line) = &self.line {
            let Line { peer, method, path, trace, token } = &**line;
            let caller = door.doorman.who(token.as_deref());
            let route = route.map_or("unknown", Route::template);
            let (status, micros) = (response.status().as_u16(), took.as_micros());
            debug!(
                target: TARGET, %peer, caller, %method, route, path, status, micros, request, trace, "request"
            );
        }
        if let Some(span) = self.span {
            span.answered(route.map(Route::template), response.status().as_u16());
        }
        if let Some(id) = self.id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
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
