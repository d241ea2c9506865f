//! Rate limit for errors and negative answers, which an attacker with spoofed addresses could direct at a victim.
//!
//! Owns: one token bucket for each /24 (IPv4) and /56 (IPv6), because spoofing more addresses within one network is
//! cheap. A response above the limit is not dropped, but sent empty with TC, about as long as the query: the prefix can
//! contain the resolvers of a cluster, which would otherwise wait for seconds and record a failure. Does not own: which
//! clients are exempt (`respond`).

use std::{net::IpAddr, num::NonZeroU32};

use rollcall_model::lease::Moment;

use crate::buckets::Buckets;

/// Whether a response is sent whole or truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// Send it whole.
    Send,
    /// Send it empty with TC: a client with a real address asks again over TCP.
    Slip,
}

/// The rate limit; the content is `None` when the limit is switched off.
#[derive(Debug)]
pub struct ErrorLimits(Option<Buckets>);

impl ErrorLimits {
    /// Allows `rate` responses a second to each prefix, with a burst of twice that number; 0 means no limit. `key`
    /// seeds the hash and must be secret.
    #[must_use]
    pub fn new(rate: u32, key: u64) -> Self {
        Self(NonZeroU32::new(rate).map(|rate| Buckets::new(rate, key)))
    }

    /// Takes a token for a response to this address.
    pub fn check(&self, to: IpAddr, now: Moment) -> LimitDecision {
        let fits = self.0.as_ref().is_none_or(|buckets| buckets.take(&prefix(to), 1, now));
        if fits { LimitDecision::Send } else { LimitDecision::Slip }
    }
}

/// The address family, and the /24 or /56 of the address.
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

    /// How many of `times` responses are sent whole.
    fn count_sent(limits: &ErrorLimits, to: &str, at: u64, times: usize) -> usize {
        let to = to.parse().unwrap();
        (0..times).filter(|_| limits.check(to, Moment(at)) == LimitDecision::Send).count()
    }

    #[test]
    fn each_prefix_has_its_rate_and_twice_that_as_burst() {
        let limits = ErrorLimits::new(100, 1);
        assert_eq!(count_sent(&limits, "192.0.2.1", 10_000, 1000), 200);
        assert_eq!(count_sent(&limits, "192.0.2.77", 10_000, 10), 0, "the same /24");
        assert_eq!(count_sent(&limits, "192.0.3.1", 10_000, 10), 10, "another prefix");
        assert_eq!(count_sent(&limits, "192.0.2.1", 10_500, 1000), 50, "half a second later");
        assert_eq!(count_sent(&limits, "192.0.2.1", 99_000, 1000), 200, "much later");
        assert_eq!(count_sent(&limits, "2001:db8:0:aa01::1", 10_000, 300), 200);
        assert_eq!(count_sent(&limits, "2001:db8:0:aaff::2", 10_000, 300), 0, "the same /56");
        assert_eq!(count_sent(&limits, "2001:db8:0:ab00::1", 10_000, 300), 200, "another prefix");
    }

    #[test]
    fn rate_zero_is_no_limit() {
        assert_eq!(count_sent(&ErrorLimits::new(0, 1), "192.0.2.1", 10_000, 10_000), 10_000);
    }
}
