//! The DNS server over UDP and TCP.
//!
//! Owns: binding the listeners, starting their tasks, and stopping. Does not own: the answers (`respond`), and handling
//! one datagram or connection (`udp`, `tcp`).

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::dns::{
    connections::Connections,
    cookie::Secret,
    limit::ErrorLimits,
    metrics::Metrics,
    querylog::QueryLog,
    respond::{Responder, Transport},
    socket::SocketPair,
    state::ServerState,
    tcp, udp,
    zones::Zones,
};

/// How long queries are still answered after a stop was requested, because some are already on the network.
const LINGER: Duration = Duration::from_millis(250);

/// After that, how long connections have to finish.
const DRAIN: Duration = Duration::from_secs(2);

/// The maximum number of tasks that answer on one UDP socket. There is at most one for each processor; more would only
/// contend for the socket.
const UDP_TASKS: usize = 4;

/// The maximum number of concurrent zone transfers.
const TRANSFERS: usize = 4;

/// An error of the DNS server.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A socket could not be bound.
    #[error(
        "cannot listen for DNS on {address} over {}: set --dns-listen to a free address of this machine (ports \
         below 1024 need CAP_NET_BIND_SERVICE)",
        transport.as_str()
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The error of the system call.
        source: io::Error,
    },
    /// A task that serves a socket has ended.
    #[error("the DNS server on {address} over {} ended: {reason}", transport.as_str())]
    Ended {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The reason, if it is known.
        reason: String,
    },
}

/// The sockets of one address.
struct Listener {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: tokio::net::TcpListener,
}

/// A DNS server with bound sockets; [`DnsServer::serve`] runs it.
pub struct DnsServer {
    addresses: Vec<SocketAddr>,
    listeners: Vec<Listener>,
    state: Arc<ServerState>,
}

/// Binds every address over UDP and TCP. With port 0 the kernel chooses one port for both.
///
/// # Errors
/// When a socket cannot be bound. The others are then closed.
pub fn bind(
    zones: Zones,
    listen: &[SocketAddr],
    replica: &str,
    metrics: Metrics,
) -> Result<DnsServer, DnsError> {
    let state = Arc::new(build_state(zones, replica, metrics));
    let mut server = DnsServer { addresses: Vec::new(), listeners: Vec::new(), state };
    for requested in listen {
        let is_v4_on_same_port =
            |other: &SocketAddr| other.is_ipv4() && other.port() == requested.port();
        let failed =
            |(transport, source)| DnsError::Bind { address: *requested, transport, source };
        let pair =
            SocketPair::bind(*requested, listen.iter().any(is_v4_on_same_port)).map_err(failed)?;
        server.open(pair)?;
    }
    Ok(server)
}

fn build_state(zones: Zones, replica: &str, metrics: Metrics) -> ServerState {
    let settings = &zones.settings;
    let secret = settings.cookie_secret.unwrap_or_else(|| fastrand::u128(..).to_ne_bytes());
    let limits = ErrorLimits::new(settings.error_rate, fastrand::u64(..));
    let connections = Connections::new(settings.connections);
    metrics.set_connections(connections.clone());
    let transfers = Semaphore::new(TRANSFERS);
    let log = QueryLog::new(settings.log_every);
    let (secret, replica) = (Secret::new(secret), replica.into());
    let responder = Responder { zones: Arc::new(zones), secret, limits, replica };
    ServerState { responder, connections, transfers, metrics, log }
}

impl DnsServer {
    /// The bound addresses with their ports, in the order of `listen`.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The zones that this server answers for.
    #[must_use]
    pub fn zones(&self) -> &Arc<Zones> {
        &self.state.responder.zones
    }

    /// Serves until `stop` is cancelled, then answers the queries that are already on the network, and closes.
    ///
    /// # Errors
    /// When the task of a socket ends before that. The other sockets are then closed, too.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), DnsError> {
        let end = CancellationToken::new();
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (mut datagrams, mut connections) = (JoinSet::new(), JoinSet::new());
        for Listener { address, udp, tcp } in self.listeners {
            let udp = Arc::new(udp);
            for _ in 0..processors.min(UDP_TASKS) {
                let serve = udp::serve(udp.clone(), self.state.clone());
                datagrams.spawn(async move {
                    serve.await;
                    (address, Transport::Udp)
                });
            }
            let serve = tcp::serve(tcp, self.state.clone(), end.clone());
            connections.spawn(async move {
                serve.await;
                (address, Transport::Tcp)
            });
        }
        // A task that ends before a stop has failed.
        tokio::select! {
            () = stop_and_linger(&stop) => {}
            Some(end) = datagrams.join_next() => return Err(task_error(end)),
            Some(end) = connections.join_next() => return Err(task_error(end)),
        }
        end.cancel();
        datagrams.abort_all();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("DNS connections did not finish within {DRAIN:?} and were closed");
        }
        Ok(())
    }

    fn open(&mut self, pair: SocketPair) -> Result<(), DnsError> {
        let SocketPair { address, udp, tcp } = pair;
        let failed = |transport| move |source| DnsError::Bind { address, transport, source };
        let udp = UdpSocket::from_std(udp).map_err(failed(Transport::Udp))?;
        let tcp = tokio::net::TcpListener::from_std(tcp).map_err(failed(Transport::Tcp))?;
        self.listeners.push(Listener { address, udp, tcp });
        self.addresses.push(address);
        Ok(())
    }
}

async fn stop_and_linger(stop: &CancellationToken) {
    // No deadline: the server runs until it is stopped.
    stop.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

fn task_error(end: Result<(SocketAddr, Transport), tokio::task::JoinError>) -> DnsError {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    match end {
        Ok((address, transport)) => {
            DnsError::Ended { address, transport, reason: "its task has ended".to_owned() }
        }
        Err(error) => DnsError::Ended {
            address: unknown,
            transport: Transport::Udp,
            reason: error.to_string(),
        },
    }
}
