//! Free ports on this machine. Does not own: the servers that listen on them.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use parking_lot::Mutex;

/// The range of free ports. It is below the ephemeral ports (32768 and up on Linux), because an outgoing connection
/// could take an ephemeral port between the check and its use.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// How many random ports are tried.
const TRIES: usize = 200;

/// Ports that this process has handed out before, because the programs that received them may not be listening yet, or
/// not at the moment. Bounded by [`RANGE`].
static ASSIGNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address on 127.0.0.1 whose port is free for TCP and UDP now, and that was not handed out before.
///
/// # Errors
/// The last error, when all tried ports were in use.
pub fn free() -> io::Result<SocketAddr> {
    let mut last = io::Error::other("no free port");
    for _ in 0..TRIES {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(RANGE)));
        match available(addr) {
            Ok(()) if ASSIGNED.lock().insert(addr.port()) => return Ok(addr),
            Ok(()) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Checks whether this process can listen on `addr` now, over both TCP and UDP.
///
/// # Errors
/// The error of the operating system.
pub fn available(addr: SocketAddr) -> io::Result<()> {
    TcpListener::bind(addr)?;
    UdpSocket::bind(addr)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_port_is_handed_out_only_once() {
        let ports: BTreeSet<_> = (0..1_000).map(|_| free().unwrap().port()).collect();
        assert_eq!(ports.len(), 1_000);
    }
}
