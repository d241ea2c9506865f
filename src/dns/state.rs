//! What the tasks of a DNS server share, over UDP and TCP.
//!
//! Owns: [`ServerState`]. Does not own: how it is made (`server`), and what a task does with it (`udp`, `tcp`).

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::dns::{
    connections::Connections, metrics::Metrics, querylog::QueryLog, respond::Responder,
};

/// What every task has in common.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) responder: Responder,
    pub(super) connections: Arc<Connections>,
    /// Places for transfers of the zone: each makes as much work as thousands of queries.
    pub(super) transfers: Semaphore,
    pub(super) metrics: Metrics,
    pub(super) log: QueryLog,
}

impl ServerState {
    /// How long a connection may be idle.
    pub(super) fn idle(&self) -> Duration {
        self.responder.realm.settings.idle
    }
}
