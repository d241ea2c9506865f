//! Ports on this machine: a free one, and whether an address can be listened on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Free ports are taken from here: below the range from which the kernel takes the local ports of
/// outgoing connections (32768 and up on Linux), which could take a port between our look and its use.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// How many ports are tried before giving up.
const TRIES: usize = 200;

/// An address on 127.0.0.1 whose port nobody listens on now, over TCP or UDP.
///
/// # Errors
/// The last refusal, when many random ports were all taken.
pub fn free() -> io::Result<SocketAddr> {
    let mut last = io::Error::other("no free port");
    for _ in 0..TRIES {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(RANGE)));
        match available(addr) {
            Ok(()) => return Ok(addr),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether this process could listen on `addr` now, over both TCP and UDP.
///
/// # Errors
/// What the operating system said when it could not.
pub fn available(addr: SocketAddr) -> io::Result<()> {
    TcpListener::bind(addr)?;
    UdpSocket::bind(addr)?;
    Ok(())
}
