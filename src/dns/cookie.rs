//! DNS cookies: a client that shows ours can receive at the address it claims (RFC 7873, RFC 9018).
//!
//! Owns: making and checking them. Does not own: what they are good for (`respond`).

use std::{fmt, hash::Hasher as _, net::IpAddr};

use rollcall_model::lease::Wall;
use siphasher::sip::SipHasher24;

const CLIENT: usize = 8;
const SERVER: usize = 16;

/// The version of RFC 9018 §4.
const VERSION: u8 = 1;

/// How old a cookie may be, and how far ahead of our clock another replica's may be, in seconds (RFC 9018 §4.3).
const PAST: u32 = 3600;
const FUTURE: u32 = 300;

/// The cookie of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    client: [u8; CLIENT],
    server: Server,
}

/// Its server part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// It has none yet.
    None,
    /// Of the shape of ours.
    Ours([u8; SERVER]),
    /// Of any other.
    Another,
}

/// What a query's cookie is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It has none.
    Absent,
    /// It asks for one.
    New,
    /// Ours, and young.
    Good,
    /// Not ours, or too old: as good as none.
    Bad,
}

impl Standing {
    /// As metrics write it.
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
    /// Reads an option; none when it has a length that no cookie has (RFC 7873 §5.2.2).
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        let (client, server) = octets.split_first_chunk::<CLIENT>()?;
        let server = match (server.len(), <[u8; SERVER]>::try_from(server)) {
            (0, _) => Server::None,
            (_, Ok(server)) => Server::Ours(server),
            (8..=32, _) => Server::Another,
            _ => return None,
        };
        Some(Self { client: *client, server })
    }
}

/// The secret that makes cookies: the same on every replica, where clients may meet another next time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Of these octets.
    #[must_use]
    pub const fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// What a cookie from this address is worth.
    #[must_use]
    pub fn judge(&self, cookie: &Cookie, from: IpAddr, now: Wall) -> Standing {
        let server = match cookie.server {
            Server::None => return Standing::New,
            Server::Another => return Standing::Bad,
            Server::Ours(server) => server,
        };
        let [version, _, _, _, a, b, c, d, ..] = server;
        let stamp = u32::from_be_bytes([a, b, c, d]);
        // Both differences in serial arithmetic, as the stamp is a wrapping second.
        let (age, ahead) = (seconds(now).wrapping_sub(stamp), stamp.wrapping_sub(seconds(now)));
        let is_young = age <= PAST || ahead <= FUTURE;
        let genuine = self.hash(&cookie.client, server, from);
        let is_good = version == VERSION && is_young && server.ends_with(&genuine);
        if is_good { Standing::Good } else { Standing::Bad }
    }

    /// The cookie to answer with: the client's part, and a fresh one of ours.
    #[must_use]
    pub fn answer(&self, cookie: &Cookie, to: IpAddr, now: Wall) -> [u8; CLIENT + SERVER] {
        let mut server = [0; SERVER];
        let stamp = seconds(now).to_be_bytes();
        let head = [VERSION, 0, 0, 0].into_iter().chain(stamp);
        server.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        let hash = self.hash(&cookie.client, server, to);
        let octets = cookie.client.into_iter().chain(server.into_iter().take(8)).chain(hash);
        let mut whole = [0; CLIENT + SERVER];
        whole.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
        whole
    }

    /// RFC 9018 §4.4: client cookie, version, reserved octets, stamp and address.
    fn hash(&self, client: &[u8; CLIENT], server: [u8; SERVER], address: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(client);
        hasher.write(server.first_chunk::<8>().map_or(&[], |head| head));
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

    /// RFC 9018 appendix A.1: made by four independent implementations.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let secret = Secret::new(hex("e5e973e5a6b2a43f48e7dc849e37bfcf").try_into().unwrap());
        let cookie = Cookie::read(&hex("2464c4abcf10c957")).unwrap();
        let from = "198.51.100.100".parse().unwrap();
        let now = Wall(1_559_731_985_000);
        let whole = secret.answer(&cookie, from, now);
        let expected = hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        assert_eq!(whole.to_vec(), expected);
        assert_eq!(secret.judge(&cookie, from, now), Standing::New);
        let shown = Cookie::read(&whole).unwrap();
        for (later, standing) in [
            (-300, Standing::Good),
            (-301, Standing::Bad),
            (0, Standing::Good),
            (3600, Standing::Good),
            (3601, Standing::Bad),
        ] {
            let then = Wall(now.0 + later * 1000);
            assert_eq!(secret.judge(&shown, from, then), standing, "{later}");
        }
        assert_eq!(secret.judge(&shown, "198.51.100.101".parse().unwrap(), now), Standing::Bad);
        assert_eq!(Secret::new([7; 16]).judge(&shown, from, now), Standing::Bad);
    }

    /// RFC 9018 appendix A.4.
    #[test]
    fn the_example_over_ipv6_comes_out() {
        let secret = Secret::new(hex("445536bcd2513298075a5d379663c962").try_into().unwrap());
        let cookie = Cookie::read(&hex("22681ab97d52c298")).unwrap();
        let from = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let whole = secret.answer(&cookie, from, Wall(1_559_741_961_000));
        assert_eq!(whole.to_vec(), hex("22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
    }

    #[test]
    fn a_cookie_has_8_octets_or_16_to_40() {
        for length in 0..=64_usize {
            let read = Cookie::read(&vec![1; length]);
            assert_eq!(read.is_some(), length == 8 || (16..=40).contains(&length), "{length}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(octet).collect()
    }
}
