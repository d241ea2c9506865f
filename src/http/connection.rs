//! One connection, from its first octet to its last: HTTP/1.1, or HTTP/2 when the client begins with that (by prior
//! knowledge, RFC 9113 §3.3, or by ALPN).
//!
//! Owns: what bounds a connection, and how it ends. Does not own: accepting (`server`), and what is answered (`door`).

mod progress;
mod rounds;
mod sent;
mod streams;
mod untaken;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Method, Request, Response, Version,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, HeaderValue},
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
    answer::{Body, PIECE},
    connection::{
        progress::{Progress, Standing, Watched},
        rounds::Word,
        sent::Sent,
        streams::Taken,
    },
    dispatch::Reply,
    door::Door,
};

/// The most bytes of a request's head, and of what is read ahead of a body.
const MAX_HEAD: usize = 64 * 1024;

/// HTTP/2: what a client may send of its bodies before they are read, of one and of all of them.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long connections may go on after the end was announced: less than `serve` gives the doors.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(4);

/// What all connections share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) door: Arc<Door>,
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
    let Shared { door, rounds, streams, http } = shared;
    let joined = rounds.join();
    let progress = &joined.progress;
    let service = Answering { door: door.clone(), peer, progress: progress.clone(), streams };
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
                    door.waiters.metrics.dropped.inc();
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

/// The door, as one connection sees it.
struct Answering {
    door: Arc<Door>,
    peer: IpAddr,
    progress: Arc<Progress>,
    streams: Arc<Semaphore>,
}

/// An answer that notes when it is made.
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

    fn call(&self, request: Request<Incoming>) -> Noted {
        let has_body = request.method() != Method::HEAD;
        let progress = self.progress.clone();
        if request.version() != Version::HTTP_2 {
            progress.requested();
            let reply = self.door.call(request, self.peer);
            return Noted { reply, progress, stream: None, has_body };
        }
        let place = self.streams.clone().try_acquire_owned().ok();
        let reply = match place {
            Some(_) => self.door.call(request, self.peer),
            None => self.door.turn_away(&request, self.peer),
        };
        let stream = Some(progress.opened(place));
        Noted { reply, progress, stream, has_body }
    }
}

impl Future for Noted {
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = Pin::new(&mut self.reply).poll(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(Ok(match self.stream.take() {
            None => self.alone(response),
            Some(taken) => self.among_others(response, taken),
        }))
    }
}

impl Noted {
    fn alone(&self, response: Response<Body>) -> Response<Sent> {
        if self.has_body && response.body().is_stream() {
            self.progress.streams();
        } else {
            self.progress.answered();
        }
        response.map(|body| Sent::alone(body, &self.progress))
    }

    fn among_others(&self, mut response: Response<Body>, taken: Taken) -> Response<Sent> {
        // RFC 9113 §8.2.2: there is no such header. Who is to come again by another connection is told so by GOAWAY,
        // but not where the answer is a stream: it lives as long as the connection anyway.
        let moves = response.headers_mut().remove(CONNECTION).is_some();
        if moves && !response.body().is_stream() {
            self.progress.told.tell(Word::MoveOn);
        }
        if !self.has_body {
            let length = response.body().length().map(HeaderValue::from);
            if let Some(length) = length.filter(|_| response.body().content_type().is_some()) {
                response.headers_mut().insert(CONTENT_LENGTH, length);
            }
            *response.body_mut() = Body::Whole(None);
        }
        response.map(|body| Sent::among_others(body, &self.progress, taken))
    }
}
