//! HTTP/2: the requests that are open on one connection, and whether the client takes their responses.
//!
//! Owns: [`Streams`] and [`OpenStream`]. Does not own: the limits (`limits`). Over HTTP/1 a client that reads nothing
//! blocks the socket. Over HTTP/2 it can block a single stream by not extending its window (RFC 9113 §5.2), while the
//! socket stays writable. So each stream is checked separately.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::connection::limits::{STALLED_TICKS, STALLED_WATCH_TICKS};

/// The maximum number of concurrent streams of a connection: the lowest that RFC 9113 §6.5.2 recommends.
pub(super) const MAX_PER_CONNECTION: u32 = 100;

/// When the list is this long, closed streams are removed from it. There are always some, because at most
/// [`MAX_PER_CONNECTION`] are open.
const PRUNE_AT: usize = 4 * MAX_PER_CONNECTION as usize;

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    records: Mutex<Vec<Arc<StreamRecord>>>,
}

/// The result of a check of all streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamsState {
    pub(super) any_open: bool,
    /// The client does not take the data of at least one stream.
    pub(super) any_stalled: bool,
}

#[derive(Debug, Default)]
struct StreamRecord {
    /// The tick since which the client has not taken data that is waiting for it, plus one; zero while no data is
    /// waiting.
    waiting_since: AtomicU32,
    is_watch: AtomicBool,
    is_closed: AtomicBool,
}

/// A stream, until the client has taken its whole response, or its window has room for the rest.
#[derive(Debug)]
pub(super) struct OpenStream {
    record: Arc<StreamRecord>,
    ticks: Arc<AtomicU32>,
    /// Its permit, out of those for the streams of all connections.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Streams {
    /// Adds a stream. `ticks` is the age of the connection.
    pub(super) fn open(
        &self,
        ticks: &Arc<AtomicU32>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> OpenStream {
        let record = Arc::<StreamRecord>::default();
        let mut records = self.records.lock();
        if records.len() >= PRUNE_AT {
            records.retain(|record| !record.is_closed());
        }
        records.push(record.clone());
        OpenStream { record, ticks: ticks.clone(), _permit: permit }
    }

    /// Checks all streams.
    pub(super) fn check(&self, now: u32) -> StreamsState {
        let mut records = self.records.lock();
        records.retain(|record| !record.is_closed());
        let any_stalled = records.iter().any(|record| record.is_stalled(now));
        StreamsState { any_open: !records.is_empty(), any_stalled }
    }

    pub(super) fn has_watch(&self) -> bool {
        let records = self.records.lock();
        let is_open_watch =
            |record: &StreamRecord| !record.is_closed() && record.is_watch.load(Ordering::Relaxed);
        records.iter().any(|record| is_open_watch(record))
    }
}

impl StreamRecord {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn is_stalled(&self, now: u32) -> bool {
        let since = self.waiting_since.load(Ordering::Relaxed);
        let is_watch = self.is_watch.load(Ordering::Relaxed);
        let most = if is_watch { STALLED_WATCH_TICKS } else { STALLED_TICKS };
        since > 0 && (now + 1).saturating_sub(since) > most
    }
}

impl OpenStream {
    /// From now on, data is waiting for the client.
    pub(super) fn data_waiting(&self, is_watch: bool) {
        self.record.is_watch.store(is_watch, Ordering::Relaxed);
        let now = self.ticks.load(Ordering::Relaxed) + 1;
        self.record.waiting_since.store(now, Ordering::Relaxed);
    }

    /// The client has taken all data so far, and more will follow.
    pub(super) fn data_taken(&self) {
        self.record.waiting_since.store(0, Ordering::Relaxed);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.record.is_closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_streams_are_forgotten() {
        let (streams, ticks) = (Streams::default(), Arc::default());
        let kept = streams.open(&ticks, None);
        for _ in 0..10 * PRUNE_AT {
            drop(streams.open(&ticks, None));
        }
        assert!(streams.records.lock().len() <= PRUNE_AT);
        assert!(streams.check(1).any_open);
        drop(kept);
        assert!(!streams.check(2).any_open);
    }
}
