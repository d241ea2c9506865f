//! A bound on errors and denials, with which a liar could have others flooded.
//!
//! Owns: one token bucket for each /24 and /56, as what a liar can claim is an address, and what a network
//! behind one resolver shares is a prefix. What is beyond it is cut to nothing, no longer than the query, and never
//! kept back: the prefix may be that of a cluster's resolvers, each of which would wait for seconds and call it a
//! failure of ours. Does not own: who is spared (`respond`).

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::registry::lease::Moment;

/// Buckets, of eight octets each. Prefixes that fall into the same share it.
const BUCKETS: usize = 16_384;

/// Seconds' worth of answers that a quiet prefix may have at once.
const BURST: u64 = 2;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Send,
    /// It is cut to nothing: who really asked comes back over TCP.
    Slip,
}

/// The bound.
#[derive(Debug)]
pub struct Limits {
    /// µs that one answer costs; none when there is no bound.
    cost: Option<u64>,
    /// The µs at which each bucket is full again.
    buckets: Box<[AtomicU64]>,
    /// Unknown to strangers, so that none finds out who shares his bucket.
    key: u64,
}

impl Limits {
    /// So many answers a second and prefix; 0 is no bound.
    #[must_use]
    pub fn new(rate: u32, key: u64) -> Self {
        let cost = 1_000_000_u64.checked_div(u64::from(rate));
        let count = if cost.is_some() { BUCKETS } else { 0 };
        let buckets = (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { cost, buckets, key }
    }

    /// Whether an answer to this address may go out whole now.
    pub fn take(&self, to: IpAddr, now: Moment) -> Verdict {
        let Some(cost) = self.cost else { return Verdict::Send };
        let at = xxh3_64_with_seed(&prefix(to), self.key) % BUCKETS as u64;
        let Some(bucket) = usize::try_from(at).ok().and_then(|at| self.buckets.get(at)) else {
            return Verdict::Send;
        };
        let now = now.0.saturating_mul(1000);
        let within = now.saturating_add(BURST * 1_000_000);
        let take = |full: u64| Some(full.max(now) + cost).filter(|full| *full <= within);
        match bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Verdict::Send,
            Err(_) => Verdict::Slip,
        }
    }
}

/// The family, and the /24 or /56.
fn prefix(address: IpAddr) -> [u8; 8] {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [4, a, b, c, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, ..] = ip.octets();
            [6, a, b, c, d, e, f, g]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many go out whole.
    fn sent(limits: &Limits, to: &str, at: u64, times: usize) -> usize {
        let to = to.parse().unwrap();
        (0..times).filter(|_| limits.take(to, Moment(at)) == Verdict::Send).count()
    }

    #[test]
    fn a_prefix_has_its_rate_and_two_seconds_at_once_and_the_rest_is_cut() {
        let limits = Limits::new(100, 1);
        assert_eq!(sent(&limits, "192.0.2.1", 10_000, 1000), 200);
        assert_eq!(sent(&limits, "192.0.2.77", 10_000, 10), 0, "the same /24");
        assert_eq!(sent(&limits, "192.0.3.1", 10_000, 10), 10, "another");
        assert_eq!(sent(&limits, "192.0.2.1", 10_500, 1000), 50, "half a second later");
        assert_eq!(sent(&limits, "192.0.2.1", 99_000, 1000), 200, "much later");
        assert_eq!(sent(&limits, "2001:db8:0:aa01::1", 10_000, 300), 200);
        assert_eq!(sent(&limits, "2001:db8:0:aaff::2", 10_000, 300), 0, "the same /56");
        assert_eq!(sent(&limits, "2001:db8:0:ab00::1", 10_000, 300), 200, "another");
    }

    #[test]
    fn zero_is_no_bound() {
        assert_eq!(sent(&Limits::new(0, 1), "192.0.2.1", 10_000, 10_000), 10_000);
    }
}
