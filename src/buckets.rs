//! Token buckets by key, in as much memory whoever comes: what a stranger may ask for in a second.
//!
//! Owns: the buckets. A key is hashed to one, and those that share one share its tokens; there are so many that
//! honest ones seldom do, and the hash is keyed, so that nobody finds out whom he could starve. Time is an argument.
//! Does not own: what a key is, and what becomes of who has none left.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use rollcall_model::lease::Moment;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Buckets, of eight octets each: 128 KiB.
const BUCKETS: usize = 16_384;

/// Seconds' worth of tokens that a full bucket holds.
pub const BURST: u32 = 2;

/// Buckets that fill at one rate (the generic cell rate algorithm: each is the moment at which it is full).
#[derive(Debug)]
pub struct Buckets {
    /// µs that one token takes to come.
    cost: u64,
    full: Box<[AtomicU64]>,
    key: u64,
}

impl Buckets {
    /// So many tokens a second and key.
    #[must_use]
    pub fn new(rate: NonZeroU32, key: u64) -> Self {
        let full = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { cost: 1_000_000 / u64::from(rate.get()), full, key }
    }

    /// Takes `count` tokens, if there are as many.
    pub fn take(&self, of: &[u8], count: u32, now: Moment) -> bool {
        let at = xxh3_64_with_seed(of, self.key) % BUCKETS as u64;
        let Some(bucket) = usize::try_from(at).ok().and_then(|at| self.full.get(at)) else {
            return true;
        };
        let now = now.0.saturating_mul(1000);
        let within = now.saturating_add(u64::from(BURST) * 1_000_000);
        let cost = self.cost.saturating_mul(count.into());
        let take =
            |full: u64| Some(full.max(now).saturating_add(cost)).filter(|full| *full <= within);
        bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(buckets: &Buckets, of: &str, at: u64, times: usize) -> usize {
        (0..times).filter(|_| buckets.take(of.as_bytes(), 1, Moment(at))).count()
    }

    #[test]
    fn a_key_has_its_rate_and_two_seconds_at_once() {
        let buckets = Buckets::new(NonZeroU32::new(100).unwrap(), 1);
        assert_eq!(taken(&buckets, "a", 10_000, 1000), 200);
        assert_eq!(taken(&buckets, "b", 10_000, 10), 10, "another");
        assert_eq!(taken(&buckets, "a", 10_500, 1000), 50, "half a second later");
        assert_eq!(taken(&buckets, "a", 99_000, 1000), 200, "much later");
    }

    #[test]
    fn many_are_taken_together_or_not_at_all() {
        let buckets = Buckets::new(NonZeroU32::new(100).unwrap(), 1);
        assert!(buckets.take(b"a", 150, Moment(10_000)));
        assert!(!buckets.take(b"a", 51, Moment(10_000)));
        assert!(buckets.take(b"a", 50, Moment(10_000)));
        assert!(!buckets.take(b"a", u32::MAX, Moment(99_000)));
    }
}
