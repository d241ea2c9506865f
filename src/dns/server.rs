//! Serving DNS over UDP and TCP.
//!
//! Owns: what is listened on, and the end of it. Does not own: the answers (`respond`), and what is done with
//! one datagram or connection (`udp`, `tcp`).

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::dns::{
    connections::Connections,
    cookie::Secret,
    limit::Limits,
    metrics::Metrics,
    querylog::QueryLog,
    realm::Realm,
    respond::{Responder, Transport},
    socket::Pair,
    state::ServerState,
    tcp, udp,
};

/// How long queries are still answered after we are told to stop: those on their way arrive.
const LINGER: Duration = Duration::from_millis(250);

/// How long connections may then take to finish.
const DRAIN: Duration = Duration::from_secs(2);

/// Tasks that answer over UDP from one socket, on a machine with as many processors; more would only wait
/// for each other.
const UDP_TASKS: usize = 4;

/// Transfers of the zone at once.
const TRANSFERS: usize = 4;

/// Why DNS is not served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
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

/// The sockets of one address.
struct Door {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: tokio::net::TcpListener,
}

/// Sockets that are bound, and will be answered.
pub struct DnsServer {
    addresses: Vec<SocketAddr>,
    doors: Vec<Door>,
    state: Arc<ServerState>,
}

/// Binds every address over UDP and TCP. Port 0 lets the kernel choose one port for both.
///
/// # Errors
/// When a socket cannot be had; nothing is left bound then.
pub fn bind(
    realm: Realm,
    listen: &[SocketAddr],
    replica: &str,
    metrics: Metrics,
) -> Result<DnsServer, DnsError> {
    let state = Arc::new(state(realm, replica, metrics));
    let mut server = DnsServer { addresses: Vec::new(), doors: Vec::new(), state };
    for wanted in listen {
        let v4_too = |other: &SocketAddr| other.is_ipv4() && other.port() == wanted.port();
        let failed = |(transport, source)| DnsError::Bind { address: *wanted, transport, source };
        let pair = Pair::bind(*wanted, listen.iter().any(v4_too)).map_err(failed)?;
        server.open(pair)?;
    }
    Ok(server)
}

fn state(realm: Realm, replica: &str, metrics: Metrics) -> ServerState {
    let settings = &realm.settings;
    let secret = settings.cookie_secret.unwrap_or_else(|| fastrand::u128(..).to_ne_bytes());
    let limits = Limits::new(settings.error_rate, fastrand::u64(..));
    let connections = Connections::new(settings.connections);
    metrics.watch(connections.clone());
    let transfers = Semaphore::new(TRANSFERS);
    let log = QueryLog::new(settings.log_every);
    let (secret, replica) = (Secret::new(secret), replica.into());
    let responder = Responder { realm: Arc::new(realm), secret, limits, replica };
    ServerState { responder, connections, transfers, metrics, log }
}

impl DnsServer {
    /// The addresses that are served, in the order in which they were given, each with its port.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What is answered for.
    #[must_use]
    pub fn realm(&self) -> &Arc<Realm> {
        &self.state.responder.realm
    }

    /// Serves until told to stop; then answers what is on its way, and closes.
    ///
    /// # Errors
    /// When a socket ends before that; the others are then closed too.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), DnsError> {
        let end = CancellationToken::new();
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (mut datagrams, mut connections) = (JoinSet::new(), JoinSet::new());
        for Door { address, udp, tcp } in self.doors {
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
        // None of them ends by itself: one that does has broken down.
        tokio::select! {
            () = linger(&stop) => {}
            Some(end) = datagrams.join_next() => return Err(ended(end)),
            Some(end) = connections.join_next() => return Err(ended(end)),
        }
        end.cancel();
        datagrams.abort_all();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("DNS connections took longer than {DRAIN:?} to finish and were cut off");
        }
        Ok(())
    }

    fn open(&mut self, pair: Pair) -> Result<(), DnsError> {
        let Pair { address, udp, tcp } = pair;
        let failed = |transport| move |source| DnsError::Bind { address, transport, source };
        let udp = UdpSocket::from_std(udp).map_err(failed(Transport::Udp))?;
        let tcp = tokio::net::TcpListener::from_std(tcp).map_err(failed(Transport::Tcp))?;
        self.doors.push(Door { address, udp, tcp });
        self.addresses.push(address);
        Ok(())
    }
}

async fn linger(stop: &CancellationToken) {
    // No deadline: stopping is what ends a server.
    stop.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

fn ended(end: Result<(SocketAddr, Transport), tokio::task::JoinError>) -> DnsError {
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
