//! Whether a connection still moves: the stream tells, a slow ticker (`rounds`) asks.
//!
//! Owns: [`Watched`], a stream that notes what is read and whether writes are stuck; [`Progress`], the limits
//! after which a connection is dropped, and whether there is room for another piece of an answer. Does not own: what
//! each of many answers on one connection still owes (`streams`). hyper's own header timeout would also end
//! connections that are idle between two heartbeats, and costs a timer with every request; this costs a few
//! relaxed stores.

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
    limits::{MOVED, STUCK_STREAM_TICKS, STUCK_TICKS},
    streams::{Streams, Taken},
    told::Told,
    untaken::Untaken,
};

/// A head that has begun must be whole when the third tick comes: after 10 to 15 s.
const HEAD_TICKS: u32 = 2;

/// Between two requests: 5 min, longer than anybody should wait with a heartbeat whose lease
/// allows a client to hold its connection.
const IDLE_TICKS: u32 = 60;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
/// The answer is a stream, which ends with the connection.
const STREAM: u8 = 3;
/// HTTP/2: many requests at once, each with a record of its own.
const MANY: u8 = 4;

/// With this a client begins who speaks HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It lives on.
    Moves,
    /// Nobody has asked anything for long: it may end in good order.
    Idle,
    /// Somebody is waited for in vain.
    Stuck,
}

/// What a connection is doing, and since which tick.
#[derive(Debug, Default)]
pub(super) struct Progress {
    ticks: Arc<AtomicU32>,
    stage: AtomicU8,
    since: AtomicU32,
    /// The tick at which a write first had to wait, plus one; zero while none does.
    stuck: AtomicU32,
    /// Octets that were taken since.
    taken: AtomicUsize,
    /// Over HTTP/1: pieces of an answer that are not written yet.
    unwritten: AtomicU32,
    written: AtomicWaker,
    streams: Streams,
    untaken: Untaken,
    pub(super) told: Told,
}

impl Progress {
    /// A request of HTTP/1 was read to the end of its head.
    pub(super) fn requested(&self) {
        self.stage.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer is made.
    pub(super) fn answered(&self) {
        self.begin(IDLE);
    }

    /// Its answer goes on as long as the connection.
    pub(super) fn streams(&self) {
        self.stage.store(STREAM, Ordering::Relaxed);
    }

    /// A request of HTTP/2: to be kept until all of its answer is taken.
    pub(super) fn opened(&self, place: Option<OwnedSemaphorePermit>) -> Taken {
        self.begin(MANY);
        self.streams.open(&self.ticks, place)
    }

    /// Whether somebody is told of changes on it.
    pub(super) fn is_streaming(&self) -> bool {
        match self.stage.load(Ordering::Relaxed) {
            STREAM => true,
            MANY => self.streams.any_watch(),
            _ => false,
        }
    }

    /// A piece of an answer is handed to hyper, which may hold it back.
    pub(super) fn hands_over(&self) {
        self.unwritten.fetch_add(1, Ordering::AcqRel);
    }

    /// Over HTTP/2 a piece of so many octets is handed to hyper, which keeps it until its stream has room.
    pub(super) fn hands(&self, octets: usize) {
        self.untaken.add(octets, self.ticks.load(Ordering::Relaxed));
    }

    /// How many octets of them have not been sent, at least.
    pub(super) fn untaken(&self) -> usize {
        self.untaken.octets()
    }

    /// Whether no more than so many pieces wait for the kernel, so that the next one may be made.
    pub(super) fn poll_written(&self, most: u32, cx: &Context<'_>) -> Poll<()> {
        if self.unwritten.load(Ordering::Acquire) <= most {
            return Poll::Ready(());
        }
        self.written.register(cx.waker());
        // They may have been written meanwhile.
        let fits = self.unwritten.load(Ordering::Acquire) <= most;
        if fits { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Another tick has passed. Answers whether the connection may live on.
    pub(super) fn tick(&self) -> Standing {
        let now = self.ticks.load(Ordering::Relaxed).saturating_add(1);
        self.ticks.store(now, Ordering::Relaxed);
        self.standing()
    }

    /// Whether the connection may live on, as of the last tick.
    pub(super) fn standing(&self) -> Standing {
        let now = self.ticks.load(Ordering::Relaxed);
        // Before the tick at which that began: the other way round a new stage could be taken to be old.
        let stage = self.stage.load(Ordering::Acquire);
        let is_stalled = stage == MANY && {
            let found = self.streams.look(now);
            if found.open {
                self.since.store(now, Ordering::Relaxed);
            }
            found.stalled || self.untaken.is_stuck(now)
        };
        let spent = now.saturating_sub(self.since.load(Ordering::Relaxed));
        let stuck = self.stuck.load(Ordering::Relaxed);
        let most = if self.is_streaming() { STUCK_STREAM_TICKS } else { STUCK_TICKS };
        let is_stuck = stuck > 0 && (now + 1).saturating_sub(stuck) > most;
        let is_spent = match stage {
            HEAD => spent > HEAD_TICKS,
            IDLE | MANY => spent > IDLE_TICKS,
            // The handlers and the body have deadlines of their own.
            _ => false,
        };
        match (is_stalled || is_stuck, is_spent) {
            (true, _) => Standing::Stuck,
            (false, true) if stage == HEAD => Standing::Stuck,
            (false, true) => Standing::Idle,
            (false, false) => Standing::Moves,
        }
    }

    fn begin(&self, stage: u8) {
        self.since.store(self.ticks.load(Ordering::Relaxed), Ordering::Relaxed);
        self.stage.store(stage, Ordering::Release);
    }

    fn read(&self, bytes: &[u8]) {
        if self.stage.load(Ordering::Relaxed) == IDLE {
            // What follows are settings, and not yet a request.
            self.begin(if bytes.starts_with(PREFACE) { MANY } else { HEAD });
        }
    }

    /// A write of `wanted` octets was tried.
    fn wrote(&self, polled: &Poll<io::Result<usize>>, wanted: usize) {
        if let Poll::Ready(Ok(octets)) = polled {
            self.untaken.take(*octets, self.ticks.load(Ordering::Relaxed));
        }
        let stuck = self.stuck.load(Ordering::Relaxed);
        match polled {
            Poll::Pending => self.waits(),
            Poll::Ready(Ok(octets)) if stuck != 0 => {
                let taken = self.taken.fetch_add(*octets, Ordering::Relaxed) + octets;
                if *octets == wanted || taken >= MOVED {
                    self.stuck.store(0, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }

    /// A write has to wait.
    fn waits(&self) {
        if self.stuck.load(Ordering::Relaxed) == 0 {
            self.taken.store(0, Ordering::Relaxed);
            self.stuck.store(self.ticks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Everything that hyper had is with the kernel.
    fn flushed(&self) {
        if self.stuck.load(Ordering::Relaxed) != 0 {
            self.stuck.store(0, Ordering::Relaxed);
        }
        if self.unwritten.swap(0, Ordering::AcqRel) > 0 {
            self.written.wake();
        }
    }
}

/// A stream that notes its progress.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.read(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.wrote(&polled, bytes.len());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress.wrote(&polled, slices.iter().map(|slice| slice.len()).sum());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With TLS it may wait for the kernel, too.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        match &polled {
            Poll::Pending => self.progress.waits(),
            Poll::Ready(_) => self.progress.flushed(),
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
        (1..=200).find(|_| progress.tick() != Standing::Moves)
    }

    #[test]
    fn a_head_that_does_not_end_is_dropped_soon_and_an_idle_connection_late() {
        let half = Progress::default();
        half.read(b"GET");
        assert_eq!(ticks_until_dropped(&half), Some(HEAD_TICKS + 1));
        assert_eq!(ticks_until_dropped(&Progress::default()), Some(IDLE_TICKS + 1));
    }

    #[test]
    fn dripping_bytes_do_not_prolong_a_head() {
        let slow = Progress::default();
        slow.read(b"GET");
        assert_eq!(slow.tick(), Standing::Moves);
        slow.read(b"GET");
        assert_eq!(slow.tick(), Standing::Moves);
        slow.read(b"GET");
        assert_eq!(slow.tick(), Standing::Stuck);
    }

    #[test]
    fn a_busy_connection_lives_on_unless_nobody_takes_the_answer() {
        let busy = Progress::default();
        busy.read(b"GET");
        busy.requested();
        assert_eq!(ticks_until_dropped(&busy), None);
        busy.wrote(&Poll::Pending, 10);
        busy.wrote(&Poll::Pending, 10);
        assert_eq!(ticks_until_dropped(&busy), Some(STUCK_TICKS + 1));
        busy.wrote(&Poll::Ready(Ok(10)), 10);
        busy.answered();
        assert_eq!(busy.tick(), Standing::Moves);
    }

    #[test]
    fn a_crumb_now_and_then_is_no_progress() {
        let slow = Progress::default();
        slow.requested();
        slow.wrote(&Poll::Pending, 100_000);
        let mut ticks = 0;
        while slow.tick() == Standing::Moves {
            ticks += 1;
            slow.wrote(&Poll::Ready(Ok(100)), 100_000);
            slow.wrote(&Poll::Pending, 100_000);
        }
        assert_eq!(ticks, STUCK_TICKS);
        let moving = Progress::default();
        moving.requested();
        for _ in 0..50 {
            moving.wrote(&Poll::Pending, 100_000);
            assert_eq!(moving.tick(), Standing::Moves);
            moving.wrote(&Poll::Ready(Ok(MOVED)), 100_000);
        }
    }

    #[test]
    fn a_stream_lives_on_in_silence_and_is_dropped_soon_when_nobody_takes_it() {
        let quiet = Progress::default();
        quiet.read(b"GET");
        quiet.requested();
        quiet.streams();
        quiet.read(b"GET");
        assert_eq!(ticks_until_dropped(&quiet), None);
        quiet.wrote(&Poll::Pending, 10);
        assert_eq!(quiet.tick(), Standing::Moves);
        quiet.wrote(&Poll::Ready(Ok(10)), 10);
        quiet.wrote(&Poll::Pending, 10);
        assert_eq!(ticks_until_dropped(&quiet), Some(STUCK_STREAM_TICKS + 1));
    }

    #[test]
    fn there_is_room_for_a_piece_when_the_one_before_is_written() {
        let progress = Progress::default();
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(progress.poll_written(0, &cx).is_ready());
        progress.hands_over();
        assert!(progress.poll_written(1, &cx).is_ready());
        assert!(progress.poll_written(0, &cx).is_pending());
        progress.hands_over();
        assert!(progress.poll_written(1, &cx).is_pending());
        progress.flushed();
        assert!(progress.poll_written(0, &cx).is_ready());
    }

    #[test]
    fn over_http_2_a_connection_is_idle_when_no_answer_is_open() {
        let many = Progress::default();
        many.read(PREFACE);
        many.read(b"settings");
        assert_eq!(ticks_until_dropped(&many), Some(IDLE_TICKS + 1), "nothing is asked yet");
        let taken = many.opened(None);
        many.read(b"headers");
        assert_eq!(ticks_until_dropped(&many), None, "a handler has a deadline of its own");
        drop(taken);
        // Calls that are over within a tick.
        for _ in 0..2 * IDLE_TICKS {
            drop(many.opened(None));
            assert_eq!(many.tick(), Standing::Moves);
        }
        assert_eq!(ticks_until_dropped(&many), Some(IDLE_TICKS));
    }

    #[test]
    fn over_http_2_each_answer_has_to_be_taken() {
        let many = Progress::default();
        let (quiet, slow) = (many.opened(None), many.opened(None));
        quiet.owes(true);
        quiet.parked();
        assert_eq!(ticks_until_dropped(&many), None);
        assert!(many.is_streaming());
        slow.owes(false);
        assert_eq!(ticks_until_dropped(&many), Some(STUCK_TICKS + 1));
        quiet.owes(true);
        slow.owes(false);
        assert_eq!(ticks_until_dropped(&many), Some(STUCK_STREAM_TICKS + 1));
        drop(quiet);
        assert!(!many.is_streaming());
    }
}
