//! One connection, from its first byte to its last: HTTP/1.1, or HTTP/2 if the client starts with it (with prior
//! knowledge, RFC 9113 §3.3, or after ALPN).
//!
//! Owns: the limits of a connection, and how it ends. Does not own: accepting (`server`), and the responses (`hot`,
//! `router`).

mod limits;
mod paced_body;
mod progress;
mod signal;
mod streams;
mod ticker;
mod unsent_bytes;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE},
    rt::Executor,
    service::Service,
};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tracing::debug;

pub(super) use ticker::Ticker;

use crate::http::{
    admission::StreamLimitReached,
    answer::PIECE,
    connection::{
        paced_body::PacedBody,
        progress::{ConnectionState, MonitoredStream, Progress},
        signal::Signal,
        streams::OpenStream,
    },
    hot::{HotPath, Reply},
    subscribers::Subscribers,
    watch,
};

/// The maximum size of a request's head in bytes, and of the part of a body that is read ahead.
const MAX_HEAD: usize = 64 * 1024;

/// HTTP/2: how many bytes of bodies a client can send before they are read, per stream and per connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long a connection can stay open after the shutdown began: less than the time that `serve` gives the servers.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(4);

/// The state that all connections share.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    /// Answers requests. Each connection has a clone for its peer.
    pub(super) hot: HotPath,
    pub(super) subscribers: Arc<Subscribers>,
    /// Checks the progress of all connections, and shuts them down.
    pub(super) ticker: Arc<Ticker>,
    /// Permits for HTTP/2 requests, on all connections together.
    pub(super) streams: Arc<Semaphore>,
    pub(super) http: Arc<auto::Builder<TrackedExecutor>>,
}

/// Runs each HTTP/2 stream as a task, which ends with its response or its connection.
#[derive(Clone)]
pub(super) struct TrackedExecutor(pub(super) TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TrackedExecutor {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Configures both protocols with their limits.
pub(super) fn protocols(tasks: TaskTracker) -> auto::Builder<TrackedExecutor> {
    let mut http = auto::Builder::new(TrackedExecutor(tasks));
    // `progress` limits the time for a request head instead.
    http.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
    http.http2()
        .max_concurrent_streams(streams::MAX_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(PIECE);
    http
}

/// Serves a connection until it ends, and then releases `permit`.
pub(super) async fn serve<S>(
    context: ConnectionContext,
    peer: IpAddr,
    stream: S,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ConnectionContext { hot, subscribers, ticker, streams, http } = context;
    let ticked = ticker.add();
    let progress = &ticked.progress;
    let service =
        ConnectionService { hot: hot.for_peer(peer), progress: progress.clone(), streams };
    let stream = TokioIo::new(MonitoredStream { stream, progress: progress.clone() });
    let mut connection = pin!(http.serve_connection(stream, service));
    let draining = loop {
        // No deadline: the ticker signals a stalled connection.
        let signal = tokio::select! {
            biased;
            ended = connection.as_mut() => return log_end(ended),
            signal = poll_fn(|cx| progress.signals.poll_receive(cx)) => signal,
        };
        let ends = match (signal, progress.state()) {
            (Signal::CheckState, ConnectionState::Active) => continue,
            (Signal::CheckState, ConnectionState::Stalled) => {
                if progress.has_watch() {
                    subscribers.metrics.dropped.inc();
                }
                return debug!("dropped a connection: its client made no progress");
            }
            (Signal::CheckState, ConnectionState::Idle) | (Signal::ShutDown, _) => true,
            (Signal::MoveOn, _) => false,
        };
        // Responses in progress continue, but the client can send no further request on this connection.
        connection.as_mut().graceful_shutdown();
        if ends {
            break timeout(DRAIN_WITHIN, connection);
        }
    };
    match draining.await {
        Ok(ended) => log_end(ended),
        Err(_) => debug!("dropped a connection: it did not end within the drain"),
    }
    drop(permit);
}

/// Logs at level debug: clients can disconnect at any time, and no action is needed.
fn log_end<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        debug!(%error, "a connection ended with an error");
    }
}

/// The HTTP service of one connection, as hyper calls it.
struct ConnectionService {
    hot: HotPath,
    progress: Arc<Progress>,
    streams: Arc<Semaphore>,
}

/// A response in progress, which records when its head is ready.
struct PendingResponse {
    reply: Reply,
    progress: Arc<Progress>,
    /// Whether the request came over HTTP/2.
    stream: Option<OpenStream>,
    /// False for `HEAD`.
    has_body: bool,
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<PacedBody>;
    type Error = Infallible;
    type Future = PendingResponse;

    fn call(&self, mut request: Request<Incoming>) -> PendingResponse {
        let has_body = request.method() != Method::HEAD;
        let progress = self.progress.clone();
        let stream = if request.version() == Version::HTTP_2 {
            let permit = self.streams.clone().try_acquire_owned().ok();
            if permit.is_none() {
                request.extensions_mut().insert(StreamLimitReached);
            }
            Some(progress.stream_opened(permit))
        } else {
            progress.request_begun();
            None
        };
        PendingResponse { reply: self.hot.respond(request), progress, stream, has_body }
    }
}

impl Future for PendingResponse {
    type Output = Result<Response<PacedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.reply).poll(cx))?;
        // RFC 9110 §8.6: axum sets the length of the empty body that is sent, not that of the content.
        if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        Poll::Ready(Ok(match self.stream.take() {
            None => self.http1(response),
            Some(stream) => self.http2(response, stream),
        }))
    }
}

impl PendingResponse {
    fn http1(&self, response: Response<Body>) -> Response<PacedBody> {
        let is_watch = self.is_watch(&response);
        if is_watch {
            self.progress.watch_begun();
        } else {
            self.progress.response_ready();
        }
        response.map(|body| PacedBody::http1(body, is_watch, &self.progress))
    }

    fn http2(&self, mut response: Response<Body>, stream: OpenStream) -> Response<PacedBody> {
        let is_watch = self.is_watch(&response);
        // RFC 9113 §8.2.2: HTTP/2 has no `Connection` header. GOAWAY makes the client use another connection instead.
        // It is not sent for a watch, which lasts as long as its connection anyway.
        let moves = response.headers_mut().remove(CONNECTION).is_some();
        if moves && !is_watch {
            self.progress.signals.send(Signal::MoveOn);
        }
        response.map(|body| PacedBody::http2(body, is_watch, &self.progress, stream))
    }

    fn is_watch(&self, response: &Response<Body>) -> bool {
        let media_type = response.headers().get(CONTENT_TYPE);
        self.has_body && media_type.is_some_and(|it| it == watch::MEDIA_TYPE)
    }
}
