//! Connections: accepting, bounding, serving and draining them.
//!
//! Owns: the listener, the number of connections and how each ends. Does not own: what is answered
//! (`door`).

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::config::Rates;
use crate::http::{
    answer::Body,
    dispatch::Reply,
    door::{Behind, Door},
    metrics::HttpMetrics,
    progress::{Progress, TICK, Watched},
};

/// Connections at once. Each costs a read buffer of 8 KiB, a write buffer of about as much while
/// an answer is on its way, and some 3 KiB of state: 10,000 are 200 MB in the worst moment and 110 MB
/// when all are idle. Beyond, clients wait in the kernel's queue of 1,024.
const MAX_CONNECTIONS: usize = 10_000;

/// The most bytes of a request's head, and of what is read ahead of a body.
const MAX_HEAD: usize = 64 * 1024;

/// How long connections may go on after the end was announced: less than `serve` gives the doors.
const DRAIN_WITHIN: Duration = Duration::from_secs(4);

/// For the last of them to be gone.
const DRAIN_MARGIN: Duration = Duration::from_millis(500);

/// For a client to acknowledge what it was sent. One that vanished with its machine would else keep its place for a
/// quarter of an hour; one that stands still is dropped before ([`progress`](crate::http::progress)).
const VANISHED: Duration = Duration::from_secs(45);

/// After a failed accept: most often the process is out of file descriptors, and asking again at
/// once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
}

/// The HTTP door could not be opened.
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
}

/// A door that is open; nobody is served before [`HttpServer::serve`].
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    door: Arc<Door>,
}

/// Opens the door.
///
/// # Errors
/// [`HttpError`], which names the address and the flag.
pub async fn bind(
    config: HttpConfig,
    behind: Behind,
    metrics: HttpMetrics,
) -> Result<HttpServer, HttpError> {
    let HttpConfig { listen, replica, zone, read_auth, rates } = config;
    let failed = |source| HttpError::Bind { address: listen, source };
    let Some(door) = Door::new(behind, (read_auth, rates), metrics, (replica.clone(), zone)) else {
        return Err(HttpError::Identity(replica));
    };
    // No deadline: binding does not wait for anybody.
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(HttpServer { listener, address, door: Arc::new(door) })
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
        let Self { listener, door, .. } = self;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // A connection's task ends with it; a panic in one closes that connection and no other.
        let connections = TaskTracker::new();
        let accepting = async {
            loop {
                // Neither wait has a deadline: connections end by themselves, and clients come
                // when they like.
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let (door, stop) = (door.clone(), stop.clone());
                        let one = Connection { door, peer: peer.ip().to_canonical(), stop, permit };
                        connections.spawn(one.serve(stream));
                    }
                    Err(error) => {
                        warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
        drop(listener);
        // Clients that wait go to another replica, or come back.
        door.waiters.end();
        connections.close();
        if timeout(DRAIN_WITHIN + DRAIN_MARGIN, connections.wait()).await.is_err() {
            warn!(left = connections.len(), "connections were still open when the drain ended");
        }
    }
}

/// What one connection holds.
struct Connection {
    door: Arc<Door>,
    peer: IpAddr,
    stop: CancellationToken,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let Self { door, peer, stop, permit } = self;
        if prepare(&stream).is_err() {
            return dropped("ended as it began");
        }
        let progress = Arc::new(Progress::default());
        let service = Answering { door: door.clone(), peer, progress: progress.clone() };
        let stream = TokioIo::new(Watched { stream, progress: progress.clone() });
        let mut http = http1::Builder::new();
        // `progress` has limits in its place.
        http.header_read_timeout(None).max_buf_size(MAX_HEAD);
        let mut connection = pin!(http.serve_connection(stream, service));
        let draining = tokio::select! {
            biased;
            ended = connection.as_mut() => return say(ended),
            () = stands_still(&progress) => {
                if progress.is_streaming() {
                    door.waiters.metrics.dropped.inc();
                }
                return dropped("stood still");
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(DRAIN_WITHIN, connection)
            }
        };
        match draining.await {
            Ok(ended) => say(ended),
            Err(_) => dropped("did not end in time"),
        }
        drop(permit);
    }
}

/// Sends at once, and not for ever in vain.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(VANISHED))
}

/// Clients may break off when they like: nobody is to act on it.
fn say(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}

fn dropped(why: &str) {
    debug!("a connection was dropped that {why}");
}

/// Waits until a connection has stood still for too long.
async fn stands_still(progress: &Progress) {
    let mut ticker = interval(TICK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once.
    ticker.tick().await;
    loop {
        ticker.tick().await;
        if !progress.tick() {
            return;
        }
    }
}

/// The door, as one connection sees it.
struct Answering {
    door: Arc<Door>,
    peer: IpAddr,
    progress: Arc<Progress>,
}

/// An answer that notes when it is made.
struct Noted {
    reply: Reply,
    progress: Arc<Progress>,
    /// `HEAD` has none.
    has_body: bool,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Noted;

    fn call(&self, request: Request<Incoming>) -> Noted {
        self.progress.requested();
        let has_body = request.method() != Method::HEAD;
        let reply = self.door.call(request, self.peer);
        Noted { reply, progress: self.progress.clone(), has_body }
    }
}

impl Future for Noted {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.reply).poll(cx);
        match &polled {
            Poll::Ready(Ok(response)) if self.has_body && response.body().is_stream() => {
                self.progress.streams();
            }
            Poll::Ready(_) => self.progress.answered(),
            Poll::Pending => {}
        }
        polled
    }
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
