//! Telling secondaries that the zone has changed (RFC 1996).
//!
//! Owns: to whom and how often. A NOTIFY is a hint: who misses all of them asks within the SOA's refresh. Does
//! not own: the transfer that follows (`transfer`).

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

use crate::dns::{metrics::Metrics, realm::Realm};

/// How often is looked whether there is something to tell; so secondaries are this much behind, and ask for the
/// zone twice a second at most.
const LOOK: Duration = Duration::from_millis(500);

/// How long is waited for an answer, before it is sent again: 1, 2, 4 and 8 s.
const PATIENCE: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Octets of an answer that are read: its head.
const HEAD: usize = 512;

/// Tells one secondary of every new serial, for ever.
#[derive(Debug)]
pub struct Notifier {
    /// The zone.
    pub realm: Arc<Realm>,
    /// The secondary.
    pub secondary: SocketAddr,
    /// What is counted.
    pub metrics: Metrics,
}

impl Notifier {
    /// Runs for ever.
    pub async fn run(self) {
        let mut told = None;
        let mut answers = true;
        loop {
            let serial = self.realm.directory.serial();
            if !self.realm.directory.is_synced() || told == Some(serial) {
                sleep(LOOK).await;
                continue;
            }
            let answered = self.tell(serial).await;
            self.metrics.notified(answered);
            if answered != answers {
                self.mention(answered);
            }
            answers = answered;
            told = Some(serial);
            sleep(LOOK).await;
        }
    }

    fn mention(&self, answered: bool) {
        let secondary = self.secondary;
        if answered {
            tracing::info!(%secondary, "the secondary answers NOTIFY again");
        } else {
            let refresh = "it asks by itself every 30 s";
            tracing::warn!(%secondary, refresh, "the secondary does not answer NOTIFY");
        }
    }

    /// Whether it has heard; a newer serial is told instead of a repetition.
    async fn tell(&self, serial: u32) -> bool {
        for patience in PATIENCE {
            match self.exchange(patience).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, secondary = %self.secondary, "NOTIFY could not be sent");
                    sleep(patience).await;
                }
            }
            if self.realm.directory.serial() != serial {
                return false;
            }
        }
        false
    }

    async fn exchange(&self, patience: Duration) -> std::io::Result<bool> {
        let any: SocketAddr = match self.secondary {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.secondary).await?;
        let (id, message) = self.message()?;
        socket.send(&message).await?;
        let answered = async {
            let mut answer = [0; HEAD];
            loop {
                let length = socket.recv(&mut answer).await?;
                let head = answer.get(..length).and_then(<[u8]>::first_chunk::<3>);
                // Its id, QR, and the opcode; whatever the code, it was heard.
                if head.is_some_and(|[a, b, flags]| [*a, *b] == id && *flags & 0xf8 == 0xa0) {
                    return Ok(true);
                }
            }
        };
        timeout(patience, answered).await.unwrap_or(Ok(false))
    }

    fn message(&self) -> std::io::Result<([u8; 2], Vec<u8>)> {
        let id = fastrand::u16(..);
        let mut message = Message::new(id, MessageType::Query, OpCode::Notify);
        message.metadata.authoritative = true;
        message.add_query(Query::query(self.realm.zone.apex().clone(), RecordType::SOA));
        Ok((id.to_be_bytes(), message.to_vec().map_err(std::io::Error::other)?))
    }
}
