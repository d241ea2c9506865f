//! Serving DNS over UDP and TCP, by hickory-server with a handler of our own.
//!
//! Owns: what is listened on, and the end of it. Does not own: the answers (`gate`). hickory has no
//! cap on connections over TCP, nor on queries over one; the kernel's limit on open files is the
//! only one. It logs two lines an answer at INFO, under the target `hickory_server`, which belongs
//! at WARN.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_server::{Server, net::NetError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dns::{
    gate::Transport,
    handler::Handler,
    metrics::Metrics,
    socket::Pair,
    zone::{MAX_ZONE, Zone},
};
use crate::registry::directory::Directory;

/// A connection on which nothing is asked for this long is closed (RFC 7766 §6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// Answers that wait on one connection. hickory takes no query from a connection before the answer
/// to the last one is on its way, so there is one; 8 × 64 KiB at most.
const OUTGOING: usize = 8;

/// How long queries are still answered after we are told to stop: those on their way arrive.
const LINGER: Duration = Duration::from_millis(250);

/// How long the sockets may then take to close.
const DRAIN: Duration = Duration::from_secs(2);

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The zone, with or without the root's dot.
    pub zone: String,
    /// Each is served over UDP and TCP. Port 0 lets the kernel choose one port for both.
    pub listen: Vec<SocketAddr>,
    /// The addresses of `ns.dns.<zone>`; perhaps none.
    pub name_server_addresses: Vec<IpAddr>,
}

/// Why DNS is not served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The zone is no name to serve.
    #[error(
        "--zone {zone:?} cannot be served: a zone is made of lower-case letters, digits, hyphens \
         and dots, {MAX_ZONE} characters at most"
    )]
    Zone {
        /// What was given.
        zone: String,
    },
    /// A socket could not be had.
    #[error(
        "cannot listen for DNS on {address} over {}: give a free address of this machine by --dns-listen \
         (ports below 1024 need CAP_NET_BIND_SERVICE)",
        transport.as_str()
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// What the system said.
        source: io::Error,
    },
    /// A socket that was served is no longer.
    #[error("DNS on {address} over {} ended: {reason}", transport.as_str())]
    Ended {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// What is known of it.
        reason: String,
    },
}

/// One socket and what serves it. hickory tells of the end of a socket only when all of its
/// sockets have ended, so each has a server of its own.
struct Door {
    address: SocketAddr,
    transport: Transport,
    server: Server<Handler>,
}

/// Sockets that are bound and answered.
pub struct DnsServer {
    addresses: Vec<SocketAddr>,
    doors: Vec<Door>,
}

/// Binds every address over UDP and TCP and begins to answer.
///
/// # Errors
/// When the zone cannot be served or a socket cannot be had; nothing is left bound then.
pub async fn bind(
    config: &DnsConfig,
    directory: Arc<Directory>,
    metrics: Metrics,
) -> Result<DnsServer, DnsError> {
    let zone = Zone::parse(&config.zone, &config.name_server_addresses)
        .ok_or_else(|| DnsError::Zone { zone: config.zone.clone() })?;
    let handler = Handler { zone: Arc::new(zone), directory, metrics };
    let mut server = DnsServer { addresses: Vec::new(), doors: Vec::new() };
    for wanted in &config.listen {
        let v4_too = |other: &SocketAddr| other.is_ipv4() && other.port() == wanted.port();
        let failed = |(transport, source)| DnsError::Bind { address: *wanted, transport, source };
        let pair = Pair::bind(*wanted, config.listen.iter().any(v4_too)).map_err(failed)?;
        server.open(pair, &handler)?;
    }
    Ok(server)
}

impl DnsServer {
    /// The addresses that are served, in the order in which they were given, each with its port.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until told to stop; then answers what is on its way, and closes.
    ///
    /// # Errors
    /// When a socket ends before that; the others are then closed too.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), DnsError> {
        let mut tokens = Vec::with_capacity(self.doors.len());
        let mut ends = JoinSet::new();
        for mut door in self.doors {
            tokens.push(door.server.shutdown_token().clone());
            // No deadline: it serves for as long as we do. Its end is awaited below.
            ends.spawn(async move {
                let end = door.server.block_until_done().await;
                (door.address, door.transport, end)
            });
        }
        tokio::select! {
            () = linger(&stop) => {}
            Some(end) = ends.join_next() => return Err(ended(end)),
        }
        tokens.iter().for_each(CancellationToken::cancel);
        let drained = async { while ends.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("DNS sockets took longer than {DRAIN:?} to close and were cut off");
        }
        Ok(())
    }

    fn open(&mut self, pair: Pair, handler: &Handler) -> Result<(), DnsError> {
        let Pair { address, udp, tcp } = pair;
        let failed = |transport| move |source| DnsError::Bind { address, transport, source };
        let mut server = Server::new(handler.clone());
        let udp = tokio::net::UdpSocket::from_std(udp).map_err(failed(Transport::Udp))?;
        server.register_socket(udp);
        self.doors.push(Door { address, transport: Transport::Udp, server });
        let mut server = Server::new(handler.clone());
        let tcp = tokio::net::TcpListener::from_std(tcp).map_err(failed(Transport::Tcp))?;
        server.register_listener(tcp, IDLE, OUTGOING);
        self.doors.push(Door { address, transport: Transport::Tcp, server });
        self.addresses.push(address);
        Ok(())
    }
}

async fn linger(stop: &CancellationToken) {
    // No deadline: stopping is what ends a server.
    stop.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

type End = (SocketAddr, Transport, Result<(), NetError>);

fn ended(end: Result<End, tokio::task::JoinError>) -> DnsError {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let (address, transport, reason) = match end {
        Ok((address, transport, Ok(()))) => (address, transport, "it was shut down".to_owned()),
        Ok((address, transport, Err(error))) => (address, transport, error.to_string()),
        Err(error) => (unknown, Transport::Udp, error.to_string()),
    };
    DnsError::Ended { address, transport, reason }
}
