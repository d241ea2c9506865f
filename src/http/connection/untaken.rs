//! HTTP/2: what hyper holds of answers because its streams have no room.
//!
//! Owns: [`Untaken`]. A small answer is handed over whole, and over for its handler: only the octets that come out of the
//! socket tell whether its client takes it. They are more than those that went in, by the frames around them, so what is
//! left here is the least that can be waiting. Does not own: the limits (`progress`).

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::http::connection::limits::{MOVED, STUCK_TICKS};

/// Octets of a connection that wait for its client.
#[derive(Debug, Default)]
pub(super) struct Untaken {
    octets: AtomicUsize,
    /// The tick since which they do not move, plus one; zero while there are none.
    since: AtomicU32,
    /// Taken since then.
    taken: AtomicUsize,
}

impl Untaken {
    /// At least so many wait.
    pub(super) fn octets(&self) -> usize {
        self.octets.load(Ordering::Relaxed)
    }

    /// So many more.
    pub(super) fn add(&self, octets: usize, now: u32) {
        if self.octets.fetch_add(octets, Ordering::Relaxed) == 0 {
            self.begin(now);
        }
    }

    /// So many have left.
    pub(super) fn take(&self, octets: usize, now: u32) {
        // Its streams add beside this.
        let less = |before: usize| (before > 0).then(|| before.saturating_sub(octets));
        let Ok(before) = self.octets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        else {
            return;
        };
        if before <= octets {
            self.since.store(0, Ordering::Relaxed);
        } else if self.taken.fetch_add(octets, Ordering::Relaxed) + octets >= MOVED {
            self.begin(now);
        }
    }

    /// Whether they have not moved for too long.
    pub(super) fn is_stuck(&self, now: u32) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && (now + 1).saturating_sub(since) > STUCK_TICKS
    }

    fn begin(&self, now: u32) {
        self.taken.store(0, Ordering::Relaxed);
        self.since.store(now + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_to_move_and_what_has_left_is_forgotten() {
        let untaken = Untaken::default();
        untaken.add(10_000, 0);
        assert!(!untaken.is_stuck(STUCK_TICKS) && untaken.is_stuck(STUCK_TICKS + 1));
        // An octet now and then is nothing.
        (1..=STUCK_TICKS).for_each(|now| untaken.take(1, now));
        assert!(untaken.is_stuck(STUCK_TICKS + 1));
        untaken.take(MOVED, 5);
        assert!(!untaken.is_stuck(5 + STUCK_TICKS));
        // With the frames around them more leaves than came: that is no credit for what comes later.
        untaken.take(1_000_000, 6);
        assert!(untaken.octets() == 0 && !untaken.is_stuck(1_000));
        untaken.add(1, 7);
        assert!(untaken.octets() == 1 && untaken.is_stuck(8 + STUCK_TICKS));
    }
}
