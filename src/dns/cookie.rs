//! DNS cookies: a client that returns a valid server cookie has not spoofed its address (RFC 7873, RFC 9018).
//!
//! Owns: computing and verifying cookies. Does not own: their effect on answers (`respond`).

use std::{fmt, hash::Hasher as _, net::IpAddr};

use rollcall_model::lease::Wall;
use siphasher::sip::SipHasher24;

const CLIENT: usize = 8;
const SERVER: usize = 16;

/// The cookie version that RFC 9018 §4 defines.
const VERSION: u8 = 1;

/// The maximum age of a cookie, and how far the clock of the replica that issued it may be ahead, in seconds (RFC 9018
/// §4.3).
const MAX_AGE: u32 = 3600;
const MAX_AHEAD: u32 = 300;

/// The cookie option of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    client: [u8; CLIENT],
    server: ServerPart,
}

/// The server part of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerPart {
    /// The client does not have a server cookie yet.
    Absent,
    /// A server cookie of the length that this server uses.
    Native([u8; SERVER]),
    /// A server cookie of another length.
    Foreign,
}

/// The result of checking a query's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CookieState {
    /// The query has no cookie.
    Absent,
    /// The client sent only its own part, and asks for a server cookie.
    New,
    /// The cookie was made with this secret for this address, at most an hour ago.
    Good,
    /// The cookie was made with another secret or for another address, or is too old. The query is treated as one
    /// without a server cookie.
    Bad,
}

impl CookieState {
    /// The label value in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::New => "new",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

impl Cookie {
    /// Parses the option. `None` when its length is invalid (RFC 7873 §5.2.2).
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (client, server) = bytes.split_first_chunk::<CLIENT>()?;
        let server = match (server.len(), <[u8; SERVER]>::try_from(server)) {
            (0, _) => ServerPart::Absent,
            (_, Ok(server)) => ServerPart::Native(server),
            (8..=32, _) => ServerPart::Foreign,
            _ => return None,
        };
        Some(Self { client: *client, server })
    }
}

/// The secret from which cookies are computed. Replicas behind one address need the same secret; otherwise only the
/// replica that issued a cookie accepts it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A secret of 128 bits.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Checks a cookie that came from this address.
    #[must_use]
    pub fn verify(&self, cookie: &Cookie, from: IpAddr, now: Wall) -> CookieState {
        let server = match cookie.server {
            ServerPart::Absent => return CookieState::New,
            ServerPart::Foreign => return CookieState::Bad,
            ServerPart::Native(server) => server,
        };
        let [version, _, _, _, a, b, c, d, ..] = server;
        let stamp = u32::from_be_bytes([a, b, c, d]);
        // The timestamp is a wrapping count of seconds, so both differences use serial arithmetic.
        let (age, ahead) = (seconds(now).wrapping_sub(stamp), stamp.wrapping_sub(seconds(now)));
        let is_young = age <= MAX_AGE || ahead <= MAX_AHEAD;
        let genuine = self.hash(&cookie.client, server, from);
        let is_good = version == VERSION && is_young && server.ends_with(&genuine);
        if is_good { CookieState::Good } else { CookieState::Bad }
    }

    /// The cookie of the response: the client's part and a fresh server part.
    #[must_use]
    pub fn issue(&self, cookie: &Cookie, to: IpAddr, now: Wall) -> [u8; CLIENT + SERVER] {
        let mut server = [0; SERVER];
        let stamp = seconds(now).to_be_bytes();
        let prefix = [VERSION, 0, 0, 0].into_iter().chain(stamp);
        server.iter_mut().zip(prefix).for_each(|(to, from)| *to = from);
        let hash = self.hash(&cookie.client, server, to);
        let bytes = cookie.client.into_iter().chain(server.into_iter().take(8)).chain(hash);
        let mut whole = [0; CLIENT + SERVER];
        whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        whole
    }

    /// RFC 9018 §4.4: hashes the client cookie, version, reserved bytes, timestamp and address.
    fn hash(&self, client: &[u8; CLIENT], server: [u8; SERVER], address: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(client);
        hasher.write(server.first_chunk::<8>().map_or(&[], |prefix| prefix));
        match address {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

fn seconds(wall: Wall) -> u32 {
    u32::try_from(wall.0.div_euclid(1000).rem_euclid(1 << 32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9018 appendix A.1. Four independent implementations agree on these values.
    #[test]
    fn rfc_9018_example_over_ipv4() {
        let secret = Secret::new(hex("e5e973e5a6b2a43f48e7dc849e37bfcf").try_into().unwrap());
        let cookie = Cookie::parse(&hex("2464c4abcf10c957")).unwrap();
        let from = "198.51.100.100".parse().unwrap();
        let now = Wall(1_559_731_985_000);
        let whole = secret.issue(&cookie, from, now);
        let expected = hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        assert_eq!(whole.to_vec(), expected);
        assert_eq!(secret.verify(&cookie, from, now), CookieState::New);
        let shown = Cookie::parse(&whole).unwrap();
        for (later, cookie_state) in [
            (-300, CookieState::Good),
            (-301, CookieState::Bad),
            (0, CookieState::Good),
            (3600, CookieState::Good),
            (3601, CookieState::Bad),
        ] {
            let then = Wall(now.0 + later * 1000);
            assert_eq!(secret.verify(&shown, from, then), cookie_state, "{later}");
        }
        assert_eq!(secret.verify(&shown, "198.51.100.101".parse().unwrap(), now), CookieState::Bad);
        assert_eq!(Secret::new([7; 16]).verify(&shown, from, now), CookieState::Bad);
    }

    /// RFC 9018 appendix A.4.
    #[test]
    fn rfc_9018_example_over_ipv6() {
        let secret = Secret::new(hex("445536bcd2513298075a5d379663c962").try_into().unwrap());
        let cookie = Cookie::parse(&hex("22681ab97d52c298")).unwrap();
        let from = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let whole = secret.issue(&cookie, from, Wall(1_559_741_961_000));
        assert_eq!(whole.to_vec(), hex("22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
    }

    #[test]
    fn cookie_has_8_bytes_or_16_to_40() {
        for length in 0..=64_usize {
            let read = Cookie::parse(&vec![1; length]);
            assert_eq!(read.is_some(), length == 8 || (16..=40).contains(&length), "{length}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }
}
