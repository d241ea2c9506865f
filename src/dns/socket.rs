//! Sockets for DNS: one UDP and one TCP socket for each address.
//!
//! Owns: their options. Does not own: what is said over them.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::dns::{datagram, respond::Transport};

/// Wanted for UDP, so that a burst of some thousand queries waits instead of being lost; the
/// kernel gives less where its own limit (`net.core.rmem_max`) is lower.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// How often another port is tried, when the kernel was to choose one and it was free for only one
/// of the two.
const TRIES: usize = 16;

/// Both sockets of an address, which has the port that the kernel chose where it was 0.
pub(super) struct Pair {
    pub(super) address: SocketAddr,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl Pair {
    /// Binds both. `v6_only` keeps an IPv6 wildcard from taking IPv4 too.
    pub(super) fn bind(wanted: SocketAddr, v6_only: bool) -> Result<Self, (Transport, io::Error)> {
        let mut tries = if wanted.port() == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            let tcp = tcp(wanted, v6_only).map_err(|error| (Transport::Tcp, error))?;
            let address = tcp.local_addr().map_err(|error| (Transport::Tcp, error))?;
            match udp(address, v6_only) {
                Ok(udp) => return Ok(Self { address, udp, tcp }),
                Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err((Transport::Udp, error)),
            }
        }
    }
}

fn udp(address: SocketAddr, v6_only: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Less is no reason not to serve.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if address.ip().is_unspecified() {
        datagram::prepare(&socket, address.ip())?;
    }
    bind(&socket, address, v6_only)?;
    Ok(socket.into())
}

fn tcp(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the last run to be forgotten.
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
