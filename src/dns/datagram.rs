//! Datagrams with their local address, so that an answer leaves from the address that the query was sent to.
//!
//! When a socket is bound to a wildcard address on a host with several addresses, the kernel would choose the source
//! address of an answer, and a client drops an answer from an address that it did not query. Owns: the local address
//! (`IP_PKTINFO`). Does not own: the content of datagrams (`udp`).

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

/// The remote and the local address of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct DatagramAddresses {
    pub(super) peer: SocketAddr,
    local: Option<LocalAddress>,
}

#[derive(Clone, Copy, Debug)]
enum LocalAddress {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

/// The metadata of a received datagram. Its content is in the buffer.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) addresses: DatagramAddresses,
    /// The number of bytes in the buffer.
    pub(super) length: usize,
    /// Whether the datagram was longer than the buffer.
    pub(super) truncated: bool,
}

/// Makes the kernel report the local address of each datagram.
pub(super) fn enable_packet_info(socket: &socket2::Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Receives one datagram without waiting.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd: RawFd = socket.as_raw_fd();
    let message =
        recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let peer = message.address.as_ref().and_then(address);
    let peer = peer.ok_or_else(|| io::Error::other("the datagram has no source address"))?;
    let local = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(LocalAddress::V4(info)),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(LocalAddress::V6(info)),
        _ => None,
    });
    let (length, truncated) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    Ok(Received { addresses: DatagramAddresses { peer, local }, length, truncated })
}

/// Sends a datagram to the peer, from the local address that received the query.
pub(super) fn send(
    socket: &impl AsRawFd,
    addresses: &DatagramAddresses,
    bytes: &[u8],
) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let fd = socket.as_raw_fd();
    let peer = SockaddrStorage::from(addresses.peer);
    let (v4, v6);
    let info = match addresses.local {
        Some(LocalAddress::V4(info)) => {
            // Interface 0 leaves the choice of the interface to the routing table, as for any other packet.
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ..info };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(LocalAddress::V6(info)) => {
            let is_local = matches!(addresses.peer, SocketAddr::V6(peer) if peer.scope_id() != 0);
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
    let v4 = storage.as_sockaddr_in().map(|v4: &SockaddrIn| SocketAddrV4::from(*v4).into());
    let v6 = || storage.as_sockaddr_in6().map(|v6: &SockaddrIn6| SocketAddrV6::from(*v6).into());
    v4.or_else(v6)
}
