//! Token buckets by key, in a fixed amount of memory: the rate limits for untrusted input.
//!
//! Owns: the buckets. A key is hashed to a bucket, and keys with the same bucket share its tokens. There are so many
//! buckets that ordinary keys rarely share one, and the hash is keyed, so that a client cannot find out which other
//! keys share its bucket. Time is an argument. Does not own: the meaning of a key, and the answer when a bucket is
//! empty.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use rollcall_model::lease::Moment;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Number of buckets, of 8 bytes each: 128 KiB.
const BUCKETS: usize = 16_384;

/// Capacity of a bucket, in seconds of its rate.
pub const BURST: u32 = 2;

/// Buckets that all fill at one rate. Each stores the moment at which it will be full (generic cell rate algorithm).
#[derive(Debug)]
pub struct Buckets {
    /// Time for one token, in µs.
    cost: u64,
    /// When each bucket is full, in µs.
    full_at: Box<[AtomicU64]>,
    hash_key: u64,
}

impl Buckets {
    /// Buckets that gain `rate` tokens per second.
    #[must_use]
    pub fn new(rate: NonZeroU32, hash_key: u64) -> Self {
        let full_at = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { cost: 1_000_000 / u64::from(rate.get()), full_at, hash_key }
    }

    /// Takes `count` tokens from the bucket of `key`, or none if it has fewer.
    pub fn take(&self, key: &[u8], count: u32, now: Moment) -> bool {
        let index = xxh3_64_with_seed(key, self.hash_key) % BUCKETS as u64;
        let Some(bucket) = usize::try_from(index).ok().and_then(|index| self.full_at.get(index))
        else {
            return true;
        };
        let now = now.0.saturating_mul(1000);
        let limit = now.saturating_add(u64::from(BURST) * 1_000_000);
        let cost = self.cost.saturating_mul(count.into());
        let take =
            |full: u64| Some(full.max(now).saturating_add(cost)).filter(|full| *full <= limit);
        bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(buckets: &Buckets, key: &str, at: u64, times: usize) -> usize {
        (0..times).filter(|_| buckets.take(key.as_bytes(), 1, Moment(at))).count()
    }

    #[test]
    fn key_has_its_rate_and_a_burst_of_two_seconds() {
        let buckets = Buckets::new(NonZeroU32::new(100).unwrap(), 1);
        assert_eq!(taken(&buckets, "a", 10_000, 1000), 200);
        assert_eq!(taken(&buckets, "b", 10_000, 10), 10, "another key");
        assert_eq!(taken(&buckets, "a", 10_500, 1000), 50, "half a second later");
        assert_eq!(taken(&buckets, "a", 99_000, 1000), 200, "much later");
    }

    #[test]
    fn tokens_are_taken_all_or_none() {
        let buckets = Buckets::new(NonZeroU32::new(100).unwrap(), 1);
        assert!(buckets.take(b"a", 150, Moment(10_000)));
        assert!(!buckets.take(b"a", 51, Moment(10_000)));
        assert!(buckets.take(b"a", 50, Moment(10_000)));
        assert!(!buckets.take(b"a", u32::MAX, Moment(99_000)));
    }
}
