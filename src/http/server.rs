//! The listener: accepts connections, bounds their number, and drains them.
//!
//! Does not own: what happens on a connection (`connection`), certificates (`tls`), and the responses (`hot`,
//! `router`).

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use socket2::SockRef;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::config::{HttpTls, Rates};
use crate::http::{
    accept::{Accepted, accept},
    app::{AppParts, AppSettings, AppState},
    connection::{self, ConnectionContext, DRAIN_WITHIN, Ticker},
    hot::HotPath,
    metrics::HttpMetrics,
    table::{self, OPERATIONS},
    tls::{Tls, TlsError},
};

/// The maximum number of open connections. Each takes a read buffer of 8 KiB, a piece of a response of 16 KiB while one
/// is being sent, and about 3 KiB of state: 10,000 take 270 MB while all are answered and 110 MB when all are idle;
/// with TLS 200 MB more. An incomplete head takes 64 KiB for up to 15 s, so 10,000 untrusted clients can hold 640 MB
/// for that time. Beyond this limit, clients wait in the kernel's queue of 1,024.
const MAX_CONNECTIONS: usize = 10_000;

/// The maximum number of open HTTP/2 requests on all connections together: as many as if each had its own connection.
const MAX_STREAMS: usize = MAX_CONNECTIONS;

/// How much longer than [`DRAIN_WITHIN`] the server waits for the last connection.
const DRAIN_MARGIN: Duration = Duration::from_millis(500);

/// How long a client can take to acknowledge data. Without this limit, the connection to a client whose machine failed
/// would stay open for a quarter of an hour. A client that acknowledges data, but does not read it, is dropped earlier
/// ([`connection`]).
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(45);

/// How many unsent bytes the kernel buffers. Without this limit it buffers up to 4 MB for a client that reads nothing.
const UNSENT_BYTES: u32 = 64 * 1024;

/// The configuration of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The identity of this replica.
    pub replica: String,
    /// The DNS zone, for the names in answers.
    pub zone: String,
    /// Whether reads also need a token (`--read-auth`).
    pub read_auth: bool,
    /// The rate limits.
    pub rates: Rates,
    /// Certificate and key; `None` without TLS.
    pub tls: Option<HttpTls>,
}

/// The HTTP server cannot start.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The address cannot be bound.
    #[error("cannot listen for HTTP on {address}: choose another address with --http-listen")]
    Bind {
        /// The address of `--http-listen`.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The identity contains characters that are not allowed in a header.
    #[error("the identity {0:?} cannot be sent in a header: choose visible ASCII with --identity")]
    Identity(String),
    /// Certificate and key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound server. Connections wait in the kernel until [`HttpServer::serve`].
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<AppState>,
    tls: Option<Arc<Tls>>,
}

/// Binds the server.
///
/// # Errors
/// [`HttpError`], which names the flag to change.
pub async fn bind(
    config: HttpConfig,
    parts: AppParts,
    metrics: HttpMetrics,
    registry: &mut Registry,
) -> Result<HttpServer, HttpError> {
    let HttpConfig { listen, replica, zone, read_auth, rates, tls } = config;
    let failed = |source| HttpError::Bind { address: listen, source };
    let (document, calls) = (table::document, table::calls);
    let settings =
        AppSettings { read_auth, rates, identity: replica.clone(), zone, document, calls };
    let Some(app) = AppState::new(parts, settings, metrics) else {
        return Err(HttpError::Identity(replica));
    };
    let tls = match tls {
        Some(files) => Some(Arc::new(Tls::open(files, registry).await?)),
        None => None,
    };
    // No deadline: binding does not block.
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(HttpServer { listener, address, app: Arc::new(app), tls })
}

impl HttpServer {
    /// The address, with the port that the kernel chose when port 0 was configured.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled, then waits a few seconds at most for connections to complete their requests.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, app, tls, .. } = self;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // The task of a connection ends with the connection; a panic in it closes only that connection.
        let connections = TaskTracker::new();
        let ticker = Arc::new(Ticker::default());
        let context = ConnectionContext {
            hot: HotPath::new(app.clone(), &OPERATIONS, true),
            subscribers: app.subscribers.clone(),
            ticker: ticker.clone(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            http: Arc::new(connection::protocols(connections.clone())),
        };
        let accepting = accept(&listener, "--http-listen", permits, |accepted| {
            connections.spawn(serve_connection(accepted, context.clone(), tls.clone()));
        });
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
            () = ticker.run() => {}
            () = reload_certificates(tls.as_deref()) => {}
        }
        drop(listener);
        ticker.shut_down();
        // Subscribers reconnect, to another replica or to this one after its restart.
        app.subscribers.shut_down();
        connections.close();
        if timeout(DRAIN_WITHIN + DRAIN_MARGIN, connections.wait()).await.is_err() {
            warn!(left = connections.len(), "connections were still open when the drain ended");
        }
    }
}

/// Reloads certificates when they change, forever.
async fn reload_certificates(tls: Option<&Tls>) {
    match tls {
        Some(tls) => tls.reload_on_change().await,
        None => pending().await,
    }
}

/// Serves an accepted connection until it ends.
async fn serve_connection(accepted: Accepted, context: ConnectionContext, tls: Option<Arc<Tls>>) {
    let Accepted { stream, peer, permit } = accepted;
    let peer = peer.ip().to_canonical();
    if let Err(error) = set_options(&stream) {
        return debug!(%error, "cannot set the socket options of a new connection; closing it");
    }
    let Some(tls) = tls else {
        return connection::serve(context, peer, stream, permit).await;
    };
    match tls.accept(stream).await {
        Ok(stream) => Box::pin(connection::serve(context, peer, stream, permit)).await,
        Err(error) => debug!(%peer, %error, "a TLS handshake failed"),
    }
}

/// Disables Nagle's algorithm, bounds the kernel's send buffer, and sets the acknowledgement timeout.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_nodelay_and_an_acknowledgement_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (stream, _) = accepted.unwrap();
        set_options(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(ACKNOWLEDGED_WITHIN));
    }
}
