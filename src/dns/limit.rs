//! A bound on errors and denials, with which a liar could have others flooded.
//!
//! Owns: one token bucket for each /24 and /56, as what a liar can claim is an address, and what a network
//! behind one resolver shares is a prefix. What is beyond it is cut to nothing, no longer than the query, and never
//! kept back: the prefix may be that of a cluster's resolvers, each of which would wait for seconds and call it a
//! failure of ours. Does not own: who is spared (`respond`).

use std::{net::IpAddr, num::NonZeroU32};

use rollcall_model::lease::Moment;

use crate::buckets::Buckets;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Send,
    /// It is cut to nothing: who really asked comes back over TCP.
    Slip,
}

/// The bound; none when everybody may have as much as he likes.
#[derive(Debug)]
pub struct Limits(Option<Buckets>);

impl Limits {
    /// So many answers a second and prefix, and twice as many at once; 0 is no bound. `key` is unknown to
    /// strangers.
    #[must_use]
    pub fn new(rate: u32, key: u64) -> Self {
        Self(NonZeroU32::new(rate).map(|rate| Buckets::new(rate, key)))
    }

    /// Whether an answer to this address may go out whole now.
    pub fn take(&self, to: IpAddr, now: Moment) -> Verdict {
        let fits = self.0.as_ref().is_none_or(|buckets| buckets.take(&prefix(to), 1, now));
        if fits { Verdict::Send } else { Verdict::Slip }
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
