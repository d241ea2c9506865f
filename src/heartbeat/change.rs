//! Changes of a part of an instance: its attributes, or the operator state.
//!
//! Owns: the precondition of a change. Does not own: which changes are valid (the API server decides), and the
//! write itself (`kubernetes`).

use std::sync::Arc;

use rollcall_core::slot::{Slot, Source};

use crate::heartbeat::{Change, Intake, Target, intake::ATTEMPTS, refusal::Refusal};
use crate::kubernetes::{body::Precondition, failure::Failure};

impl Intake {
    /// Stores a change, and returns when readers can see it. A change does not count as a heartbeat.
    ///
    /// # Errors
    /// Among others [`Refusal::Invalid`] with the fields that the API server refuses.
    pub async fn change(&self, target: &Target<'_>, change: &Change) -> Result<Arc<Slot>, Refusal> {
        for _ in 0..ATTEMPTS {
            // Taken before the record is read: a record of an earlier epoch proves nothing about the store.
            let sent = self.directory.before_read();
            let record = self.find(target).await?.record();
            Refusal::unless_terminating(&record)?;
            let on = Precondition { uid: &record.uid, version: target.version };
            // A patch that changes nothing leaves the object at its version.
            let sent = sent.of(record.resource_version);
            match self.writer.change(&record.key, on, change).await {
                Ok(written) => return self.publish(written, Source::Annotation, sent).await,
                // The object was replaced or changed since: read it again, and let the next attempt decide.
                Err(Failure::NotFound(_) | Failure::Conflict(_)) => {
                    self.refresh(&record, sent).await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Refusal::contended())
    }
}
