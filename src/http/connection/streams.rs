//! HTTP/2: the requests that are open on one connection, and what each of their answers still owes.
//!
//! Owns: [`Streams`] and [`Taken`]. Does not own: the limits (`progress`). Over HTTP/1 a client that takes nothing
//! stops the socket. Here it may stop a single stream, by giving it no more window (RFC 9113 §5.2), and the
//! socket goes on: so each is looked at by itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::connection::limits::{STUCK_STREAM_TICKS, STUCK_TICKS};

/// The most streams of a connection: as many as RFC 9113 §6.5.2 wishes for at least.
pub(super) const MOST: u32 = 100;

/// When so many are noted, those that have ended are forgotten: some of them always are.
const NOTED: usize = 4 * MOST as usize;

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Mutex<Vec<Arc<Stream>>>,
}

/// What a look at all of them finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// There are some.
    pub(super) open: bool,
    /// One takes nothing of what it is owed.
    pub(super) stalled: bool,
}

#[derive(Debug, Default)]
struct Stream {
    /// The tick since which the client owes us to take something, plus one; zero while there is nothing.
    owed: AtomicU32,
    /// It is told of changes.
    is_watch: AtomicBool,
    is_over: AtomicBool,
}

/// One of them, until the client has taken all of its answer, or given it the room to be sent.
#[derive(Debug)]
pub(super) struct Taken {
    stream: Arc<Stream>,
    ticks: Arc<AtomicU32>,
    /// Its place among those of all connections.
    _place: Option<OwnedSemaphorePermit>,
}

impl Streams {
    /// Another one, on a connection that has lived for so many ticks.
    pub(super) fn open(
        &self,
        ticks: &Arc<AtomicU32>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Taken {
        let stream = Arc::<Stream>::default();
        let mut open = self.open.lock();
        if open.len() >= NOTED {
            open.retain(|stream| !stream.is_over());
        }
        open.push(stream.clone());
        Taken { stream, ticks: ticks.clone(), _place: place }
    }

    /// Looks at all of them.
    pub(super) fn look(&self, now: u32) -> Found {
        let mut open = self.open.lock();
        open.retain(|stream| !stream.is_over());
        let stalled = open.iter().any(|stream| stream.is_stalled(now));
        Found { open: !open.is_empty(), stalled }
    }

    /// Whether one of them is told of changes.
    pub(super) fn any_watch(&self) -> bool {
        let open = self.open.lock();
        open.iter().any(|stream| !stream.is_over() && stream.is_watch.load(Ordering::Relaxed))
    }
}

impl Stream {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn is_stalled(&self, now: u32) -> bool {
        let owed = self.owed.load(Ordering::Relaxed);
        let is_watch = self.is_watch.load(Ordering::Relaxed);
        let most = if is_watch { STUCK_STREAM_TICKS } else { STUCK_TICKS };
        owed > 0 && (now + 1).saturating_sub(owed) > most
    }
}

impl Taken {
    /// From here on there is something for the client to take.
    pub(super) fn owes(&self, is_watch: bool) {
        self.stream.is_watch.store(is_watch, Ordering::Relaxed);
        let now = self.ticks.load(Ordering::Relaxed) + 1;
        self.stream.owed.store(now, Ordering::Relaxed);
    }

    /// It has taken everything, and more is to come.
    pub(super) fn parked(&self) {
        self.stream.owed.store(0, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.stream.is_over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_ended_are_not_kept() {
        let (streams, ticks) = (Streams::default(), Arc::default());
        let kept = streams.open(&ticks, None);
        for _ in 0..10 * NOTED {
            drop(streams.open(&ticks, None));
        }
        assert!(streams.open.lock().len() <= NOTED);
        assert!(streams.look(1).open);
        drop(kept);
        assert!(!streams.look(2).open);
    }
}
