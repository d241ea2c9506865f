//! The connections of the admin port: how many, and for how long.
//!
//! Owns: their limits, and how each connection ends. A connection carries one request, and ends after
//! [`CONNECTION_WITHIN`] at the latest, or after [`HEAD_WITHIN`] if no request arrives. So scrapers that stop reading
//! and idle clients never hold more than [`MAX_CONNECTIONS`] sockets. A client that opens hundreds of connections a
//! second can still block the kubelet's probes: use a NetworkPolicy to restrict the port to the kubelet and Prometheus.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{Instrument as _, debug};

use crate::http::accept::{Accepted, accept};

/// The maximum number of open connections. Each holds a buffer of up to 16 KiB and, during a scrape, a response of
/// about 30 KiB: together 12 MB at most. Probes and scrapes need one or two.
const MAX_CONNECTIONS: usize = 256;

/// The time limit for a whole connection. Prometheus waits 10 s for a scrape, the kubelet 1 s for a probe.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);

/// The time limit for the head of a request: clients of this port are nearby and send the head in one packet.
const HEAD_WITHIN: Duration = Duration::from_secs(1);

/// The maximum size of a request's head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves requests forever. When this future is dropped, its connections are closed.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    // A connection without a request releases its permit within `HEAD_WITHIN`.
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let begin = |Accepted { stream, peer, permit }| {
        while connections.try_join_next().is_some() {}
        let router = router.clone().layer(Extension(ConnectInfo(peer)));
        let connection = async move {
            serve_connection(stream, router).await;
            drop(permit);
        };
        connections.spawn(connection.in_current_span());
    };
    accept(&listener, "--admin-listen", permits, begin).await;
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(MAX_HEAD);
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let service = TowerToHyperService::new(router);
    match timeout(CONNECTION_WITHIN, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the admin port ended with an error"),
        Err(_) => debug!("closed a connection to the admin port that took longer than 10 s"),
    }
}
