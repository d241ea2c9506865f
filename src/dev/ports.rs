//! Ports on this machine: a free one, and whether an address can be listened on.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use parking_lot::Mutex;

/// Free ports are taken from here: below the range from which the kernel takes the local ports of
/// outgoing connections (32768 and up on Linux), which could take a port between our look and its use.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// How many ports are tried before giving up.
const TRIES: usize = 200;

/// What this process was given already: its owner may not listen yet, or not at the moment. No more than the range has.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address on 127.0.0.1 whose port nobody listens on now, over TCP or UDP, and that was not given before.
///
/// # Errors
/// The last refusal, when many random ports were all taken.
pub fn free() -> io::Result<SocketAddr> {
    let mut last = io::Error::other("no free port");
    for _ in 0..TRIES {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(RANGE)));
        match available(addr) {
            Ok(()) if GIVEN.lock().insert(addr.port()) => return Ok(addr),
            Ok(()) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_though_nobody_listens_on_it() {
        let ports: BTreeSet<_> = (0..1_000).map(|_| free().unwrap().port()).collect();
        assert_eq!(ports.len(), 1_000);
    }
}
