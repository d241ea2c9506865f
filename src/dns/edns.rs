//! EDNS: the OPT record of a query and of its response (RFC 6891).
//!
//! Owns: the advertised size, and the supported options (NSID, cookies, TCP keepalive, extended errors). No other
//! option is echoed (RFC 8906 §8.2.3). Does not own: verifying cookies (`cookie`).

use crate::dns::{cookie::Cookie, ede::Ede, reader::MessageReader};

/// The largest UDP message that this server sends, and the size that it advertises: common network paths do not
/// fragment such a packet (RFC 9715, DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const EDE: u16 = 15;

/// The DO flag, in the upper byte of the EDNS flags.
const DNSSEC_OK: u8 = 0x80;

/// The length of an OPT without options: root, type, class, TTL, length.
const EMPTY_OPT: usize = 11;

/// The OPT of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdnsRequest {
    /// The largest UDP message that the client accepts, in bytes.
    pub size: u16,
    /// The version; only 0 is defined.
    pub version: u8,
    /// The DO flag, which the response copies (RFC 3225).
    pub dnssec_ok: bool,
    /// Whether the client asks for the name of the replica (NSID, RFC 5001).
    pub nsid: bool,
    /// The cookie (RFC 7873).
    pub cookie: Option<Cookie>,
    /// Whether the client asks how long a connection may be idle (RFC 7828).
    pub keepalive: bool,
}

impl EdnsRequest {
    /// Parses an OPT, and returns whether it is well formed. If it is not, the response is FORMERR with an OPT (RFC
    /// 6891 §7). If an option occurs twice, the first one is used (RFC 7873 §5.2).
    #[must_use]
    pub fn parse(class: u16, ttl: u32, data: &[u8]) -> (Self, bool) {
        let [_, version, high, _] = ttl.to_be_bytes();
        let dnssec_ok = high & DNSSEC_OK != 0;
        let (nsid, cookie, keepalive) = (false, None, false);
        let mut request = Self { size: class, version, dnssec_ok, nsid, cookie, keepalive };
        let mut rest = MessageReader(data);
        let mut has_cookie = false;
        while !rest.0.is_empty() {
            let Some((code, value)) = read_option(&mut rest) else { return (request, false) };
            match code {
                NSID => request.nsid = true,
                KEEPALIVE => request.keepalive = true,
                COOKIE if !has_cookie => {
                    has_cookie = true;
                    request.cookie = Cookie::parse(value);
                }
                _ => {}
            }
        }
        let is_well_formed = request.cookie.is_some() || !has_cookie;
        (request, is_well_formed)
    }
}

fn read_option<'m>(rest: &mut MessageReader<'m>) -> Option<(u16, &'m [u8])> {
    let (code, length) = (rest.read_u16()?, rest.read_u16()?);
    Some((code, rest.read_bytes(length.into())?))
}

/// Builds the OPT of a response.
#[derive(Clone, Debug)]
pub struct Opt {
    bytes: Vec<u8>,
    options: u16,
    limit: usize,
}

impl Opt {
    /// An OPT without options, of at most `limit` bytes: an option that does not fit is left out.
    #[must_use]
    pub fn new(dnssec_ok: bool, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.extend([0, 0, 41]);
        bytes.extend(UDP_PAYLOAD.to_be_bytes());
        bytes.extend([0, 0, if dnssec_ok { DNSSEC_OK } else { 0 }, 0, 0, 0]);
        Self { bytes, options: 0, limit }
    }

    /// Adds the name of this replica.
    pub fn add_nsid(&mut self, name: &str) {
        self.add_option(NSID, &[name.as_bytes()]);
    }

    /// Adds a cookie: client part and server part.
    pub fn add_cookie(&mut self, cookie: &[u8]) {
        self.add_option(COOKIE, &[cookie]);
    }

    /// Adds the time that a connection may be idle, in tenths of a second.
    pub fn add_keepalive(&mut self, tenths: u16) {
        self.add_option(KEEPALIVE, &[&tenths.to_be_bytes()]);
    }

    /// Adds an extended error.
    pub fn add_ede(&mut self, ede: &Ede) {
        self.add_option(EDE, &[&ede.code.to_be_bytes(), ede.text.as_bytes()]);
    }

    /// The encoded record, with the upper bits of the response code.
    #[must_use]
    pub fn finish(mut self, code: u16) -> Vec<u8> {
        let high = code.to_be_bytes();
        // The code has 12 bits; the header holds the lower 4.
        let high = (high[0] << 4) | (high[1] >> 4);
        if let Some(byte) = self.bytes.get_mut(5) {
            *byte = high;
        }
        if let Some(length) = self.bytes.get_mut(EMPTY_OPT - 2..EMPTY_OPT) {
            length.copy_from_slice(&self.options.to_be_bytes());
        }
        self.bytes
    }

    fn add_option(&mut self, code: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.bytes.len() + 4 + length > self.limit {
            return;
        }
        let Ok(length) = u16::try_from(length) else { return };
        self.bytes.extend(code.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.options += 4 + length;
    }
}
