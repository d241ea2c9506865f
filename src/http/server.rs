//! The listener: accepting connections, bounding their number, and draining them.
//!
//! Does not own: what happens on one of them (`connection`), certificates (`tls`), what is answered (`hot`, `router`).

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
    app::{App, AppParts, Settings},
    connection::{self, DRAIN_WITHIN, Rounds, Shared},
    hot::Hot,
    metrics::HttpMetrics,
    table::{self, OPERATIONS},
    tls::{Tls, TlsError},
};

/// Connections at once. Each costs a read buffer of 8 KiB, a piece of an answer of 16 KiB while one is on its
/// way, and some 3 KiB of state: 10,000 are 270 MB while all are answered and 110 MB when all are idle; with TLS 200 MB
/// more. A head that does not end takes 64 KiB for 15 s, so that 10,000 strangers hold 640 MB for so long. Beyond, clients wait in the kernel's queue of 1,024.
const MAX_CONNECTIONS: usize = 10_000;

/// Requests over HTTP/2 that are open at once, on all connections together: as if each had a connection of its own.
const MAX_STREAMS: usize = MAX_CONNECTIONS;

/// For the last of them to be gone.
const DRAIN_MARGIN: Duration = Duration::from_millis(500);

/// For a client to acknowledge what it was sent. One that vanished with its machine would else keep its place for a
/// quarter of an hour; one that stands still is dropped before ([`connection`]).
const VANISHED: Duration = Duration::from_secs(45);

/// What the kernel takes ahead of a client's window, in octets: that of who reads nothing is else up to 4 MB.
const UNSENT: u32 = 64 * 1024;

/// Where and as whom to answer.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The identity of this replica.
    pub replica: String,
    /// The DNS zone, for the names in answers.
    pub zone: String,
    /// Whether reads need a token too.
    pub read_auth: bool,
    /// How much may be asked for.
    pub rates: Rates,
    /// Certificate and key; without them there is no TLS.
    pub tls: Option<HttpTls>,
}

/// The HTTP server cannot start.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("cannot listen for HTTP on {address}: choose another address with --http-listen")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The identity holds characters that no header may hold.
    #[error("the identity {0:?} cannot be sent in a header: choose visible ASCII with --identity")]
    Identity(String),
    /// Certificate and key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that is bound; connections wait in the kernel until [`HttpServer::serve`].
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
}

/// Binds the server.
///
/// # Errors
/// [`HttpError`], which names the address and the flag.
pub async fn bind(
    config: HttpConfig,
    parts: AppParts,
    metrics: HttpMetrics,
    registry: &mut Registry,
) -> Result<HttpServer, HttpError> {
    let HttpConfig { listen, replica, zone, read_auth, rates, tls } = config;
    let failed = |source| HttpError::Bind { address: listen, source };
    let (document, calls) = (table::document, table::calls);
    let settings = Settings { read_auth, rates, identity: replica.clone(), zone, document, calls };
    let Some(app) = App::new(parts, settings, metrics) else {
        return Err(HttpError::Identity(replica));
    };
    let tls = match tls {
        Some(files) => Some(Arc::new(Tls::open(files, registry).await?)),
        None => None,
    };
    // No deadline: binding does not wait for anybody.
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(HttpServer { listener, address, app: Arc::new(app), tls })
}

impl HttpServer {
    /// The address, with the port that was chosen when none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets connections finish what they are doing, for a few
    /// seconds at most.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, app, tls, .. } = self;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // A connection's task ends with it; a panic in one closes that connection and no other.
        let connections = TaskTracker::new();
        let rounds = Arc::new(Rounds::default());
        let shared = Shared {
            hot: Hot::new(app.clone(), &OPERATIONS, true),
            waiters: app.waiters.clone(),
            rounds: rounds.clone(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            http: Arc::new(connection::protocols(connections.clone())),
        };
        let accepting = accept(&listener, "--http-listen", room, |accepted| {
            connections.spawn(begin(accepted, shared.clone(), tls.clone()));
        });
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
            () = rounds.go() => {}
            () = keep(tls.as_deref()) => {}
        }
        drop(listener);
        rounds.end();
        // Clients that wait go to another replica, or come back.
        app.waiters.end();
        connections.close();
        if timeout(DRAIN_WITHIN + DRAIN_MARGIN, connections.wait()).await.is_err() {
            warn!(left = connections.len(), "connections were still open when the drain ended");
        }
    }
}

/// Keeps certificates current, for ever.
async fn keep(tls: Option<&Tls>) {
    match tls {
        Some(tls) => tls.keep().await,
        None => pending().await,
    }
}

/// A connection that has just been accepted, until it ends.
async fn begin(accepted: Accepted, shared: Shared, tls: Option<Arc<Tls>>) {
    let Accepted { stream, peer, permit } = accepted;
    let peer = peer.ip().to_canonical();
    if let Err(error) = prepare(&stream) {
        return debug!(%error, "a connection ended as it began");
    }
    let Some(tls) = tls else {
        return connection::serve(shared, peer, stream, permit).await;
    };
    match tls.accept(stream).await {
        Ok(stream) => Box::pin(connection::serve(shared, peer, stream, permit)).await,
        Err(error) => debug!(%peer, %error, "a connection ended before TLS was agreed on"),
    }
}

/// Sends at once, not much ahead, and not for ever in vain.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(VANISHED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_sends_at_once_and_ends_when_nobody_acknowledges() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (stream, _) = accepted.unwrap();
        prepare(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(VANISHED));
    }
}
