//! The admin port: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/loglevel`.
//!
//! Ready means that the replica has synced once. After that readiness does not depend on the API server: a replica that
//! cannot reach it still answers.
//!
//! The port has no authentication: every client that can connect to it can read from it. The log filter can be changed
//! only from within the pod. `kubectl port-forward` also connects from within the pod, so a user with the right to
//! forward ports can change the filter. Errors are problems, as on the other port, and a panic fails one request with
//! 500. Does not own: connections (`port`), and the content of the responses (`telemetry::{scrape, level, probes}`).

mod port;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, RawQuery, rejection::StringRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::{net::TcpListener, task::spawn_blocking};
use tracing::error;

use crate::http::{
    panics::panics,
    problem::{Flaw, Problem, ProblemKind},
};
use crate::telemetry::{
    level::Level,
    probes::Probes,
    scrape::{Exposition, Scrape},
};

/// The maximum size of a log filter in bytes.
const MAX_FILTER: usize = 4096;

/// The longest time for which a temporary filter applies. A filter without a time applies until the next one is set.
const MAX_TERM: Duration = Duration::from_secs(24 * 3600);

/// The port cannot be bound.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: choose another address with --admin-listen")]
pub struct AdminError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The bound admin port.
pub struct Admin {
    listener: TcpListener,
    router: Router,
    level: Level,
}

impl Admin {
    /// Binds the port.
    ///
    /// # Errors
    /// When the address is in use or does not belong to this host.
    pub async fn bind(
        address: SocketAddr,
        registry: Registry,
        probes: Arc<dyn Probes>,
        level: Level,
    ) -> Result<Self, AdminError> {
        let fail = |source| AdminError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        Ok(Self { listener, router: router(registry, probes, level.clone()), level })
    }

    /// Serves requests forever.
    pub async fn serve(self) {
        tokio::select! {
            () = port::serve(self.listener, self.router) => {}
            () = self.level.keep() => {}
        }
    }
}

fn router(registry: Registry, probes: Arc<dyn Probes>, level: Level) -> Router {
    let scrape = Arc::new(Scrape::new(registry, probes.clone()));
    let starting = probes.clone();
    let started = move || {
        let why_not = starting.unready().filter(|_| !starting.is_started());
        async move { probe_response(why_not) }
    };
    let ready = move || {
        let why_not = probes.unready();
        async move { probe_response(why_not) }
    };
    let in_force = level.clone();
    let read_level = move || async move { format!("{}\n", in_force.in_force()) };
    let set_level = async move |ConnectInfo(peer): ConnectInfo<SocketAddr>,
                                RawQuery(query): RawQuery,
                                filter: Result<String, StringRejection>| {
        let flaw = |rejection: StringRejection| {
            let detail = format!("must be UTF-8 of at most {MAX_FILTER} bytes: {rejection}");
            Problem::from_flaws(ProblemKind::Refused(400), vec![Flaw::body("", detail)])
        };
        set_level(&level, peer, query.as_deref(), &filter.map_err(flaw)?)
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .route("/metrics", get(move |headers: HeaderMap| metrics(scrape, headers)))
        .route("/loglevel", get(read_level).put(set_level))
        .fallback(unknown_path)
        .method_not_allowed_fallback(async || {
            // axum adds `Allow`.
            Problem::new(
                ProblemKind::MethodNotAllowed,
                "this path accepts only the methods in Allow",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_FILTER))
        .layer(panics())
}

async fn unknown_path(uri: Uri) -> Problem {
    let path = uri.path();
    let detail = format!(
        "the admin port has no path {path}; it has /livez, /readyz, /startupz, /metrics and /loglevel"
    );
    Problem::new(ProblemKind::UnknownRoute, detail)
}

fn probe_response(why_not: Option<String>) -> (StatusCode, String) {
    match why_not {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Runs on a blocking thread, because it visits every service. The connection's deadline bounds the wait.
async fn metrics(scrape: Arc<Scrape>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept);
    match spawn_blocking(move || scrape.text(exposition)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response(),
        Ok(Err(error)) => encoding_failed(&error),
        Err(error) => encoding_failed(&error),
    }
}

fn encoding_failed(error: &dyn std::error::Error) -> Response {
    error!(%error, "cannot encode the metrics");
    Problem::internal("rollcall cannot encode the metrics; its log has the error").into_response()
}

/// Returns the filter that applies afterwards.
fn set_level(
    level: &Level,
    peer: SocketAddr,
    query: Option<&str>,
    filter: &str,
) -> Result<String, Problem> {
    if !peer.ip().to_canonical().is_loopback() {
        let detail =
            "the log filter can be changed only from within the pod: use kubectl port-forward";
        return Err(Problem::new(ProblemKind::Refused(403), detail));
    }
    let term = parse_term(query).map_err(|()| {
        let detail = "the only parameter is for, with a time of up to 24h, such as ?for=10m";
        Problem::from_flaws(ProblemKind::BadQuery, vec![Flaw::query("for", detail)])
    })?;
    match level.set(filter, term) {
        Ok(()) => Ok(format!("{}\n", level.in_force())),
        Err(error) => Err(Problem::from_flaws(
            ProblemKind::Refused(400),
            vec![Flaw::body("", error.to_string())],
        )),
    }
}

/// The time in `for=10m`; `None` without a query.
fn parse_term(query: Option<&str>) -> Result<Option<Duration>, ()> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let time = query.strip_prefix("for=").ok_or(())?;
    let unit = match time.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(()),
    };
    let number = time.strip_suffix(['s', 'm', 'h']).ok_or(())?;
    let number: u32 = number.parse().map_err(|_| ())?;
    let term = Duration::from_secs(u64::from(number) * unit);
    if term.is_zero() || term > MAX_TERM { Err(()) } else { Ok(Some(term)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_a_unit_and_is_at_most_a_day() {
        assert_eq!(parse_term(None), Ok(None));
        assert_eq!(parse_term(Some("for=10m")), Ok(Some(Duration::from_secs(600))));
        assert_eq!(parse_term(Some("for=24h")), Ok(Some(MAX_TERM)));
        for bad in [
            "for=10", "for=", "for=0s", "for=25h", "for=-1m", "for=mm", "for=1mm", "10m",
            "until=5s",
        ] {
            assert_eq!(parse_term(Some(bad)), Err(()), "{bad}");
        }
    }

    #[test]
    fn the_log_filter_changes_only_from_within_the_pod() {
        let (_layer, level) = Level::new("info").unwrap();
        let set = |peer: &str| set_level(&level, peer.parse().unwrap(), None, "debug");
        assert_eq!(set("10.0.0.7:4000").unwrap_err().kind, ProblemKind::Refused(403));
        assert_eq!(level.in_force(), "info");
        assert!(set("[::ffff:127.0.0.1]:4000").is_ok() && set("[::1]:4000").is_ok());
        assert_eq!(level.in_force(), "debug");
    }
}
