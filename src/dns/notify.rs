//! Notifies secondaries of changes of the zone (RFC 1996).
//!
//! Owns: when a NOTIFY is sent and repeated. A NOTIFY is only a hint: a secondary that misses all of them polls the
//! serial within the SOA's refresh interval. Does not own: the transfer that follows (`transfer`).

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::RecordType,
};
use tokio::{
    net::UdpSocket,
    time::{sleep, timeout},
};

use crate::dns::{metrics::Metrics, zones::Zones};

/// The interval at which the serial is checked for changes. Secondaries lag behind by up to this interval, and transfer
/// the zone at most twice a second.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The timeouts of the first NOTIFY and of its three repetitions.
const TIMEOUTS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The number of bytes of an answer that are read: only the header is needed.
const ANSWER_BUFFER: usize = 512;

/// Notifies one secondary of every new serial.
#[derive(Debug)]
pub struct Notifier {
    /// The zones, of which only the forward zone is transferred.
    pub zones: Arc<Zones>,
    /// The address of the secondary (`--dns-notify`).
    pub secondary: SocketAddr,
    /// The metrics of DNS.
    pub metrics: Metrics,
}

impl Notifier {
    /// Runs until the task is dropped.
    pub async fn run(self) {
        let mut notified_serial = None;
        let mut answers_notify = true;
        loop {
            let serial = self.zones.directory.serial();
            if !self.zones.directory.is_synced() || notified_serial == Some(serial) {
                sleep(CHECK_INTERVAL).await;
                continue;
            }
            let answered = self.notify(serial).await;
            self.metrics.record_notify(answered);
            if answered != answers_notify {
                self.log_change(answered);
            }
            answers_notify = answered;
            notified_serial = Some(serial);
            sleep(CHECK_INTERVAL).await;
        }
    }

    fn log_change(&self, answered: bool) {
        let secondary = self.secondary;
        if answered {
            tracing::info!(%secondary, "the secondary answers NOTIFY again");
        } else {
            let refresh = "it polls the serial every 30 s";
            tracing::warn!(%secondary, refresh, "the secondary does not answer NOTIFY");
        }
    }

    /// Sends a NOTIFY until the secondary answers. Returns false if it does not answer, or if the serial changes first:
    /// then the next NOTIFY announces the newer serial.
    async fn notify(&self, serial: u32) -> bool {
        for timeout in TIMEOUTS {
            match self.exchange(timeout).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, secondary = %self.secondary, "cannot send NOTIFY");
                    sleep(timeout).await;
                }
            }
            if self.zones.directory.serial() != serial {
                return false;
            }
        }
        false
    }

    async fn exchange(&self, deadline: Duration) -> std::io::Result<bool> {
        let unspecified: SocketAddr = match self.secondary {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(unspecified).await?;
        socket.connect(self.secondary).await?;
        let (id, message) = self.build_message()?;
        socket.send(&message).await?;
        let answered = async {
            let mut answer = [0; ANSWER_BUFFER];
            loop {
                let length = socket.recv(&mut answer).await?;
                let header = answer.get(..length).and_then(<[u8]>::first_chunk::<3>);
                // The ID, QR and the opcode match. Any response code shows that the secondary received the NOTIFY.
                if header.is_some_and(|[a, b, flags]| [*a, *b] == id && *flags & 0xf8 == 0xa0) {
                    return Ok(true);
                }
            }
        };
        timeout(deadline, answered).await.unwrap_or(Ok(false))
    }

    fn build_message(&self) -> std::io::Result<([u8; 2], Vec<u8>)> {
        let id = fastrand::u16(..);
        let mut message = Message::new(id, MessageType::Query, OpCode::Notify);
        message.metadata.authoritative = true;
        message.add_query(Query::query(self.zones.zone.apex().clone(), RecordType::SOA));
        Ok((id.to_be_bytes(), message.to_vec().map_err(std::io::Error::other)?))
    }
}
