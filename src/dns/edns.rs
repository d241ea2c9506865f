//! EDNS: what a query asks for by its OPT, and the OPT of a response (RFC 6891).
//!
//! Owns: which options are understood (NSID, cookies, TCP keepalive, extended errors); no other is
//! ever echoed (RFC 8906 §8.2.3). Does not own: what makes a cookie good (`cookie`).

use hickory_proto::{
    op::Edns,
    rr::rdata::opt::{EdnsCode, EdnsOption},
};

use crate::dns::{cookie::Cookie, ede::Ede, fit::UDP_PAYLOAD};

const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const EDE: u16 = 15;

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
    /// Reads an OPT; none when one of its options is malformed.
    #[must_use]
    pub fn read(edns: &Edns) -> Option<Self> {
        let cookie = match edns.option(EdnsCode::Cookie) {
            Some(EdnsOption::Unknown(_, octets)) => Some(Cookie::read(octets)?),
            _ => None,
        };
        Some(Self {
            size: edns.max_payload(),
            version: edns.version(),
            dnssec_ok: edns.flags().dnssec_ok,
            nsid: edns.option(EdnsCode::NSID).is_some(),
            cookie,
            keepalive: edns.option(EdnsCode::Keepalive).is_some(),
        })
    }
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
        octets.extend([0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
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
