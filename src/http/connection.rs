//! One connection, from its first byte to its last: HTTP/1.1, or HTTP/2 when the client begins with that (by prior
//! knowledge, RFC 9113 §3.3, or by ALPN).
//!
//! Owns: what bounds a connection, and how it ends. Does not own: accepting (`server`), and what is answered (`hot`, `router`).

mod limits;
mod progress;
mod rounds;
mod sent;
mod streams;
mod told;
mod untaken;

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

pub(super) use rounds::Rounds;

use crate::http::{
    admission::NoPlace,
    answer::PIECE,
    connection::{
        progress::{Progress, Standing, Watched},
        sent::Sent,
        streams::Taken,
        told::Word,
    },
    hot::{Hot, Reply},
    waiters::Waiters,
    watch,
};

/// The most bytes of a request's head, and of what is read ahead of a body.
const MAX_HEAD: usize = 64 * 1024;

/// HTTP/2: what a client may send of its bodies before they are read, of one and of all of them.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long connections may go on after the end was announced: less than `serve` gives the servers.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(4);

/// What all connections share.
#[derive(Clone)]
pub(super) struct Shared {
    /// Answers requests; of each connection with its peer.
    pub(super) hot: Hot,
    pub(super) waiters: Arc<Waiters>,
    /// Looks at all of them, and ends them.
    pub(super) rounds: Arc<Rounds>,
    /// How many requests may be open over HTTP/2, on all connections together.
    pub(super) streams: Arc<Semaphore>,
    pub(super) http: Arc<auto::Builder<Tracked>>,
}

/// Runs the streams of HTTP/2, each a task that ends with its answer or its connection.
#[derive(Clone)]
pub(super) struct Tracked(pub(super) TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The protocols with their bounds.
pub(super) fn protocols(tasks: TaskTracker) -> auto::Builder<Tracked> {
    let mut http = auto::Builder::new(Tracked(tasks));
    // `progress` has limits in its place.
    http.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
    http.http2()
        .max_concurrent_streams(streams::MOST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(PIECE);
    http
}

/// Serves a connection until it ends; gives `permit` back then.
pub(super) async fn serve<S>(shared: Shared, peer: IpAddr, stream: S, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Shared { hot, waiters, rounds, streams, http } = shared;
    let joined = rounds.join();
    let progress = &joined.progress;
    let service = Answering { hot: hot.of(peer), progress: progress.clone(), streams };
    let stream = TokioIo::new(Watched { stream, progress: progress.clone() });
    let mut connection = pin!(http.serve_connection(stream, service));
    let draining = loop {
        // No deadline: it is told when it stands still.
        let told = tokio::select! {
            biased;
            ended = connection.as_mut() => return say(ended),
            told = poll_fn(|cx| progress.told.poll(cx)) => told,
        };
        let ends = match (told, progress.standing()) {
            (Word::Stands, Standing::Moves) => continue,
            (Word::Stands, Standing::Stuck) => {
                if progress.is_streaming() {
                    waiters.metrics.dropped.inc();
                }
                return dropped("stood still");
            }
            (Word::Stands, Standing::Idle) | (Word::End, _) => true,
            (Word::MoveOn, _) => false,
        };
        // What is under way goes on; the client opens nothing more here.
        connection.as_mut().graceful_shutdown();
        if ends {
            break timeout(DRAIN_WITHIN, connection);
        }
    };
    match draining.await {
        Ok(ended) => say(ended),
        Err(_) => dropped("did not end in time"),
    }
    drop(permit);
}

/// Clients may break off when they like: nobody is to act on it.
fn say<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}

fn dropped(why: &str) {
    debug!("a connection was dropped that {why}");
}

/// The server, as one connection sees it.
struct Answering {
    hot: Hot,
    progress: Arc<Progress>,
    streams: Arc<Semaphore>,
}

/// A response on its way that notes when its head is made.
struct Noted {
    reply: Reply,
    progress: Arc<Progress>,
    /// Over HTTP/2.
    stream: Option<Taken>,
    /// `HEAD` has none.
    has_body: bool,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Noted;

    fn call(&self, mut request: Request<Incoming>) -> Noted {
        let has_body = request.method() != Method::HEAD;
        let progress = self.progress.clone();
        let stream = if request.version() == Version::HTTP_2 {
            let place = self.streams.clone().try_acquire_owned().ok();
            if place.is_none() {
                request.extensions_mut().insert(NoPlace);
            }
            Some(progress.opened(place))
        } else {
            progress.requested();
            None
        };
        Noted { reply: self.hot.respond(request), progress, stream, has_body }
    }
}

impl Future for Noted {
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.reply).poll(cx))?;
        // RFC 9110 §8.6: the length that axum sets is that of the nothing that is sent.
        if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        Poll::Ready(Ok(match self.stream.take() {
            None => self.http1(response),
            Some(taken) => self.http2(response, taken),
        }))
    }
}

impl Noted {
    fn http1(&self, response: Response<Body>) -> Response<Sent> {
        let is_watch = self.is_watch(&response);
        if is_watch {
            self.progress.streams();
        } else {
            self.progress.answered();
        }
        response.map(|body| Sent::http1(body, is_watch, &self.progress))
    }

    fn http2(&self, mut response: Response<Body>, taken: Taken) -> Response<Sent> {
        let is_watch = self.is_watch(&response);
        // RFC 9113 §8.2.2: there is no such header. A client that should come again by another connection is told so by
        // GOAWAY, but not where the response is a stream: that lives as long as the connection anyway.
        let moves = response.headers_mut().remove(CONNECTION).is_some();
        if moves && !is_watch {
            self.progress.told.tell(Word::MoveOn);
        }
        response.map(|body| Sent::http2(body, is_watch, &self.progress, taken))
    }

    fn is_watch(&self, response: &Response<Body>) -> bool {
        let media_type = response.headers().get(CONTENT_TYPE);
        self.has_body && media_type.is_some_and(|it| it == watch::MEDIA_TYPE)
    }
}
