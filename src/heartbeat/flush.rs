//! The task that writes this replica's ledger when the state machine asks for it.
//!
//! Does not own: the content of the ledger, and when it is written (`flush` of `rollcall-core`).

use rollcall_core::{
    fact::{Delivery, Fact},
    ledger::Ledger,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock;
use crate::kubernetes::ledger_writer::LedgerWriter;

/// The state machine asks for one write at a time.
pub const QUEUE: usize = 1;

/// Writes ledgers.
pub struct LedgerFlush {
    /// Writes to Kubernetes.
    pub writer: LedgerWriter,
    /// Receives the results.
    pub facts: mpsc::Sender<Delivery>,
    /// The ledgers to write.
    pub ledgers: mpsc::Receiver<Ledger>,
}

impl LedgerFlush {
    /// Writes ledgers until the one with which this replica leaves. Each write has its own deadline.
    pub async fn run(mut self) {
        let mut failing = false;
        while let Some(ledger) = self.ledgers.recv().await {
            let (sequence, leaving) = (ledger.sequence, ledger.leaving);
            let written = self.writer.write(ledger).await;
            match &written {
                Err(failure) if !failing => {
                    warn!(
                        %failure,
                        "cannot write the ledger; if this lasts 10 s, heartbeats are answered 202 instead of 200"
                    );
                }
                Ok(_) if failing => info!("the ledger can be written again"),
                _ => {}
            }
            failing = written.is_err();
            let answer = written.map_err(|failure| failure.to_string().into());
            let fact = Fact::LedgerWritten { sequence, answer };
            if self.facts.send(Delivery::new(fact, clock::reading())).await.is_err()
                || (leaving && !failing)
            {
                return;
            }
        }
    }
}
