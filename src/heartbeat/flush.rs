//! Flushing: the own ledger, written when the catalog asks for it.
//!
//! Does not own: what it says and when (`flush` of `rollcall-core`).

use rollcall_core::{
    fact::{Delivery, Fact},
    ledger::Ledger,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock;
use crate::kubernetes::ledger_writer::LedgerWriter;

/// At most one is under way at a time.
pub const QUEUE: usize = 1;

/// Writes ledgers.
pub struct Flush {
    /// For the writes.
    pub writer: LedgerWriter,
    /// To say what came of them.
    pub facts: mpsc::Sender<Delivery>,
    /// The ledgers to write.
    pub ledgers: mpsc::Receiver<Ledger>,
}

impl Flush {
    /// Writes what is asked for, up to the ledger that takes leave. Each write has its own deadline.
    pub async fn run(mut self) {
        let mut failing = false;
        while let Some(ledger) = self.ledgers.recv().await {
            let (sequence, leaving) = (ledger.sequence, ledger.leaving);
            let written = self.writer.write(ledger).await;
            match &written {
                Err(failure) if !failing => {
                    warn!(%failure, "cannot write the ledger; beats are answered 202 before long");
                }
                Ok(_) if failing => info!("the ledger is written again"),
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
