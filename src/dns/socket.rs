//! Binds the DNS sockets: one UDP and one TCP socket for each address.
//!
//! Owns: their options. Does not own: serving them (`udp`, `tcp`).

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::dns::{datagram, respond::Transport};

/// The size of the receive buffer that is requested for UDP, so that a burst of a few thousand queries is queued and
/// not lost. The kernel grants less if `net.core.rmem_max` is lower.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The number of attempts with port 0: the port that the kernel chooses for TCP may be in use for UDP.
const PORT_ATTEMPTS: usize = 16;

/// The sockets of one address. If it was given with port 0, it has the port that was chosen.
pub(super) struct SocketPair {
    pub(super) address: SocketAddr,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl SocketPair {
    /// Binds both. `v6_only` keeps an IPv6 wildcard address from also accepting IPv4.
    pub(super) fn bind(
        requested: SocketAddr,
        v6_only: bool,
    ) -> Result<Self, (Transport, io::Error)> {
        let mut attempts = if requested.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            let tcp = tcp(requested, v6_only).map_err(|error| (Transport::Tcp, error))?;
            let address = tcp.local_addr().map_err(|error| (Transport::Tcp, error))?;
            match udp(address, v6_only) {
                Ok(udp) => return Ok(Self { address, udp, tcp }),
                Err(error) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err((Transport::Udp, error)),
            }
        }
    }
}

fn udp(address: SocketAddr, v6_only: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // A smaller buffer also works, so an error is ignored.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if address.ip().is_unspecified() {
        datagram::enable_packet_info(&socket, address.ip())?;
    }
    bind(&socket, address, v6_only)?;
    Ok(socket.into())
}

fn tcp(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without this, connections of the previous process in TIME_WAIT would block the port after a restart.
    socket.set_reuse_address(true)?;
    bind(&socket, address, v6_only)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(socket: &Socket, address: SocketAddr, v6_only: bool) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}
