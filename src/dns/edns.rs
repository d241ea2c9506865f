//! EDNS: what a query asks for by its OPT, and the OPT of a response (RFC 6891).
//!
//! Owns: the size that is advertised, and which options are understood (NSID, cookies, TCP keepalive, extended
//! errors); no other is ever echoed (RFC 8906 §8.2.3). Does not own: what makes a cookie good (`cookie`).

use crate::dns::{cookie::Cookie, ede::Ede, walk::Walk};

/// The largest UDP message that is sent, and the size that is advertised: such a packet is not
/// fragmented on any usual path (RFC 9715, DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const EDE: u16 = 15;

/// DO, the highest of the flags.
const DNSSEC_OK: u8 = 0x80;

/// Octets of an OPT without options: root, type, class, TTL, length.
const FIXED: usize = 11;

/// What a query asks for by its OPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asks {
    /// The largest UDP message that it takes, in octets.
    pub size: u16,
    /// 0 is the only one there is.
    pub version: u8,
    /// DO, which is copied (RFC 3225).
    pub dnssec_ok: bool,
    /// Whether it wants to know who answers (RFC 5001).
    pub nsid: bool,
    /// Its cookie (RFC 7873).
    pub cookie: Option<Cookie>,
    /// Whether it wants to know how long a connection may be idle (RFC 7828).
    pub keepalive: bool,
}

impl Asks {
    /// Reads an OPT, and whether it is well formed: what is not is answered by FORMERR, with an OPT
    /// (RFC 6891 §7). Of options that stand there twice the first one counts (RFC 7873 §5.2).
    #[must_use]
    pub fn read(class: u16, ttl: u32, data: &[u8]) -> (Self, bool) {
        let [_, version, high, _] = ttl.to_be_bytes();
        let dnssec_ok = high & DNSSEC_OK != 0;
        let (nsid, cookie, keepalive) = (false, None, false);
        let mut asks = Self { size: class, version, dnssec_ok, nsid, cookie, keepalive };
        let mut rest = Walk(data);
        let mut has_cookie = false;
        while !rest.0.is_empty() {
            let Some((code, value)) = option(&mut rest) else { return (asks, false) };
            match code {
                NSID => asks.nsid = true,
                KEEPALIVE => asks.keepalive = true,
                COOKIE if !has_cookie => {
                    has_cookie = true;
                    asks.cookie = Cookie::read(value);
                }
                _ => {}
            }
        }
        let is_well_formed = asks.cookie.is_some() || !has_cookie;
        (asks, is_well_formed)
    }
}

fn option<'m>(rest: &mut Walk<'m>) -> Option<(u16, &'m [u8])> {
    let (code, length) = (rest.word()?, rest.word()?);
    Some((code, rest.take(length.into())?))
}

/// The OPT of a response, as it grows.
#[derive(Clone, Debug)]
pub struct Opt {
    octets: Vec<u8>,
    options: u16,
    room: usize,
}

impl Opt {
    /// Without options. `room` is for all of it: an option that does not fit is left out.
    #[must_use]
    pub fn new(dnssec_ok: bool, room: usize) -> Self {
        let mut octets = Vec::with_capacity(96);
        octets.extend([0, 0, 41]);
        octets.extend(UDP_PAYLOAD.to_be_bytes());
        octets.extend([0, 0, if dnssec_ok { DNSSEC_OK } else { 0 }, 0, 0, 0]);
        Self { octets, options: 0, room }
    }

    /// Who answers.
    pub fn nsid(&mut self, name: &str) {
        self.option(NSID, &[name.as_bytes()]);
    }

    /// A cookie, client's part and ours.
    pub fn cookie(&mut self, cookie: &[u8]) {
        self.option(COOKIE, &[cookie]);
    }

    /// How long a connection may be idle, in tenths of a second.
    pub fn keepalive(&mut self, tenths: u16) {
        self.option(KEEPALIVE, &[&tenths.to_be_bytes()]);
    }

    /// What else is to be said.
    pub fn ede(&mut self, ede: &Ede) {
        self.option(EDE, &[&ede.code.to_be_bytes(), ede.text.as_bytes()]);
    }

    /// The record, with the upper bits of the response's code.
    #[must_use]
    pub fn finish(mut self, code: u16) -> Vec<u8> {
        let high = code.to_be_bytes();
        // The code has 12 bits, of which the header has 4.
        let high = (high[0] << 4) | (high[1] >> 4);
        if let Some(octet) = self.octets.get_mut(5) {
            *octet = high;
        }
        if let Some(length) = self.octets.get_mut(FIXED - 2..FIXED) {
            length.copy_from_slice(&self.options.to_be_bytes());
        }
        self.octets
    }

    fn option(&mut self, code: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.octets.len() + 4 + length > self.room {
            return;
        }
        let Ok(length) = u16::try_from(length) else { return };
        self.octets.extend(code.to_be_bytes());
        self.octets.extend(length.to_be_bytes());
        parts.iter().for_each(|part| self.octets.extend_from_slice(part));
        self.options += 4 + length;
    }
}
