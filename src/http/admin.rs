//! The admin port: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/loglevel`.
//!
//! Ready means synced once. It is never tied to the API server's health after that: a replica
//! that cannot reach it still answers.
//!
//! The port has no authentication. What it tells is for anybody whom the network lets through; what
//! is logged can be changed only from within the pod, where `kubectl port-forward` comes from too:
//! so a caller with that right has this one. What cannot be answered is a problem, as over the other port, and a panic is one
//! 500. Does not own: connections (`port`), what is said (`telemetry::{scrape, level, probes}`).

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
    problem::{Flaw, Kind, Problem},
};
use crate::telemetry::{
    level::Level,
    probes::Probes,
    scrape::{Exposition, Scrape},
};

/// Octets of a filter.
const MAX_FILTER: usize = 4096;

/// The longest that a filter may be set for; without a term it is in force until another.
const MAX_TERM: Duration = Duration::from_secs(24 * 3600);

/// The port cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: choose another address with --admin-listen")]
pub struct AdminError {
    /// Where.
    address: SocketAddr,
    /// Why.
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
    /// When it is taken or not ours.
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

    /// Serves for ever.
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
        let why = starting.unready().filter(|_| !starting.is_started());
        async move { verdict(why) }
    };
    let ready = move || {
        let why = probes.unready();
        async move { verdict(why) }
    };
    let in_force = level.clone();
    let read_level = move || async move { format!("{}\n", in_force.in_force()) };
    let set_level = async move |ConnectInfo(peer): ConnectInfo<SocketAddr>,
                                RawQuery(query): RawQuery,
                                filter: Result<String, StringRejection>| {
        let flaw = |rejection: StringRejection| {
            let detail = format!("must be UTF-8 of at most {MAX_FILTER} bytes: {rejection}");
            Problem::of(Kind::Refused(400), vec![Flaw::body("", detail)])
        };
        set_level(&level, peer, query.as_deref(), &filter.map_err(flaw)?)
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .route("/metrics", get(move |headers: HeaderMap| metrics(scrape, headers)))
        .route("/loglevel", get(read_level).put(set_level))
        .fallback(unknown)
        .method_not_allowed_fallback(async || {
            // axum adds `Allow`.
            Problem::new(Kind::MethodNotAllowed, "this path takes the methods that Allow names")
        })
        .layer(DefaultBodyLimit::max(MAX_FILTER))
        .layer(panics())
}

async fn unknown(uri: Uri) -> Problem {
    let path = uri.path();
    let detail = format!(
        "the admin port has no path {path}; it has /livez, /readyz, /startupz, /metrics and /loglevel"
    );
    Problem::new(Kind::UnknownRoute, detail)
}

fn verdict(why_not: Option<String>) -> (StatusCode, String) {
    match why_not {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Aside of the tasks that serve, since it looks at every service. Its deadline is the connection's.
async fn metrics(scrape: Arc<Scrape>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept);
    match spawn_blocking(move || scrape.text(exposition)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response(),
        Ok(Err(error)) => not_written(&error),
        Err(error) => not_written(&error),
    }
}

fn not_written(error: &dyn std::error::Error) -> Response {
    error!(%error, "the metrics could not be written");
    Problem::internal("the metrics could not be written; the log says why").into_response()
}

/// Answers the filter that is in force then.
fn set_level(
    level: &Level,
    peer: SocketAddr,
    query: Option<&str>,
    filter: &str,
) -> Result<String, Problem> {
    if !peer.ip().to_canonical().is_loopback() {
        let detail = "the filter of the log can be changed only from within the pod: use kubectl port-forward";
        return Err(Problem::new(Kind::Refused(403), detail));
    }
    let term = term(query).map_err(|()| {
        let detail = "the query may only be a time of up to 24h, for example ?for=10m";
        Problem::of(Kind::BadQuery, vec![Flaw::query("for", detail)])
    })?;
    match level.set(filter, term) {
        Ok(()) => Ok(format!("{}\n", level.in_force())),
        Err(error) => Err(Problem::of(Kind::Refused(400), vec![Flaw::body("", error.to_string())])),
    }
}

/// The time of `for=10m`; none without a query.
fn term(query: Option<&str>) -> Result<Option<Duration>, ()> {
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
    fn a_time_has_a_unit_and_a_bound() {
        assert_eq!(term(None), Ok(None));
        assert_eq!(term(Some("for=10m")), Ok(Some(Duration::from_secs(600))));
        assert_eq!(term(Some("for=24h")), Ok(Some(MAX_TERM)));
        for bad in [
            "for=10", "for=", "for=0s", "for=25h", "for=-1m", "for=mm", "for=1mm", "10m",
            "until=5s",
        ] {
            assert_eq!(term(Some(bad)), Err(()), "{bad}");
        }
    }

    #[test]
    fn only_a_caller_from_within_the_pod_changes_what_is_logged() {
        let (_layer, level) = Level::new("info").unwrap();
        let set = |peer: &str| set_level(&level, peer.parse().unwrap(), None, "debug");
        assert_eq!(set("10.0.0.7:4000").unwrap_err().kind, Kind::Refused(403));
        assert_eq!(level.in_force(), "info");
        assert!(set("[::ffff:127.0.0.1]:4000").is_ok() && set("[::1]:4000").is_ok());
        assert_eq!(level.in_force(), "debug");
    }
}
