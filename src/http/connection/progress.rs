//! Whether a connection makes progress: the stream records it, and the ticker checks it.
//!
//! Owns: [`MonitoredStream`], a stream that records reads and blocked writes; [`Progress`], the limits after which a
//! connection is dropped, and whether another piece of a response can be sent. Does not own: the progress of single
//! HTTP/2 streams (`streams`). hyper's own header timeout would also close connections that are idle between two
//! heartbeats, and costs a timer with every request; this costs a few relaxed stores.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};

use crate::http::connection::{
    limits::{PROGRESS_BYTES, STALLED_TICKS, STALLED_WATCH_TICKS},
    signal::SignalSlot,
    streams::{OpenStream, Streams},
    unsent_bytes::UnsentBytes,
};

/// The head of a request must be complete before the third tick after its first byte: within 10 to 15 s.
const HEAD_TICKS: u32 = 2;

/// The limit between two requests: 5 min, longer than the heartbeat interval of any lease for which a client should
/// keep its connection open.
const IDLE_TICKS: u32 = 60;

/// The stages of a connection.
const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
/// HTTP/1: the response is a watch, which ends with the connection.
const WATCH: u8 = 3;
/// HTTP/2: many requests at once, each with a record in `streams`.
const HTTP2: u8 = 4;

/// The beginning of the preface that an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// The state of a connection as of the last tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// The connection stays open.
    Active,
    /// The client has sent no request for a long time: the connection can shut down gracefully.
    Idle,
    /// The server waits for the client, which neither sends nor takes data: the connection is dropped.
    Stalled,
}

/// The stage of a connection, and since which tick.
#[derive(Debug, Default)]
pub(super) struct Progress {
    ticks: Arc<AtomicU32>,
    stage: AtomicU8,
    since: AtomicU32,
    /// The tick at which a write was first blocked, plus one; zero while no write is blocked.
    blocked_since: AtomicU32,
    /// Bytes written since then.
    written_since: AtomicUsize,
    /// HTTP/1: pieces of a response that are not written yet.
    unwritten_pieces: AtomicU32,
    pieces_written: AtomicWaker,
    streams: Streams,
    unsent: UnsentBytes,
    pub(super) signals: SignalSlot,
}

impl Progress {
    /// HTTP/1: the head of a request is complete.
    pub(super) fn request_begun(&self) {
        self.stage.store(BUSY, Ordering::Relaxed);
    }

    /// HTTP/1: the head of the response is ready.
    pub(super) fn response_ready(&self) {
        self.begin(IDLE);
    }

    /// HTTP/1: the response is a watch, which lasts as long as the connection.
    pub(super) fn watch_begun(&self) {
        self.stage.store(WATCH, Ordering::Relaxed);
    }

    /// HTTP/2: a request has arrived. Keep the result until the client has taken the whole response.
    pub(super) fn stream_opened(&self, permit: Option<OwnedSemaphorePermit>) -> OpenStream {
        self.begin(HTTP2);
        self.streams.open(&self.ticks, permit)
    }

    /// Whether at least one response on this connection is a watch.
    pub(super) fn has_watch(&self) -> bool {
        match self.stage.load(Ordering::Relaxed) {
            WATCH => true,
            HTTP2 => self.streams.has_watch(),
            _ => false,
        }
    }

    /// HTTP/1: a piece of a response was passed to hyper, which may buffer it.
    pub(super) fn piece_queued(&self) {
        self.unwritten_pieces.fetch_add(1, Ordering::AcqRel);
    }

    /// HTTP/2: bytes of a response were passed to hyper, which buffers them until their stream has window.
    pub(super) fn bytes_queued(&self, bytes: usize) {
        self.unsent.add(bytes, self.ticks.load(Ordering::Relaxed));
    }

    /// HTTP/2: at least this many of those bytes are not sent yet.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.count()
    }

    /// HTTP/1: ready when at most `most` pieces wait for the kernel, so that the next piece can be produced.
    pub(super) fn poll_unwritten(&self, most: u32, cx: &Context<'_>) -> Poll<()> {
        if self.unwritten_pieces.load(Ordering::Acquire) <= most {
            return Poll::Ready(());
        }
        self.pieces_written.register(cx.waker());
        // The pieces may have been written between the first load and the registration of the waker.
        let fits = self.unwritten_pieces.load(Ordering::Acquire) <= most;
        if fits { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Counts a tick and returns the state after it.
    pub(super) fn tick(&self) -> ConnectionState {
        let now = self.ticks.load(Ordering::Relaxed).saturating_add(1);
        self.ticks.store(now, Ordering::Relaxed);
        self.state()
    }

    /// The state as of the last tick.
    pub(super) fn state(&self) -> ConnectionState {
        let now = self.ticks.load(Ordering::Relaxed);
        // Load the stage before `since`: in the other order a new stage could be paired with an old tick.
        let stage = self.stage.load(Ordering::Acquire);
        let is_stream_stalled = stage == HTTP2 && {
            let streams = self.streams.check(now);
            if streams.any_open {
                self.since.store(now, Ordering::Relaxed);
            }
            streams.any_stalled || self.unsent.is_stalled(now)
        };
        let spent = now.saturating_sub(self.since.load(Ordering::Relaxed));
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        let most = if self.has_watch() { STALLED_WATCH_TICKS } else { STALLED_TICKS };
        let is_blocked = blocked > 0 && (now + 1).saturating_sub(blocked) > most;
        let is_spent = match stage {
            HEAD => spent > HEAD_TICKS,
            IDLE | HTTP2 => spent > IDLE_TICKS,
            // The handlers and the body have their own deadlines.
            _ => false,
        };
        match (is_stream_stalled || is_blocked, is_spent) {
            (true, _) => ConnectionState::Stalled,
            (false, true) if stage == HEAD => ConnectionState::Stalled,
            (false, true) => ConnectionState::Idle,
            (false, false) => ConnectionState::Active,
        }
    }

    fn begin(&self, stage: u8) {
        self.since.store(self.ticks.load(Ordering::Relaxed), Ordering::Relaxed);
        self.stage.store(stage, Ordering::Release);
    }

    fn record_read(&self, bytes: &[u8]) {
        if self.stage.load(Ordering::Relaxed) == IDLE {
            // After the HTTP/2 preface come settings, and not yet a request.
            self.begin(if bytes.starts_with(PREFACE) { HTTP2 } else { HEAD });
        }
    }

    /// A write of `wanted` bytes was attempted.
    fn record_write(&self, polled: &Poll<io::Result<usize>>, wanted: usize) {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.unsent.remove(*bytes, self.ticks.load(Ordering::Relaxed));
        }
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        match polled {
            Poll::Pending => self.record_blocked(),
            Poll::Ready(Ok(bytes)) if blocked != 0 => {
                let written = self.written_since.fetch_add(*bytes, Ordering::Relaxed) + bytes;
                if *bytes == wanted || written >= PROGRESS_BYTES {
                    self.blocked_since.store(0, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }

    fn record_blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.written_since.store(0, Ordering::Relaxed);
            self.blocked_since.store(self.ticks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// The kernel has taken everything that hyper had buffered.
    fn record_flushed(&self) {
        if self.blocked_since.load(Ordering::Relaxed) != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
        if self.unwritten_pieces.swap(0, Ordering::AcqRel) > 0 {
            self.pieces_written.wake();
        }
    }
}

/// A stream that records its progress.
#[derive(Debug)]
pub(super) struct MonitoredStream<S> {
    pub(super) stream: S,
    pub(super) progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.record_read(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.record_write(&polled, bytes.len());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress.record_write(&polled, slices.iter().map(|slice| slice.len()).sum());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With TLS, the kernel can also block a flush.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        match &polled {
            Poll::Pending => self.progress.record_blocked(),
            Poll::Ready(_) => self.progress.record_flushed(),
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks_until_dropped(progress: &Progress) -> Option<u32> {
        (1..=200).find(|_| progress.tick() != ConnectionState::Active)
    }

    #[test]
    fn an_incomplete_head_is_dropped_before_an_idle_connection() {
        let partial = Progress::default();
        partial.record_read(b"GET");
        assert_eq!(ticks_until_dropped(&partial), Some(HEAD_TICKS + 1));
        assert_eq!(ticks_until_dropped(&Progress::default()), Some(IDLE_TICKS + 1));
    }

    #[test]
    fn single_bytes_do_not_prolong_the_deadline_of_a_head() {
        let slow = Progress::default();
        slow.record_read(b"GET");
        assert_eq!(slow.tick(), ConnectionState::Active);
        slow.record_read(b"GET");
        assert_eq!(slow.tick(), ConnectionState::Active);
        slow.record_read(b"GET");
        assert_eq!(slow.tick(), ConnectionState::Stalled);
    }

    #[test]
    fn a_busy_connection_stays_open_while_the_client_takes_data() {
        let busy = Progress::default();
        busy.record_read(b"GET");
        busy.request_begun();
        assert_eq!(ticks_until_dropped(&busy), None);
        busy.record_write(&Poll::Pending, 10);
        busy.record_write(&Poll::Pending, 10);
        assert_eq!(ticks_until_dropped(&busy), Some(STALLED_TICKS + 1));
        busy.record_write(&Poll::Ready(Ok(10)), 10);
        busy.response_ready();
        assert_eq!(busy.tick(), ConnectionState::Active);
    }

    #[test]
    fn occasional_bytes_are_not_progress() {
        let slow = Progress::default();
        slow.request_begun();
        slow.record_write(&Poll::Pending, 100_000);
        let mut ticks = 0;
        while slow.tick() == ConnectionState::Active {
            ticks += 1;
            slow.record_write(&Poll::Ready(Ok(100)), 100_000);
            slow.record_write(&Poll::Pending, 100_000);
        }
        assert_eq!(ticks, STALLED_TICKS);
        let moving = Progress::default();
        moving.request_begun();
        for _ in 0..50 {
            moving.record_write(&Poll::Pending, 100_000);
            assert_eq!(moving.tick(), ConnectionState::Active);
            moving.record_write(&Poll::Ready(Ok(PROGRESS_BYTES)), 100_000);
        }
    }

    #[test]
    fn a_quiet_watch_stays_open_and_a_blocked_one_is_dropped_early() {
        let quiet = Progress::default();
        quiet.record_read(b"GET");
        quiet.request_begun();
        quiet.watch_begun();
        quiet.record_read(b"GET");
        assert_eq!(ticks_until_dropped(&quiet), None);
        quiet.record_write(&Poll::Pending, 10);
        assert_eq!(quiet.tick(), ConnectionState::Active);
        quiet.record_write(&Poll::Ready(Ok(10)), 10);
        quiet.record_write(&Poll::Pending, 10);
        assert_eq!(ticks_until_dropped(&quiet), Some(STALLED_WATCH_TICKS + 1));
    }

    #[test]
    fn the_next_piece_waits_until_the_one_before_is_written() {
        let progress = Progress::default();
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(progress.poll_unwritten(0, &cx).is_ready());
        progress.piece_queued();
        assert!(progress.poll_unwritten(1, &cx).is_ready());
        assert!(progress.poll_unwritten(0, &cx).is_pending());
        progress.piece_queued();
        assert!(progress.poll_unwritten(1, &cx).is_pending());
        progress.record_flushed();
        assert!(progress.poll_unwritten(0, &cx).is_ready());
    }

    #[test]
    fn an_http2_connection_is_idle_when_no_stream_is_open() {
        let http2 = Progress::default();
        http2.record_read(PREFACE);
        http2.record_read(b"settings");
        assert_eq!(ticks_until_dropped(&http2), Some(IDLE_TICKS + 1), "no request has come yet");
        let stream = http2.stream_opened(None);
        http2.record_read(b"headers");
        assert_eq!(ticks_until_dropped(&http2), None, "the handler has its own deadline");
        drop(stream);
        // Requests that begin and end within one tick.
        for _ in 0..2 * IDLE_TICKS {
            drop(http2.stream_opened(None));
            assert_eq!(http2.tick(), ConnectionState::Active);
        }
        assert_eq!(ticks_until_dropped(&http2), Some(IDLE_TICKS));
    }

    #[test]
    fn the_client_must_take_each_http2_response() {
        let http2 = Progress::default();
        let (quiet, slow) = (http2.stream_opened(None), http2.stream_opened(None));
        quiet.data_waiting(true);
        quiet.data_taken();
        assert_eq!(ticks_until_dropped(&http2), None);
        assert!(http2.has_watch());
        slow.data_waiting(false);
        assert_eq!(ticks_until_dropped(&http2), Some(STALLED_TICKS + 1));
        quiet.data_waiting(true);
        slow.data_waiting(false);
        assert_eq!(ticks_until_dropped(&http2), Some(STALLED_WATCH_TICKS + 1));
        drop(quiet);
        assert!(!http2.has_watch());
    }
}
