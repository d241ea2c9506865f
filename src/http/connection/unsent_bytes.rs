//! HTTP/2: the response bytes that hyper buffers because their streams have no send window.
//!
//! Owns: [`UnsentBytes`]. A handler passes a small response to hyper in one piece, so only the bytes that are written
//! to the socket show whether the client takes it. Those include frame headers, and are therefore more than the bytes
//! that were passed to hyper; so the count here is a lower bound of the bytes that are waiting. Does not own: the
//! limits (`limits`).

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::http::connection::limits::{PROGRESS_BYTES, STALLED_TICKS};

/// The bytes of one connection that wait for its client.
#[derive(Debug, Default)]
pub(super) struct UnsentBytes {
    count: AtomicUsize,
    /// The tick of the last progress, plus one; zero while no bytes are waiting.
    since: AtomicU32,
    /// Bytes sent since that tick.
    sent: AtomicUsize,
}

impl UnsentBytes {
    /// The lower bound of the bytes that are waiting.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize, now: u32) {
        if self.count.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.record_progress(now);
        }
    }

    /// Subtracts bytes that were written to the socket.
    pub(super) fn remove(&self, bytes: usize, now: u32) {
        // Streams add bytes concurrently.
        let less = |before: usize| (before > 0).then(|| before.saturating_sub(bytes));
        let Ok(before) = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) else {
            return;
        };
        if before <= bytes {
            self.since.store(0, Ordering::Relaxed);
        } else if self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes >= PROGRESS_BYTES {
            self.record_progress(now);
        }
    }

    pub(super) fn is_stalled(&self, now: u32) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && (now + 1).saturating_sub(since) > STALLED_TICKS
    }

    fn record_progress(&self, now: u32) {
        self.sent.store(0, Ordering::Relaxed);
        self.since.store(now + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_bytes_must_make_progress_and_sent_bytes_are_forgotten() {
        let unsent = UnsentBytes::default();
        unsent.add(10_000, 0);
        assert!(!unsent.is_stalled(STALLED_TICKS) && unsent.is_stalled(STALLED_TICKS + 1));
        // An occasional byte is not progress.
        (1..=STALLED_TICKS).for_each(|now| unsent.remove(1, now));
        assert!(unsent.is_stalled(STALLED_TICKS + 1));
        unsent.remove(PROGRESS_BYTES, 5);
        assert!(!unsent.is_stalled(5 + STALLED_TICKS));
        // With frame headers, more bytes are sent than were added. The excess is not a credit for later bytes.
        unsent.remove(1_000_000, 6);
        assert!(unsent.count() == 0 && !unsent.is_stalled(1_000));
        unsent.add(1, 7);
        assert!(unsent.count() == 1 && unsent.is_stalled(8 + STALLED_TICKS));
    }
}
