//! The connections of the admin port: how many, and for how long.
//!
//! Owns: their bounds, and the end of each. One connection carries one request and is over after
//! [`WHOLE`], or after [`HEAD`] if it asks nothing, whatever either side does: so neither a scraper that
//! stops reading nor a thousand that never ask keep more than [`MAX_CONNECTIONS`] sockets. Who comes
//! with hundreds of connections a second can still crowd out the kubelet: who may come here at all is
//! a matter for a NetworkPolicy. It is meant for the kubelet and for Prometheus.

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

/// Connections at once. Each holds a buffer of up to 16 KiB and, while it is scraped, an answer of
/// some 30 KiB: 12 MB at worst. Probes and scrapes take one or two.
const MAX_CONNECTIONS: usize = 256;

/// For a whole connection. Prometheus gives a scrape 10 s, the kubelet a probe 1 s.
const WHOLE: Duration = Duration::from_secs(10);

/// For the head of a request: what comes here comes in one piece from nearby.
const HEAD: Duration = Duration::from_secs(1);

/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;

/// Serves for ever. Dropped, it takes its connections with it.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    // A place is free again within `HEAD` where nothing is asked.
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let begin = |Accepted { stream, peer, permit }| {
        while connections.try_join_next().is_some() {}
        let router = router.clone().layer(Extension(ConnectInfo(peer)));
        let connection = async move {
            one(stream, router).await;
            drop(permit);
        };
        connections.spawn(connection.in_current_span());
    };
    accept(&listener, "--admin-listen", places, begin).await;
}

async fn one(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(MAX_HEAD);
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let service = TowerToHyperService::new(router);
    match timeout(WHOLE, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the admin port broke off"),
        Err(_) => debug!("a connection to the admin port was not over in time"),
    }
}
