//! The admin port: `/livez`, `/readyz`, `/startupz`, `/metrics`.
//!
//! Ready means synced once. It is never tied to the API server's health after that: a replica
//! that cannot reach it still answers.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, http::header, response::IntoResponse as _, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use thiserror::Error;
use tokio::net::TcpListener;

/// What the probes ask.
pub trait Probes: Send + Sync + 'static {
    /// Whether queries could be answered at some time.
    fn is_started(&self) -> bool;

    /// Why queries should not come here now; none when they may.
    fn unready(&self) -> Option<String>;
}

/// The port cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on {address} (--admin-listen): {source}")]
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
    ) -> Result<Self, AdminError> {
        let fail = |source| AdminError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let registry = Arc::new(registry);
        let starting = probes.clone();
        let started = move || {
            let why = starting.unready().filter(|_| !starting.is_started());
            async move { verdict(why) }
        };
        let ready = move || {
            let why = probes.unready();
            async move { verdict(why) }
        };
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/startupz", get(started))
            .route("/metrics", get(move || async move { metrics(&registry) }));
        Ok(Self { listener, router })
    }

    /// Serves for ever.
    pub async fn serve(self) {
        if let Err(error) = axum::serve(self.listener, self.router).await {
            tracing::error!(%error, "the admin port broke down");
        }
    }
}

fn verdict(why_not: Option<String>) -> (StatusCode, String) {
    match why_not {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn metrics(registry: &Registry) -> axum::response::Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
