//! Datagrams that know the address which they came to, and leave from it.
//!
//! On a host with several addresses, a socket that listens on any of them would let the kernel choose the
//! source of an answer, and the client drops what comes from somebody it did not ask. Owns: that
//! (`IP_PKTINFO`). Does not own: what is said (`udp`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
        recvmsg, sendmsg, setsockopt, sockopt,
    },
};

/// Where a datagram came from, and came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) peer: SocketAddr,
    local: Option<Local>,
}

#[derive(Clone, Copy, Debug)]
enum Local {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

/// A datagram.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) path: Path,
    /// Octets of it in the buffer.
    pub(super) length: usize,
    /// Whether it was longer than the buffer.
    pub(super) cut: bool,
}

/// Asks the kernel to tell which address a datagram came to.
pub(super) fn prepare(socket: &socket2::Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Receives one.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd: RawFd = socket.as_raw_fd();
    let message =
        recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let peer = message.address.as_ref().and_then(address);
    let peer = peer.ok_or_else(|| io::Error::other("a datagram without a source"))?;
    let local = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Local::V4(info)),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Local::V6(info)),
        _ => None,
    });
    let (length, cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    Ok(Received { path: Path { peer, local }, length, cut })
}

/// Sends one back along a path.
pub(super) fn send(socket: &impl AsRawFd, path: &Path, octets: &[u8]) -> io::Result<()> {
    let parts = [IoSlice::new(octets)];
    let fd = socket.as_raw_fd();
    let peer = SockaddrStorage::from(path.peer);
    let (v4, v6);
    let info = match path.local {
        Some(Local::V4(info)) => {
            // The route decides on the interface, as for any other packet.
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ..info };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(Local::V6(info)) => {
            let is_local = matches!(path.peer, SocketAddr::V6(peer) if peer.scope_id() != 0);
            let ipi6_ifindex = if is_local { info.ipi6_ifindex } else { 0 };
            v6 = libc::in6_pktinfo { ipi6_ifindex, ..info };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
        None => None,
    };
    sendmsg(fd, &parts, info.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&peer))?;
    Ok(())
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it: &SockaddrIn| SocketAddrV4::from(*it).into());
    let v6 = || storage.as_sockaddr_in6().map(|it: &SockaddrIn6| SocketAddrV6::from(*it).into());
    v4.or_else(v6)
}
