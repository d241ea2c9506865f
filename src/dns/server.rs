//! Serving DNS over UDP and TCP.
//!
//! Owns: what is listened on, and the end of it. Does not own: the answers (`respond`), and what is done with
//! one datagram or connection (`udp`, `tcp`).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Empty;
use crate::dns::{
    answer::Realm,
    connections::Connections,
    cookie::Secret,
    limit::Limits,
    metrics::Metrics,
    querylog::QueryLog,
    respond::{Networks, Policy, Responder, Transport},
    reverse::Reverse,
    socket::Pair,
    state::ServerState,
    tcp, udp,
    zone::{MAX_ZONE, Zone},
};
use crate::registry::directory::Directory;

/// How long queries are still answered after we are told to stop: those on their way arrive.
const LINGER: Duration = Duration::from_millis(250);

/// How long connections may then take to finish.
const DRAIN: Duration = Duration::from_secs(2);

/// Tasks that answer over UDP from one socket, on a machine with as many processors; more would only wait
/// for each other.
const UDP_TASKS: usize = 4;

/// Transfers of the zone at once.
const TRANSFERS: usize = 4;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The zone, with or without the root's dot.
    pub zone: String,
    /// Each is served over UDP and TCP. Port 0 lets the kernel choose one port for both.
    pub listen: Vec<SocketAddr>,
    /// The addresses of `ns.dns.<zone>`; perhaps none.
    pub name_server_addresses: Vec<IpAddr>,
    /// Networks whose addresses are answered with names; each ends where a label of its zone does.
    pub reverse: Vec<IpNet>,
    /// What a service answers that has nobody to offer.
    pub empty: Empty,
    /// How many instances an answer has at most, if there is a ceiling.
    pub ceiling: Option<NonZeroUsize>,
    /// Who may ask; everybody when none is named.
    pub allow: Vec<IpNet>,
    /// Who may transfer the zone; nobody when none is named.
    pub transfer: Vec<IpNet>,
    /// Errors and denials a second that go whole to one /24 or /56 over UDP; 0 is no bound.
    pub error_rate: u32,
    /// The secret of cookies, the same on every replica; none makes one up.
    pub cookie_secret: Option<[u8; 16]>,
    /// The largest UDP message to whom has shown no cookie, in octets.
    pub cookieless: u16,
    /// Connections at once.
    pub connections: usize,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// One in so many queries is logged while that is switched on.
    pub log_every: u32,
    /// Who we are.
    pub replica: String,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            zone: "rollcall.internal".to_owned(),
            listen: Vec::new(),
            name_server_addresses: Vec::new(),
            reverse: Vec::new(),
            empty: Empty::default(),
            ceiling: None,
            allow: Vec::new(),
            transfer: Vec::new(),
            error_rate: 0,
            cookie_secret: None,
            cookieless: crate::dns::edns::UDP_PAYLOAD,
            connections: 1024,
            idle: tcp::IDLE,
            log_every: 100,
            replica: String::new(),
        }
    }
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
    /// A network is no reverse zone.
    #[error(
        "--dns-reverse-zones {network}: a reverse zone ends where a label does, so give a multiple of 8 bits for \
         IPv4 (10.0.0.0/8, 10.244.0.0/16) and of 4 for IPv6 (fd00::/8)"
    )]
    Reverse {
        /// What was given.
        network: IpNet,
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

/// Binds every address over UDP and TCP.
///
/// # Errors
/// When a zone cannot be served or a socket cannot be had; nothing is left bound then.
pub fn bind(
    config: &DnsConfig,
    directory: Arc<Directory>,
    metrics: Metrics,
) -> Result<DnsServer, DnsError> {
    let state = Arc::new(state(config, directory, metrics)?);
    let mut server = DnsServer { addresses: Vec::new(), doors: Vec::new(), state };
    for wanted in &config.listen {
        let v4_too = |other: &SocketAddr| other.is_ipv4() && other.port() == wanted.port();
        let failed = |(transport, source)| DnsError::Bind { address: *wanted, transport, source };
        let pair = Pair::bind(*wanted, config.listen.iter().any(v4_too)).map_err(failed)?;
        server.open(pair)?;
    }
    Ok(server)
}

fn state(
    config: &DnsConfig,
    directory: Arc<Directory>,
    metrics: Metrics,
) -> Result<ServerState, DnsError> {
    let zone = Zone::parse(&config.zone, &config.name_server_addresses)
        .ok_or_else(|| DnsError::Zone { zone: config.zone.clone() })?;
    let reverse = config
        .reverse
        .iter()
        .map(|network| Reverse::new(*network).ok_or(DnsError::Reverse { network: *network }));
    let reverse = reverse.collect::<Result<_, _>>()?;
    let (empty, ceiling) = (config.empty, config.ceiling);
    let secret = config.cookie_secret.unwrap_or_else(|| fastrand::u128(..).to_ne_bytes());
    let policy = Policy {
        ask: Networks(config.allow.clone().into()),
        transfer: Networks(config.transfer.clone().into()),
        secret: Secret::new(secret),
        cookieless: config.cookieless,
        limits: Limits::new(config.error_rate, fastrand::u64(..)),
        replica: config.replica.clone().into(),
        idle: u16::try_from(config.idle.as_millis() / 100).unwrap_or(u16::MAX),
    };
    let realm = Arc::new(Realm { zone, reverse, directory, empty, ceiling });
    let connections = Connections::new(config.connections);
    metrics.watch(connections.clone());
    let transfers = Semaphore::new(TRANSFERS);
    let log = QueryLog::new(config.log_every);
    let idle = config.idle;
    let responder = Responder { realm, policy };
    Ok(ServerState { responder, connections, idle, transfers, metrics, log })
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
