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
    /// Whether queries can be answered.
    fn is_ready(&self) -> bool;
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
        let ready = move || {
            let ready = probes.is_ready();
            async move {
                if ready {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not synced with the Kubernetes API yet\n")
                }
            }
        };
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready.clone()))
            .route("/startupz", get(ready))
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
