//! The state that all tasks of a DNS server share, over UDP and TCP.
//!
//! Owns: [`ServerState`]. Does not own: its construction (`server`) and its use (`udp`, `tcp`).

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::dns::{
    connections::Connections, metrics::Metrics, querylog::QueryLog, respond::Responder,
};

#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) responder: Responder,
    pub(super) connections: Arc<Connections>,
    /// Permits for zone transfers: one transfer is as much work as thousands of queries.
    pub(super) transfers: Semaphore,
    pub(super) metrics: Metrics,
    pub(super) log: QueryLog,
}

impl ServerState {
    /// How long a TCP connection may be idle.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.responder.zones.settings.idle
    }
}
